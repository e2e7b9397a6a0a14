package conformance

import (
	"errors"
	"fmt"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

var confirmTests = []testCase{
	{"enables a pending account", func(t *test) {
		a := t.addPending("ann", noon)
		at := noon.Add(time.Minute + 7*tick)
		got, err := t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, at)
		t.must(err)
		want := a.Account
		want.Disabled, want.Activated, want.Confirmed = false, at, at
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", noon.Add(10*week)), want)
		_, err = t.Activate(t.ctx, t.tenant, a.Token, at)
		t.wantErr(err, account.ErrActive)
	}},
	{"sets only the time of confirmation of an active account", func(t *test) {
		a := t.addActive("ann", noon)
		at := noon.Add(3 * week)
		want := t.find("ann", noon)
		want.Confirmed = at
		got, err := t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, at)
		t.must(err)
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", at), want)
	}},
	{"keeps the first time of confirmation", func(t *test) {
		a := t.addPending("ann", noon)
		for i := range 3 {
			got, err := t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, noon.Add(time.Duration(i)*time.Hour))
			t.must(err)
			if !got.Confirmed.Equal(noon) || !got.Activated.Equal(noon) {
				t.Errorf("call %d: got %+v", i+1, got)
			}
		}
		if got := t.find("ann", noon); !got.Confirmed.Equal(noon) {
			t.Errorf("got %+v", got)
		}
	}},
	{"is the only call that confirms", func(t *test) {
		t.addActive("ann", noon)
		t.addPending("bob", noon)
		_, err := t.EnableNow(t.ctx, t.tenant, "bob", noon)
		t.must(err)
		for _, user := range []string{"ann", "bob"} {
			if got := t.find(user, noon); got.Disabled || !got.Confirmed.IsZero() {
				t.Errorf("got %+v", got)
			}
		}
	}},
	{"confirms an account that an operator enabled", func(t *test) {
		a := t.addPending("ann", noon)
		_, err := t.EnableNow(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		got, err := t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, noon.Add(week))
		t.must(err)
		if !got.Activated.Equal(noon) || !got.Confirmed.Equal(noon.Add(week)) {
			t.Errorf("got %+v", got)
		}
	}},
	{"takes only the account's own link", func(t *test) {
		ann, bob, old := t.addPending("ann", noon), t.addPending("bob", noon), t.addPending("old", noon.Add(-week))
		other := t.addTenant("other.test")
		for _, c := range []struct {
			name   string
			tenant int64
			token  [32]byte
			uid    account.UID
		}{
			{"the link of another account", t.tenant, bob.Token, ann.Account.UID},
			{"the expired link of another account", t.tenant, old.Token, ann.Account.UID},
			{"no link", t.tenant, [32]byte{}, ann.Account.UID},
			{"no account", t.tenant, ann.Token, account.UID{}},
			{"another tenant", other, ann.Token, ann.Account.UID},
		} {
			got, err := t.Confirm(t.ctx, c.tenant, c.token, c.uid, noon)
			if !fault.Is(err, fault.NotFound) || errors.Is(err, account.ErrExpired) || got.User != "" {
				t.Errorf("%s: got %v and %+v", c.name, err, got)
			}
		}
		t.wantAccount(t.find("ann", noon), ann.Account)
		t.wantAccount(t.find("bob", noon), bob.Account)
	}},
	{"works until the last microsecond of the week", func(t *test) {
		a := t.addPending("ann", noon)
		got, err := t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, noon.Add(week))
		t.wantErr(err, account.ErrExpired)
		t.wantAccount(got, a.Account)
		_, err = t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, noon.Add(week-tick))
		t.must(err)
	}},
	{"does not enable a disabled account", func(t *test) {
		pending, member := t.addPending("ann", noon), t.addActive("bob", noon)
		for _, a := range []account.Signup{pending, member} {
			held, err := t.Disable(t.ctx, t.tenant, a.Account.User, noon)
			t.must(err)
			_, err = t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, noon)
			t.wantErr(err, account.ErrHeld)
			t.wantAccount(t.find(a.Account.User, noon), held)
		}
	}},
	{"fails for a deleted account", func(t *test) {
		pending, member := t.addPending("ann", noon), t.addActive("bob", noon)
		_, err := t.Confirm(t.ctx, t.tenant, member.Token, member.Account.UID, noon)
		t.must(err)
		for _, a := range []account.Signup{pending, member} {
			t.must(t.Delete(t.ctx, t.tenant, a.Account.User, noon))
			_, err := t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, noon)
			t.wantKind(err, fault.NotFound)
		}
	}},
	{"and a concurrent Activate leave the account active and confirmed", func(t *test) {
		for i := range 20 {
			user := fmt.Sprint("ann", i)
			a := t.addPending(user, noon)
			var activated, confirmed error
			t.concurrently(2, func(i int) error {
				if i == 0 {
					_, activated = t.Activate(t.ctx, t.tenant, a.Token, noon)
					return activated
				}
				_, confirmed = t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, noon)
				return confirmed
			})
			if confirmed != nil || activated != nil && !errors.Is(activated, account.ErrActive) {
				t.Fatalf("Activate: %v; Confirm: %v", activated, confirmed)
			}
			if got := t.find(user, noon); got.Disabled || got.Confirmed.IsZero() {
				t.Fatalf("got %+v", got)
			}
		}
	}},
	{"and a concurrent Disable leave the account held", func(t *test) {
		for i := range 20 {
			user := fmt.Sprint("ann", i)
			a := t.addPending(user, noon)
			var confirmed error
			t.concurrently(2, func(i int) error {
				if i == 0 {
					_, err := t.Disable(t.ctx, t.tenant, user, noon)
					return err
				}
				_, confirmed = t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, noon)
				return confirmed
			})
			got := t.find(user, noon)
			refused := errors.Is(confirmed, account.ErrHeld)
			if !got.Held || got.Pending() != refused || confirmed != nil && !refused {
				t.Fatalf("Confirm: %v; the account: %+v", confirmed, got)
			}
		}
	}},
	{"either confirms an account or frees its name at the time of expiry", func(t *test) {
		for i := range 20 {
			user := fmt.Sprint("ann", i)
			a := t.addPending(user, noon)
			next := t.signup(user, noon.Add(week))
			var confirmed, taken error
			t.concurrently(2, func(i int) error {
				if i == 0 {
					_, confirmed = t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, noon.Add(week-tick))
					return nil
				}
				taken = t.Create(t.ctx, next, noon.Add(week))
				return nil
			})
			if (confirmed == nil) == (taken == nil) {
				t.Fatalf("Confirm: %v; Create: %v", confirmed, taken)
			}
		}
	}},
	{"differs from Linked, which answers as Activate does and changes nothing", func(t *test) {
		pending, member := t.addPending("ann", noon), t.addActive("bob", noon)
		old, held := t.addPending("old", noon.Add(-week)), t.addPending("held", noon)
		_, err := t.Disable(t.ctx, t.tenant, "held", noon)
		t.must(err)
		for _, c := range []struct {
			a    account.Signup
			want error
		}{{pending, nil}, {member, account.ErrActive}, {old, account.ErrExpired}, {held, account.ErrHeld}} {
			got, err := t.Linked(t.ctx, t.tenant, c.a.Token, noon)
			if !errors.Is(err, c.want) || got.UID != c.a.Account.UID {
				t.Errorf("%s: got %v and %+v, want %v", c.a.Account.User, err, got, c.want)
			}
		}
		_, err = t.Linked(t.ctx, t.tenant, [32]byte{}, noon)
		t.wantKind(err, fault.NotFound)
		t.wantAccount(t.find("ann", noon), pending.Account)
	}},
}
