//go:build !linux

package pickup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

func (system) Create(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // regardless of the umask
	}
	return errors.Join(err, f.Close())
}

func (system) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

func (system) Rename(from, to string) error { return os.Rename(from, to) }

// syncer syncs each published file, then the directory at a path.
type syncer string

func (system) NewSyncer(dir string) (Syncer, error) { return syncer(dir), nil }

func (syncer) Close() error { return nil }

func (s syncer) Sync() error {
	path := string(s)
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
