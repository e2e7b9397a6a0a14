package pickup

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

var _ UnnamedFileSystem = system{}

// Create uses system calls directly: package os would first try to register the file with the
// network poller, which takes a fifth of the time of writing a small file.
func (system) Create(path string, data []byte) error {
	fd, err := open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	err = write(fd, path, data)
	return errors.Join(err, closeFile(fd, path))
}

// CreateUnnamed implements UnnamedFileSystem by O_TMPFILE.
func (system) CreateUnnamed(dir string, data []byte) (fd int, err error) {
	fd, err = open(dir, unix.O_WRONLY|unix.O_TMPFILE)
	if err != nil {
		return -1, err
	}
	if err := write(fd, dir, data); err != nil {
		return -1, errors.Join(err, closeFile(fd, dir))
	}
	return fd, nil
}

// LinkUnnamed implements UnnamedFileSystem by linkat(2).
func (system) LinkUnnamed(fd int, path string) error {
	err := linkDescriptor(fd, path)
	if errors.Is(err, unix.ENOENT) {
		// Kernels before 6.10 demand CAP_DAC_READ_SEARCH, and fail with this error without it.
		err = linkByProc(fd, path)
	}
	return err
}

func linkDescriptor(fd int, path string) error {
	return link(fd, "", path, unix.AT_EMPTY_PATH)
}

// linkByProc needs a mounted /proc, but no capability.
func linkByProc(fd int, path string) error {
	return link(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), path, unix.AT_SYMLINK_FOLLOW)
}

func link(dir int, old, path string, flags int) error {
	if err := retry(func() error { return unix.Linkat(dir, old, unix.AT_FDCWD, path, flags) }); err != nil {
		return &os.LinkError{Op: "link", Old: old, New: path, Err: err}
	}
	return nil
}

// CloseUnnamed implements UnnamedFileSystem.
func (system) CloseUnnamed(fd int) error { return closeFile(fd, "unnamed file") }

func open(path string, flags int) (fd int, err error) {
	err = retry(func() (err error) {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// closeFile closes a descriptor. It does not repeat an interrupted close(2): Linux has freed the
// descriptor by then, and a second call might close another file.
func closeFile(fd int, path string) error {
	if err := unix.Close(fd); err != nil && !errors.Is(err, unix.EINTR) {
		return &os.PathError{Op: "close", Path: path, Err: err}
	}
	return nil
}

// write writes a new file and sets its mode.
func write(fd int, path string, data []byte) error {
	for len(data) > 0 {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Write(fd, data)
			return err
		})
		if err != nil {
			return &os.PathError{Op: "write", Path: path, Err: err}
		}
		data = data[n:]
	}
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if info.Mode&0o7777 == mode {
		return nil
	}
	// The umask removed bits, or an ACL of the directory added some.
	if err := unix.Fchmod(fd, mode); err != nil {
		return &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	return nil
}

// ReadFile reads a file without updating its access time, if this user owns it, since that
// update would wait for a running sync.
func (system) ReadFile(path string) ([]byte, error) {
	fd, err := open(path, unix.O_RDONLY|unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) {
		fd, err = open(path, unix.O_RDONLY)
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	data, err := readAll(fd)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return data, nil
}

// readAll reads to the end of a file. Most messages fit in the first buffer.
func readAll(fd int) ([]byte, error) {
	data := make([]byte, 0, 4096)
	for {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Read(fd, data[len(data):cap(data)])
			return err
		})
		if err != nil || n == 0 {
			return data, err
		}
		if data = data[:len(data)+n]; len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

// Rename renames a file. Unlike os.Rename it does not check first whether the new name is a
// directory.
func (system) Rename(from, to string) error {
	if err := retry(func() error { return unix.Rename(from, to) }); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// retry repeats a system call that a signal interrupted, which can happen on network file systems.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// syncfs is replaced by tests.
var syncfs = unix.Syncfs

// syncer calls syncfs(2) once for all files and names. Since Linux 5.8, syncfs also reports a write that
// failed earlier, but only once for each open file: a file that is opened after another program's
// syncfs has reported the failure does not get the error. So syncer keeps the directory open.
type syncer struct {
	path string
	mu   sync.Mutex
	dir  *os.File
}

func (system) NewSyncer(path string) (Syncer, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &syncer{path: path, dir: dir}, nil
}

// Sync also fails if the path now leads to another file system, because it cannot be known whether a write
// to that one has failed until now.
func (s *syncer) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, same, err := s.next()
	if err != nil {
		return err
	}
	err = os.NewSyscallError("syncfs", syncfs(int(s.dir.Fd())))
	if next == nil {
		return err
	}
	if !same {
		err = errors.Join(err, fmt.Errorf("%s is on another file system than before", s.path))
	}
	err = errors.Join(err, s.dir.Close())
	s.dir = next
	return err
}

// next opens the directory if it has replaced the one that is open, and reports whether it is on the same
// file system. Otherwise it returns nil.
func (s *syncer) next() (dir *os.File, same bool, err error) {
	var was, is unix.Stat_t
	if err := unix.Fstat(int(s.dir.Fd()), &was); err != nil {
		return nil, false, &os.PathError{Op: "stat", Path: s.path, Err: err}
	}
	if err := unix.Stat(s.path, &is); err != nil {
		return nil, false, &os.PathError{Op: "stat", Path: s.path, Err: err}
	}
	if was.Dev == is.Dev && was.Ino == is.Ino {
		return nil, true, nil
	}
	dir, err = os.Open(s.path)
	return dir, was.Dev == is.Dev, err
}

func (s *syncer) Close() error { return s.dir.Close() }
