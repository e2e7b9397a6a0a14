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

// followed is what a running server makes of a key file. It is made anew when the file is another one, and when a new key in it
// has become old enough to sign.
type followed[T any] struct {
	file string
	// held says that the environment has the keys, which do not change then.
	held bool
	read func() (*secret.Ring, error)
	// use makes it of the ring as it is used now.
	use   func(r *secret.Ring, clock func() time.Time) *T
	clock func() time.Time
	// optional says that there may be no such file, and nothing then.
	optional bool

	at    os.FileInfo
	ring  *secret.Ring
	front secret.ID
	now   atomic.Pointer[T]
}

// refresh looks whether there is anything to do. A file that cannot be read changes nothing.
func (f *followed[T]) refresh() error {
	changed := f.ring == nil
	if !f.held {
		info, err := os.Stat(f.file)
		if f.optional && errors.Is(err, fs.ErrNotExist) {
			f.at, f.ring = nil, nil
			f.now.Store(nil)
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errKeys, err)
		}
		if f.at == nil || !os.SameFile(f.at, info) || !f.at.ModTime().Equal(info.ModTime()) {
			f.at, changed = info, true
		}
	}
	if changed {
		ring, err := f.read()
		if err != nil {
			f.at = nil
			return err
		}
		f.ring = ring
	}
	ring := f.ring.Signing(f.clock())
	if front := ring.IDs()[0]; changed || front != f.front {
		f.front = front
		f.now.Store(f.use(ring, f.clock))
	}
	return nil
}
