package sqlite

import (
	"errors"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

const (
	indexHeader = 96      // both copies, https://www.sqlite.org/walformat.html#the_wal_index_file_format
	indexRegion = 1 << 15 // what SQLite maps at a time
)

// file is SQLite's own of the database, with what can be done to it.
func (c *Conn) file() (file uintptr, methods *lib.Tsqlite3_io_methods, err error) {
	if rc := lib.Xsqlite3_file_control(c.tls, c.db, 0, lib.SQLITE_FCNTL_FILE_POINTER, c.out); rc != lib.SQLITE_OK {
		return 0, nil, c.fault(rc)
	}
	file = *at[uintptr](c.out)
	methods = at[lib.Tsqlite3_io_methods](at[lib.Tsqlite3_file](file).FpMethods)
	if methods.FiVersion < 2 {
		return 0, nil, errors.New("the file system of SQLite has no shared memory")
	}
	return file, methods, nil
}

// mapIndex is where the journal's index begins in memory, and 0 where there is none. It stays there until the connection is closed.
func (c *Conn) mapIndex(file uintptr, methods *lib.Tsqlite3_io_methods) (uintptr, error) {
	type mapping = func(tls *libc.TLS, file uintptr, region, size, extend int32, out uintptr) int32
	*at[uintptr](c.out) = 0
	if rc := function[mapping](methods.FxShmMap)(c.tls, file, 0, indexRegion, 0, c.out); rc != lib.SQLITE_OK {
		return 0, c.fault(rc)
	}
	return *at[uintptr](c.out), nil
}

// function is one of C's, as the library has it: the word that a Go function value is.
func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&p)) }
