package account

import (
	"context"
	"time"

	"dialtone/internal/secret"
)

// Binding is the state of binding a store's credentials to their user names.
type Binding int64

const (
	// Unbound means that earlier versions of the program may use the store. They can open only
	// the older form, so all credentials are sealed in it.
	Unbound Binding = iota
	// Begun means that credentials are sealed in the newer form, and that some still have the
	// older one. Earlier versions of the program cannot open the store.
	Begun
	// Bound means that all credentials have the newer form.
	Bound
)

// BindingStore is a store whose credentials can be bound to their user names.
type BindingStore interface {
	// Binding returns the state.
	Binding(ctx context.Context) (Binding, error)
	// BeginBinding sets Begun unless binding has begun already. Earlier versions of the program
	// can then no longer open the store. It fails with fault.Conflict, and changes nothing,
	// while a server of an earlier version runs.
	BeginBinding(ctx context.Context) error
	// Reseal calls reseal for each account with a UID above after, up to limit of them, and stores
	// the result as the account's Sealed, unless the result is nil or the stored value has changed
	// concurrently. It returns the last UID, or the zero UID after the last account.
	Reseal(ctx context.Context, after UID, limit int, reseal func(Account) []byte) (UID, error)
	// EndBinding sets Bound.
	EndBinding(ctx context.Context) error
}

// bindingDelay is how long Bind waits for servers. They notice within a second that binding has
// begun, and their commits take at most five seconds. After this time, no server stores the
// older form.
const bindingDelay = 10 * time.Second

// Rebound is the result of Bind.
type Rebound struct {
	Accounts int // that were sealed again
	Damaged  int // whose credential opens in neither form
}

// resealPage is how many accounts share a transaction.
const resealPage = 1000

// Bind reseals all credentials of a store that have the older form, including those under a
// strict key. The caller vouches for the user names in the store. If servers may run on the
// store concurrently, wait must not be nil. It is called with the time after which none of them
// stores the older form any more.
//
// Bind can be interrupted and called again. Afterwards the ring can be made strict.
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

// pass reseals the credentials of all accounts that have the older form.
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
