package conformance

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/outbox"
	"dialtone/internal/throttle"
)

// resending is a new link for an account that nothing speaks against: its places are its own.
func (b *bench) resending(a account.Account, email string, at time.Time) account.LinkReplacement {
	r := account.LinkReplacement{
		Account: a, Was: a.Email, Message: fresh(), SealedToken: []byte("sealed newer token of " + a.User), Made: at,
		Places: []throttle.Allowance{place(bucket(), 3), place(bucket(), 3)},
	}
	r.Account.Email = email
	rand.Read(r.Token[:])
	return r
}

// resent gives an account a new link.
func (b *bench) resent(a account.Account, email string, at time.Time) account.LinkReplacement {
	b.Helper()
	r := b.resending(a, email, at)
	b.must(b.Resend(b.ctx, r, at))
	return r
}

// worthless wants that a link activates nothing, and tells of no account.
func (b *bench) worthless(token [32]byte, at time.Time, why error) {
	b.Helper()
	got, err := b.Activate(b.ctx, b.tenant, token, at)
	if why == errAbsent && fault.Is(err, fault.NotFound) && !errors.Is(err, account.ErrReplaced) {
		err = errAbsent
	}
	b.is(err, why)
	if got.User != "" {
		b.Errorf("the account %s came along", got.User)
	}
}

var resendRules = []rule{
	{"replaces the link, and says so to whoever opens the older one", func(b *bench) {
		a := b.join("ann", noon)
		r := b.resent(a.Account, a.Account.Email, noon.Add(time.Minute))
		b.worthless(a.Token, noon.Add(time.Minute), account.ErrReplaced)
		b.same(b.find("ann", noon.Add(time.Minute)), a.Account)
		got, err := b.Activate(b.ctx, b.tenant, r.Token, noon.Add(2*time.Minute))
		b.must(err)
		if got.Disabled || got.User != "ann" {
			b.Errorf("got %+v", got)
		}
		b.worthless(a.Token, noon.Add(3*time.Minute), account.ErrReplaced)
	}},
	{"does not tell of it at another tenant", func(b *bench) {
		a := b.join("ann", noon)
		b.resent(a.Account, a.Account.Email, noon)
		_, err := b.Activate(b.ctx, b.addTenant("other.test"), a.Token, noon)
		b.refused(err, fault.NotFound)
		if errors.Is(err, account.ErrReplaced) {
			b.Error("it is known there")
		}
	}},
	{"gives the account another address", func(b *bench) {
		a := b.join("ann", noon)
		b.resent(a.Account, "right@mail.test", noon)
		want := a.Account
		want.Email = "right@mail.test"
		b.same(b.find("ann", noon), want)
		b.is(b.Resend(b.ctx, b.resending(a.Account, "third@mail.test", noon), noon), account.ErrAddressChanged)
		b.same(b.find("ann", noon), want)
		b.resent(want, "third@mail.test", noon)
	}},
	{"does not lengthen the week", func(b *bench) {
		a := b.join("ann", noon)
		r := b.resent(a.Account, a.Account.Email, noon.Add(week-tick))
		b.refused(b.Resend(b.ctx, b.resending(a.Account, a.Account.Email, noon), noon.Add(week)), fault.NotFound)
		_, err := b.Activate(b.ctx, b.tenant, r.Token, noon.Add(week))
		b.is(err, account.ErrExpired)
	}},
	{"is refused for whom it is not", func(b *bench) {
		stranger := b.admission("zoe", noon)
		b.refused(b.Resend(b.ctx, b.resending(stranger.Account, "zoe@mail.test", noon), noon), fault.NotFound)

		member := b.member("ann", noon)
		b.is(b.Resend(b.ctx, b.resending(member.Account, "x@mail.test", noon), noon), account.ErrActive)
		b.equal([]string{b.find("ann", noon).Email}, []string{"ann@mail.test"})

		held := b.join("bob", noon)
		_, err := b.Disable(b.ctx, b.tenant, "bob", noon)
		b.must(err)
		b.is(b.Resend(b.ctx, b.resending(held.Account, "x@mail.test", noon), noon), account.ErrHeld)

		foreign := b.join("cid", noon)
		foreign.Account.Tenant = b.addTenant("other.test")
		b.refused(b.Resend(b.ctx, b.resending(foreign.Account, "x@mail.test", noon), noon), fault.NotFound)
	}},
	{"takes a place under each rule, the account's before the recipient's", func(b *bench) {
		a := b.join("ann", noon)
		own, to := place(bucket(), 2), place(bucket(), 1)
		for i, want := range []func(time.Duration) error{nil, account.RecipientLimit} {
			r := b.resending(a.Account, a.Account.Email, noon)
			r.Places = []throttle.Allowance{own, to}
			at := noon.Add(time.Duration(i) * time.Minute)
			if err := b.Resend(b.ctx, r, at); want == nil {
				b.must(err)
			} else {
				b.limited(err, want, 59*time.Minute)
			}
		}
		r := b.resending(a.Account, a.Account.Email, noon)
		r.Places = []throttle.Allowance{own, place(bucket(), 1)}
		b.must(b.Resend(b.ctx, r, noon.Add(time.Minute)))
		b.limited(b.Resend(b.ctx, r, noon.Add(2*time.Minute)), account.ResendLimit, 58*time.Minute)
	}},
	{"takes what a signup counts too", func(b *bench) {
		a := b.admission("ann", noon)
		a.Recipient = place(bucket(), 2)
		b.must(b.Create(b.ctx, a, noon))
		r := b.resending(a.Account, a.Account.Email, noon)
		r.Places[1] = a.Recipient
		b.must(b.Resend(b.ctx, r, noon))
		next := b.admission("bob", noon)
		next.Recipient = a.Recipient
		b.limited(b.Create(b.ctx, next, noon), account.RecipientLimit, time.Hour)
	}},
	{"writes nothing when it is to check only", func(b *bench) {
		a := b.join("ann", noon)
		r := b.resending(a.Account, "x@mail.test", noon)
		r.CheckOnly = true
		for range 5 {
			b.must(b.Resend(b.ctx, r, noon))
		}
		b.same(b.find("ann", noon), a.Account)
		_, err := b.Activate(b.ctx, b.tenant, a.Token, noon)
		b.must(err)
	}},
	{"has the newest message wait, and the older ones marked as replaced", func(b *bench) {
		a := b.join("ann", noon)
		at := noon.Add(time.Minute + 3*tick)
		first := b.resent(a.Account, "x@mail.test", noon.Add(time.Second))
		r := b.resent(first.Account, "right@mail.test", at)
		list, err := b.Pending(b.ctx)
		b.must(err)
		if len(list) != 3 || list[0].Message != a.Message || list[1].Message != first.Message || !list[0].Replaced ||
			!list[1].Replaced {
			b.Fatalf("got %+v", list)
		}
		if w := list[2]; w.Message != r.Message || w.Replaced || string(w.SealedToken) != string(r.SealedToken) ||
			!w.Made.Equal(at) ||
			w.Email != "right@mail.test" {
			b.Fatalf("got %+v", w)
		}
		b.settle([]outbox.Ref{{Tenant: b.tenant, Account: a.Account.UID, Message: r.Message}})
		b.equal(b.waiting(), nil)
	}},
	{"is settled for itself, when an older message is", func(b *bench) {
		a := b.join("ann", noon)
		b.resent(a.Account, a.Account.Email, noon)
		b.settle([]outbox.Ref{{Tenant: b.tenant, Account: a.Account.UID, Message: a.Message}})
		b.equal(b.waiting(), []string{"ann"})
	}},
	{"is undone: link, address, message and places are as before", func(b *bench) {
		a := b.join("ann", noon)
		r := b.resending(a.Account, "x@mail.test", noon)
		r.Places = []throttle.Allowance{place(bucket(), 1), place(bucket(), 1)}
		for range 3 {
			b.must(b.Resend(b.ctx, r, noon))
			b.must(b.UndoResend(b.ctx, r, noon))
			b.same(b.find("ann", noon), a.Account)
			list, err := b.Pending(b.ctx)
			b.must(err)
			if len(list) != 1 || list[0].Message != a.Message || list[0].Replaced ||
				!list[0].Made.Equal(a.Account.Created) {
				b.Fatalf("got %+v", list)
			}
			b.worthless(r.Token, noon, errAbsent)
		}
		b.must(b.UndoResend(b.ctx, r, noon))
		_, err := b.Activate(b.ctx, b.tenant, a.Token, noon)
		b.must(err)
	}},
	{"is not undone under a newer one, nor after its link was opened", func(b *bench) {
		a := b.join("ann", noon)
		old := b.resent(a.Account, a.Account.Email, noon)
		r := b.resent(a.Account, a.Account.Email, noon)
		b.must(b.UndoResend(b.ctx, old, noon))
		b.worthless(a.Token, noon, account.ErrReplaced)
		b.worthless(old.Token, noon, account.ErrReplaced)
		_, err := b.Activate(b.ctx, b.tenant, r.Token, noon)
		b.must(err)
		b.must(b.UndoResend(b.ctx, r, noon))
		b.worthless(a.Token, noon, account.ErrReplaced)
		_, err = b.Activate(b.ctx, b.tenant, r.Token, noon)
		b.is(err, account.ErrActive)
	}},
	{"keeps an account from being taken back with its signup", func(b *bench) {
		a := b.join("ann", noon)
		r := b.resent(a.Account, a.Account.Email, noon)
		b.must(b.Undo(b.ctx, a, noon))
		_, err := b.Activate(b.ctx, b.tenant, r.Token, noon)
		b.must(err)
	}},
	{"leaves nothing of an account that is deleted, or swept", func(b *bench) {
		for _, user := range []string{"ann", "bob"} {
			a := b.join(user, noon)
			r := b.resent(a.Account, a.Account.Email, noon)
			if user == "bob" {
				_, err := b.Activate(b.ctx, b.tenant, r.Token, noon)
				b.must(err)
			}
			b.must(b.Delete(b.ctx, b.tenant, user, noon))
			b.worthless(a.Token, noon, errAbsent)
		}
		b.equal(b.waiting(), nil)
		member := b.join("cid", noon)
		r := b.resent(member.Account, member.Account.Email, noon)
		_, err := b.Activate(b.ctx, b.tenant, r.Token, noon)
		b.must(err)
		swept, err := b.Sweep(b.ctx, noon.Add(week-tick), noon, 100)
		b.must(err)
		b.worthless(member.Token, noon, account.ErrReplaced)
		more, err := b.Sweep(b.ctx, noon.Add(week), noon, 100)
		b.must(err)
		if swept.Others+1 < more.Others || more.Others == 0 {
			b.Errorf("the sweeps took %d and %d", swept.Others, more.Others)
		}
		_, err = b.Activate(b.ctx, b.tenant, member.Token, noon.Add(week))
		if errors.Is(err, account.ErrReplaced) {
			b.Error("the older link is known still")
		}
	}},
	{"at once with a link: one of the two happens", func(b *bench) {
		for i := range 30 {
			user := fmt.Sprint("ann", i)
			a := b.join(user, noon)
			r := b.resending(a.Account, "right@mail.test", noon)
			var opened, resent error
			b.crowd(2, func(i int) error {
				if i == 0 {
					_, opened = b.Activate(b.ctx, b.tenant, a.Token, noon)
					return nil
				}
				resent = b.Resend(b.ctx, r, noon)
				return nil
			})
			got := b.find(user, noon)
			switch {
			case opened == nil && errors.Is(resent, account.ErrActive) &&
				!got.Disabled && got.Email == a.Account.Email:
			case errors.Is(opened, account.ErrReplaced) && resent == nil &&
				got.Disabled && got.Email == "right@mail.test":
			default:
				b.Fatalf("the link: %v; the new one: %v; the account %+v", opened, resent, got)
			}
		}
	}},
	{"at once with the next owner of the name, at the moment of expiry: one of the two happens", func(b *bench) {
		for i := range 20 {
			user := fmt.Sprint("ann", i)
			a := b.join(user, noon)
			next := b.admission(user, noon.Add(week))
			r := b.resending(a.Account, a.Account.Email, noon.Add(week-tick))
			var resent, taken error
			b.crowd(2, func(i int) error {
				if i == 0 {
					resent = b.Resend(b.ctx, r, noon.Add(week-tick))
					return nil
				}
				taken = b.Create(b.ctx, next, noon.Add(week))
				return nil
			})
			// A new link keeps the name no longer than the old one did.
			b.must(taken)
			if resent != nil && !fault.Is(resent, fault.NotFound) {
				b.Fatal(resent)
			}
			b.worthless(r.Token, noon.Add(week), errAbsent)
			b.same(b.find(user, noon.Add(week)), next.Account)
		}
	}},
	{"at once with itself: as many as there are places, and one link that counts", func(b *bench) {
		a := b.join("ann", noon)
		own, to := place(bucket(), 3), place(bucket(), 5)
		list := make([]account.LinkReplacement, 30)
		done := make([]bool, len(list))
		got := b.crowd(len(list), func(i int) error {
			list[i] = b.resending(a.Account, a.Account.Email, noon)
			list[i].Places = []throttle.Allowance{own, to}
			err := b.Resend(b.ctx, list[i], noon)
			done[i] = err == nil
			return err
		})
		if got[-1] != 3 || got[fault.Limited] != 27 {
			b.Fatalf("got %v, want 3 new links and 27 that must wait", got)
		}
		count := make(map[string]int)
		for i, r := range list {
			_, err := b.Activate(b.ctx, b.tenant, r.Token, noon)
			switch {
			case err == nil:
				count["good"]++
			case errors.Is(err, account.ErrReplaced):
				count["replaced"]++
			}
			if !done[i] && (err == nil || errors.Is(err, account.ErrReplaced)) {
				b.Error("a link that was refused is known")
			}
		}
		if count["good"] != 1 || count["replaced"] != 2 {
			b.Errorf("got %v", count)
		}
	}},
	{"to two addresses at once: one of the two", func(b *bench) {
		for i := range 20 {
			a := b.join(fmt.Sprint("ann", i), noon)
			errs := make([]error, 2)
			to := []string{"x@mail.test", "y@mail.test"}
			b.crowd(2, func(i int) error {
				errs[i] = b.Resend(b.ctx, b.resending(a.Account, to[i], noon), noon)
				return nil
			})
			won := 0
			if errs[0] != nil {
				won = 1
			}
			if errs[won] != nil || !errors.Is(errs[1-won], account.ErrAddressChanged) ||
				b.find(a.Account.User, noon).Email != to[won] {
				b.Fatalf("got %v", errs)
			}
		}
	}},
}
