package pickup

import (
	"os"

	"golang.org/x/sys/unix"
)

// Sync is one syncfs(2) for all files and names together. Since Linux 5.8 it reports a write that failed since the last
// call.
func (system) Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
}
