package finding

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

	"dialtone/internal/pathwalk"
	"dialtone/internal/shellword"
)

// Files are the files of an installation.
type Files struct {
	// Data is the data directory. Its owner is the user that the server runs as.
	Data string
	// Own are files and directories that the server writes to. They may be missing.
	Own []string
	// Secret are key files, which nobody else may read.
	Secret []string
	// NoLinks are other files and directories in the data directory that must not be symbolic links
	// either.
	NoLinks []string
	// Private maps files with secrets, which not every user may read, to what they contain.
	Private map[string]string
	// Read maps names, such as keys of the configuration, to files that the server only reads.
	Read map[string]string
}

// Check returns a finding for each file that the owner of the data directory cannot use, or that
// others can. It is useful to root and to that owner; other users cannot see everything.
func (f Files) Check(ctx context.Context) []Finding {
	var list advice
	add := func(level Level, cause, next string) {
		list.add(New(level, "files", AboutStart, cause, next))
	}
	info, err := os.Stat(f.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // there is no store either, which another check reports
	case err != nil:
		add(Fault, err.Error(), "run this command as root or as the user of the server")
		return list.findings
	case !info.IsDir():
		add(Fault, f.Data+" is not a directory", "correct data in the configuration")
		return list.findings
	}
	owner := ownerOf(info)
	name := pathwalk.UserName(owner)
	if uid := os.Geteuid(); uid != 0 && uint32(uid) != owner {
		add(Fault, fmt.Sprintf("%s belongs to the user %s, and this command runs as %s, so a server of this user "+
			"cannot work, and this command does not see everything", f.Data, name, pathwalk.UserName(uint32(uid))),
			"run the command and the server as "+name+", or correct the owner")
	}
	// change adds a finding about a path whose owner or mode is to be changed.
	change := func(path, cause, command string) {
		list.change(path, New(Fault, "files", AboutStart, cause, command+shellword.Path(path)))
	}
	if mode := info.Mode().Perm(); mode&0o002 != 0 {
		change(f.Data, fmt.Sprintf("every user of this machine can replace the database and the keys, because %s "+
			"has the mode %04o", f.Data, mode), "run: chmod o-w ")
	}
	if mode := info.Mode().Perm(); mode&0o700 != 0o700 {
		change(f.Data, fmt.Sprintf("the data directory %s has the mode %04o, so its owner %s cannot use it", f.Data,
			mode, name), "run: chmod u+rwx ")
	}
	for _, path := range f.all() {
		if ctx.Err() != nil {
			return list.findings
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink != 0 {
			continue // missing files have their own checks, and links too
		}
		if id := ownerOf(info); id != owner {
			change(path, fmt.Sprintf("%s belongs to the user %s, but the data directory to %s, so the server "+
				"cannot use it", path, pathwalk.UserName(id), name), "run as root: chown -h "+shellword.Quote(name)+" ")
			continue
		}
		need := fs.FileMode(0o600)
		if info.IsDir() {
			need = 0o700
		}
		if mode := info.Mode().Perm(); mode&need != need && !slices.Contains(f.Secret, path) {
			change(path, fmt.Sprintf("%s has the mode %04o, so its owner %s cannot use it", path, mode, name),
				"run: chmod u+rwX ")
		} else if mode&0o002 != 0 {
			change(path, fmt.Sprintf("every user of this machine can change %s, which has the mode %04o", path, mode),
				"run: chmod o-w ")
		}
	}
	for _, path := range f.Secret {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		mode := info.Mode().Perm()
		if mode&0o077 != 0 || mode&0o400 == 0 {
			list.change(path, New(Fault, "files", AboutKeys,
				fmt.Sprintf("the key file %s has the mode %04o, with which the server does not start", path, mode),
				fmt.Sprintf("run: chmod 600 %s; if other users of this machine may have read it, make new keys",
					shellword.Path(path))))
		}
	}
	list.private("files", f.Private)
	f.readable(&list, owner)
	f.links(&list)
	return list.findings
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

// readable adds a finding for each file in Read that a user cannot read.
func (f Files) readable(list *advice, uid uint32) {
	groups := groupsOf(uid)
	for _, name := range slices.Sorted(maps.Keys(f.Read)) {
		see := AboutStart
		switch {
		case strings.HasPrefix(name, "mail."):
			see = AboutMail
		case strings.HasPrefix(name, "tls."), strings.HasPrefix(name, "ops.tls_"):
			see = AboutKeyFiles
		}
		path, err := filepath.Abs(f.Read[name])
		if err != nil || uid == 0 {
			continue
		}
		for d := path; ; d = filepath.Dir(d) {
			info, err := os.Stat(d)
			if err != nil {
				if d == path {
					list.add(New(Fault, "files", see, fmt.Sprintf("%s (%s) cannot be read: %v", path, name, err),
						"restore the file, or correct the path in the configuration"))
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
				list.change(d, New(Fault, "files", see,
					fmt.Sprintf("the user %s of the server cannot read %s (%s), because %s has the mode %04o and "+
						"belongs to %s", pathwalk.UserName(uid), path, name, d, info.Mode().Perm(),
						pathwalk.UserName(ownerOf(info))),
					letRead(d, d == path, primaryGroup(uid), letters)))
				break
			}
			if d == filepath.Dir(d) {
				break
			}
		}
	}
}

// letRead returns advice on how to give the group of the server a permission on a file that it
// cannot read, or on a directory above. Others may depend on the group of such a directory, so it
// is not changed.
func letRead(path string, isFile bool, group, letters string) string {
	if isFile {
		return fmt.Sprintf("give the group of the server the permission: chgrp %s %s && chmod g+%s %[2]s",
			shellword.Quote(group), shellword.Path(path), letters)
	}
	return "let the user of the server pass through " + path + ", or move the file to where that user may pass"
}

// allows reports whether a mode gives a user all of the permissions in bits, which are written as
// those of others.
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

// primaryGroup returns the name of the primary group of a user, or of the group whose ID is the
// user ID.
func primaryGroup(uid uint32) string {
	gid := uint64(uid)
	if u, err := user.LookupId(strconv.FormatUint(gid, 10)); err == nil {
		if id, err := strconv.ParseUint(u.Gid, 10, 32); err == nil {
			gid = id
		}
	}
	return pathwalk.GroupName(uint32(gid))
}

// groupsOf returns the groups of a user. A user without a name on this machine has none.
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
