package runas

import (
	"errors"
	"io/fs"
	"syscall"

	"dialtone/internal/pathwalk"
)

// Walk describes the directories and links that lead to a path.
type Walk struct {
	last *syscall.Stat_t // of the path, or of its nearest existing ancestor
	End  string          // the path of last, with all links resolved

	NonRoot    string // the first directory or link on the way that belongs to a user other than root, or ""
	NonRootUID uint32 // the owner of NonRoot

	Writable string // the first directory on the way in which users other than its owner can replace entries, or ""
	Mode     uint32 // the permissions of Writable

	Missing bool // the path does not exist
}

// WalkTo examines all directories and links that lead to a path. Other users cannot replace what it has found to be
// root's while it continues.
func WalkTo(path string) (w Walk, err error) {
	steps, err := pathwalk.Steps(path)
	w.Missing = errors.Is(err, fs.ErrNotExist)
	if err != nil && !w.Missing {
		return w, err
	}
	for i, s := range steps {
		if w.NonRoot == "" && s.Owner != 0 {
			w.NonRoot, w.NonRootUID = s.Path, s.Owner
		}
		info := s.Info.Sys().(*syscall.Stat_t)
		if !s.IsLink() {
			w.last, w.End = info, s.Path
		}
		atEnd := i == len(steps)-1 && !w.Missing
		if w.Writable == "" && (s.OthersReplace() || atEnd && s.OthersWrite()) {
			w.Writable, w.Mode = s.Path, uint32(info.Mode)&0o7777
		}
	}
	return w, nil
}
