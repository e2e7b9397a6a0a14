package datadir

import (
	"errors"
	"io/fs"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Owner is the user of a data directory, whom the server usually runs as.
type Owner struct {
	uid    uint32
	groups []uint32
	name   string
}

// Owner returns the owner of the directory. It is nil if there is no directory.
func (d Dir) Owner() (*Owner, error) {
	var info unix.Stat_t
	err := unix.Stat(string(d), &info)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: string(d), Err: err}
	}
	return NewOwner(info.Uid, info.Gid), nil
}

// NewOwner returns the owner of a directory that does not exist yet.
func NewOwner(uid, gid uint32) *Owner {
	o := &Owner{uid: uid, groups: []uint32{gid}, name: strconv.FormatUint(uint64(uid), 10)}
	if u, err := user.LookupId(o.name); err == nil {
		o.name = u.Username
		ids, _ := u.GroupIds()
		for _, id := range ids {
			if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
				o.groups = append(o.groups, uint32(gid))
			}
		}
	}
	return o
}

// String returns the name of the user, or the user ID if there is no name.
func (o *Owner) String() string { return o.name }

// Root reports whether the owner is root, who can read everything.
func (o *Owner) Root() bool { return o.uid == 0 }

// Denied returns the first path on the way to a file whose mode denies access to the owner, or ""
// if there is none: the file itself, a directory above it, or one above the target of a symbolic
// link. Access control lists count as permission, since the mode does not say what they allow. The
// caller is root: what does not exist is not reported.
func (o *Owner) Denied(file string) string {
	file, err := filepath.Abs(file)
	if err != nil {
		return ""
	}
	paths := above(file)
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return ""
	}
	if real != file {
		paths = append(paths, above(real)...)
	}
	for _, dir := range paths {
		if !o.may(dir, unix.X_OK) {
			return dir
		}
	}
	if !o.may(real, unix.R_OK) {
		return real
	}
	return ""
}

// CannotUse returns the first path that prevents the owner from creating and using a directory, or
// "": the directory itself if it exists, otherwise its closest existing parent, or a directory
// above that. Access control lists count as permission.
func (o *Owner) CannotUse(dir string) (at string) {
	dir, err := filepath.Abs(dir)
	if err != nil || o.Root() {
		return ""
	}
	for _, up := range above(dir) {
		if !o.may(up, unix.X_OK) {
			return up
		}
	}
	for {
		var info unix.Stat_t
		if err := unix.Stat(dir, &info); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return ""
		}
		dir = filepath.Dir(dir)
	}
	if !o.may(dir, unix.W_OK|unix.X_OK) {
		return dir
	}
	return ""
}

// above returns the directories above a path, from the root.
func above(path string) (dirs []string) {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		dirs = append(dirs, dir)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	slices.Reverse(dirs)
	return dirs
}

// may reports whether the mode of a path grants the owner all bits, a combination of R_OK, W_OK and
// X_OK.
func (o *Owner) may(path string, bits uint32) bool {
	var info unix.Stat_t
	if unix.Stat(path, &info) != nil {
		return true
	}
	if n, err := unix.Getxattr(path, "system.posix_acl_access", nil); err == nil && n > 0 {
		return true
	}
	shift := 0
	switch {
	case info.Uid == o.uid:
		shift = 6
	case slices.Contains(o.groups, info.Gid):
		shift = 3
	}
	return uint32(info.Mode)>>shift&bits == bits
}
