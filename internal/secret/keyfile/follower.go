package keyfile

import (
	"errors"
	"sync/atomic"
	"time"

	"dialtone/internal/secret"
)

// Follower holds a value of type T that is built from a ring, such as a set of derived keys. It
// is rebuilt when the keys in the file have changed, and when a new key in it becomes old
// enough to sign (secret.Ring.Signing).
type Follower[T any] struct {
	source   Source
	optional bool
	build    func(*secret.Ring) *T
	now      func() time.Time

	ring       *secret.Ring
	signingKey secret.ID // the key that signs
	value      atomic.Pointer[T]
}

// NewFollower returns a Follower without a value. The first Refresh builds it.
//
// The function build gets a ring with the key that currently signs in front.
func NewFollower[T any](s Source, build func(*secret.Ring) *T, now func() time.Time) *Follower[T] {
	return &Follower[T]{source: s, build: build, now: now}
}

// NewOptionalFollower returns a Follower of a file that may be missing. Then it has no value.
func NewOptionalFollower[T any](
	s Source, build func(*secret.Ring) *T, now func() time.Time,
) *Follower[T] {
	f := NewFollower(s, build, now)
	f.optional = true
	return f
}

// Value returns the value, or nil if there is none. It can be called at any time.
func (f *Follower[T]) Value() *T { return f.value.Load() }

// Refresh rebuilds the value if the keys have changed. If the file cannot be read, Refresh
// returns an error that wraps ErrUnusable, and the value does not change. Only one goroutine may
// call it.
func (f *Follower[T]) Refresh() error {
	changed := f.ring == nil
	if changed || !f.source.FromEnv() {
		// The file is read each time. Only that shows whether the process can still read it:
		// its owner, its mode, an access list or a mount may have changed.
		ring, err := f.source.Read()
		if f.optional && errors.Is(err, ErrMissing) {
			f.ring = nil
			f.value.Store(nil)
			return nil
		}
		if err != nil {
			return err
		}
		changed = changed || ring.Text() != f.ring.Text()
		f.ring = ring
	}
	ring := f.ring.Signing(f.now())
	if signer := ring.IDs()[0]; changed || signer != f.signingKey {
		f.signingKey = signer
		f.value.Store(f.build(ring))
	}
	return nil
}
