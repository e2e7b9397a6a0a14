//go:build !linux

package pickup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Sync implements account.Mailbox: every published file, then the directory.
func (d *Directory) Sync() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), published) {
			continue
		}
		if err := syncPath(filepath.Join(d.path, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncPath(d.path)
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
