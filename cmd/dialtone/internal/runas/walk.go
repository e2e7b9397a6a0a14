package runas

import (
	"errors"
	"io/fs"
	"syscall"

	"dialtone/internal/pathwalk"
)

// Walk is what is on the way to a path.
type Walk struct {
	last  *syscall.Stat_t // of the path, or of the directory above it that exists
	End   string          // its path without links
	Other string          // a directory or link on the way that belongs to a user other than root, or ""
	UID   uint32          // that user

	Writable string // the first directory on the way in which users other than its owner can replace something, or ""
	Mode     uint32 // its permissions

	Missing bool // nothing is there
}

// WalkTo looks at all directories and links on the way to a path. What it has found of root's cannot be replaced by
// others while it walks.
func WalkTo(path string) (w Walk, err error) {
	steps, err := pathwalk.Steps(path)
	w.Missing = errors.Is(err, fs.ErrNotExist)
	if err != nil && !w.Missing {
		return w, err
	}
	for i, s := range steps {
		if w.Other == "" && s.Owner != 0 {
			w.Other, w.UID = s.Path, s.Owner
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
