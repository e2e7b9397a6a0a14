// Package storecopy copies a store to another database, for the command store copy.
//
// No server of this machine uses an SQLite database while it is copied: Run holds the lock of its directory. If root
// runs the copy, it works as the owner of the directories (package runas), who must be the same user. Another Run
// continues an interrupted copy.
//
// Package transfer copies and compares the rows.
package storecopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/owner"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/store/transfer"
)

// Options are the options of Run. From and To are sqlite:FILE or the URL of a PostgreSQL database.
type Options struct {
	From, To string
	Compare  bool // compare the rows without copying
	Show     func(table string, done, total int64)
}

// Run copies a store, and compares the rows of both afterwards.
func Run(ctx context.Context, o Options) (err error) {
	revert, err := becomeOwner(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, revert()) }()
	unlock, err := lock(o)
	defer unlock()
	if err != nil {
		return err
	}
	do := transfer.Copy
	if o.Compare {
		do = transfer.Compare
	}
	err = do(ctx, o.From, o.To, runas.AsCaller, o.Show)
	if err != nil && errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("stopped (%w); run the same command again to continue", err)
	}
	return err
}

// sqliteFile returns the file of an SQLite database.
func sqliteFile(location string) (path string, ok bool) {
	return strings.CutPrefix(location, "sqlite:")
}

// becomeOwner calls runas.BecomeOwner for the directories of the SQLite databases, which must have the same owner.
func becomeOwner(o Options) (revert func() error, err error) {
	var dirs []string
	var owners []*owner.User
	for _, location := range []string{o.From, o.To} {
		if path, ok := sqliteFile(location); ok {
			u, err := runas.OwnerOf(filepath.Dir(path))
			if err != nil {
				return nil, err
			}
			dirs, owners = append(dirs, filepath.Dir(path)), append(owners, u)
		}
	}
	if len(dirs) == 2 && (owners[0] == nil) != (owners[1] == nil) ||
		len(dirs) == 2 && owners[0] != nil && owners[0].UID != owners[1].UID {
		return nil, fault.New(fault.Invalid, "%s and %s belong to different users, so root will not copy from "+
			"one to the other: give both to one user, or use dialtone backup", dirs[0], dirs[1])
	}
	if len(dirs) == 0 {
		return func() error { return nil }, nil
	}
	return runas.BecomeOwner(dirs[0])
}

// lock locks the directories of the SQLite databases, and checks that the required files exist. unlock must be called
// even if there is an error.
func lock(o Options) (unlock func(), err error) {
	var held []func()
	unlock = func() {
		for _, release := range held {
			release()
		}
	}
	for _, location := range []string{o.From, o.To} {
		path, ok := sqliteFile(location)
		if !ok {
			continue
		}
		if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
			return unlock, fault.New(fault.Invalid,
				"there is no directory %s; create it first, or correct the path", filepath.Dir(path))
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && (location == o.From || o.Compare) {
			return unlock, fmt.Errorf("%w in %s; correct --from or --to", installation.ErrNoStore, path)
		}
		// A server that uses the file holds this lock.
		release, err := datadir.Dir(filepath.Dir(path)).Lock()
		if err != nil {
			return unlock, runas.InDataDir(err)
		}
		held = append(held, release)
	}
	return unlock, nil
}
