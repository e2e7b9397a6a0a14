//go:build !linux

package pickup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Sync syncs every published file, then the directory.
func (system) Sync(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), published) {
			continue
		}
		if err := syncPath(filepath.Join(path, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncPath(path)
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
