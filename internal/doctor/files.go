package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Files are the files of an installation.
type Files struct {
	// Data is the data directory. Its owner is the user that the server runs as.
	Data string
	// Own are files and directories that the server writes to. They may be missing.
	Own []string
	// Secret are key files, which nobody else may read.
	Secret []string
	// NoLinks are other files and directories in the data directory that must be no symbolic links either.
	NoLinks []string
	// Private has files with secrets that not every user may read, and what is in them.
	Private map[string]string
	// Read are files that the server only reads, by the key of the configuration or another name.
	Read map[string]string
}

// Check returns a finding for each file that the owner of the data directory cannot use, or that others can. It
// is of use to root and to that owner; other users cannot see everything.
func (f Files) Check(ctx context.Context) (list []Finding) {
	add := func(level Level, cause, next string) {
		list = append(list, New(level, "files", AboutStart, cause, next))
	}
	info, err := os.Stat(f.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // there is no store either, which is said there
	case err != nil:
		add(Fault, err.Error(), "run this command as root or as the user of the server")
		return list
	case !info.IsDir():
		add(Fault, f.Data+" is not a directory", "correct data in the configuration")
		return list
	}
	owner := ownerOf(info)
	name := userName(owner)
	if uid := os.Geteuid(); uid != 0 && uint32(uid) != owner {
		add(Fault, fmt.Sprintf("%s belongs to the user %s, and this command runs as %s, so a server of this user "+
			"cannot work, and this command does not see everything", f.Data, name, userName(uint32(uid))),
			"run the command and the server as "+name+", or correct the owner")
	}
	if mode := info.Mode().Perm(); mode&0o002 != 0 {
		add(Fault, fmt.Sprintf("every user of this machine can replace the database and the keys, because %s "+
			"has the mode %04o", f.Data, mode), fmt.Sprintf("run: chmod o-w %q", f.Data))
	}
	if mode := info.Mode().Perm(); mode&0o700 != 0o700 {
		add(Fault, fmt.Sprintf("the data directory %s has the mode %04o, so its owner %s cannot use it", f.Data, mode,
			name), fmt.Sprintf("run: chmod u+rwx %q", f.Data))
	}
	for _, path := range f.all() {
		if ctx.Err() != nil {
			return list
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink != 0 {
			continue // missing files have their own checks, and links too
		}
		if id := ownerOf(info); id != owner {
			add(Fault, fmt.Sprintf("%s belongs to the user %s, but the data directory to %s, so the server "+
				"cannot use it", path, userName(id), name), fmt.Sprintf("run as root: chown -h %s %q", name, path))
			continue
		}
		need := fs.FileMode(0o600)
		if info.IsDir() {
			need = 0o700
		}
		if mode := info.Mode().Perm(); mode&need != need && !slices.Contains(f.Secret, path) {
			add(Fault, fmt.Sprintf("%s has the mode %04o, so its owner %s cannot use it", path, mode, name),
				fmt.Sprintf("run: chmod u+rwX %q", path))
		} else if mode&0o002 != 0 {
			add(Fault, fmt.Sprintf("every user of this machine can change %s, which has the mode %04o", path, mode),
				fmt.Sprintf("run: chmod o-w %q", path))
		}
	}
	for _, path := range f.Secret {
		info, err := os.Stat(path)
		if err != nil || foreignLink(path) {
			continue
		}
		mode := info.Mode().Perm()
		if mode&0o077 != 0 || mode&0o400 == 0 {
			list = append(list, New(Fault, "files", AboutKeys,
				fmt.Sprintf("the key file %s has the mode %04o, with which the server does not start", path, mode),
				fmt.Sprintf("run: chmod 600 %q; if other users of this machine may have read it, make new keys", path)))
		}
	}
	list = append(list, f.links()...)
	list = append(list, Private("files", f.Private)...)
	return append(list, f.readable(owner)...)
}

// all returns the files that the server writes to, without those of other programs in the data directory.
func (f Files) all() (paths []string) {
	for _, path := range slices.Concat(f.Own, f.Secret) {
		if path = filepath.Clean(path); !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// readable returns a finding for each file in Read that a user cannot read.
func (f Files) readable(uid uint32) (list []Finding) {
	groups := groupsOf(uid)
	for _, name := range slices.Sorted(maps.Keys(f.Read)) {
		see := AboutStart
		switch {
		case strings.HasPrefix(name, "mail."):
			see = AboutMail
		case strings.HasPrefix(name, "tls."), strings.HasPrefix(name, "ops.tls_"):
			see = AboutKeyFiles
		}
		add := func(cause, next string) { list = append(list, New(Fault, "files", see, cause, next)) }
		path, err := filepath.Abs(f.Read[name])
		if err != nil || uid == 0 {
			continue
		}
		for d := path; ; d = filepath.Dir(d) {
			info, err := os.Stat(d)
			if err != nil {
				if d == path {
					add(fmt.Sprintf("%s (%s) cannot be read: %v", path, name, err),
						"restore the file, or correct the path in the configuration")
				}
				break
			}
			need, letters := fs.FileMode(4), "r"
			if info.IsDir() {
				need, letters = 1, "x"
				if d == path {
					need, letters = 5, "rx"
				}
			}
			if !allows(info, uid, groups, need) {
				add(fmt.Sprintf("the user %s of the server cannot read %s (%s), because %s has the mode %04o and "+
					"belongs to %s", userName(uid), path, name, d, info.Mode().Perm(), userName(ownerOf(info))),
					fmt.Sprintf("give the group of the server the right: chgrp GROUP %[1]q && chmod g+%[2]s %[1]q",
						d, letters))
				break
			}
			if d == filepath.Dir(d) {
				break
			}
		}
	}
	return list
}

// allows reports whether a mode gives a user all of the permissions, whose bits are among those of others.
func allows(info fs.FileInfo, uid uint32, groups []uint32, bits fs.FileMode) bool {
	mode := info.Mode().Perm()
	switch {
	case ownerOf(info) == uid:
		mode >>= 6
	case slices.Contains(groups, info.Sys().(*syscall.Stat_t).Gid):
		mode >>= 3
	}
	return mode&bits == bits
}

func ownerOf(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

func userName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return number
}

// groupsOf returns the groups of a user. A user that this machine has no name for has none.
func groupsOf(uid uint32) (groups []uint32) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return nil
	}
	ids, _ := u.GroupIds()
	for _, text := range ids {
		if id, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32); err == nil {
			groups = append(groups, uint32(id))
		}
	}
	return groups
}
