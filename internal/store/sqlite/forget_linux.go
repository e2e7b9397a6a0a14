package sqlite

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// forget makes the kernel drop a file from the page cache, except for what is still to be written, so
// that the next read comes from the disk. After an fsync that failed the cache may hold data, marked as
// written, that never reached the disk. A process that read the WAL from there would commit after
// frames that a power cut takes away, and lose its own commits with them.
func forget(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	return errors.Join(os.NewSyscallError("posix_fadvise", err), f.Close())
}
