package sqlite

import (
	"os"

	"golang.org/x/sys/unix"
)

// dropCache makes the kernel read the file from the disk again, except for what is still to be
// written.
func dropCache(f *os.File) error {
	return os.NewSyscallError("posix_fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}
