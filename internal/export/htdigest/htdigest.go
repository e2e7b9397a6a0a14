// Package htdigest writes files of HA1s for Apache and other servers that check Digest passwords
// against a file: one line user:realm:HA1 for each account (Apache's htdigest; mod_auth_digest,
// AuthUserFile).
//
// A server may read a file at any moment, so a file is replaced as a whole: the new one is
// written next to it, synced and renamed. If the content is the same, the old one stays. An HA1
// is password-equivalent, so the mode is 0640. The group is that of the file that is replaced,
// and so is the owner if root replaces it. A new file gets the group of its directory if that is
// setgid, or if root creates it, together with the owner.
package htdigest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"dialtone/internal/atomicfile"
	"dialtone/internal/export"
	"dialtone/internal/regularfile"
)

const mode = 0o640

// Entries calls yield for each entry of a file, until yield fails; it returns that error.
type Entries func(yield func(export.Entry) error) error

// Write replaces the file at path by one with the given entries, and reports whether that changed
// anything. If it returns an error and changed is false, the old file still exists. When Write
// has returned without an error, the file survives a power failure.
func Write(path string, entries Entries) (changed bool, err error) {
	temp, err := atomicfile.CreateTemp(path, ".htdigest-*")
	if err != nil {
		return false, err
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	sum := sha256.New()
	out := bufio.NewWriter(io.MultiWriter(temp, sum))
	err = entries(func(e export.Entry) error {
		_, err := fmt.Fprintf(out, "%s:%s:%s\n", e.User, e.Realm, e.HA1.Hex())
		return err
	})
	if err := errors.Join(err, out.Flush()); err != nil {
		return false, err
	}
	old, err := regularfile.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := atomicfile.InheritOwner(temp); err != nil {
			return false, err
		}
	case err != nil:
		return false, err
	default:
		defer old.Close()
		same, err := matches(old, sum.Sum(nil))
		if err != nil || same {
			return false, err
		}
		if err := copyOwner(old, temp); err != nil {
			return false, err
		}
	}
	if err := errors.Join(temp.Chmod(mode), temp.Sync()); err != nil {
		return false, err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return false, err
	}
	return true, atomicfile.SyncDir(filepath.Dir(path))
}

// matches reports whether a file has the right mode and a content with the given SHA-256.
func matches(f *os.File, sum []byte) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Mode() != mode {
		return false, err
	}
	content := sha256.New()
	if _, err := io.Copy(content, f); err != nil {
		return false, err
	}
	return bytes.Equal(content.Sum(nil), sum), nil
}

// copyOwner gives a file the group of another, and its owner if this process runs as root.
func copyOwner(from, to *os.File) error {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	uid := -1
	if os.Geteuid() == 0 {
		uid = int(owner.Uid)
	}
	if err := to.Chown(uid, int(owner.Gid)); err != nil {
		return fmt.Errorf("cannot give the new %s the group of the old one, whose members would lose access; "+
			"add the user of this program to the group: %w", from.Name(), err)
	}
	return nil
}
