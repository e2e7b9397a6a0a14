package sqlite

import (
	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite/conn"
)

// Read runs do on a database to which nobody writes, such as a copy. It neither migrates nor
// changes it, except that SQLite may move its WAL into it.
func Read(path string, do func(engine.Querier) error) error {
	if err := checkFile(path); err != nil {
		return err
	}
	c, err := conn.Open(path, conn.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Script(`PRAGMA busy_timeout = 5000; PRAGMA query_only = 1`); err != nil {
		return err
	}
	return do(Tx{c})
}
