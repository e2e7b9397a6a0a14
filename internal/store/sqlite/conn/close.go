package conn

import (
	"errors"
	"fmt"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// NoCheckpointOnClose makes Close leave the database file and the WAL as they are, even where this
// is the last connection: SQLite would otherwise move the WAL's frames to the database and remove
// the WAL. It is for a process that ends after a failed fsync, when nothing may be assumed about
// the WAL in the page cache. On a closed connection it does nothing.
func (c *Conn) NoCheckpointOnClose() error {
	if c.tls == nil {
		return nil
	}
	args := libc.NewVaList(int32(1), uintptr(0))
	if args == 0 {
		return errors.New("cannot allocate the arguments of sqlite3_db_config")
	}
	defer libc.Xfree(c.tls, args)
	rc := lib.Xsqlite3_db_config(c.tls, c.db, lib.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, args)
	if rc != lib.SQLITE_OK {
		return fmt.Errorf("turn off the checkpoint on close: %w", c.fault(rc))
	}
	return nil
}
