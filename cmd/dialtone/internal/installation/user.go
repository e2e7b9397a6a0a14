package installation

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
)

// User is a user of the operating system that the server runs as, and a group.
type User struct {
	Name, Group string // the numbers in decimal if there is no name
	UID, GID    uint32
}

// DataOwner returns the owner of a data directory, or nil if there is no directory. holds reports whether the directory
// contains keys or a database.
func DataOwner(data string) (owner *User, holds bool, err error) {
	info, err := os.Stat(data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	} else if !info.IsDir() {
		return nil, false, fault.New(fault.Conflict, "%s is not a directory; give another --data", data)
	}
	stat := info.Sys().(*syscall.Stat_t)
	u := UserOf(stat.Uid, stat.Gid)
	_, err = os.Stat(filepath.Join(data, "keys"))
	return &u, err == nil || datadir.Dir(data).HasDatabase(), nil
}

// UserOf returns the user and the group of these numbers.
func UserOf(uid, gid uint32) User {
	u := User{strconv.FormatUint(uint64(uid), 10), strconv.FormatUint(uint64(gid), 10), uid, gid}
	if found, err := user.LookupId(u.Name); err == nil {
		u.Name = found.Username
	}
	if found, err := user.LookupGroupId(u.Group); err == nil {
		u.Group = found.Name
	}
	return u
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
	if at := datadir.NewOwner(u.UID, u.GID).Denied(file); at != "" {
		return fault.New(fault.Invalid, "the user %s of the server cannot read %s: the owner and mode of "+
			"%s do not allow it", u.Name, file, at)
	}
	return nil
}
