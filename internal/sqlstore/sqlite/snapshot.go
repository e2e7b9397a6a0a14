package sqlite

import (
	"sync/atomic"
	"unsafe"

	lib "modernc.org/sqlite/lib"
)

// A statement that reads takes a lock of the journal's and gives it back: two calls of the system, which is half of what finding one
// row costs. Between Resume and Keep statements share a snapshot, and a Resume goes on with the one that was kept, where nothing was
// committed since. That is seen from the header of the journal's index, which lies in memory: SQLite changes it with each commit, of
// whichever process, before the commit returns, and compares the same bytes when a statement begins
// (https://www.sqlite.org/walformat.html#the_wal_index_file_format).
//
// A snapshot that is kept holds a lock. It keeps nobody from reading or from committing, but the journal from being begun anew.

// header is both copies of the index's header.
type header [indexHeader / 4]uint32

// whole says that no commit was writing it.
func (h *header) whole() bool {
	return [len(h) / 2]uint32(h[:len(h)/2]) == [len(h) / 2]uint32(h[len(h)/2:])
}

// header reads the index's header as it is now.
func (c *Conn) header() (h header) {
	for i := range h {
		h[i] = atomic.LoadUint32(at[uint32](c.index + uintptr(i)*unsafe.Sizeof(h[i])))
	}
	return h
}

// Resume has the statements up to Keep or Release read from one snapshot: one that has all that was committed when it was called.
// same says that it is the one that the last Keep left: whatever was read from it would be read again. Before the connection's first
// statement it does nothing; then each has a snapshot of its own.
func (c *Conn) Resume() (same bool, err error) {
	if c.index == 0 {
		return false, nil
	}
	now := c.header()
	if c.kept() {
		if now == c.seen {
			return true, nil
		}
		if err := c.Release(); err != nil {
			return false, err
		}
	}
	if !now.whole() {
		return false, nil
	}
	c.seen = now
	_, err = c.Exec("BEGIN")
	return false, err
}

// Keep leaves the snapshot open for the next Resume, if it is not an old one already.
func (c *Conn) Keep() error {
	if c.index == 0 {
		file, methods, err := c.file()
		if err != nil {
			return err
		}
		c.index, err = c.mapIndex(file, methods)
		return err
	}
	// A commit after Resume may be in the snapshot or not: it is not known of which header it is.
	if c.kept() && c.header() != c.seen {
		return c.Release()
	}
	return nil
}

// Release ends the snapshot, if one is open.
func (c *Conn) Release() error {
	if !c.kept() {
		return nil
	}
	_, err := c.Exec("COMMIT")
	return err
}

// kept asks SQLite, which ends a transaction by itself after some errors.
func (c *Conn) kept() bool { return lib.Xsqlite3_get_autocommit(c.tls, c.db) == 0 }
