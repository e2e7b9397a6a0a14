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

// newLink returns a new link for an account, which shares no limit with another.
func (t *test) newLink(a account.Account, email string, at time.Time) account.LinkReplacement {
	r := account.LinkReplacement{
		Account: a, Was: a.Email, Message: newID(), SealedToken: []byte("sealed newer token of " + a.User), Made: at,
		Allowances: []throttle.Allowance{allowance(newBucket(), 3), allowance(newBucket(), 3)},
	}
	r.Account.Email = email
	rand.Read(r.Token[:])
	return r
}

// resend gives an account a new link.
func (t *test) resend(a account.Account, email string, at time.Time) account.LinkReplacement {
	t.Helper()
	r := t.newLink(a, email, at)
	t.must(t.Resend(t.ctx, r, at))
	return r
}

// newRef returns a reference to the message of a new link.
func newRef(r account.LinkReplacement) outbox.Ref {
	return outbox.Ref{Tenant: r.Account.Tenant, Account: r.Account.UID, Message: r.Message}
}

// wantLinkErr checks that a link activates nothing and returns no account. want may be errAbsent.
func (t *test) wantLinkErr(token [32]byte, at time.Time, want error) {
	t.Helper()
	got, err := t.Activate(t.ctx, t.tenant, token, at)
	if want == errAbsent && fault.Is(err, fault.NotFound) && !errors.Is(err, account.ErrReplaced) {
		err = errAbsent
	}
	t.wantErr(err, want)
	if got.User != "" {
		t.Errorf("got the account %s with the error", got.User)
	}
}

var resendTests = []testCase{
	{"replaces the link, and returns ErrReplaced for the older one", func(t *test) {
		a := t.addPending("ann", noon)
		r := t.resend(a.Account, a.Account.Email, noon.Add(time.Minute))
		t.wantLinkErr(a.Token, noon.Add(time.Minute), account.ErrReplaced)
		t.wantAccount(t.find("ann", noon.Add(time.Minute)), a.Account)
		got, err := t.Activate(t.ctx, t.tenant, r.Token, noon.Add(2*time.Minute))
		t.must(err)
		if got.Disabled || got.User != "ann" {
			t.Errorf("got %+v", got)
		}
		t.wantLinkErr(a.Token, noon.Add(3*time.Minute), account.ErrReplaced)
	}},
	{"does not return ErrReplaced at another tenant", func(t *test) {
		a := t.addPending("ann", noon)
		t.resend(a.Account, a.Account.Email, noon)
		_, err := t.Activate(t.ctx, t.addTenant("other.test"), a.Token, noon)
		t.wantKind(err, fault.NotFound)
		if errors.Is(err, account.ErrReplaced) {
			t.Errorf("got %v", err)
		}
	}},
	{"changes the address, unless it has changed in the meantime", func(t *test) {
		a := t.addPending("ann", noon)
		t.resend(a.Account, "right@mail.test", noon)
		want := a.Account
		want.Email = "right@mail.test"
		t.wantAccount(t.find("ann", noon), want)
		t.wantErr(t.Resend(t.ctx, t.newLink(a.Account, "third@mail.test", noon), noon), account.ErrAddressChanged)
		t.wantAccount(t.find("ann", noon), want)
		t.resend(want, "third@mail.test", noon)
	}},
	{"does not extend the week", func(t *test) {
		a := t.addPending("ann", noon)
		r := t.resend(a.Account, a.Account.Email, noon.Add(week-tick))
		t.wantKind(t.Resend(t.ctx, t.newLink(a.Account, a.Account.Email, noon), noon.Add(week)), fault.NotFound)
		_, err := t.Activate(t.ctx, t.tenant, r.Token, noon.Add(week))
		t.wantErr(err, account.ErrExpired)
	}},
	{"fails for accounts that are unknown, active, held or of another tenant", func(t *test) {
		stranger := t.signup("zoe", noon)
		t.wantKind(t.Resend(t.ctx, t.newLink(stranger.Account, "zoe@mail.test", noon), noon), fault.NotFound)

		member := t.addActive("ann", noon)
		t.wantErr(t.Resend(t.ctx, t.newLink(member.Account, "x@mail.test", noon), noon), account.ErrActive)
		t.wantEqual([]string{t.find("ann", noon).Email}, []string{"ann@mail.test"})

		held := t.addPending("bob", noon)
		_, err := t.Disable(t.ctx, t.tenant, "bob", noon)
		t.must(err)
		t.wantErr(t.Resend(t.ctx, t.newLink(held.Account, "x@mail.test", noon), noon), account.ErrHeld)

		foreign := t.addPending("cid", noon)
		foreign.Account.Tenant = t.addTenant("other.test")
		t.wantKind(t.Resend(t.ctx, t.newLink(foreign.Account, "x@mail.test", noon), noon), fault.NotFound)
	}},
	{"uses the allowance of the account, then that of the recipient", func(t *test) {
		a := t.addPending("ann", noon)
		own, to := allowance(newBucket(), 2), allowance(newBucket(), 1)
		resend := func(after time.Duration, recipient throttle.Allowance) error {
			r := t.newLink(a.Account, a.Account.Email, noon)
			r.Allowances = []throttle.Allowance{own, recipient}
			return t.Resend(t.ctx, r, noon.Add(after))
		}
		t.must(resend(0, to))
		t.wantLimited(resend(time.Minute, to), account.RecipientLimit, 59*time.Minute)
		t.must(resend(time.Minute, allowance(newBucket(), 1)))
		t.wantLimited(resend(2*time.Minute, allowance(newBucket(), 1)), account.ResendLimit, 58*time.Minute)
	}},
	{"shares the allowance of the recipient with signups", func(t *test) {
		a := t.signup("ann", noon)
		a.Recipient = allowance(newBucket(), 2)
		t.must(t.Create(t.ctx, a, noon))
		r := t.newLink(a.Account, a.Account.Email, noon)
		r.Allowances[1] = a.Recipient
		t.must(t.Resend(t.ctx, r, noon))
		next := t.signup("bob", noon)
		next.Recipient = a.Recipient
		t.wantLimited(t.Create(t.ctx, next, noon), account.RecipientLimit, time.Hour)
	}},
	{"writes nothing when it only checks", func(t *test) {
		a := t.addPending("ann", noon)
		r := t.newLink(a.Account, "x@mail.test", noon)
		r.CheckOnly = true
		for range 5 {
			t.must(t.Resend(t.ctx, r, noon))
		}
		t.wantAccount(t.find("ann", noon), a.Account)
		_, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
		t.must(err)
	}},
	{"adds a message to the outbox and marks the older ones as replaced", func(t *test) {
		a := t.addPending("ann", noon)
		at := noon.Add(time.Minute + 3*tick)
		first := t.resend(a.Account, "x@mail.test", noon.Add(time.Second))
		r := t.resend(first.Account, "right@mail.test", at)
		list, err := t.Pending(t.ctx)
		t.must(err)
		if len(list) != 3 || list[0].Message != a.Message || list[1].Message != first.Message || !list[0].Replaced ||
			!list[1].Replaced || list[0].Resent || !list[1].Resent {
			t.Fatalf("got %+v", list)
		}
		if e := list[2]; e.Message != r.Message || e.Replaced || string(e.SealedToken) != string(r.SealedToken) ||
			!e.Made.Equal(at) || !e.Resent || e.Email != "right@mail.test" {
			t.Fatalf("got %+v", e)
		}
		t.ack([]outbox.Ref{newRef(r)})
		t.wantEqual(t.pendingUsers(), nil)
	}},
	{"stays in the outbox when an older message is acknowledged", func(t *test) {
		a := t.addPending("ann", noon)
		t.resend(a.Account, a.Account.Email, noon)
		t.ack([]outbox.Ref{ref(a)})
		t.wantEqual(t.pendingUsers(), []string{"ann"})
	}},
	{"is undone with its link, address, message and allowances", func(t *test) {
		a := t.addPending("ann", noon)
		r := t.newLink(a.Account, "x@mail.test", noon)
		r.Allowances = []throttle.Allowance{allowance(newBucket(), 1), allowance(newBucket(), 1)}
		for range 3 {
			t.must(t.Resend(t.ctx, r, noon))
			t.must(t.UndoResend(t.ctx, r, noon))
			t.wantAccount(t.find("ann", noon), a.Account)
			list, err := t.Pending(t.ctx)
			t.must(err)
			if len(list) != 1 || list[0].Message != a.Message || list[0].Replaced ||
				!list[0].Made.Equal(a.Account.Created) {
				t.Fatalf("got %+v", list)
			}
			t.wantLinkErr(r.Token, noon, errAbsent)
		}
		t.must(t.UndoResend(t.ctx, r, noon))
		_, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
		t.must(err)
	}},
	{"is not undone after a newer link, or after its link was opened", func(t *test) {
		a := t.addPending("ann", noon)
		old := t.resend(a.Account, a.Account.Email, noon)
		r := t.resend(a.Account, a.Account.Email, noon)
		t.must(t.UndoResend(t.ctx, old, noon))
		t.wantLinkErr(a.Token, noon, account.ErrReplaced)
		t.wantLinkErr(old.Token, noon, account.ErrReplaced)
		_, err := t.Activate(t.ctx, t.tenant, r.Token, noon)
		t.must(err)
		t.must(t.UndoResend(t.ctx, r, noon))
		t.wantLinkErr(a.Token, noon, account.ErrReplaced)
		_, err = t.Activate(t.ctx, t.tenant, r.Token, noon)
		t.wantErr(err, account.ErrActive)
	}},
	{"is undone after the newer link was undone", func(t *test) {
		a := t.addPending("ann", noon)
		old := t.resend(a.Account, "b@mail.test", noon)
		second := a.Account
		second.Email = "b@mail.test"
		r := t.resend(second, "c@mail.test", noon)
		t.must(t.UndoResend(t.ctx, old, noon))
		t.must(t.UndoResend(t.ctx, r, noon))
		t.wantAccount(t.find("ann", noon), second)
		for range 2 {
			t.must(t.UndoResend(t.ctx, old, noon))
			t.wantAccount(t.find("ann", noon), a.Account)
		}
		_, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
		t.must(err)
	}},
	{"is not undone once it is acknowledged", func(t *test) {
		a := t.addPending("ann", noon)
		r := t.resend(a.Account, "b@mail.test", noon)
		t.ack([]outbox.Ref{newRef(r)})
		t.must(t.UndoResend(t.ctx, r, noon))
		if got := t.find("ann", noon).Email; got != "b@mail.test" {
			t.Errorf("the address is %q", got)
		}
	}},
	{"keeps Undo from removing the account", func(t *test) {
		a := t.addPending("ann", noon)
		r := t.resend(a.Account, a.Account.Email, noon)
		t.must(t.Undo(t.ctx, a, noon))
		_, err := t.Activate(t.ctx, t.tenant, r.Token, noon)
		t.must(err)
	}},
	{"leaves nothing of a deleted account, and is swept at the end of the week", func(t *test) {
		for _, user := range []string{"ann", "bob"} {
			a := t.addPending(user, noon)
			r := t.resend(a.Account, a.Account.Email, noon)
			if user == "bob" {
				_, err := t.Activate(t.ctx, t.tenant, r.Token, noon)
				t.must(err)
			}
			t.must(t.Delete(t.ctx, t.tenant, user, noon))
			t.wantLinkErr(a.Token, noon, errAbsent)
		}
		t.wantEqual(t.pendingUsers(), nil)
		member := t.addPending("cid", noon)
		r := t.resend(member.Account, member.Account.Email, noon)
		_, err := t.Activate(t.ctx, t.tenant, r.Token, noon)
		t.must(err)
		swept, err := t.Sweep(t.ctx, noon.Add(week-tick), noon, 100)
		t.must(err)
		t.wantLinkErr(member.Token, noon, account.ErrReplaced)
		more, err := t.Sweep(t.ctx, noon.Add(week), noon, 100)
		t.must(err)
		if swept.Others+1 < more.Others || more.Others == 0 {
			t.Errorf("the sweeps removed %d and %d", swept.Others, more.Others)
		}
		_, err = t.Activate(t.ctx, t.tenant, member.Token, noon.Add(week))
		if errors.Is(err, account.ErrReplaced) {
			t.Error("got ErrReplaced after the sweep")
		}
	}},
	{"excludes a concurrent Activate", func(t *test) {
		for i := range 30 {
			user := fmt.Sprint("ann", i)
			a := t.addPending(user, noon)
			r := t.newLink(a.Account, "right@mail.test", noon)
			var opened, resent error
			t.concurrently(2, func(i int) error {
				if i == 0 {
					_, opened = t.Activate(t.ctx, t.tenant, a.Token, noon)
					return nil
				}
				resent = t.Resend(t.ctx, r, noon)
				return nil
			})
			got := t.find(user, noon)
			switch {
			case opened == nil && errors.Is(resent, account.ErrActive) &&
				!got.Disabled && got.Email == a.Account.Email:
			case errors.Is(opened, account.ErrReplaced) && resent == nil &&
				got.Disabled && got.Email == "right@mail.test":
			default:
				t.Fatalf("Activate: %v; Resend: %v; the account: %+v", opened, resent, got)
			}
		}
	}},
	{"does not block the name for a concurrent signup at the time of expiry", func(t *test) {
		for i := range 20 {
			user := fmt.Sprint("ann", i)
			a := t.addPending(user, noon)
			next := t.signup(user, noon.Add(week))
			r := t.newLink(a.Account, a.Account.Email, noon.Add(week-tick))
			var resent, taken error
			t.concurrently(2, func(i int) error {
				if i == 0 {
					resent = t.Resend(t.ctx, r, noon.Add(week-tick))
					return nil
				}
				taken = t.Create(t.ctx, next, noon.Add(week))
				return nil
			})
			t.must(taken)
			if resent != nil && !fault.Is(resent, fault.NotFound) {
				t.Fatal(resent)
			}
			t.wantLinkErr(r.Token, noon.Add(week), errAbsent)
			t.wantAccount(t.find(user, noon.Add(week)), next.Account)
		}
	}},
	{"succeeds as often as is allowed, and leaves one link that works", func(t *test) {
		a := t.addPending("ann", noon)
		own, to := allowance(newBucket(), 3), allowance(newBucket(), 5)
		list := make([]account.LinkReplacement, 30)
		done := make([]bool, len(list))
		got := t.concurrently(len(list), func(i int) error {
			list[i] = t.newLink(a.Account, a.Account.Email, noon)
			list[i].Allowances = []throttle.Allowance{own, to}
			err := t.Resend(t.ctx, list[i], noon)
			done[i] = err == nil
			return err
		})
		if got[succeeded] != 3 || got[fault.Limited] != 27 {
			t.Fatalf("got %v, want 3 successes and 27 refusals", got)
		}
		count := make(map[string]int)
		for i, r := range list {
			_, err := t.Activate(t.ctx, t.tenant, r.Token, noon)
			switch {
			case err == nil:
				count["works"]++
			case errors.Is(err, account.ErrReplaced):
				count["replaced"]++
			}
			if !done[i] && (err == nil || errors.Is(err, account.ErrReplaced)) {
				t.Error("the link of a refused call is known")
			}
		}
		if count["works"] != 1 || count["replaced"] != 2 {
			t.Errorf("got %v", count)
		}
	}},
	{"accepts one of two concurrent changes of the address", func(t *test) {
		for i := range 20 {
			a := t.addPending(fmt.Sprint("ann", i), noon)
			errs := make([]error, 2)
			to := []string{"x@mail.test", "y@mail.test"}
			t.concurrently(2, func(i int) error {
				errs[i] = t.Resend(t.ctx, t.newLink(a.Account, to[i], noon), noon)
				return nil
			})
			won := 0
			if errs[0] != nil {
				won = 1
			}
			if errs[won] != nil || !errors.Is(errs[1-won], account.ErrAddressChanged) ||
				t.find(a.Account.User, noon).Email != to[won] {
				t.Fatalf("got %v", errs)
			}
		}
	}},
}
