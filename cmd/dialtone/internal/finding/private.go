package finding

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dialtone/internal/shellword"
)

// Private returns a finding for each file that every user of this machine can read although it
// contains secrets. files maps paths to what they contain. Files that are missing have their own
// checks.
func Private(check string, files map[string]string) []Finding {
	var list advice
	list.private(check, files)
	return list.findings
}

func (a *advice) private(check string, files map[string]string) {
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if mode, open := publicMode(path); open {
			a.change(path, New(Fault, check, AboutStart,
				fmt.Sprintf("every user of this machine can read %s, which has %s, because it has the mode %04o",
					path, files[path], mode),
				fmt.Sprintf("run: chmod o-r %s; if others may have read it, replace what is secret",
					shellword.Path(path))))
		}
	}
}

// publicMode returns the mode of a file, and whether every user of this machine can read it: the mode allows it, and
// those of the directories above.
func publicMode(path string) (mode fs.FileMode, open bool) {
	path, err := filepath.Abs(path)
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

// links adds a finding for each link in the data directory that replaces a file of the server.
// Anybody who can write there can point it elsewhere.
func (f Files) links(list *advice) {
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
		list.link(path, New(level, "files", AboutStart, describeLink(path, target, owner), findOut))
	}
}
