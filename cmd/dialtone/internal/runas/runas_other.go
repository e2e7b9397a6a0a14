//go:build !linux

package runas

import (
	"errors"
	"fmt"
	"syscall"

	"dialtone/cmd/dialtone/internal/owner"
)

// EnterOwner makes a restore continue as the owner of a directory. The process cannot become root again, so revert does
// nothing.
func EnterOwner(dir string) (revert func() error, err error) {
	stay := func() error { return nil }
	o, err := OwnerOf(dir)
	if err != nil || o == nil {
		return stay, err
	}
	err = errors.Join(syscall.Setgroups(groupsOf(o)), syscall.Setgid(int(o.GID)), syscall.Setuid(int(o.UID)))
	if err != nil {
		return nil, fmt.Errorf("continue as the owner of %s: %w", dir, err)
	}
	return stay, nil
}

func become(*owner.User) (revert func() error, err error) { return func() error { return nil }, nil }

// AsCaller calls do. Threads cannot have users of their own on this system.
func AsCaller(do func() error) error { return do() }

// AsOwner calls do.
func AsOwner(do func() error) error { return do() }

// As calls do.
func As(_ *owner.User, do func() error) error { return do() }

// Acting returns false.
func Acting() bool { return false }
