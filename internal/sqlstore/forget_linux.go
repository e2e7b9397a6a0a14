package sqlstore

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// forget has the system read the file from the disk again, and not from its cache. After a sync that failed the cache may
// hold, and take for written, what never reached the disk; a store that was closed then and is opened again on the same
// machine would go on from there, and lose what it commits later to a power cut.
func forget(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return errors.Join(os.NewSyscallError("posix_fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)), f.Close())
}
