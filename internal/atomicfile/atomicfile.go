// Package atomicfile creates and replaces files so that the change survives a power cut.
//
// Create and Replace write a temporary file beside the target, sync it, give it its name, and sync
// the directory. So the target never has a part of its content, and all of it is on disk when they
// return.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Create writes a new file with mode 0600. It fails with fs.ErrExist if there is a file of that
// name, even one that another process made at the same time.
func Create(path, content string) error {
	temp, err := write(path, content)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	// Unlike a rename, a link does not replace a file.
	if err := os.Link(temp, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Replace writes a file with mode 0600 over an existing one, atomically.
func Replace(path, content string) error {
	temp, err := write(path, content)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return SyncDir(filepath.Dir(path))
}

// write writes and syncs a temporary file.
func write(path, content string) (temp string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".temp-*") // with mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// SyncDir makes the entries of a directory durable: which files it has, and under which names.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
