// Package atomicfile creates and replaces files so that the change survives a power cut.
//
// Create and Replace write a temporary file beside the target, sync it, give it its name, and sync
// the directory. So the target never contains only a part of its content, and all of it is on disk
// when they return.
//
// A command may run as root while the server does not. So what root creates belongs to the owner of
// the directory that it is in, and a file that is replaced keeps its owner and mode.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"dialtone/internal/regularfile"
)

// Create writes a new file with mode 0600. It fails with fs.ErrExist if there is a file of that
// name, even one that another process made at the same time.
func Create(path, content string) error {
	temp, err := write(path, content, InheritOwner)
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

// CreateIn does what Create does in a directory that is open, even if its path now leads elsewhere.
// It follows no link.
func CreateIn(root *os.Root, name, content string) error {
	temp := ".temp-" + rand.Text()
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer root.Remove(temp)
	d, err := root.Open(".")
	if err != nil {
		return errors.Join(err, f.Close())
	}
	defer d.Close()
	_, err = f.WriteString(content)
	if err = errors.Join(err, inheritFrom(f, d.Stat), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := root.Link(temp, name); err != nil {
		return err
	}
	return d.Sync()
}

// Replace writes a file over an existing one, atomically. The new file has the owner and mode of the
// old one. If this process may not give it that owner, its mode is 0600.
func Replace(path, content string) error {
	temp, err := write(path, content, func(f *os.File) error { return copyOwner(f, path) })
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return SyncDir(filepath.Dir(path))
}

// write writes and syncs a temporary file, and gives it an owner with own.
func write(path, content string, own func(*os.File) error) (temp string, err error) {
	f, err := CreateTemp(path, ".temp-*")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, own(f), f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// CreateTemp creates a temporary file with mode 0600 in the directory of path. Its error names the
// directory, because nobody knows the name of the temporary file.
func CreateTemp(path, pattern string) (*os.File, error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, pattern)
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = &fs.PathError{Op: "create a file in", Path: dir, Err: e.Err}
	}
	return f, err
}

// copyOwner gives a file the owner and mode of the file at path.
func copyOwner(f *os.File, path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return InheritOwner(f)
	}
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	err = f.Chown(int(owner.Uid), int(owner.Gid))
	if errors.Is(err, fs.ErrPermission) {
		return nil // the bits for the group would be those for another group
	}
	if err != nil {
		return err
	}
	return f.Chmod(info.Mode().Perm())
}

// InheritOwner gives a file or directory that this process has just created the owner and group of
// the directory that it is in, if the process runs as root. It uses the open file and not its name,
// which another user may have given to another file in the meantime.
func InheritOwner(f *os.File) error {
	return inheritFrom(f, func() (fs.FileInfo, error) { return os.Stat(filepath.Dir(f.Name())) })
}

func inheritFrom(f *os.File, dir func() (fs.FileInfo, error)) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := dir()
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return f.Chown(int(owner.Uid), int(owner.Gid))
}

// Share lets a group read a file: its mode becomes 0640. It fails as regularfile.OpenOnly does.
func Share(path string, gid int) error {
	f, _, err := regularfile.OpenOnly(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(f.Chown(-1, gid), f.Chmod(0o640))
}

// Mkdir creates a directory, like os.Mkdir, and calls InheritOwner.
func Mkdir(path string, mode fs.FileMode) error {
	d, err := mkdir(path, mode)
	if err != nil {
		return err
	}
	return d.Close()
}

func mkdir(path string, mode fs.FileMode) (*os.File, error) {
	above, err := os.OpenFile(filepath.Dir(path), os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, &fs.PathError{Op: "mkdir", Path: path, Err: e.Err}
	}
	if err != nil {
		return nil, err
	}
	defer above.Close()
	return MkdirIn(above, filepath.Base(path), mode)
}

// ErrExchanged means that another user has replaced what this process has created.
var ErrExchanged = errors.New("another user has put something else in its place")

// MkdirIn creates a directory in one that is open, and opens it. If this process runs as root, it
// gets the owner and group of the directory above. The owner of the directory above could replace
// the new one in the meantime, but only by another empty directory of root in the same place;
// anything else is an error, and keeps its owner.
func MkdirIn(above *os.File, name string, mode fs.FileMode) (*os.File, error) {
	path := filepath.Join(above.Name(), name)
	if err := unix.Mkdirat(int(above.Fd()), name, uint32(mode.Perm())); err != nil {
		return nil, &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	fd, err := unix.Openat(int(above.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	d := os.NewFile(uintptr(fd), path)
	if err = checkMade(d, above); err == nil {
		err = inheritFrom(d, above.Stat)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// checkMade fails if a process of root has opened something other than the directory that it has
// created.
func checkMade(d, above *os.File) error {
	info, err := above.Stat()
	if err != nil || os.Geteuid() != 0 || info.Sys().(*syscall.Stat_t).Uid == 0 {
		return err
	}
	if info, err = d.Stat(); err != nil {
		return err
	}
	names, err := d.Readdirnames(1)
	if len(names) > 0 || info.Sys().(*syscall.Stat_t).Uid != 0 {
		return &fs.PathError{Op: "mkdir", Path: d.Name(), Err: ErrExchanged}
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	_, err = d.Seek(0, io.SeekStart)
	return err
}

// MkdirSetgid calls Mkdir and sets the setgid bit, so that new files in the directory get its
// group. The umask does not affect the mode.
func MkdirSetgid(path string, mode fs.FileMode) error {
	d, err := mkdir(path, mode)
	if err != nil {
		return err
	}
	return errors.Join(d.Chmod(mode|fs.ModeSetgid), d.Close())
}

// MkdirAll creates a directory and its parents, like os.MkdirAll, and calls InheritOwner for each
// that it creates.
func MkdirAll(path string, mode fs.FileMode) error {
	path = filepath.Clean(path)
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if above := filepath.Dir(path); above != path {
		if err := MkdirAll(above, mode); err != nil {
			return err
		}
	}
	err := Mkdir(path, mode)
	if errors.Is(err, fs.ErrExist) {
		if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
			return nil // another process has created it
		}
	}
	return err
}

// OpenDir opens a directory, and fails for a symbolic link.
func OpenDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
}

// SyncDir makes the entries of a directory durable: which files it contains, and under which names.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
