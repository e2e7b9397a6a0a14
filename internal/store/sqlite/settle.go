package sqlite

import (
	"errors"
	"io/fs"
	"os"
)

// settleWAL makes what this process reads of a WAL the same as what is on the disk. It is called
// before SQLite opens the database, and takes every transaction in the WAL with a right checksum
// for committed.
//
//   - What a killed process wrote and did not sync is synced. Otherwise later commits would follow a
//     transaction that a power cut takes away, and be lost with it.
//   - What a failed fsync left in the page cache, marked as written, is dropped from there. Otherwise
//     it would be read, for the same loss.
//
// A WAL that cannot be synced is an error: the next start finds the page cache marked as written,
// drops it and goes on from the disk.
func settleWAL(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	err = f.Sync()
	if err == nil {
		err = dropCache(f)
	}
	return errors.Join(err, f.Close())
}
