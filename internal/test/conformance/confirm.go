package conformance

import (
	"fmt"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

var confirmRules = []rule{
	{"enables a pending account", func(b *bench) {
		a := b.join("ann", noon)
		at := noon.Add(time.Minute + 7*tick)
		got, err := b.Confirm(b.ctx, b.tenant, a.Token, a.Account.UID, at)
		b.must(err)
		want := a.Account
		want.Disabled, want.Activated, want.Confirmed = false, at, at
		b.same(got, want)
		b.same(b.find("ann", noon.Add(10*week)), want)
		_, err = b.Activate(b.ctx, b.tenant, a.Token, at)
		b.is(err, account.ErrActive)
	}},
	{"adds to an active account when it was confirmed, and nothing else", func(b *bench) {
		a := b.member("ann", noon)
		at := noon.Add(3 * week)
		want := b.find("ann", noon)
		want.Confirmed = at
		got, err := b.Confirm(b.ctx, b.tenant, a.Token, a.Account.UID, at)
		b.must(err)
		b.same(got, want)
		b.same(b.find("ann", at), want)
	}},
	{"keeps the first time", func(b *bench) {
		a := b.join("ann", noon)
		for i := range 3 {
			got, err := b.Confirm(b.ctx, b.tenant, a.Token, a.Account.UID, noon.Add(time.Duration(i)*time.Hour))
			b.must(err)
			if !got.Confirmed.Equal(noon) || !got.Activated.Equal(noon) {
				b.Errorf("at the time %d: %+v", i+1, got)
			}
		}
		if got := b.find("ann", noon); !got.Confirmed.Equal(noon) {
			b.Errorf("got %+v", got)
		}
	}},
	{"is the only thing that confirms", func(b *bench) {
		b.member("ann", noon)
		b.join("bob", noon)
		_, err := b.Enable(b.ctx, b.tenant, "bob", noon)
		b.must(err)
		for _, user := range []string{"ann", "bob"} {
			if got := b.find(user, noon); got.Disabled || !got.Confirmed.IsZero() {
				b.Errorf("got %+v", got)
			}
		}
	}},
	{"confirms an account that an operator enabled", func(b *bench) {
		a := b.join("ann", noon)
		_, err := b.Enable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		got, err := b.Confirm(b.ctx, b.tenant, a.Token, a.Account.UID, noon.Add(week))
		b.must(err)
		if !got.Activated.Equal(noon) || !got.Confirmed.Equal(noon.Add(week)) {
			b.Errorf("got %+v", got)
		}
	}},
	{"takes an account's own link alone", func(b *bench) {
		ann, bob, old := b.join("ann", noon), b.join("bob", noon), b.join("old", noon.Add(-week))
		other := b.addTenant("other.test")
		for _, c := range []struct {
			name   string
			tenant int64
			token  [32]byte
			uid    account.UID
		}{
			{"another's link", b.tenant, bob.Token, ann.Account.UID},
			{"another's old link", b.tenant, old.Token, ann.Account.UID},
			{"no link", b.tenant, [32]byte{}, ann.Account.UID},
			{"no account", b.tenant, ann.Token, account.UID{}},
			{"another tenant", other, ann.Token, ann.Account.UID},
		} {
			got, err := b.Confirm(b.ctx, c.tenant, c.token, c.uid, noon)
			if !fault.Is(err, fault.NotFound) || err == account.ErrExpired || got.User != "" {
				b.Errorf("%s: got %v and %+v", c.name, err, got)
			}
		}
		b.same(b.find("ann", noon), ann.Account)
		b.same(b.find("bob", noon), bob.Account)
	}},
	{"works until the last microsecond of the week", func(b *bench) {
		a := b.join("ann", noon)
		got, err := b.Confirm(b.ctx, b.tenant, a.Token, a.Account.UID, noon.Add(week))
		b.is(err, account.ErrExpired)
		b.same(got, a.Account)
		_, err = b.Confirm(b.ctx, b.tenant, a.Token, a.Account.UID, noon.Add(week-tick))
		b.must(err)
	}},
	{"does not undo a hold", func(b *bench) {
		pending, member := b.join("ann", noon), b.member("bob", noon)
		for _, a := range []account.Signup{pending, member} {
			held, err := b.Disable(b.ctx, b.tenant, a.Account.User, noon)
			b.must(err)
			_, err = b.Confirm(b.ctx, b.tenant, a.Token, a.Account.UID, noon)
			b.is(err, account.ErrHeld)
			b.same(b.find(a.Account.User, noon), held)
		}
	}},
	{"knows nothing of an account that was deleted, and leaves nothing of it", func(b *bench) {
		pending, member := b.join("ann", noon), b.member("bob", noon)
		_, err := b.Confirm(b.ctx, b.tenant, member.Token, member.Account.UID, noon)
		b.must(err)
		for _, a := range []account.Signup{pending, member} {
			b.must(b.Delete(b.ctx, b.tenant, a.Account.User, noon))
			_, err := b.Confirm(b.ctx, b.tenant, a.Token, a.Account.UID, noon)
			b.refused(err, fault.NotFound)
		}
	}},
	{"and Activate at once end in an account that is both", func(b *bench) {
		for i := range 20 {
			user := fmt.Sprint("ann", i)
			a := b.join(user, noon)
			var activated, confirmed error
			b.crowd(2, func(i int) error {
				if i == 0 {
					_, activated = b.Activate(b.ctx, b.tenant, a.Token, noon)
					return activated
				}
				_, confirmed = b.Confirm(b.ctx, b.tenant, a.Token, a.Account.UID, noon)
				return confirmed
			})
			if confirmed != nil || activated != nil && activated != account.ErrActive {
				b.Fatalf("the link: %v; the password: %v", activated, confirmed)
			}
			if got := b.find(user, noon); got.Disabled || got.Confirmed.IsZero() {
				b.Fatalf("got %+v", got)
			}
		}
	}},
	{"and an operator's Disable at once end in a hold", func(b *bench) {
		for i := range 20 {
			user := fmt.Sprint("ann", i)
			a := b.join(user, noon)
			var confirmed error
			b.crowd(2, func(i int) error {
				if i == 0 {
					_, err := b.Disable(b.ctx, b.tenant, user, noon)
					return err
				}
				_, confirmed = b.Confirm(b.ctx, b.tenant, a.Token, a.Account.UID, noon)
				return confirmed
			})
			got := b.find(user, noon)
			if !got.Held || got.Pending() != (confirmed == account.ErrHeld) ||
				confirmed != nil && confirmed != account.ErrHeld {
				b.Fatalf("the password: %v; afterwards %+v", confirmed, got)
			}
		}
	}},
	{"either confirms or frees an account, at the moment of expiry, never both", func(b *bench) {
		for i := range 20 {
			user := fmt.Sprint("ann", i)
			a := b.join(user, noon)
			next := b.admission(user, noon.Add(week))
			var confirmed, taken error
			b.crowd(2, func(i int) error {
				if i == 0 {
					_, confirmed = b.Confirm(b.ctx, b.tenant, a.Token, a.Account.UID, noon.Add(week-tick))
					return nil
				}
				taken = b.Create(b.ctx, next, noon.Add(week))
				return nil
			})
			if (confirmed == nil) == (taken == nil) {
				b.Fatalf("the password: %v; the next owner: %v", confirmed, taken)
			}
		}
	}},
	{"is not what Linked does, which tells the same as Activate and changes nothing", func(b *bench) {
		pending, member := b.join("ann", noon), b.member("bob", noon)
		old, held := b.join("old", noon.Add(-week)), b.join("held", noon)
		_, err := b.Disable(b.ctx, b.tenant, "held", noon)
		b.must(err)
		for _, c := range []struct {
			a    account.Signup
			want error
		}{{pending, nil}, {member, account.ErrActive}, {old, account.ErrExpired}, {held, account.ErrHeld}} {
			got, err := b.Linked(b.ctx, b.tenant, c.a.Token, noon)
			if err != c.want || got.UID != c.a.Account.UID {
				b.Errorf("%s: got %v and %+v, want %v", c.a.Account.User, err, got, c.want)
			}
		}
		_, err = b.Linked(b.ctx, b.tenant, [32]byte{}, noon)
		b.refused(err, fault.NotFound)
		b.same(b.find("ann", noon), pending.Account)
	}},
}
