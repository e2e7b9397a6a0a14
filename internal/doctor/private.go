package doctor

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Private returns a finding for each file that every user of this machine can read, though it has secrets. The files
// are by path, with what is in them. Files that are missing have their own checks.
func Private(check string, files map[string]string) (list []Finding) {
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if mode, open := PublicMode(path); open {
			cause := fmt.Sprintf("every user of this machine can read %s, which has %s, because it has the mode %04o",
				path, files[path], mode)
			list = append(list, New(Fault, check, AboutStart, cause,
				fmt.Sprintf("run: chmod o-r %q; if others may have read it, replace what is secret", path)))
		}
	}
	return list
}

// PublicMode returns the mode of a file, and whether every user of this machine can read it: the mode allows it, and
// those of the directories above. It reports false behind a foreign link.
func PublicMode(path string) (mode fs.FileMode, open bool) {
	path, err := filepath.Abs(path)
	if err == nil && foreignLink(path) {
		return 0, false
	}
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return 0, false
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return 0, false
	}
	for d := filepath.Dir(path); ; d = filepath.Dir(d) {
		above, err := os.Stat(d)
		if err != nil || above.Mode().Perm()&0o001 == 0 {
			return 0, false
		}
		if d == filepath.Dir(d) {
			return info.Mode().Perm(), true
		}
	}
}

// foreignLink reports whether a path leads through a link that somebody else than root or the caller has made. Nobody
// must be told to change the mode of what that leads to.
func foreignLink(path string) bool {
	for ; ; path = filepath.Dir(path) {
		info, err := os.Lstat(path)
		if err == nil && info.Mode()&fs.ModeSymlink != 0 {
			if id := ownerOf(info); id != 0 && id != uint32(os.Getuid()) {
				return true
			}
		}
		if path == filepath.Dir(path) {
			return false
		}
	}
}

// links returns a finding for each link in the data directory in place of a file of the server's. Anybody who can write
// there can point it elsewhere.
func (f Files) links() (list []Finding) {
	for _, path := range append(f.all(), f.NoLinks...) {
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 || !strings.HasPrefix(path, filepath.Clean(f.Data)+"/") {
			continue
		}
		level, owner := Fault, ownerOf(info)
		if owner == 0 {
			level = Warning // the operator has made it
		}
		target, _ := os.Readlink(path)
		cause := fmt.Sprintf("%s is a link of the user %s to %s; commands and the server follow it, though it may "+
			"not lead to where the data belongs", path, userName(owner), target)
		list = append(list, New(level, "files", AboutStart, cause,
			"find out who made it; then move what it is for back in its place, or set its place in the configuration"))
	}
	return list
}
