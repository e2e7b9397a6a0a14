// Package conn is a connection to an SQLite database through SQLite's C interface, which
// modernc.org/sqlite/lib provides in Go.
//
// It guarantees that a statement is reset after every call, even after an error, so that it never
// keeps a transaction open. Values are copied in both directions: a caller never sees SQLite's
// memory. A value is not converted to fit its destination; reading a number as text is an error.
//
// A statement is prepared once, has one buffer for its arguments, and scans into typed destinations. The
// statements of a store are few, short and frequent, and around such a statement database/sql and its
// driver spend more time than SQLite does: they hand out connections under locks, allocate C memory for
// each argument, and look up the names and declared types of the columns for each result. Finding an
// account takes two allocations here instead of seventy.
//
// It is not for concurrent use: one goroutine at a time uses a Conn. The texts of statements must
// be constants of the program, since prepared statements are kept. A PRAGMA that sets something
// must be run by Script, because SQLite may apply it as early as it prepares it.
//
// https://www.sqlite.org/c3ref/intro.html
package conn

import (
	"dialtone/internal/fault"
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	lib "modernc.org/sqlite/lib"
)

// Options control how a database is opened.
type Options struct {
	// VFS is the name of SQLite's file system for the database. If it is empty, SQLite uses its
	// default.
	VFS string
	// ReadOnly opens an existing database for reading.
	ReadOnly bool
	// Existing makes Open fail for a missing database. Without it and ReadOnly, a missing file is
	// created.
	Existing bool
}

// Conn is a connection to one database.
type Conn struct {
	tls *libc.TLS
	db  uintptr
	out uintptr // C memory for the output parameters of a call: two words
	// prepared holds the prepared statements by their text.
	prepared map[string]*statement
	last     *statement // the statement that ran last
}

// Open opens the database at path. The path is not interpreted as a URI.
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
	// A Conn is not for concurrent use, so SQLite need not lock it.
	flags := int32(lib.SQLITE_OPEN_READWRITE | lib.SQLITE_OPEN_CREATE | lib.SQLITE_OPEN_NOMUTEX)
	if o.Existing {
		flags &^= lib.SQLITE_OPEN_CREATE
	}
	if o.ReadOnly {
		flags = lib.SQLITE_OPEN_READONLY | lib.SQLITE_OPEN_NOMUTEX
	}
	rc := lib.Xsqlite3_open_v2(c.tls, name, c.out, flags, vfs)
	c.db = *at[uintptr](c.out) // SQLite returns a handle even with an error
	if rc == lib.SQLITE_OK {
		rc = lib.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	}
	if rc != lib.SQLITE_OK {
		return nil, errors.Join(c.fault(rc), c.Close())
	}
	return c, nil
}

// Close closes the connection and rolls back an open transaction. Calling it again does nothing.
func (c *Conn) Close() error {
	if c.tls == nil {
		return nil
	}
	for _, s := range c.prepared {
		s.finalize()
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

// Script runs the statements in text one after another, and stops at the first error. The
// statements take no arguments, their rows are ignored, and they do not stay prepared.
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
			continue // only white space and comments
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

// KeepWAL makes SQLite keep the WAL file of a database when its last connection is closed. The
// database is "main", or the name of an attached one.
func (c *Conn) KeepWAL(database string) error {
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

// compile compiles the first statement of a C string, and returns the rest of the string as tail.
// The handle is 0 if there is no statement.
func (c *Conn) compile(sql uintptr, flags uint32) (handle, tail uintptr, err error) {
	outTail := c.out + unsafe.Sizeof(uintptr(0))
	if rc := lib.Xsqlite3_prepare_v3(c.tls, c.db, sql, -1, flags, c.out, outTail); rc != lib.SQLITE_OK {
		return 0, 0, c.fault(rc)
	}
	return *at[uintptr](c.out), *at[uintptr](outTail), nil
}

// interrupt aborts the running statement, if there is one. Any goroutine may call it while the
// connection is open.
func (c *Conn) interrupt() {
	tls := libc.NewTLS() // c.tls belongs to the goroutine that runs the statement
	defer tls.Close()
	lib.Xsqlite3_interrupt(tls, c.db)
}

func (c *Conn) alloc(n int) (uintptr, error) {
	p := libc.Xmalloc(c.tls, types.Size_t(n))
	if p == 0 {
		return 0, fmt.Errorf("cannot allocate %d bytes", n)
	}
	return p, nil
}

// Error is an error of SQLite.
type Error struct {
	Code    int // an extended result code, https://www.sqlite.org/rescode.html
	Message string
	// Errno is the error number of the system call behind an I/O error, or 0 if SQLite has none.
	Errno syscall.Errno
}

// Remedy returns fault.Correction if the database is damaged.
func (e *Error) Remedy() fault.Remedy {
	if e.IsDamage() {
		return fault.Correction
	}
	return fault.Unknown
}

// IsDamage reports whether the error means that the database is damaged.
func (e *Error) IsDamage() bool {
	return e.Code&0xff == lib.SQLITE_CORRUPT || e.Code&0xff == lib.SQLITE_NOTADB
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// fault returns the error for the result code of the last call.
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

// at returns a pointer to the value at an address in C memory.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// bytesAt returns n bytes of C memory as a slice, without copying them.
func bytesAt(p uintptr, n int) []byte { return unsafe.Slice(at[byte](p), n) }
