package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Commands of root in a data directory of another user work as that user, because this user can replace files and
// links in it at any time, and could otherwise have root read, overwrite or create files elsewhere. openAny, which all
// commands but the server use, and the commands that open something in the directory before it call becomeOwner. What
// an operator has named on the command line or in the configuration is root's to open: that is in asCaller.
//
// Only Linux can give a thread another user, so elsewhere root does it all. The server does not change its user: it may
// need root for its ports and for files that it reads again. It is meant to be started as the owner.

// dirOwner is the user of a directory, with the groups.
type dirOwner struct {
	uid, gid int
	groups   []int
}

// ownerOf returns the owner of a directory, or of the nearest directory above it that exists. It is nil if this
// process is not root's, or if that is root.
func ownerOf(dir string) (*dirOwner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		info, err = os.Stat(dir)
	}
	if err != nil {
		return nil, err
	}
	owner := info.Sys().(*syscall.Stat_t)
	if owner.Uid == 0 {
		return nil, nil
	}
	o := &dirOwner{int(owner.Uid), int(owner.Gid), []int{int(owner.Gid)}}
	if u, err := user.LookupId(strconv.Itoa(o.uid)); err == nil {
		ids, _ := u.GroupIds()
		for _, text := range ids {
			if id, err := strconv.Atoi(text); err == nil && id != o.gid {
				o.groups = append(o.groups, id)
			}
		}
	}
	return o, nil
}

// becomeOwner makes a command of root continue as the owner of a directory, until back is called. What does not exist
// yet will belong to the owner of the directory above it.
func becomeOwner(dir string) (back func() error, err error) {
	o, err := ownerOf(dir)
	if err != nil || o == nil {
		return func() error { return nil }, err
	}
	if back, err = o.become(); err != nil {
		return nil, fmt.Errorf("continue as the owner of %s: %w", dir, err)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrPermission) {
		return nil, errors.Join(fmt.Errorf("%w: the user %d, who owns %s, may not pass through a directory above "+
			"it; see: namei -l %s", errDataDir, o.uid, dir, dir), back())
	}
	return back, nil
}

// stayOwner is becomeOwner for good.
func stayOwner(dir string) error {
	o, err := ownerOf(dir)
	if err != nil || o == nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(o.groups), syscall.Setgid(o.gid), syscall.Setuid(o.uid)); err != nil {
		return fmt.Errorf("continue as the owner of %s: %w", dir, err)
	}
	return nil
}

// openNamed opens a file that the operator has named.
func openNamed(path string) (f *os.File, err error) {
	err = asCaller(func() error {
		f, err = os.Open(path)
		return err
	})
	return f, err
}

// readNamed reads a file that the operator has named.
func readNamed(path string) (text []byte, err error) {
	err = asCaller(func() error {
		text, err = os.ReadFile(path)
		return err
	})
	return text, err
}
