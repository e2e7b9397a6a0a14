package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"dialtone/internal/secret"
)

// followed is a value that a running server builds from a key file. It is built again when the file has
// been replaced, and when a new key in it becomes old enough to sign. refresh is called by one goroutine;
// the value can be read at any time.
type followed[T any] struct {
	file string
	// fromEnv means that the keys are in the environment, where they do not change.
	fromEnv bool
	// optional means that the file may be missing. Then there is no value.
	optional bool
	read     func() (*secret.Ring, error)
	// build builds the value from the keys in the order in which they are used now.
	build func(r *secret.Ring, clock func() time.Time) *T
	now   func() time.Time

	info   os.FileInfo
	ring   *secret.Ring
	signer secret.ID // the key that signs
	value  atomic.Pointer[T]
}

// refresh builds the value again if necessary. If the file cannot be read, the value does not change.
func (f *followed[T]) refresh() error {
	changed := f.ring == nil
	if !f.fromEnv {
		info, err := os.Stat(f.file)
		if f.optional && errors.Is(err, fs.ErrNotExist) {
			f.info, f.ring = nil, nil
			f.value.Store(nil)
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errKeys, err)
		}
		if f.info == nil || !os.SameFile(f.info, info) || !f.info.ModTime().Equal(info.ModTime()) {
			f.info, changed = info, true
		}
	}
	if changed {
		ring, err := f.read()
		if err != nil {
			f.info = nil // read it again at the next call
			return err
		}
		f.ring = ring
	}
	ring := f.ring.Signing(f.now())
	if signer := ring.IDs()[0]; changed || signer != f.signer {
		f.signer = signer
		f.value.Store(f.build(ring, f.now))
	}
	return nil
}
