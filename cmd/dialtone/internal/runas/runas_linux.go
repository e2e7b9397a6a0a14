package runas

import (
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// acting is the user as whom this process of root acts, or nil.
var acting atomic.Pointer[User]

// become changes the effective user of the process. The real user stays root, so that processes of the other user
// cannot trace this one.
func (o *User) become() (revert func() error, err error) {
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

// EnterOwner makes a restore continue as the owner of a directory until revert is called.
func EnterOwner(dir string) (revert func() error, err error) { return BecomeOwner(dir) }

// AsCaller calls do as the user who started the command. Goroutines that do starts run as the owner.
func AsCaller(do func() error) error { return as(0, do) }

// AsOwner calls do as the owner again, within a call of AsCaller: do reads or writes the store.
func AsOwner(do func() error) error { return acting.Load().Do(do) }

// Do calls a function as this user. On a nil User, it only calls the function.
func (o *User) Do(do func() error) error {
	if o == nil {
		return do()
	}
	return as(o.UID, do)
}

// Acting reports whether this process was started by root and acts as another user.
func Acting() bool { return acting.Load() != nil }

// as calls do on a thread with another effective user. It does not change the group: root needs none.
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
		// If the user cannot be restored, the thread stays locked and ends with its goroutine.
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
