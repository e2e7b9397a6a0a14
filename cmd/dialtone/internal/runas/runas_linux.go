package runas

import (
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// acting is whom this process of root's acts as, or nil.
var acting atomic.Pointer[User]

// become changes the effective user of the process. The real one stays root, so that no process of the other user may
// look into this one.
func (o *User) become() (back func() error, err error) {
	groups, err := syscall.Getgroups()
	if err != nil {
		return nil, err
	}
	gid := os.Getegid()
	err = errors.Join(syscall.Setgroups(o.groups), syscall.Setresgid(-1, o.gid, -1), syscall.Setresuid(-1, o.UID, -1))
	if err != nil {
		return nil, err
	}
	acting.Store(o)
	return func() error {
		acting.Store(nil)
		return errors.Join(syscall.Setresuid(-1, 0, -1), syscall.Setresgid(-1, gid, -1), syscall.Setgroups(groups))
	}, nil
}

// EnterOwner makes a restore continue as the owner of a directory, until back is called.
func EnterOwner(dir string) (back func() error, err error) { return BecomeOwner(dir) }

// AsCaller calls do as the user who has started the command. What do does in other goroutines is not included.
func AsCaller(do func() error) error { return as(0, do) }

// AsOwner undoes AsCaller during a call: do reads or writes the store.
func AsOwner(do func() error) error { return acting.Load().Do(do) }

// Do calls a function as this user, unless there is none.
func (o *User) Do(do func() error) error {
	if o == nil {
		return do()
	}
	return as(o.UID, do)
}

// Acting reports whether this process of root's acts as another user.
func Acting() bool { return acting.Load() != nil }

// as changes the effective user of one thread. The group stays: root needs none.
func as(uid int, do func() error) error {
	before := os.Geteuid()
	if acting.Load() == nil || before == uid {
		return do()
	}
	runtime.LockOSThread()
	if err := setThread(uid); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		// A thread that cannot be changed back stays locked, and ends with its goroutine.
		if setThread(before) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return do()
}

// setThread sets the effective user of the calling thread.
func setThread(uid int) error {
	const keep = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		return errno
	}
	return nil
}
