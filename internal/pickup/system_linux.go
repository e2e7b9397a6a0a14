package pickup

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Create makes the system calls that a small file needs and no others: package os would offer the file to the network
// poller first, which a signup pays for with a fifth of its message's cost.
func (system) Create(path string, data []byte) error {
	var fd int
	err := untilDone(func() (err error) {
		fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err = fill(fd, data); err != nil {
		err = &os.PathError{Op: "write", Path: path, Err: err}
	}
	// Linux has let go of the descriptor also where close was interrupted: a second call might close another's.
	if closed := unix.Close(fd); closed != nil && closed != unix.EINTR {
		err = errors.Join(err, &os.PathError{Op: "close", Path: path, Err: closed})
	}
	return err
}

func fill(fd int, data []byte) error {
	for len(data) > 0 {
		var n int
		err := untilDone(func() (err error) {
			n, err = unix.Write(fd, data)
			return err
		})
		if err != nil {
			return err
		}
		data = data[n:]
	}
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return err
	}
	if info.Mode&0o7777 == mode {
		return nil
	}
	return unix.Fchmod(fd, mode) // the umask took something, or an ACL gave it
}

// ReadFile leaves the time of access alone, where the file is ours: to note it, the file system would wait for a sync that is going on.
func (system) ReadFile(path string) ([]byte, error) {
	var fd int
	open := func(more int) error {
		return untilDone(func() (err error) {
			fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|more, 0)
			return err
		})
	}
	err := open(unix.O_NOATIME)
	if err == unix.EPERM {
		err = open(0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	data, err := drain(fd)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return data, nil
}

// drain reads to the end. A message is shorter than what is asked for first.
func drain(fd int) ([]byte, error) {
	data := make([]byte, 0, 4096)
	for {
		var n int
		err := untilDone(func() (err error) {
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

// Rename has no look at the new name first, unlike os.Rename: no directory has it.
func (system) Rename(from, to string) error {
	if err := untilDone(func() error { return unix.Rename(from, to) }); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// untilDone repeats a call that a signal interrupts, which file systems over a network let happen.
func untilDone(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// Sync is one syncfs(2) for all files and names together. Since Linux 5.8 it reports a write that failed since the last
// call.
func (system) Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
}
