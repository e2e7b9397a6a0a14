package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"dialtone/internal/regularfile"
)

// Commands of root in a data directory of another user work as that user, because this user can replace files and
// links in it at any time, and could otherwise have root read, overwrite or create files elsewhere. openAny, which all
// commands but the server use, and the commands that open something in the directory before it call becomeOwner. What
// an operator has named on the command line or in the configuration is root's to open: that is in asCaller.
//
// Only Linux can give a thread another user, so elsewhere root does it all, except a restore, which becomes the owner
// for good (enterOwner). The server does not change its user: it may need root for its ports and for files that it
// reads again. It is meant to be started as the owner.

// dirOwner is the user of a directory, with the groups.
type dirOwner struct {
	uid, gid int
	groups   []int
}

// ownerOf returns the owner of a directory, or of the nearest directory above it that exists. It is nil if this
// process is not root's, or if that is root. A directory of root's is an error if others can write to it, or can
// replace it, because a directory or link above it is theirs or they can write to one. What is in it may be from them.
func ownerOf(dir string) (*dirOwner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	w, err := walkTo(dir)
	if err != nil {
		return nil, err
	}
	owner := w.last
	if owner.Uid == 0 && w.other != "" {
		return nil, fmt.Errorf("%w: %s belongs to root, but the user %d, to whom %s belongs, can replace it; give it "+
			"to the user of the server, or move it to a directory of root's", errDataDir, dir, w.uid, w.other)
	} else if owner.Uid == 0 && w.writable != "" {
		return nil, fmt.Errorf("%w: %s belongs to root, but other users can write to %s, which has the mode %04o, so "+
			"that what is in the data directory may be from them; run: chmod g-w,o-w %[3]s; or give the data "+
			"directory to the user of the server", errDataDir, dir, w.writable, w.mode)
	} else if owner.Uid == 0 {
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

// walk is what is on the way to a path.
type walk struct {
	last  *syscall.Stat_t // of the path, or of the directory above it that exists
	other string          // a directory or link on the way that belongs to a user other than root, or ""
	uid   uint32          // that user

	writable string // the first directory on the way in which users other than its owner can replace something, or ""
	mode     uint32 // its permissions
}

// walkTo looks at all directories and links on the way to a path. What it has found of root's cannot be replaced by
// others while it walks.
func walkTo(path string) (w walk, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return w, err
	}
	at, rest := "/", strings.Split(path, "/")
	for links := 0; ; {
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return w, nil
		} else if err != nil {
			return w, err
		}
		owner := info.Sys().(*syscall.Stat_t)
		if w.other == "" && owner.Uid != 0 {
			w.other, w.uid = at, owner.Uid
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			if links++; links > 40 { // as Linux has it
				return w, &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
			}
			target, err := os.Readlink(at)
			if err != nil {
				return w, err
			}
			at = filepath.Dir(at)
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
		} else {
			w.last = owner
		}
		for len(rest) > 0 && (rest[0] == "" || rest[0] == ".") {
			rest = rest[1:]
		}
		// With the sticky bit, others can create files, but not replace those of root. With an access control list,
		// the bits of the group are what it gives at most.
		shared := info.Mode().Perm()&0o022 != 0 && (info.Mode()&fs.ModeSticky == 0 || len(rest) == 0)
		if w.writable == "" && info.IsDir() && shared {
			w.writable, w.mode = at, uint32(owner.Mode)&0o7777
		}
		if len(rest) == 0 {
			return w, nil
		}
		at, rest = filepath.Join(at, rest[0]), rest[1:]
	}
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

// openNamed opens a file that the operator has named.
func openNamed(path string) (f *os.File, err error) {
	err = asCaller(func() error {
		f, err = regularfile.Open(path)
		return err
	})
	return f, err
}

// openOwned opens a file in a directory that may be the owner's of the data: as this user, or as root if nobody else
// can replace the file. So what the owner has put there in its place is not read as root.
func openOwned(path string) (*os.File, error) {
	f, err := regularfile.Open(path)
	if !isActing() || !errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	var w walk
	walkErr := asCaller(func() (err error) {
		w, err = walkTo(path)
		return err
	})
	if walkErr != nil || w.other != "" || w.writable != "" {
		return nil, fmt.Errorf("%w; give the file and the directories above it to root, or let the owner of the data "+
			"directory read it", err)
	}
	return openNamed(path)
}

// readNamed reads a file that the operator has named.
func readNamed(path string) (text []byte, err error) {
	err = asCaller(func() error {
		text, err = regularfile.Read(path)
		return err
	})
	return text, err
}
