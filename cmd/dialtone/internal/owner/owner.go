// Package owner tells which files and directories a user can use, such as the owner of the data directory.
//
// A server should run as that owner. A command of root can use everything, so it would not notice what the server
// cannot use: this package reads owners and modes instead. It changes nothing.
//
// Of returns the owner of a directory as a User. The methods of User return the first path that prevents an access, for
// a message to the operator. Access control lists count as permission, because the mode does not say what they allow.
//
// Package runas makes a command work as such a user.
package owner

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
)

// User is a user of the operating system, and a group.
type User struct {
	Name, Group string // the numbers in decimal if there is no name
	UID, GID    uint32
}

// Of returns the owner and the group of a directory. It returns nil if there is no directory.
func Of(dir string) (*User, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	u := ByID(stat.Uid, stat.Gid)
	return &u, nil
}

// ByID returns the user and the group of these numbers.
func ByID(uid, gid uint32) User {
	u := User{strconv.FormatUint(uint64(uid), 10), strconv.FormatUint(uint64(gid), 10), uid, gid}
	if found, err := user.LookupId(u.Name); err == nil {
		u.Name = found.Username
	}
	if found, err := user.LookupGroupId(u.Group); err == nil {
		u.Group = found.Name
	}
	return u
}

// Me returns the effective user and group of this process.
func Me() User { return ByID(uint32(os.Geteuid()), uint32(os.Getegid())) }

// Groups returns u.GID and the other groups of the user.
func (u User) Groups() []uint32 {
	groups := []uint32{u.GID}
	found, err := user.LookupId(strconv.FormatUint(uint64(u.UID), 10))
	if err != nil {
		return groups
	}
	ids, _ := found.GroupIds()
	for _, text := range ids {
		if id, err := strconv.ParseUint(text, 10, 32); err == nil && uint32(id) != u.GID {
			groups = append(groups, uint32(id))
		}
	}
	return groups
}

// CheckReadable returns an error if the user of the server cannot read a file.
func (u User) CheckReadable(file string) error {
	f, err := regularfile.Open(file)
	if err != nil {
		return err
	}
	f.Close()
	if os.Geteuid() != 0 || u.UID == 0 {
		return nil
	}
	if at := u.Denied(file); at != "" {
		return fault.New(fault.Invalid, "the user %s of the server cannot read %s: the owner and mode of "+
			"%s do not allow it", u.Name, file, at)
	}
	return nil
}

// Unreadable is Denied for any caller. A process that does not run as root can check only its own user, so it ignores
// u.
func (u User) Unreadable(file string) (at string) {
	if os.Geteuid() == 0 {
		return u.Denied(file)
	}
	f, err := regularfile.Open(file)
	if err == nil {
		f.Close()
	}
	if errors.Is(err, fs.ErrPermission) {
		return file
	}
	return ""
}

// Denied returns the first path on the way to a file whose mode prevents the user from reading the file, or "" if there
// is none: the file itself, a directory above it, or one above the target of a symbolic link. The caller is root. What
// does not exist is not reported.
func (u User) Denied(file string) string {
	file, err := filepath.Abs(file)
	if err != nil {
		return ""
	}
	r := rights{u.UID, u.Groups()}
	paths := above(file)
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return ""
	}
	if real != file {
		paths = append(paths, above(real)...)
	}
	for _, dir := range paths {
		if !r.may(dir, unix.X_OK) {
			return dir
		}
	}
	if !r.may(real, unix.R_OK) {
		return real
	}
	return ""
}

// CannotUse returns the first path that prevents the user from creating and using a directory, or "": the directory
// itself if it exists, otherwise its closest existing parent, or a directory above that.
func (u User) CannotUse(dir string) (at string) {
	dir, err := filepath.Abs(dir)
	if err != nil || u.UID == 0 {
		return ""
	}
	r := rights{u.UID, u.Groups()}
	for _, up := range above(dir) {
		if !r.may(up, unix.X_OK) {
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
	if !r.may(dir, unix.W_OK|unix.X_OK) {
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

// rights are the numbers that decide what a user may do.
type rights struct {
	uid    uint32
	groups []uint32
}

// may reports whether the mode of a path grants all bits, a combination of R_OK, W_OK and X_OK.
func (r rights) may(path string, bits uint32) bool {
	var info unix.Stat_t
	if unix.Stat(path, &info) != nil {
		return true
	}
	if n, err := unix.Getxattr(path, "system.posix_acl_access", nil); err == nil && n > 0 {
		return true
	}
	shift := 0
	switch {
	case info.Uid == r.uid:
		shift = 6
	case slices.Contains(r.groups, info.Gid):
		shift = 3
	}
	return uint32(info.Mode)>>shift&bits == bits
}
