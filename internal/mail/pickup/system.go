package pickup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"dialtone/internal/atomicfile"
)

// FileSystem is what a Dir needs of a file system. Paths are absolute, and errors are those of
// package os.
type FileSystem interface {
	// MakeDir creates a directory if it is missing.
	MakeDir(path string) error
	// Create creates a file, which must not exist. If it fails with an error other than
	// fs.ErrExist, a partial file may exist.
	Create(path string, data []byte) error
	// Rename renames a file atomically, and replaces a file with the new name.
	Rename(from, to string) error
	Remove(path string) error
	List(path string) ([]fs.DirEntry, error)
	// Walk calls f with the entries of a directory, in any order and a few hundred at a time, until
	// f fails.
	Walk(path string, f func([]fs.DirEntry) error) error
	ReadFile(path string) ([]byte, error)
	// NewSyncer returns a Syncer for a directory.
	NewSyncer(dir string) (Syncer, error)
}

// Syncer makes all files and names of a directory durable.
type Syncer = interface {
	// Sync fails if anything in the directory that was written since the Syncer was created may be
	// lost. It reports that only once.
	Sync() error
	Close() error
}

// UnnamedFileSystem is a FileSystem that can also create files without a name. Such a file is freed
// when it is closed, or when the process ends, unless it was linked to a name.
type UnnamedFileSystem interface {
	// CreateUnnamed creates a file that can be linked to a name in dir, and returns a handle for
	// it. The error wraps errors.ErrUnsupported if the directory's file system has no such files.
	CreateUnnamed(dir string, data []byte) (file int, err error)
	// LinkUnnamed gives the file a name, which must not exist.
	LinkUnnamed(file int, path string) error
	// CloseUnnamed closes the handle, which must not be used again.
	CloseUnnamed(file int) error
}

// mode is the mode of message files.
const mode = 0o640

// system is the operating system's file system.
type system struct{}

func (system) MakeDir(path string) error {
	if err := atomicfile.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	// The mail agent is in the group.
	err := atomicfile.MkdirSetgid(path, 0o770)
	if errors.Is(err, fs.ErrExist) {
		info, err := os.Stat(path)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is not a directory", path)
		}
		return err
	}
	return err
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
		}
		if err != nil {
			return err
		}
		if err := f(entries); err != nil {
			return err
		}
	}
}

func (system) Remove(path string) error                { return os.Remove(path) }
func (system) List(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }
