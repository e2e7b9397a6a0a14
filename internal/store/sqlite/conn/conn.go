// Package conn is a connection to an SQLite database by SQLite's C interface, which
// modernc.org/sqlite/lib has in Go.
//
// It guarantees that a statement is reset after every call, also after an error, so that it never keeps
// a transaction open. Values are copied in both directions: a caller never sees SQLite's memory. A value
// is not converted to fit its destination; reading a number as text is an error.
//
// A statement is prepared once, has one buffer for its arguments, and scans into typed destinations. The
// statements of a store are few, short and frequent, and around such a statement database/sql and its
// driver spend more time than SQLite does: they hand out connections under locks, allocate C memory for
// each argument, and look up the names and declared types of the columns for each result. Finding an
// account takes two allocations here instead of seventy.
//
// It is not for concurrent use: one goroutine at a time uses a Conn. The texts of statements must be
// constants of the program, since prepared statements stay. A PRAGMA that sets something must be run by
// Script, because SQLite may apply it as early as it prepares it.
//
// https://www.sqlite.org/c3ref/intro.html
package conn

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	lib "modernc.org/sqlite/lib"
)

// Options are how a database is opened.
type Options struct {
	// VFS names the file system of SQLite that has the file; the empty name is the system's.
	VFS string
	// ReadOnly opens what is there. Without it a file that is missing is made.
	ReadOnly bool
}

// Conn is a connection to one database.
type Conn struct {
	tls *libc.TLS
	db  uintptr
	out uintptr // two words for what C gives back by reference
	// prepared are the statements by their text, which is a constant of the program.
	prepared map[string]*statement
	last     *statement
}

// Open opens the database at a path, which is taken as it is and never for a URI.
func Open(path string, o Options) (*Conn, error) {
	c := &Conn{tls: libc.NewTLS(), prepared: make(map[string]*statement)}
	name, err := libc.CString(path)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, name)
	var vfs uintptr
	if o.VFS != "" {
		if vfs, err = libc.CString(o.VFS); err != nil {
			return nil, err
		}
		defer libc.Xfree(c.tls, vfs)
	}
	if c.out, err = c.alloc(2 * int(unsafe.Sizeof(uintptr(0)))); err != nil {
		return nil, err
	}
	// One goroutine at a time: SQLite need not lock the connection.
	flags := int32(lib.SQLITE_OPEN_READWRITE | lib.SQLITE_OPEN_CREATE | lib.SQLITE_OPEN_NOMUTEX)
	if o.ReadOnly {
		flags = lib.SQLITE_OPEN_READONLY | lib.SQLITE_OPEN_NOMUTEX
	}
	rc := lib.Xsqlite3_open_v2(c.tls, name, c.out, flags, vfs)
	c.db = *at[uintptr](c.out) // there is one even if it failed
	if rc == lib.SQLITE_OK {
		rc = lib.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	}
	if rc != lib.SQLITE_OK {
		return nil, errors.Join(c.fault(rc), c.Close())
	}
	return c, nil
}

// Close ends the statements and the connection, and with it a transaction that was not committed.
// Closing again does nothing.
func (c *Conn) Close() error {
	if c.tls == nil {
		return nil
	}
	for _, s := range c.prepared {
		s.end()
	}
	clear(c.prepared)
	c.last = nil
	var err error
	if rc := lib.Xsqlite3_close_v2(c.tls, c.db); rc != lib.SQLITE_OK {
		err = c.fault(rc)
	}
	libc.Xfree(c.tls, c.out)
	c.tls.Close()
	c.tls, c.db = nil, 0
	return err
}

// Script runs statements without arguments, one after the other, and keeps none of them. Their rows
// are not looked at.
func (c *Conn) Script(text string) error {
	sql, err := libc.CString(text)
	if err != nil {
		return err
	}
	defer libc.Xfree(c.tls, sql)
	for next := sql; *at[byte](next) != 0; {
		handle, tail, err := c.compile(next, 0)
		if err != nil {
			return err
		}
		next = tail
		if handle == 0 {
			continue // white space and comments
		}
		rc := int32(lib.SQLITE_ROW)
		for rc == lib.SQLITE_ROW {
			rc = lib.Xsqlite3_step(c.tls, handle)
		}
		if rc != lib.SQLITE_DONE {
			err = c.fault(rc)
		}
		lib.Xsqlite3_finalize(c.tls, handle)
		if err != nil {
			return err
		}
	}
	return nil
}

// KeepJournal has SQLite leave the journal of a database ("main", or the name that it was attached
// under) where it is when its last connection is closed.
func (c *Conn) KeepJournal(database string) error {
	name, err := libc.CString(database)
	if err != nil {
		return err
	}
	defer libc.Xfree(c.tls, name)
	*at[int32](c.out) = 1
	if rc := lib.Xsqlite3_file_control(c.tls, c.db, name, lib.SQLITE_FCNTL_PERSIST_WAL, c.out); rc != lib.SQLITE_OK {
		return c.fault(rc)
	}
	return nil
}

// compile makes a statement of the text at an address, and gives the address of the text behind it.
func (c *Conn) compile(sql uintptr, flags uint32) (handle, tail uintptr, err error) {
	second := c.out + unsafe.Sizeof(uintptr(0))
	if rc := lib.Xsqlite3_prepare_v3(c.tls, c.db, sql, -1, flags, c.out, second); rc != lib.SQLITE_OK {
		return 0, 0, c.fault(rc)
	}
	return *at[uintptr](c.out), *at[uintptr](second), nil
}

// interrupt ends the statement that runs, if one does. Any goroutine may call it as long as the
// connection is not closed.
func (c *Conn) interrupt() {
	tls := libc.NewTLS() // the connection's own belongs to the goroutine that runs the statement
	defer tls.Close()
	lib.Xsqlite3_interrupt(tls, c.db)
}

func (c *Conn) alloc(n int) (uintptr, error) {
	p := libc.Xmalloc(c.tls, types.Size_t(n))
	if p == 0 {
		return 0, fmt.Errorf("no memory for %d bytes", n)
	}
	return p, nil
}

// Error is what SQLite says of a call that failed.
type Error struct {
	Code    int // extended, https://www.sqlite.org/rescode.html
	Message string
	// Errno is the system's reason for an I/O error, as far as SQLite knows it.
	Errno syscall.Errno
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// fault is the error of a result code that the connection's last call gave.
func (c *Conn) fault(rc int32) error {
	kind := libc.GoString(lib.Xsqlite3_errstr(c.tls, rc))
	if text := libc.GoString(lib.Xsqlite3_errmsg(c.tls, c.db)); text != kind {
		kind += ": " + text
	}
	e := &Error{Code: int(rc), Message: kind}
	if primary := e.Code & 0xff; c.db != 0 && (primary == lib.SQLITE_IOERR || primary == lib.SQLITE_CANTOPEN) {
		e.Errno = syscall.Errno(lib.Xsqlite3_system_errno(c.tls, c.db))
	}
	return e
}

// at is what C's memory has at an address.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

func bytesAt(p uintptr, n int) []byte { return unsafe.Slice(at[byte](p), n) }
