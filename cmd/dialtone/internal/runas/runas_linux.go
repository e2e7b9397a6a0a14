package runas

import (
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/owner"
)

// acting is the user as whom this process of root acts, or nil.
var acting atomic.Pointer[owner.User]

// become changes the effective user of the process. The real user stays root, so that processes of the other user
// cannot trace this one.
func become(u *owner.User) (revert func() error, err error) {
	groups, err := syscall.Getgroups()
	if err != nil {
		return nil, err
	}
	gid := os.Getegid()
	err = errors.Join(syscall.Setgroups(groupsOf(u)), syscall.Setresgid(-1, int(u.GID), -1),
		syscall.Setresuid(-1, int(u.UID), -1))
	if err != nil {
		return nil, err
	}
	acting.Store(u)
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
func AsOwner(do func() error) error { return As(acting.Load(), do) }

// As calls do as a user. If u is nil, it only calls do.
func As(u *owner.User, do func() error) error {
	if u == nil {
		return do()
	}
	return as(int(u.UID), do)
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
