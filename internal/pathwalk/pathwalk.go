// Package pathwalk examines everything on the way to a path: the directories, the links, and the
// directories and links on the way to their targets. It is for processes of root, which other users
// must not redirect to other files.
//
// # Guarantees
//
// Steps follows every link as the system does, and returns each directory and link that somebody
// could replace to make the path lead elsewhere. Others cannot replace what belongs to root in
// directories that only root can write to, neither during the walk nor later. For everything else,
// the answer may be outdated immediately.
package pathwalk

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many links a path may lead through. Linux has the same limit.
const maxLinks = 40

// Step is a directory, link or file on the way to a path.
type Step struct {
	// Path is absolute and has no links above its last name.
	Path  string
	Info  fs.FileInfo // as of Lstat
	Owner uint32
}

// IsLink reports whether the step is a symbolic link.
func (s Step) IsLink() bool { return s.Info.Mode()&fs.ModeSymlink != 0 }

// OthersReplace reports whether users other than its owner can replace the entries of a directory.
// With the sticky bit they can create files, but not replace those of others. With an access
// control list, the bits of the group are the most that it grants.
func (s Step) OthersReplace() bool { return s.OthersWrite() && s.Info.Mode()&fs.ModeSticky == 0 }

// OthersWrite reports whether users other than its owner can create files in a directory.
func (s Step) OthersWrite() bool { return s.Info.IsDir() && s.Info.Mode().Perm()&0o022 != 0 }

// Steps returns the steps on the way to a path, starting at the root. The last step is what the
// path leads to. If a step does not exist or cannot be examined, Steps returns an error and the
// steps before it.
func Steps(path string) (steps []Step, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	at, rest := "/", strings.Split(path, "/")
	for links := 0; ; {
		info, err := os.Lstat(at)
		if err != nil {
			return steps, err
		}
		s := Step{at, info, info.Sys().(*syscall.Stat_t).Uid}
		steps = append(steps, s)
		if s.IsLink() {
			if links++; links > maxLinks {
				return steps, &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
			}
			target, err := os.Readlink(at)
			if err != nil {
				return steps, err
			}
			// The walk continues from a directory that is a step already. It is added again, since it may be the last.
			at = filepath.Dir(at)
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
			continue
		}
		for len(rest) > 0 && (rest[0] == "" || rest[0] == ".") {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return steps, nil
		}
		at, rest = filepath.Join(at, rest[0]), rest[1:]
	}
}

// Link is a symbolic link.
type Link struct {
	Path, Target string
	Owner        uint32
	// Above is the owner of the directory that contains it.
	Above uint32
}

// ForeignLink returns the first link on the way to a path that somebody other than root or the
// caller has made or can replace, or nil. That user chooses the target, so nobody should be advised
// to change the owner or the mode of the target.
func ForeignLink(path string) *Link {
	steps, _ := Steps(path) // what cannot be examined leads nowhere
	trusted := func(uid uint32) bool { return uid == 0 || uid == uint32(os.Getuid()) }
	var above Step
	for _, s := range steps {
		if !s.IsLink() {
			above = s
			continue
		}
		if trusted(s.Owner) && trusted(above.Owner) && !above.OthersReplace() {
			continue
		}
		target, err := os.Readlink(s.Path)
		if err != nil {
			target = "a place that no longer exists"
		}
		return &Link{s.Path, target, s.Owner, above.Owner}
	}
	return nil
}
