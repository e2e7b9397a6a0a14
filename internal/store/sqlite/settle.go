package sqlite

import (
	"errors"
	"io/fs"

	"dialtone/internal/regularfile"
)

// settleWAL makes sure that everything that this process reads from a WAL is on disk. It is called
// before SQLite opens the database: SQLite treats every transaction in the WAL with a valid checksum
// as committed.
//
//   - Data that a killed process wrote but did not sync is synced. Otherwise later commits would
//     follow a transaction that a power cut removes, and be lost with it.
//   - Data that a failed fsync left in the page cache, marked as written, is dropped. Otherwise it
//     would be read, and later commits would be lost in the same way.
//
// A WAL that cannot be synced is an error. The next start finds the page cache marked as written,
// drops it, and continues with the data on the disk.
func settleWAL(path string) error {
	f, err := regularfile.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = f.Sync()
	if err == nil {
		err = dropCache(f)
	}
	return errors.Join(err, f.Close())
}
