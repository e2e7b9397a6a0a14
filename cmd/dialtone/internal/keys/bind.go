package keys

import (
	"context"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
)

// Binding seals all credentials of a store again, bound to their user names, and marks the sealing key, so that
// credentials in the older form are refused afterwards.
type Binding struct {
	// Ring is the content of seal.key, without the mark unless the key had it before.
	Ring  *secret.Ring
	in    *installation.Installation
	state account.Binding
}

// NewBinding returns the Binding of an installation that was opened with Options.Lenient.
func NewBinding(ctx context.Context, in *installation.Installation) (*Binding, error) {
	b := &Binding{in: in}
	err := in.InKeys(func() (err error) {
		b.Ring, err = in.KeySources.Seal.Read()
		return err
	})
	if err == nil {
		b.state, err = in.Store.Binding(ctx)
	}
	return b, err
}

// Complete reports whether there is nothing to do.
func (b *Binding) Complete() bool { return b.Ring.IsStrict() && b.state == account.Bound }

// Lock prevents servers from using a store that only one server can use: they could be of an earlier version. A shared
// store needs no lock.
func (b *Binding) Lock() (unlock func(), err error) {
	if b.in.Shared() {
		return func() {}, nil
	}
	unlock, err = b.in.Dir.Lock()
	return unlock, runas.InDataDir(err)
}

// Bind does the work while it is locked. If servers may still seal in the older form, it calls wait with the time after
// which they no longer do.
func (b *Binding) Bind(ctx context.Context, wait func(time.Duration) error) (account.Rebound, error) {
	if b.state == account.Bound || !b.in.Shared() {
		wait = nil
	}
	done, err := account.Bind(ctx, b.in.Store, b.Ring, wait)
	if err != nil || b.in.KeySources.Seal.FromEnv() {
		return done, err
	}
	return done, b.in.InKeys(func() error { return keyfile.Replace(b.in.KeySources.Seal.Path, b.Ring.Strict()) })
}
