package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/owner"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/atomicfile"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/pathwalk"
	"dialtone/internal/shellword"
)

// chooseUser returns the user that the server runs as: the user with the given name, otherwise the owner of the data
// directory, otherwise the default. It fails if that user could not use the directory.
func chooseUser(data, name string) (owner.User, error) {
	had, holds, err := ownerOf(data)
	if err != nil {
		return owner.User{}, err
	}
	if os.Geteuid() != 0 {
		me := owner.Me()
		if name != "" && name != me.Name {
			return me, fault.New(fault.Conflict, "only root can set up a server that runs as the user %s; leave "+
				"--user out, or run init as root", name)
		}
		return me, nil
	}
	if name == "" && had != nil && (had.UID != 0 || holds) {
		return *had, nil
	}
	if name == "" {
		name = defaultUser
	}
	u, err := user.Lookup(name)
	if err != nil {
		return owner.User{}, fault.New(fault.Conflict, "there is no user %s for the server to run as; create "+
			"it with: useradd --system --user-group --no-create-home --home-dir %s --shell /usr/sbin/nologin %s; "+
			"or name another one with --user", name, shellword.Path(data), name)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return owner.User{}, err
	}
	if had != nil && had.UID != uint32(uid) && holds {
		remedy := fmt.Sprintf(", or run first: chown -R %s: %s", name, shellword.Path(data))
		if link := finding.Link("data", data); link != nil {
			remedy = "; " + link.Cause
		}
		return owner.User{}, fault.New(fault.Conflict, "%s belongs to the user %s, so a server of the user %s "+
			"could not use it; give --user %s%s", data, had.Name, name, had.Name, remedy)
	}
	return owner.ByID(uint32(uid), uint32(gid)), nil
}

// ownerOf returns the owner of a data directory, or nil if there is no directory. holds reports whether the directory
// contains keys or a database.
func ownerOf(data string) (u *owner.User, holds bool, err error) {
	if u, err = owner.Of(data); err != nil {
		return nil, false, err
	}
	if u == nil {
		if _, err := os.Stat(data); err == nil {
			return nil, false, fault.New(fault.Conflict, "%s is not a directory; give another --data", data)
		}
		return nil, false, nil
	}
	_, err = os.Stat(filepath.Join(data, "keys"))
	return u, err == nil || datadir.Dir(data).HasDatabase(), nil
}

// createData creates the data directory for the user of the server, unless it contains keys or a database. Root changes
// the owner only of a directory that it has created, or that no third user could have replaced.
func (s *setup) createData() error {
	data := s.conf.Data
	had, holds, err := ownerOf(data)
	if err != nil || holds {
		return err
	}
	if os.Geteuid() != 0 {
		if had == nil {
			err = runas.InDataDir(datadir.Dir(data).Create())
		}
		return err
	}
	if had != nil && had.UID == s.user.UID {
		return nil
	}
	if info, err := os.Lstat(data); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fault.New(fault.Conflict, "%s is a link, and init does not change the owner of what a link leads to; "+
			"give the directory itself as --data", data)
	}
	var d *os.File
	if had == nil {
		d, err = createDir(data, datadir.Mode)
	} else {
		d, err = openOwned(data)
	}
	if err != nil {
		return runas.InDataDir(err)
	}
	return errors.Join(d.Chown(int(s.user.UID), int(s.user.GID)), d.Close())
}

// createDir creates a directory and its parents, and opens it.
func createDir(path string, mode fs.FileMode) (*os.File, error) {
	path = filepath.Clean(path)
	if err := atomicfile.MkdirAll(filepath.Dir(path), mode); err != nil {
		return nil, err
	}
	above, err := openOwned(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer above.Close()
	return atomicfile.MkdirIn(above, filepath.Base(path), mode)
}

// openOwned opens a directory that only root and its owner could have replaced: all directories and links on the way
// belong to them. So a directory of root is the one that the caller has named.
func openOwned(path string) (*os.File, error) {
	d, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	info, err := d.Stat()
	if err == nil {
		err = checkOwned(path, info)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// checkOwned fails if another user could have replaced an opened directory.
func checkOwned(path string, opened fs.FileInfo) error {
	steps, err := pathwalk.Steps(path)
	if err != nil {
		return err
	}
	uid := opened.Sys().(*syscall.Stat_t).Uid
	refuse := func(s pathwalk.Step) error {
		return fault.New(fault.Conflict, "%s is not given to the user of the server, since users other than root can "+
			"replace it: %s belongs to the user %s and has the mode %04o; give another --data, in a directory of "+
			"root", path, s.Path, owner.ByID(s.Owner, 0).Name, s.Info.Mode().Perm())
	}
	last := len(steps) - 1
	for i, s := range steps {
		if s.Owner != 0 && s.Owner != uid || s.Owner == 0 && i < last && s.OthersReplace() {
			return refuse(s)
		}
	}
	if !os.SameFile(steps[last].Info, opened) {
		return refuse(steps[last])
	}
	return nil
}

// shareConfig lets the user of the server read a configuration that root has written, if it is in a directory that only
// root can change.
func shareConfig(path, data string) error {
	info, err := os.Stat(data)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	file, err := os.Lstat(path)
	if err != nil || owner.Uid == 0 || !file.Mode().IsRegular() || file.Mode().Perm() != 0o600 {
		return err // it needs no change
	}
	if w, err := runas.WalkTo(path); err != nil || w.NonRoot != "" || w.Writable != "" {
		return err // another user may have replaced it
	}
	return atomicfile.Share(path, int(owner.Gid))
}
