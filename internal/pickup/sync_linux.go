package pickup

import (
	"os"

	"golang.org/x/sys/unix"
)

// Sync implements account.Mailbox: one syncfs(2) for all files and names together. Since Linux 5.8 it reports a write
// that failed since the last call.
func (d *Directory) Sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
}
