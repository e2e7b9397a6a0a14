// Package htdigest writes the files that Apache, lighttpd and others check Digest passwords against: a line user:realm:HA1 for
// each account (Apache's htdigest; mod_auth_digest, AuthUserFile).
//
// A server may read the file at any moment, so it is replaced whole: written beside its place, synced, and renamed to it. A file
// that would come out the same is left alone. It has mode 0640, and the group of the file that it replaces, or else of its folder
// where that is setgid: an HA1 is the password itself to whoever reads it.
package htdigest

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"dialtone/internal/export"
)

// mode is what the files have.
const mode = 0o640

// Write replaces the file at path by the accounts that each gives, and reports whether there was anything to change. On an error the
// file is as it was.
func Write(path string, each func(func(export.Entry) error) error) (changed bool, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".htdigest-*") // with mode 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	sum := sha256.New()
	out := bufio.NewWriter(io.MultiWriter(f, sum))
	err = each(func(l export.Entry) error {
		_, err := fmt.Fprintf(out, "%s:%s:%s\n", l.User, l.Realm, l.HA1.Hex())
		return err
	})
	if err := errors.Join(err, out.Flush()); err != nil {
		return false, err
	}
	old, err := os.Open(path)
	if err == nil {
		defer old.Close()
		has := sha256.New()
		if _, err := io.Copy(has, old); err != nil {
			return false, err
		}
		info, err := old.Stat()
		if err != nil {
			return false, err
		}
		if string(has.Sum(nil)) == string(sum.Sum(nil)) && info.Mode() == mode {
			return false, nil
		}
		if err := f.Chown(-1, int(info.Sys().(*syscall.Stat_t).Gid)); err != nil {
			return false, fmt.Errorf("%s belongs to a group that this user is not in, and whoever reads it by that could not any more: %w", path, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := errors.Join(f.Chmod(mode), f.Sync()); err != nil {
		return false, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return false, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return true, err
	}
	return true, errors.Join(dir.Sync(), dir.Close())
}
