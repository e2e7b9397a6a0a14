// Package regularfile opens files for reading that must be regular ones.
//
// # Guarantees
//
// Open never waits: a named pipe, a device, a socket or a directory instead of the file is an
// error, which wraps ErrOther. So somebody who can replace a file cannot make a command hang. A
// symbolic link is followed.
//
// What the caller's shell has opened for this process, such as /dev/stdin and /dev/fd/63, may be a pipe: only the
// caller can have meant it.
package regularfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// ErrOther means that a path does not lead to a regular file.
var ErrOther = errors.New("not a regular file")

// ErrTooLong means that a file is longer than allowed.
var ErrTooLong = errors.New("the file is too long")

// IsInherited reports whether a path names a file that this process has inherited.
func IsInherited(path string) bool {
	return path == "/dev/stdin" || strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/self/fd/")
}

// Open opens a file for reading.
func Open(path string) (*os.File, error) {
	if IsInherited(path) {
		return os.Open(path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if errors.Is(err, syscall.ENXIO) { // a socket
		return nil, other(path, "socket")
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = check(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// OpenOnly opens a file for reading. It follows no symbolic link, and accepts no file with several
// names. So a change of the mode or owner cannot affect a file that somebody else has linked there.
// The error for such files wraps ErrOther.
func OpenOnly(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return nil, nil, other(path, "link")
	case errors.Is(err, syscall.ENXIO):
		return nil, nil, other(path, "socket")
	case err != nil:
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = check(path, info)
	}
	if err == nil && info.Sys().(*syscall.Stat_t).Nlink != 1 {
		err = other(path, "file with several names")
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// Read reads a whole file.
func Read(path string) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// ReadUpTo reads a file that is not longer than a limit in bytes. For a longer one, it fails with
// an error that wraps ErrTooLong. So somebody who can replace a file cannot make a command use up
// the memory.
func ReadUpTo(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w: more than %d bytes", ErrTooLong, limit)}
	}
	if err != nil {
		return nil, err
	}
	return text, nil
}

// Check fails if a path leads to anything but a regular file. It is for files that a library opens.
// A path that does not exist is not an error.
func Check(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return check(path, info)
}

func check(path string, info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		return other(path, "directory")
	case mode&fs.ModeNamedPipe != 0:
		return other(path, "named pipe")
	case mode&fs.ModeSocket != 0:
		return other(path, "socket")
	case mode&fs.ModeDevice != 0:
		return other(path, "device")
	}
	return other(path, "special file")
}

func other(path, kind string) error {
	return &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("it is a %s, %w", kind, ErrOther)}
}
