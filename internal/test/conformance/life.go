package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/outbox"
	"dialtone/internal/throttle"
)

const week = 7 * 24 * time.Hour

var activateRules = []rule{
	{"works once", func(b *bench) {
		a := b.join("ann", noon)
		at := noon.Add(time.Minute + 7*tick)
		got, err := b.Activate(b.ctx, b.tenant, a.Token, at)
		b.must(err)
		want := a.Account
		want.Disabled, want.Activated = false, at
		b.same(got, want)
		b.same(b.find("ann", at), want)
		got, err = b.Activate(b.ctx, b.tenant, a.Token, at.Add(time.Second))
		b.is(err, account.ErrActive)
		b.same(got, want)
		b.same(b.find("ann", at), want)
	}},
	{"does not know a token that was never given out", func(b *bench) {
		b.join("ann", noon)
		for _, token := range [][32]byte{{}, {1}, b.admission("bob", noon).Token} {
			got, err := b.Activate(b.ctx, b.tenant, token, noon)
			b.refused(err, fault.NotFound)
			if errors.Is(err, account.ErrExpired) || got.User != "" {
				b.Errorf("got %v and %+v", err, got)
			}
		}
	}},
	{"succeeds for one of 50 at once", func(b *bench) {
		a := b.join("ann", noon)
		got := b.crowd(50, func(int) error {
			_, err := b.Activate(b.ctx, b.tenant, a.Token, noon)
			if err != nil && !errors.Is(err, account.ErrActive) {
				return fault.New(fault.Internal, "%v instead of ErrActive", err)
			}
			return err
		})
		if got[-1] != 1 || got[fault.Conflict] != 49 {
			b.Errorf("got %v, want one success and 49 that are told that the account is active", got)
		}
	}},
	{"works until the last microsecond of the week", func(b *bench) {
		a := b.join("ann", noon)
		got, err := b.Activate(b.ctx, b.tenant, a.Token, noon.Add(week-tick))
		b.must(err)
		if got.Disabled {
			b.Error("the account is still disabled")
		}
		b.find("ann", noon.Add(10*week))
	}},
	{"does not work when the week is over", func(b *bench) {
		a := b.join("ann", noon)
		for _, late := range []time.Duration{week, week + tick, 10 * week} {
			got, err := b.Activate(b.ctx, b.tenant, a.Token, noon.Add(late))
			b.is(err, account.ErrExpired)
			b.same(got, a.Account)
		}
	}},
	{"tells that it is too late of a link that was opened in time, never", func(b *bench) {
		a := b.member("ann", noon)
		_, err := b.Activate(b.ctx, b.tenant, a.Token, noon.Add(2*week))
		b.is(err, account.ErrActive)
	}},
	{"does not undo a hold of a pending account", func(b *bench) {
		a := b.join("ann", noon)
		_, err := b.Disable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		got, err := b.Activate(b.ctx, b.tenant, a.Token, noon)
		b.is(err, account.ErrHeld)
		if !got.Held || !got.Disabled || got.User != "ann" {
			b.Errorf("got %+v", got)
		}
		if got := b.find("ann", noon); !got.Held || !got.Disabled || !got.Pending() {
			b.Errorf("afterwards %+v", got)
		}
	}},
	{"does not undo a hold of an active account", func(b *bench) {
		a := b.member("ann", noon)
		_, err := b.Disable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		_, err = b.Activate(b.ctx, b.tenant, a.Token, noon)
		b.is(err, account.ErrHeld)
		if got := b.find("ann", noon); !got.Held || !got.Disabled {
			b.Errorf("afterwards %+v", got)
		}
	}},
	{"knows nothing of a token whose account was deleted", func(b *bench) {
		pending, member := b.join("ann", noon), b.member("bob", noon)
		for _, a := range []account.Signup{pending, member} {
			b.must(b.Delete(b.ctx, b.tenant, a.Account.User, noon))
			_, err := b.Activate(b.ctx, b.tenant, a.Token, noon)
			b.refused(err, fault.NotFound)
		}
	}},
	{"either activates or frees an account, at the moment of expiry, never both", func(b *bench) {
		for i := range 20 {
			user := fmt.Sprint("ann", i)
			a := b.join(user, noon)
			next := b.admission(user, noon.Add(week))
			var activated, taken error
			b.crowd(2, func(i int) error {
				if i == 0 {
					_, activated = b.Activate(b.ctx, b.tenant, a.Token, noon.Add(week-tick))
					return nil
				}
				taken = b.Create(b.ctx, next, noon.Add(week))
				return nil
			})
			if (activated == nil) == (taken == nil) {
				b.Fatalf("the link: %v; the next owner: %v", activated, taken)
			}
		}
	}},
}

var expiryRules = []rule{
	{"makes an account absent everywhere at the end of the week", func(b *bench) {
		a := b.join("ann", noon)
		last, over := noon.Add(week-tick), noon.Add(week)
		b.find("ann", last)
		_, err := b.FindUID(b.ctx, b.tenant, a.Account.UID, last)
		b.must(err)
		b.equal(b.listed(last), []string{"ann"})

		b.absent("ann", over)
		_, err = b.FindUID(b.ctx, b.tenant, a.Account.UID, over)
		b.refused(err, fault.NotFound)
		b.equal(b.listed(over), nil)
		_, err = b.Enable(b.ctx, b.tenant, "ann", over)
		b.refused(err, fault.NotFound)
		_, err = b.Disable(b.ctx, b.tenant, "ann", over)
		b.refused(err, fault.NotFound)
		_, err = b.SetRole(b.ctx, b.tenant, "ann", account.Admin, over)
		b.refused(err, fault.NotFound)
		b.refused(b.Delete(b.ctx, b.tenant, "ann", over), fault.NotFound)
	}},
	{"frees the name at the end of the week and not before", func(b *bench) {
		b.join("ann", noon)
		a := b.admission("ann", noon.Add(week))
		b.is(b.Create(b.ctx, a, noon.Add(week-tick)), account.ErrTaken)
		a.Captcha = proof()
		b.must(b.Create(b.ctx, a, noon.Add(week)))
		b.same(b.find("ann", noon.Add(week)), a.Account)
	}},
	{"makes the old link worth nothing when the name is taken anew", func(b *bench) {
		old := b.join("ann", noon)
		over := noon.Add(week)
		next := b.join("ann", over)
		for _, at := range []time.Time{noon, over} {
			_, err := b.Activate(b.ctx, b.tenant, old.Token, at)
			b.refused(err, fault.NotFound)
		}
		if got := b.find("ann", over); !got.Disabled || got.UID != next.Account.UID {
			b.Errorf("got %+v", got)
		}
		_, err := b.Activate(b.ctx, b.tenant, next.Token, over)
		b.must(err)
	}},
	{"leaves no message of the old account when the name is taken anew", func(b *bench) {
		b.join("ann", noon)
		next := b.join("ann", noon.Add(week))
		list, err := b.Pending(b.ctx)
		b.must(err)
		if len(list) != 1 || list[0].Message != next.Message {
			b.Errorf("got %+v", list)
		}
	}},
	{"frees a held name too, if it was never active", func(b *bench) {
		b.join("ann", noon)
		_, err := b.Disable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		b.join("ann", noon.Add(week))
		if b.find("ann", noon.Add(week)).Held {
			b.Error("the next owner is held")
		}
	}},
	{"never comes to an account that was activated", func(b *bench) {
		b.member("ann", noon)
		late := noon.Add(1000 * week)
		b.find("ann", late)
		b.is(b.Create(b.ctx, b.admission("ann", late), late), account.ErrTaken)
	}},
}

var operatorRules = []rule{
	{"Enable ends the wait for the link", func(b *bench) {
		a := b.join("ann", noon)
		got, err := b.Enable(b.ctx, b.tenant, "ann", noon.Add(time.Hour))
		b.must(err)
		want := a.Account
		want.Disabled, want.Activated = false, noon.Add(time.Hour)
		b.same(got, want)
		b.same(b.find("ann", noon.Add(2*week)), want)
		_, err = b.Activate(b.ctx, b.tenant, a.Token, noon.Add(time.Hour))
		b.is(err, account.ErrActive)
	}},
	{"Enable ends a hold and keeps the time of activation", func(b *bench) {
		b.member("ann", noon)
		_, err := b.Disable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		got, err := b.Enable(b.ctx, b.tenant, "ann", noon.Add(time.Hour))
		b.must(err)
		if got.Held || got.Disabled || !got.Activated.Equal(noon) {
			b.Errorf("got %+v", got)
		}
	}},
	{"Disable holds the account and raises its epoch each time", func(b *bench) {
		b.member("ann", noon)
		for i := range 3 {
			got, err := b.Disable(b.ctx, b.tenant, "ann", noon)
			b.must(err)
			if !got.Held || !got.Disabled || got.Epoch != int64(i+1) {
				b.Fatalf("got %+v after %d times", got, i+1)
			}
			b.same(b.find("ann", noon), got)
		}
	}},
	{"Enable does not bring the old epoch back", func(b *bench) {
		b.member("ann", noon)
		_, err := b.Disable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		got, err := b.Enable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		if got.Epoch != 1 {
			b.Errorf("the epoch is %d", got.Epoch)
		}
	}},
	{"SetRole changes the role alone", func(b *bench) {
		a := b.join("ann", noon)
		for _, role := range account.Roles {
			want := a.Account
			want.Role = role
			got, err := b.SetRole(b.ctx, b.tenant, "ann", role, noon)
			b.must(err)
			b.same(got, want)
			b.same(b.find("ann", noon), want)
		}
	}},
	{"all of them fail for a user who is not there", func(b *bench) {
		_, err := b.Enable(b.ctx, b.tenant, "ann", noon)
		b.refused(err, fault.NotFound)
		_, err = b.Disable(b.ctx, b.tenant, "ann", noon)
		b.refused(err, fault.NotFound)
		_, err = b.SetRole(b.ctx, b.tenant, "ann", account.Admin, noon)
		b.refused(err, fault.NotFound)
		b.refused(b.Delete(b.ctx, b.tenant, "ann", noon), fault.NotFound)
	}},
	{"no disabling is lost among 20 at once", func(b *bench) {
		b.member("ann", noon)
		b.crowd(20, func(int) error {
			_, err := b.Disable(b.ctx, b.tenant, "ann", noon)
			return err
		})
		if got := b.find("ann", noon).Epoch; got != 20 {
			b.Errorf("the epoch is %d", got)
		}
	}},
	{"Delete frees the name of an account that was never active", func(b *bench) {
		b.join("ann", noon)
		b.must(b.Delete(b.ctx, b.tenant, "ann", noon))
		b.absent("ann", noon)
		b.equal(b.waiting(), nil)
		next := b.join("ann", noon)
		b.same(b.find("ann", noon), next.Account)
	}},
	{"Delete keeps the name of an account that was active, and the account is gone", func(b *bench) {
		a := b.member("ann", noon)
		b.must(b.Delete(b.ctx, b.tenant, "ann", noon))
		b.absent("ann", noon)
		_, err := b.FindUID(b.ctx, b.tenant, a.Account.UID, noon)
		b.refused(err, fault.NotFound)
		b.equal(b.listed(noon), nil)
		b.equal(b.waiting(), nil)
		for _, at := range []time.Time{noon, noon.Add(1000 * week)} {
			b.is(b.Create(b.ctx, b.admission("ann", at), at), account.ErrTaken)
		}
		b.refused(b.Delete(b.ctx, b.tenant, "ann", noon), fault.NotFound)
		_, err = b.Enable(b.ctx, b.tenant, "ann", noon)
		b.refused(err, fault.NotFound)
	}},
}

// listed are the users that List gives.
func (b *bench) listed(at time.Time) (users []string) {
	b.Helper()
	b.must(b.List(b.ctx, b.tenant, at, func(a account.Account) error {
		users = append(users, a.User)
		return nil
	}))
	return users
}

var lookupRules = []rule{
	{"Find and FindUID give the same account", func(b *bench) {
		a := b.member("ann", noon)
		got, err := b.FindUID(b.ctx, b.tenant, a.Account.UID, noon)
		b.must(err)
		b.same(got, b.find("ann", noon))
	}},
	{"a user name is compared byte by byte", func(b *bench) {
		b.join("ann", noon)
		for _, user := range []string{"Ann", "ann ", "an", "", "ann\x00", "a%", "ａnn"} {
			b.absent(user, noon)
		}
	}},
	{"List goes by user name, byte by byte", func(b *bench) {
		users := []string{"ann", "bob", "a.b", "a-b", "a_b", "1", "10", "9", "z", "ab"}
		for _, user := range users {
			b.join(user, noon)
		}
		slices.Sort(users)
		b.equal(b.listed(noon), users)
	}},
	{"List stops at a failure and returns it", func(b *bench) {
		for _, user := range []string{"ann", "bob", "cid"} {
			b.join(user, noon)
		}
		enough := errors.New("enough")
		var seen []string
		err := b.List(b.ctx, b.tenant, noon, func(a account.Account) error {
			if seen = append(seen, a.User); len(seen) == 2 {
				return enough
			}
			return nil
		})
		b.is(err, enough)
		b.equal(seen, []string{"ann", "bob"})
		b.equal(b.listed(noon), []string{"ann", "bob", "cid"})
	}},
	{"List lets an account be changed meanwhile", func(b *bench) {
		for _, user := range []string{"ann", "bob"} {
			b.member(user, noon)
		}
		b.must(b.List(b.ctx, b.tenant, noon, func(a account.Account) error {
			_, err := b.Disable(b.ctx, b.tenant, a.User, noon)
			return err
		}))
		if !b.find("ann", noon).Held || !b.find("bob", noon).Held {
			b.Error("an account is not held")
		}
	}},
	{"a context that is over ends a look-up", func(b *bench) {
		b.join("ann", noon)
		over, cancel := context.WithCancel(b.ctx)
		cancel()
		if _, err := b.Find(over, b.tenant, "ann", noon); err == nil || fault.Is(err, fault.NotFound) {
			b.Errorf("got %v", err)
		}
		b.find("ann", noon)
	}},
}

var outboxRules = []rule{
	{"a message waits until it is settled", func(b *bench) {
		a := b.join("ann", noon)
		list, err := b.Pending(b.ctx)
		b.must(err)
		if len(list) != 1 || list[0].Message != a.Message || string(list[0].SealedToken) != string(a.SealedToken) {
			b.Fatalf("got %+v", list)
		}
		e, want := list[0], a.Account
		if e.Tenant != want.Tenant || e.Account != want.UID || e.User != want.User || e.Email != want.Email ||
			e.Lang != want.Lang || !e.Made.Equal(want.Created) || !e.Expires.Equal(want.Expires) {
			b.Fatalf("got %+v for %+v", e, want)
		}
		b.settle([]outbox.Ref{{Account: a.Account.UID, Message: a.Message}})
		b.equal(b.waiting(), nil)
		b.same(b.find("ann", noon), a.Account)
	}},
	{"an account that is active has its message wait too", func(b *bench) {
		b.member("ann", noon)
		b.equal(b.waiting(), []string{"ann"})
	}},
	{"messages come oldest first", func(b *bench) {
		users := []string{"zoe", "ann", "mia", "bob"}
		for i, user := range users {
			b.join(user, noon.Add(time.Duration(i)*time.Millisecond))
		}
		b.equal(b.waiting(), users)
	}},
	{"settling takes the named messages alone, and may be repeated", func(b *bench) {
		ann, bob := b.join("ann", noon), b.join("bob", noon)
		sent := []outbox.Ref{
			{Account: ann.Account.UID, Message: ann.Message},
			{Account: bob.Account.UID, Message: ann.Message}, // no message of his
			{Account: account.UID(fresh()), Message: bob.Message},
		}
		for range 2 {
			b.settle(sent)
			b.equal(b.waiting(), []string{"bob"})
		}
		b.settle(nil)
	}},
	{"hundreds of messages are settled by one call", func(b *bench) {
		var sent []outbox.Ref
		all := make([]account.Signup, 300)
		for i := range all {
			all[i] = b.admission(fmt.Sprint("ann", i), noon)
			sent = append(sent, outbox.Ref{Account: all[i].Account.UID, Message: all[i].Message})
		}
		if got := b.crowd(len(all), func(i int) error { return b.Create(b.ctx, all[i], noon) }); got[-1] != len(all) {
			b.Fatalf("got %v", got)
		}
		b.settle(sent[1:])
		list, err := b.Pending(b.ctx)
		b.must(err)
		if len(list) != 1 || list[0].Message != sent[0].Message {
			b.Errorf("%d messages wait", len(list))
		}
	}},
}

var sweepRules = []rule{
	{"removes accounts that expired before the given time, and no others", func(b *bench) {
		b.join("early", noon)
		b.join("late", noon.Add(tick))
		b.member("active", noon)
		b.member("closed", noon)
		b.must(b.Delete(b.ctx, b.tenant, "closed", noon))
		expired := noon.Add(week)
		got, err := b.Store.Sweep(b.ctx, noon, expired, 100)
		b.must(err)
		if got.Accounts != 1 || got.More {
			b.Errorf("got %+v", got)
		}
		b.equal(b.listed(noon), []string{"active", "late"})
		b.is(b.Create(b.ctx, b.admission("closed", noon), noon), account.ErrTaken)
		b.join("early", noon)
	}},
	{"keeps the row of an expired account for as long as it is told to", func(b *bench) {
		a := b.join("ann", noon)
		at := noon.Add(week)
		_, err := b.Store.Sweep(b.ctx, at, at.Add(-tick), 100)
		b.must(err)
		_, err = b.Activate(b.ctx, b.tenant, a.Token, at)
		b.is(err, account.ErrExpired)
		_, err = b.Store.Sweep(b.ctx, at, at, 100)
		b.must(err)
		_, err = b.Activate(b.ctx, b.tenant, a.Token, at)
		b.refused(err, fault.NotFound)
		if errors.Is(err, account.ErrExpired) {
			b.Error("a link whose account is gone is told that it expired")
		}
	}},
	{"removes the message of an account with it", func(b *bench) {
		b.join("ann", noon)
		_, err := b.Store.Sweep(b.ctx, noon, noon.Add(week), 100)
		b.must(err)
		b.equal(b.waiting(), nil)
	}},
	{"keeps a spent captcha until its time, and places while they count", func(b *bench) {
		a := b.join("ann", noon)
		for _, at := range []time.Time{noon, a.Captcha.Expires.Add(-tick)} {
			_, err := b.Store.Sweep(b.ctx, at, noon, 100)
			b.must(err)
			again := b.admission("bob", noon)
			again.Captcha = a.Captcha
			b.is(b.Create(b.ctx, again, at), account.ErrCaptcha)
		}
		last := noon.Add(time.Hour - tick)
		_, err := b.Store.Sweep(b.ctx, last, noon, 100)
		b.must(err)
		again := b.admission("bob", noon)
		again.Address = []throttle.Allowance{place(a.Address[0].Bucket, 1)}
		b.limited(b.Create(b.ctx, again, last), account.AddressLimit, time.Second)
	}},
	{"counts what it removes", func(b *bench) {
		b.join("ann", noon) // one captcha, one place of the address, one of the recipient
		id := fresh()
		b.must(b.Revoke(b.ctx, b.tenant, id, noon.Add(time.Hour)))
		late := noon.Add(2 * week)
		got, err := b.Store.Sweep(b.ctx, late, late, 100)
		b.must(err)
		if got != (account.Swept{Accounts: 1, Others: 4}) {
			b.Errorf("got %+v", got)
		}
		revoked, err := b.Revoked(b.ctx, b.tenant, id, noon.Add(time.Hour))
		b.must(err)
		if revoked {
			b.Error("the revoked session was not removed")
		}
		got, err = b.Store.Sweep(b.ctx, late, late, 100)
		b.must(err)
		if got != (account.Swept{}) {
			b.Errorf("the second time %+v", got)
		}
	}},
	{"removes no more of each kind than the limit, and says that there is more", func(b *bench) {
		for i := range 5 {
			b.join(fmt.Sprint("ann", i), noon)
		}
		late := noon.Add(2 * week)
		var accounts, others int64
		for rounds := 1; ; rounds++ {
			got, err := b.Store.Sweep(b.ctx, late, late, 2)
			b.must(err)
			if got.Accounts > 2 || got.Others > 4 {
				b.Fatalf("got %+v in one round of 2", got)
			}
			accounts, others = accounts+got.Accounts, others+got.Others
			if !got.More {
				break
			}
			if rounds > 20 {
				b.Fatal("there is more and more")
			}
		}
		if accounts != 5 || others != 15 {
			b.Errorf("%d accounts and %d others went", accounts, others)
		}
	}},
	{"takes those first that expired first", func(b *bench) {
		for i, user := range []string{"cid", "ann", "bob"} {
			b.join(user, noon.Add(time.Duration(i)*time.Second))
		}
		_, err := b.Store.Sweep(b.ctx, noon, noon.Add(2*week), 2)
		b.must(err)
		b.equal(b.listed(noon), []string{"bob"})
	}},
}
