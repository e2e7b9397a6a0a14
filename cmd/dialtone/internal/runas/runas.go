// Package runas runs commands that root has started as the owner of the data directory.
//
// The owner can replace files and links in the data directory at any time. A command that worked there as root could be
// made to read, overwrite or create files elsewhere. The package guarantees that nothing in the directory is opened as
// root unless root alone controls the path to it.
//
// BecomeOwner switches the process to the owner before the command opens anything in the directory, until the store is
// closed. Files that the operator names on the command line or in the configuration may be readable for root only:
// AsCaller opens them as the user who started the command, and AsOwner switches to the owner again within such a call.
//
// Only Linux supports a user for a single thread. On other systems commands stay root, except a restore, which becomes
// the owner permanently (EnterOwner).
//
// The package is not for servers. A server keeps the user that started it, which should be the owner: it may need root
// for its ports and for files that it reads again.
package runas

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/owner"
	"dialtone/internal/fault"
	"dialtone/internal/shellword"
)

// ErrDataDir means that this process may not use the data directory.
var ErrDataDir = fault.Needs(fault.Correction, "the data directory cannot be used by this user")

// InDataDir wraps an error about a missing permission or a read-only file system in ErrDataDir. It returns other errors
// unchanged.
func InDataDir(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%w: %w; run the program as its owner, or correct owner and mode", ErrDataDir, err)
	}
	return err
}

// OwnerOf returns the owner of a directory, or of its nearest existing ancestor. It returns nil if the owner is root,
// or if this process is not root's. It fails for a directory of root that other users can write to, or can replace
// because they own, or can write to, a directory or link above it: its content may be theirs.
func OwnerOf(dir string) (*owner.User, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	w, err := WalkTo(dir)
	if err != nil {
		return nil, err
	}
	last := w.last
	if last.Uid == 0 && w.NonRoot != "" {
		return nil, fmt.Errorf("%w: %s belongs to root, but the user %d, to whom %s belongs, can replace it; give it "+
			"to the user of the server, or move it to a directory of root", ErrDataDir, dir, w.NonRootUID, w.NonRoot)
	} else if last.Uid == 0 && w.Writable != "" {
		return nil, fmt.Errorf("%w: %s belongs to root, but other users can write to %s, which has the mode %04o, so "+
			"that what is in the data directory may be from them; run: chmod g-w,o-w %s; or give the data "+
			"directory to the user of the server", ErrDataDir, dir, w.Writable, w.Mode, shellword.Path(w.Writable))
	} else if last.Uid == 0 {
		return nil, nil
	}
	u := owner.ByID(last.Uid, last.Gid)
	return &u, nil
}

// BecomeOwner makes a command of root continue as the owner of a directory until revert is called. For a directory that
// does not exist, it is the owner of the nearest existing ancestor.
func BecomeOwner(dir string) (revert func() error, err error) {
	o, err := OwnerOf(dir)
	if err != nil || o == nil {
		return func() error { return nil }, err
	}
	if revert, err = become(o); err != nil {
		return nil, fmt.Errorf("continue as the owner of %s: %w", dir, err)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrPermission) {
		return nil, errors.Join(fmt.Errorf("%w: the user %d, who owns %s, may not pass through a directory above "+
			"it; see: namei -l %s", ErrDataDir, o.UID, dir, shellword.Path(dir)), revert())
	}
	return revert, nil
}

// groupsOf returns the groups of a user for Setgroups.
func groupsOf(u *owner.User) (groups []int) {
	for _, id := range u.Groups() {
		groups = append(groups, int(id))
	}
	return groups
}
