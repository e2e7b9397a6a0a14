package pickup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FileSystem is what a Directory asks of a disk. Paths are absolute, and errors are those of package os.
type FileSystem interface {
	// MakeDir makes a directory where it is missing.
	MakeDir(path string) error
	// Create makes a file that must not be there. Where it fails with another error than fs.ErrExist a part of the file
	// may be left.
	Create(path string, data []byte) error
	// Rename replaces what has the name, at once.
	Rename(from, to string) error
	Remove(path string) error
	List(path string) ([]fs.DirEntry, error)
	// Walk calls f with the entries of a directory, in any order and some hundred at a time, until f fails.
	Walk(path string, f func([]fs.DirEntry) error) error
	ReadFile(path string) ([]byte, error)
	// Sync makes all files and names of a directory durable. Where it fails nothing is known of any of them.
	Sync(path string) error
}

// mode is what message files have.
const mode = 0o640

// system is the file system of the machine.
type system struct{}

func (system) MakeDir(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	err := os.Mkdir(path, 0o770)
	if errors.Is(err, fs.ErrExist) {
		info, err := os.Stat(path)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is not a directory", path)
		}
		return err
	}
	if err != nil {
		return err
	}
	// The umask does not know who the mail agent is; setgid keeps new messages in the directory's group.
	return os.Chmod(path, 0o770|fs.ModeSetgid)
}

func (system) Walk(path string, f func([]fs.DirEntry) error) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(256)
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := f(entries); err != nil {
			return err
		}
	}
}

func (system) Remove(path string) error                { return os.Remove(path) }
func (system) List(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }
