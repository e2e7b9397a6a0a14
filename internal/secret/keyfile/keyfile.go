// Package keyfile stores a ring of keys (package secret) in a file.
//
// A file is created with mode 0600 and is durable before it is used; there is no default key. A
// file that others can read, or that does not have the format that package secret describes, is
// refused and never overwritten.
package keyfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"dialtone/internal/atomicfile"
	"dialtone/internal/regularfile"
	"dialtone/internal/secret"
)

// ErrMissing means that there is no such file.
var ErrMissing = errors.New("no key file")

// Read reads a key file. Its error names the file and what is wrong with it.
func Read(path string) (*secret.Ring, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrMissing)
	}
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: mode %#o lets others read the key; set it to 0600 (chmod 600)",
			path, mode)
	}
	text, err := regularfile.Read(path)
	if err != nil {
		return nil, err
	}
	r, err := secret.ParseRing(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s:%w; restore the file from a backup", path, err)
	}
	return r, nil
}

// ReadOrCreate reads a key file, and first creates it with a new key if there is none.
// Processes that start at the same time all get the same key.
func ReadOrCreate(path string, now time.Time) (*secret.Ring, error) {
	return readOrCreate(path, secret.NewRing(now))
}

// ReadOrCreateStrict is ReadOrCreate, but a new key is strict.
func ReadOrCreateStrict(path string, now time.Time) (*secret.Ring, error) {
	return readOrCreate(path, secret.NewRing(now).Strict())
}

func readOrCreate(path string, created *secret.Ring) (*secret.Ring, error) {
	r, err := Read(path)
	if !errors.Is(err, ErrMissing) {
		return r, err
	}
	if err := Create(path, created); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return Read(path)
}

// Create writes a ring to a new file. It fails with fs.ErrExist if the file exists.
func Create(path string, r *secret.Ring) error { return atomicfile.Create(path, r.Text()) }

// Replace writes a ring over an existing file, atomically.
func Replace(path string, r *secret.Ring) error { return atomicfile.Replace(path, r.Text()) }
