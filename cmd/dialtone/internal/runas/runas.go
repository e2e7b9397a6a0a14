// Package runas lets commands that root runs work as the owner of a data directory.
//
// The owner can replace files and links in the directory at any time, and could otherwise have root read, overwrite or
// create files elsewhere. A command of root therefore continues as the owner (BecomeOwner) before it opens anything in
// the directory, until it has closed the store. What an operator has named on the command line or in the
// configuration is root's to open: AsCaller does that, and AsOwner goes back for a call in between.
//
// Only Linux can give one thread another user. On other systems root does everything, except a restore, which becomes
// the owner for good (EnterOwner).
//
// A server does not change its user: it may need root for its ports and for files that it reads again. It is meant to
// be started as the owner.
package runas

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"

	"dialtone/internal/shellword"
)

// ErrDataDir means that this process may not use the data directory.
var ErrDataDir = errors.New("the data directory cannot be used by this user")

// InDataDir adds ErrDataDir to an error that says that this process lacks a permission.
func InDataDir(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%w: %w; run the program as its owner, or correct owner and mode", ErrDataDir, err)
	}
	return err
}

// User is the owner of a directory.
type User struct {
	UID    int
	gid    int
	groups []int // gid is the first
}

// OwnerOf returns the owner of a directory, or of the nearest directory above it that exists. It is nil if the owner is
// root, and in a process of another user than root. A directory of root's is an error if others can write to it, or can
// replace it, because a directory or link above it is theirs or they can write to one. What is in it may be from them.
func OwnerOf(dir string) (*User, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	w, err := WalkTo(dir)
	if err != nil {
		return nil, err
	}
	owner := w.last
	if owner.Uid == 0 && w.Other != "" {
		return nil, fmt.Errorf("%w: %s belongs to root, but the user %d, to whom %s belongs, can replace it; give it "+
			"to the user of the server, or move it to a directory of root's", ErrDataDir, dir, w.UID, w.Other)
	} else if owner.Uid == 0 && w.Writable != "" {
		return nil, fmt.Errorf("%w: %s belongs to root, but other users can write to %s, which has the mode %04o, so "+
			"that what is in the data directory may be from them; run: chmod g-w,o-w %s; or give the data "+
			"directory to the user of the server", ErrDataDir, dir, w.Writable, w.Mode, shellword.Path(w.Writable))
	} else if owner.Uid == 0 {
		return nil, nil
	}
	o := &User{int(owner.Uid), int(owner.Gid), []int{int(owner.Gid)}}
	if u, err := user.LookupId(strconv.Itoa(o.UID)); err == nil {
		ids, _ := u.GroupIds()
		for _, text := range ids {
			if id, err := strconv.Atoi(text); err == nil && id != o.gid {
				o.groups = append(o.groups, id)
			}
		}
	}
	return o, nil
}

// BecomeOwner makes a command of root continue as the owner of a directory, until back is called. What does not exist
// yet will belong to the owner of the directory above it.
func BecomeOwner(dir string) (back func() error, err error) {
	o, err := OwnerOf(dir)
	if err != nil || o == nil {
		return func() error { return nil }, err
	}
	if back, err = o.become(); err != nil {
		return nil, fmt.Errorf("continue as the owner of %s: %w", dir, err)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrPermission) {
		return nil, errors.Join(fmt.Errorf("%w: the user %d, who owns %s, may not pass through a directory above "+
			"it; see: namei -l %s", ErrDataDir, o.UID, dir, shellword.Path(dir)), back())
	}
	return back, nil
}
