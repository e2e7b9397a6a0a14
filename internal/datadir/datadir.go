// Package datadir is the data directory of a server, and the keys that are in it or elsewhere.
//
//	dialtone.db   the SQLite database, unless the store is a PostgreSQL database
//	keys/         seal.key, sign.key and turn.key, unless they are in another directory
//	node.id       the name of this server among those that share a PostgreSQL database
//	serve.lock    held by the running server
//	restored/     what a restore leaves for an operator to inspect
//
// During a restore, restore.unfinished exists too, and nothing else may be used.
//
// # Guarantees
//
// At most one server holds the lock. The name of a server never changes, even if the power fails
// just after its first start. A key that the store needs is never replaced by a new one: if it is
// missing, opening fails and says so.
//
// # What it is not
//
// The package does not open the store. The messages in pickup/ and badmail/ belong to package
// mail/pickup.
package datadir

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dialtone/internal/atomicfile"
	"dialtone/internal/regularfile"
)

// Dir is the path of a data directory.
type Dir string

// Mode is the mode of a directory that is created. Other users may pass through, because mail servers of another group
// read the pickup directory in it. The files in it have modes of their own.
const Mode fs.FileMode = 0o751

// Create creates the directory and its parents if they are missing.
func (d Dir) Create() error { return atomicfile.MkdirAll(string(d), Mode) }

// Database returns the path of the SQLite database.
func (d Dir) Database() string { return filepath.Join(string(d), "dialtone.db") }

// HasStore reports whether there is an SQLite database or the remains of one: an empty file or a
// WAL. Package sqlite refuses such remains.
func (d Dir) HasStore() (bool, error) {
	for _, path := range []string{d.Database(), d.Database() + "-wal"} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// HasDatabase reports whether there is an SQLite database that is not empty.
func (d Dir) HasDatabase() bool {
	info, err := os.Stat(d.Database())
	return err == nil && info.Size() > 0
}

// Lock takes the lock of a server, which it holds until unlock is called or the process ends. It
// fails immediately if another process holds it: two servers would recover each other's messages.
// It also fails if the file system cannot lock files, with an error that says so.
func (d Dir) Lock() (unlock func(), err error) {
	unlock, _, err = d.lock()
	return unlock, err
}

const lockName = "serve.lock"

// lock is Lock, and reports whether it created the file.
func (d Dir) lock() (unlock func(), created bool, err error) {
	path := filepath.Join(string(d), lockName)
	for {
		f, made, err := openLock(path)
		if err != nil {
			return nil, false, err
		}
		held, err := f.Stat()
		if err != nil {
			return nil, false, errors.Join(err, f.Close())
		}
		if now, err := os.Stat(path); err == nil && os.SameFile(held, now) {
			return func() { f.Close() }, made, nil
		}
		// CreateLocked of another process has removed the file after it was opened here.
		f.Close()
	}
}

// openLock opens the file of the lock, creates it if it is missing, and takes the lock.
func openLock(path string) (f *os.File, created bool, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0) // the server may be root's, and the directory not
	} else if err == nil {
		created, err = true, atomicfile.InheritOwner(f)
	}
	if err != nil {
		return nil, false, err
	}
	if err := lockError(path, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)); err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	return f, created, nil
}

// CreateLocked calls Create and Lock. A caller that puts nothing into the directory calls undo
// instead of unlock: it also removes what CreateLocked has created, except what others use by then.
func (d Dir) CreateLocked() (unlock, undo func(), err error) {
	var made []string // the deepest first
	for dir := filepath.Clean(string(d)); ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		made = append(made, dir)
	}
	removeDirs := func() {
		for _, dir := range made {
			if os.Remove(dir) != nil { // it is not empty
				return
			}
		}
	}
	if err := d.Create(); err != nil {
		removeDirs()
		return nil, nil, err
	}
	unlock, created, err := d.lock()
	if err != nil {
		removeDirs()
		return nil, nil, err
	}
	return unlock, func() {
		if list, err := os.ReadDir(string(d)); created && err == nil && len(list) == 1 {
			os.Remove(filepath.Join(string(d), lockName))
		}
		removeDirs()
		unlock()
	}, nil
}

// lockError returns the error of Lock for an error of flock(2).
func lockError(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("%s is held: another server runs on this data directory (%w)", path, err)
	case errors.Is(err, unix.ENOLCK), errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%s cannot be locked: %w; the file system may lack locks: "+
			"use a data directory on a local one", path, err)
	}
	return fmt.Errorf("%s cannot be locked: %w", path, err)
}

// TrailFile is the path of the file that records how much of the audit trail the server has seen.
// It is an audit.Memory.
type TrailFile string

// TrailFile returns the file.
func (d Dir) TrailFile() TrailFile { return TrailFile(filepath.Join(string(d), "audit.seen")) }

// Load implements audit.Memory.
func (f TrailFile) Load() (string, error) {
	text, err := regularfile.Read(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}

// Save implements audit.Memory.
func (f TrailFile) Save(text string) error {
	err := atomicfile.Create(string(f), text+"\n")
	if errors.Is(err, fs.ErrExist) {
		err = atomicfile.Replace(string(f), text+"\n")
	}
	return err
}

// NodeFile returns the path of the file with the name of the server.
func (d Dir) NodeFile() string { return filepath.Join(string(d), "node.id") }

// Node returns the name of the server. If no server has run here yet, the error is fs.ErrNotExist.
func (d Dir) Node() (string, error) {
	text, err := regularfile.Read(d.NodeFile())
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(text))
	unprintable := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	if len(name) < 16 || len(name) > 64 || strings.ContainsFunc(name, unprintable) {
		return "", fmt.Errorf("%s is damaged; delete it, and the server gets a new name", d.NodeFile())
	}
	return name, nil
}

// Place identifies where the server runs: this directory on this machine, since its last boot. A
// copy of the directory is another place, and so is a directory with a link to this one's node.id.
// The result is empty if the place cannot be determined. While the lock is held, no other server
// runs at this place.
func (d Dir) Place() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	text := boot
	for _, path := range []string{string(d), d.NodeFile()} {
		var info unix.Stat_t
		if err := unix.Stat(path, &info); err != nil {
			return ""
		}
		text = fmt.Appendf(text, " %d %d", info.Dev, info.Ino)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// CreateNode returns the name of the server, and first creates a random one if there is none. It
// creates the directory too. Processes that start at the same time all get the same name, since
// which of them gets the lock is decided later.
func (d Dir) CreateNode() (string, error) {
	name, err := d.Node()
	if !errors.Is(err, fs.ErrNotExist) {
		return name, err
	}
	if err := d.Create(); err != nil {
		return "", err
	}
	name = strings.ToLower(rand.Text())
	// The name must be durable: under another name, the server would not send the messages that it
	// has already accepted.
	err = atomicfile.Create(d.NodeFile(), name+"\n")
	if errors.Is(err, fs.ErrExist) {
		err = atomicfile.SyncDir(string(d)) // the other process may not have done it yet
	}
	if err != nil {
		return "", err
	}
	return d.Node()
}
