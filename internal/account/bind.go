package account

import (
	"context"
	"time"

	"dialtone/internal/secret"
)

// Binding says how far the credentials of a store are bound to their user names.
type Binding int64

const (
	// Unbound means that programs of earlier versions may use the store. They open only the older
	// form, so all credentials are sealed in it.
	Unbound Binding = iota
	// Begun means that credentials are sealed in the newer form, and that some still have the older
	// one. Programs of earlier versions are kept out of the store.
	Begun
	// Bound means that all credentials have the newer form.
	Bound
)

// BindingStore is a store whose credentials can be bound to their user names.
type BindingStore interface {
	// Binding returns how far the credentials are bound.
	Binding(ctx context.Context) (Binding, error)
	// BeginBinding sets Begun, unless it is set, and keeps programs of earlier versions out from then on. It
	// fails with fault.Conflict, and changes nothing, while a server of an earlier version runs.
	BeginBinding(ctx context.Context) error
	// Reseal calls reseal for each account with a UID above after, up to limit of them, and stores
	// what it returns as the account's Sealed, unless that is nil or the account's changed meanwhile. It
	// returns the last UID, or the zero UID after the last account.
	Reseal(ctx context.Context, after UID, limit int, reseal func(Account) []byte) (UID, error)
	// EndBinding sets Bound.
	EndBinding(ctx context.Context) error
}

// bindingDelay is how long Bind waits for servers. They see within a second that binding has begun,
// and a commit of theirs takes five seconds at most. After this time, no server stores the older form.
const bindingDelay = 10 * time.Second

// Rebound is what Bind has done.
type Rebound struct {
	Accounts int // that were sealed again
	Damaged  int // whose credential does not open in any form
}

// resealPage is how many accounts share a transaction.
const resealPage = 1000

// Bind seals all credentials of a store again that have the older form, also those whose key is
// strict. The caller vouches for the user names in the store. If servers may run on it meanwhile, wait
// is called with how long to wait until none of them stores the older form any more.
//
// Bind may be interrupted and called again. Afterwards the ring can be made strict.
func Bind(ctx context.Context, store BindingStore, ring *secret.Ring, wait func(time.Duration) error) (Rebound, error) {
	var r Rebound
	if err := store.BeginBinding(ctx); err != nil {
		return r, err
	}
	begun := time.Now()
	if err := r.pass(ctx, store, ring); err != nil {
		return r, err
	}
	if wait != nil {
		if err := wait(bindingDelay - time.Since(begun)); err != nil {
			return r, err
		}
		if err := r.pass(ctx, store, ring); err != nil {
			return r, err
		}
	}
	return r, store.EndBinding(ctx)
}

// pass seals the credentials of all accounts again that have the older form.
func (r *Rebound) pass(ctx context.Context, store BindingStore, ring *secret.Ring) error {
	sealer := NewSealer(ring.Lenient())
	r.Damaged = 0
	var after UID
	for {
		last, err := store.Reseal(ctx, after, resealPage, func(a Account) []byte {
			c, old, err := sealer.open(a)
			switch {
			case err != nil:
				r.Damaged++
				return nil
			case !old:
				return nil
			}
			r.Accounts++
			sealer.Seal(&a, c)
			return a.Sealed
		})
		if err != nil || last == (UID{}) {
			return err
		}
		after = last
	}
}
