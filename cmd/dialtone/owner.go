package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"dialtone/internal/pathwalk"
	"dialtone/internal/regularfile"
	"dialtone/internal/shellword"
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
			"that what is in the data directory may be from them; run: chmod g-w,o-w %s; or give the data "+
			"directory to the user of the server", errDataDir, dir, w.writable, w.mode, shellword.Path(w.writable))
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
	end   string          // its path without links
	other string          // a directory or link on the way that belongs to a user other than root, or ""
	uid   uint32          // that user

	writable string // the first directory on the way in which users other than its owner can replace something, or ""
	mode     uint32 // its permissions

	missing bool // nothing is there
}

// walkTo looks at all directories and links on the way to a path. What it has found of root's cannot be replaced by
// others while it walks.
func walkTo(path string) (w walk, err error) {
	steps, err := pathwalk.Steps(path)
	w.missing = errors.Is(err, fs.ErrNotExist)
	if err != nil && !w.missing {
		return w, err
	}
	for i, s := range steps {
		if w.other == "" && s.Owner != 0 {
			w.other, w.uid = s.Path, s.Owner
		}
		info := s.Info.Sys().(*syscall.Stat_t)
		if !s.IsLink() {
			w.last, w.end = info, s.Path
		}
		atEnd := i == len(steps)-1 && !w.missing
		if w.writable == "" && (s.OthersReplace() || atEnd && s.OthersWrite()) {
			w.writable, w.mode = s.Path, uint32(info.Mode)&0o7777
		}
	}
	return w, nil
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
			"it; see: namei -l %s", errDataDir, o.uid, dir, shellword.Path(dir)), back())
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

// openAsOwner opens a file in a directory that may be the owner's of the data: as this user, or as root if nobody else
// can replace the file. So what the owner has put there in its place is not read as root.
func openAsOwner(path string) (*os.File, error) {
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

// maxNamed is how long a file that is read whole may be, in bytes. Bundles of all authorities have less than a MiB.
const maxNamed = 4 << 20

// readNamed reads a file that the operator has named. It may be another user's.
func readNamed(path string) (text []byte, err error) {
	err = asCaller(func() error {
		text, err = regularfile.ReadUpTo(path, maxNamed)
		return err
	})
	return text, err
}
