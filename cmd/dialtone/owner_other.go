//go:build !linux

package main

import (
	"errors"
	"fmt"
	"syscall"
)

// enterOwner makes a restore continue as the owner of a directory for good.
func enterOwner(dir string) (back func() error, err error) {
	stay := func() error { return nil }
	o, err := ownerOf(dir)
	if err != nil || o == nil {
		return stay, err
	}
	if err := errors.Join(syscall.Setgroups(o.groups), syscall.Setgid(o.gid), syscall.Setuid(o.uid)); err != nil {
		return nil, fmt.Errorf("continue as the owner of %s: %w", dir, err)
	}
	return stay, nil
}

func (o *dirOwner) become() (back func() error, err error) { return func() error { return nil }, nil }

func asCaller(do func() error) error { return do() }

func asActing(do func() error) error { return do() }

func (o *dirOwner) do(do func() error) error { return do() }

func isActing() bool { return false }
