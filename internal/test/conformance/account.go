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

var activateTests = []testCase{
	{"works once", func(t *test) {
		a := t.addPending("ann", noon)
		at := noon.Add(time.Minute + 7*tick)
		got, err := t.Activate(t.ctx, t.tenant, a.Token, at)
		t.must(err)
		want := a.Account
		want.Disabled, want.Activated = false, at
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", at), want)
		got, err = t.Activate(t.ctx, t.tenant, a.Token, at.Add(time.Second))
		t.wantErr(err, account.ErrActive)
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", at), want)
	}},
	{"fails for an unknown token", func(t *test) {
		t.addPending("ann", noon)
		for _, token := range [][32]byte{{}, {1}, t.signup("bob", noon).Token} {
			got, err := t.Activate(t.ctx, t.tenant, token, noon)
			t.wantKind(err, fault.NotFound)
			if errors.Is(err, account.ErrExpired) || got.User != "" {
				t.Errorf("got %v and %+v", err, got)
			}
		}
	}},
	{"succeeds for one of 50 concurrent calls", func(t *test) {
		a := t.addPending("ann", noon)
		got := t.concurrently(50, func(int) error {
			_, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
			if err != nil && !errors.Is(err, account.ErrActive) {
				return fault.New(fault.Internal, "%v instead of ErrActive", err)
			}
			return err
		})
		if got[succeeded] != 1 || got[fault.Conflict] != 49 {
			t.Errorf("got %v, want one success and 49 times ErrActive", got)
		}
	}},
	{"works until the last microsecond of the week", func(t *test) {
		a := t.addPending("ann", noon)
		got, err := t.Activate(t.ctx, t.tenant, a.Token, noon.Add(week-tick))
		t.must(err)
		if got.Disabled {
			t.Error("the account is still disabled")
		}
		t.find("ann", noon.Add(10*week))
	}},
	{"fails after the week", func(t *test) {
		a := t.addPending("ann", noon)
		for _, late := range []time.Duration{week, week + tick, 10 * week} {
			got, err := t.Activate(t.ctx, t.tenant, a.Token, noon.Add(late))
			t.wantErr(err, account.ErrExpired)
			t.wantAccount(got, a.Account)
		}
	}},
	{"returns ErrActive, not ErrExpired, for a link that was opened in time", func(t *test) {
		a := t.addActive("ann", noon)
		_, err := t.Activate(t.ctx, t.tenant, a.Token, noon.Add(2*week))
		t.wantErr(err, account.ErrActive)
	}},
	{"does not enable a disabled pending account", func(t *test) {
		a := t.addPending("ann", noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		got, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
		t.wantErr(err, account.ErrHeld)
		if !got.Held || !got.Disabled || got.User != "ann" {
			t.Errorf("got %+v", got)
		}
		if got := t.find("ann", noon); !got.Held || !got.Disabled || !got.Pending() {
			t.Errorf("got %+v", got)
		}
	}},
	{"does not undo a hold of an active account", func(t *test) {
		a := t.addActive("ann", noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		_, err = t.Activate(t.ctx, t.tenant, a.Token, noon)
		t.wantErr(err, account.ErrHeld)
		if got := t.find("ann", noon); !got.Held || !got.Disabled {
			t.Errorf("got %+v", got)
		}
	}},
	{"fails for the token of a deleted account", func(t *test) {
		pending, member := t.addPending("ann", noon), t.addActive("bob", noon)
		for _, a := range []account.Signup{pending, member} {
			t.must(t.Delete(t.ctx, t.tenant, a.Account.User, noon))
			_, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
			t.wantKind(err, fault.NotFound)
		}
	}},
	{"either activates an account or frees its name at the time of expiry", func(t *test) {
		for i := range 20 {
			user := fmt.Sprint("ann", i)
			a := t.addPending(user, noon)
			next := t.signup(user, noon.Add(week))
			var activated, taken error
			t.concurrently(2, func(i int) error {
				if i == 0 {
					_, activated = t.Activate(t.ctx, t.tenant, a.Token, noon.Add(week-tick))
					return nil
				}
				taken = t.Create(t.ctx, next, noon.Add(week))
				return nil
			})
			if (activated == nil) == (taken == nil) {
				t.Fatalf("Activate: %v; Create: %v", activated, taken)
			}
		}
	}},
}

var expiryTests = []testCase{
	{"hides an account from every call at the end of the week", func(t *test) {
		a := t.addPending("ann", noon)
		last, over := noon.Add(week-tick), noon.Add(week)
		t.find("ann", last)
		_, err := t.FindUID(t.ctx, t.tenant, a.Account.UID, last)
		t.must(err)
		t.wantEqual(t.listedUsers(last), []string{"ann"})

		t.wantNoAccount("ann", over)
		_, err = t.FindUID(t.ctx, t.tenant, a.Account.UID, over)
		t.wantKind(err, fault.NotFound)
		t.wantEqual(t.listedUsers(over), nil)
		_, err = t.EnableNow(t.ctx, t.tenant, "ann", over)
		t.wantKind(err, fault.NotFound)
		_, err = t.Disable(t.ctx, t.tenant, "ann", over)
		t.wantKind(err, fault.NotFound)
		_, err = t.SetRole(t.ctx, t.tenant, "ann", account.Admin, over)
		t.wantKind(err, fault.NotFound)
		t.wantKind(t.Delete(t.ctx, t.tenant, "ann", over), fault.NotFound)
	}},
	{"frees the name at the end of the week, and not before", func(t *test) {
		t.addPending("ann", noon)
		a := t.signup("ann", noon.Add(week))
		t.wantErr(t.Create(t.ctx, a, noon.Add(week-tick)), account.ErrTaken)
		a.Captcha = captchaProof()
		t.must(t.Create(t.ctx, a, noon.Add(week)))
		t.wantAccount(t.find("ann", noon.Add(week)), a.Account)
	}},
	{"ends the old link when the name is taken again", func(t *test) {
		old := t.addPending("ann", noon)
		over := noon.Add(week)
		next := t.addPending("ann", over)
		for _, at := range []time.Time{noon, over} {
			_, err := t.Activate(t.ctx, t.tenant, old.Token, at)
			t.wantKind(err, fault.NotFound)
		}
		if got := t.find("ann", over); !got.Disabled || got.UID != next.Account.UID {
			t.Errorf("got %+v", got)
		}
		_, err := t.Activate(t.ctx, t.tenant, next.Token, over)
		t.must(err)
	}},
	{"removes the message of the old account when the name is taken again", func(t *test) {
		t.addPending("ann", noon)
		next := t.addPending("ann", noon.Add(week))
		list, err := t.Pending(t.ctx)
		t.must(err)
		if len(list) != 1 || list[0].Message != next.Message {
			t.Errorf("got %+v", list)
		}
	}},
	{"frees the name of a disabled pending account too", func(t *test) {
		t.addPending("ann", noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.addPending("ann", noon.Add(week))
		if t.find("ann", noon.Add(week)).Held {
			t.Error("the next account is held")
		}
	}},
	{"does not apply to an active account", func(t *test) {
		t.addActive("ann", noon)
		late := noon.Add(1000 * week)
		t.find("ann", late)
		t.wantErr(t.Create(t.ctx, t.signup("ann", late), late), account.ErrTaken)
	}},
}

var operatorTests = []testCase{
	{"EnableNow activates a pending account", func(t *test) {
		a := t.addPending("ann", noon)
		got, err := t.EnableNow(t.ctx, t.tenant, "ann", noon.Add(time.Hour))
		t.must(err)
		want := a.Account
		want.Disabled, want.Activated = false, noon.Add(time.Hour)
		want.Set = account.SetState{State: account.Active, At: noon.Add(time.Hour), By: "system"}
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", noon.Add(2*week)), want)
		_, err = t.Activate(t.ctx, t.tenant, a.Token, noon.Add(time.Hour))
		t.wantErr(err, account.ErrActive)
	}},
	{"Enable ends a hold and keeps the time of activation", func(t *test) {
		t.addActive("ann", noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		got, err := t.Enable(t.ctx, t.tenant, "ann", noon.Add(time.Hour))
		t.must(err)
		if got.Held || got.Disabled || !got.Activated.Equal(noon) {
			t.Errorf("got %+v", got)
		}
	}},
	{"Disable holds the account and raises its epoch each time", func(t *test) {
		t.addActive("ann", noon)
		for i := range 3 {
			got, err := t.Disable(t.ctx, t.tenant, "ann", noon)
			t.must(err)
			if !got.Held || !got.Disabled || got.Epoch != int64(i+1) {
				t.Fatalf("call %d: got %+v", i+1, got)
			}
			t.wantAccount(t.find("ann", noon), got)
		}
	}},
	{"Enable keeps the epoch", func(t *test) {
		t.addActive("ann", noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		got, err := t.Enable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		if got.Epoch != 1 {
			t.Errorf("the epoch is %d", got.Epoch)
		}
	}},
	{"SetRole changes only the role", func(t *test) {
		a := t.addPending("ann", noon)
		for _, role := range account.Roles {
			want := a.Account
			want.Role = role
			got, err := t.SetRole(t.ctx, t.tenant, "ann", role, noon)
			t.must(err)
			t.wantAccount(got, want)
			t.wantAccount(t.find("ann", noon), want)
		}
	}},
	{"every call fails for an unknown user", func(t *test) {
		t.wantNoChanges("ann")
	}},
	{"20 concurrent calls of Disable raise the epoch by 20", func(t *test) {
		t.addActive("ann", noon)
		t.concurrently(20, func(int) error {
			_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
			return err
		})
		if got := t.find("ann", noon).Epoch; got != 20 {
			t.Errorf("the epoch is %d", got)
		}
	}},
	{"Delete frees the name of a pending account", func(t *test) {
		t.addPending("ann", noon)
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		t.wantNoAccount("ann", noon)
		t.wantEqual(t.pendingUsers(), nil)
		next := t.addPending("ann", noon)
		t.wantAccount(t.find("ann", noon), next.Account)
	}},
	{"Delete removes an active account and keeps its name", func(t *test) {
		a := t.addActive("ann", noon)
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		t.wantNoAccount("ann", noon)
		_, err := t.FindUID(t.ctx, t.tenant, a.Account.UID, noon)
		t.wantKind(err, fault.NotFound)
		t.wantEqual(t.listedUsers(noon), nil)
		t.wantEqual(t.pendingUsers(), nil)
		for _, at := range []time.Time{noon, noon.Add(1000 * week)} {
			t.wantErr(t.Create(t.ctx, t.signup("ann", at), at), account.ErrTaken)
		}
		t.wantKind(t.Delete(t.ctx, t.tenant, "ann", noon), fault.NotFound)
		_, err = t.EnableNow(t.ctx, t.tenant, "ann", noon)
		t.wantKind(err, fault.NotFound)
	}},
}

// listedUsers returns the users of List.
func (t *test) listedUsers(at time.Time) (users []string) {
	t.Helper()
	t.must(t.List(t.ctx, t.tenant, at, func(a account.Account) error {
		users = append(users, a.User)
		return nil
	}))
	return users
}

var lookupTests = []testCase{
	{"Find and FindUID return the same account", func(t *test) {
		a := t.addActive("ann", noon)
		got, err := t.FindUID(t.ctx, t.tenant, a.Account.UID, noon)
		t.must(err)
		t.wantAccount(got, t.find("ann", noon))
	}},
	{"user names are compared byte by byte", func(t *test) {
		t.addPending("ann", noon)
		for _, user := range []string{"Ann", "ann ", "an", "", "ann\x00", "a%", "ａnn"} {
			t.wantNoAccount(user, noon)
		}
	}},
	{"List is ordered by the bytes of the user name", func(t *test) {
		users := []string{"ann", "bob", "a.b", "a-b", "a_b", "1", "10", "9", "z", "ab"}
		for _, user := range users {
			t.addPending(user, noon)
		}
		slices.Sort(users)
		t.wantEqual(t.listedUsers(noon), users)
	}},
	{"List stops at an error of the caller and returns it", func(t *test) {
		for _, user := range []string{"ann", "bob", "cid"} {
			t.addPending(user, noon)
		}
		stop := errors.New("stop")
		var seen []string
		err := t.List(t.ctx, t.tenant, noon, func(a account.Account) error {
			if seen = append(seen, a.User); len(seen) == 2 {
				return stop
			}
			return nil
		})
		t.wantErr(err, stop)
		t.wantEqual(seen, []string{"ann", "bob"})
		t.wantEqual(t.listedUsers(noon), []string{"ann", "bob", "cid"})
	}},
	{"accounts can be changed during List", func(t *test) {
		for _, user := range []string{"ann", "bob"} {
			t.addActive(user, noon)
		}
		t.must(t.List(t.ctx, t.tenant, noon, func(a account.Account) error {
			_, err := t.Disable(t.ctx, t.tenant, a.User, noon)
			return err
		}))
		if !t.find("ann", noon).Held || !t.find("bob", noon).Held {
			t.Error("an account is not held")
		}
	}},
	{"a look-up fails if its context is cancelled", func(t *test) {
		t.addPending("ann", noon)
		ctx, cancel := context.WithCancel(t.ctx)
		cancel()
		if _, err := t.Find(ctx, t.tenant, "ann", noon); err == nil || fault.Is(err, fault.NotFound) {
			t.Errorf("got %v", err)
		}
		t.find("ann", noon)
	}},
}

var outboxTests = []testCase{
	{"keeps a message until it is acknowledged", func(t *test) {
		a := t.addPending("ann", noon)
		list, err := t.Pending(t.ctx)
		t.must(err)
		if len(list) != 1 || list[0].Message != a.Message || string(list[0].SealedToken) != string(a.SealedToken) {
			t.Fatalf("got %+v", list)
		}
		e, want := list[0], a.Account
		if e.Tenant != want.Tenant || e.Account != want.UID || e.User != want.User || e.Email != want.Email ||
			e.Lang != want.Lang || !e.Made.Equal(want.Created) || !e.Expires.Equal(want.Expires) {
			t.Fatalf("got %+v for %+v", e, want)
		}
		t.ack([]outbox.Ref{ref(a)})
		t.wantEqual(t.pendingUsers(), nil)
		t.wantAccount(t.find("ann", noon), a.Account)
	}},
	{"keeps the message of an active account too", func(t *test) {
		t.addActive("ann", noon)
		t.wantEqual(t.pendingUsers(), []string{"ann"})
	}},
	{"is ordered by age, oldest first", func(t *test) {
		users := []string{"zoe", "ann", "mia", "bob"}
		for i, user := range users {
			t.addPending(user, noon.Add(time.Duration(i)*time.Millisecond))
		}
		t.wantEqual(t.pendingUsers(), users)
	}},
	{"removes only the acknowledged messages, and Ack is idempotent", func(t *test) {
		ann, bob := t.addPending("ann", noon), t.addPending("bob", noon)
		sent := []outbox.Ref{
			ref(ann),
			{Account: bob.Account.UID, Message: ann.Message}, // not bob's message
			{Account: account.UID(newID()), Message: bob.Message},
		}
		for range 2 {
			t.ack(sent)
			t.wantEqual(t.pendingUsers(), []string{"bob"})
		}
		t.ack(nil)
	}},
	{"accepts hundreds of messages in one Ack", func(t *test) {
		sent := t.addMany(300)
		t.ack(sent[1:])
		list, err := t.Pending(t.ctx)
		t.must(err)
		if len(list) != 1 || list[0].Message != sent[0].Message {
			t.Errorf("%d messages are left", len(list))
		}
	}},
}

var sweepTests = []testCase{
	{"removes the accounts that expired by the given time, and no others", func(t *test) {
		t.addPending("early", noon)
		t.addPending("late", noon.Add(tick))
		t.addActive("active", noon)
		t.addActive("closed", noon)
		t.must(t.Delete(t.ctx, t.tenant, "closed", noon))
		expired := noon.Add(week)
		got, err := t.Sweep(t.ctx, noon, expired, 100)
		t.must(err)
		if got.Accounts != 1 || got.More {
			t.Errorf("got %+v", got)
		}
		t.wantEqual(t.listedUsers(noon), []string{"active", "late"})
		t.wantErr(t.Create(t.ctx, t.signup("closed", noon), noon), account.ErrTaken)
		t.addPending("early", noon)
	}},
	{"keeps an expired account until the given time", func(t *test) {
		a := t.addPending("ann", noon)
		at := noon.Add(week)
		_, err := t.Sweep(t.ctx, at, at.Add(-tick), 100)
		t.must(err)
		_, err = t.Activate(t.ctx, t.tenant, a.Token, at)
		t.wantErr(err, account.ErrExpired)
		_, err = t.Sweep(t.ctx, at, at, 100)
		t.must(err)
		_, err = t.Activate(t.ctx, t.tenant, a.Token, at)
		t.wantKind(err, fault.NotFound)
		if errors.Is(err, account.ErrExpired) {
			t.Error("got ErrExpired for the link of a removed account")
		}
	}},
	{"removes the messages of removed accounts", func(t *test) {
		t.addPending("ann", noon)
		_, err := t.Sweep(t.ctx, noon, noon.Add(week), 100)
		t.must(err)
		t.wantEqual(t.pendingUsers(), nil)
	}},
	{"keeps spent captchas until they expire, and signups while limits count them", func(t *test) {
		a := t.addPending("ann", noon)
		for _, at := range []time.Time{noon, a.Captcha.Expires.Add(-tick)} {
			_, err := t.Sweep(t.ctx, at, noon, 100)
			t.must(err)
			again := t.signup("bob", noon)
			again.Captcha = a.Captcha
			t.wantErr(t.Create(t.ctx, again, at), account.ErrCaptcha)
		}
		last := noon.Add(time.Hour - tick)
		_, err := t.Sweep(t.ctx, last, noon, 100)
		t.must(err)
		again := t.signup("bob", noon)
		again.Address = []throttle.Allowance{allowance(a.Address[0].Bucket, 1)}
		t.wantLimited(t.Create(t.ctx, again, last), account.AddressLimit, time.Second)
	}},
	{"counts what it removes", func(t *test) {
		t.addPending("ann", noon) // one captcha, and one allowance each of the address and the recipient
		id := newID()
		_, err := t.Spend(t.ctx, t.tenant, id, noon.Add(time.Hour))
		t.must(err)
		late := noon.Add(2 * week)
		got, err := t.Sweep(t.ctx, late, late, 100)
		t.must(err)
		if got != (account.Swept{Accounts: 1, Others: 4}) {
			t.Errorf("got %+v", got)
		}
		spent, _, err := t.Revoked(t.ctx, account.UID{}, id, noon.Add(time.Hour))
		t.must(err)
		if spent {
			t.Error("the spent ID was not removed")
		}
		got, err = t.Sweep(t.ctx, late, late, 100)
		t.must(err)
		if got != (account.Swept{}) {
			t.Errorf("the second sweep removed %+v", got)
		}
	}},
	{"removes at most the limit of each kind, and reports that there is more", func(t *test) {
		for i := range 5 {
			t.addPending(fmt.Sprint("ann", i), noon)
		}
		late := noon.Add(2 * week)
		var accounts, others int64
		for rounds := 1; ; rounds++ {
			got, err := t.Sweep(t.ctx, late, late, 2)
			t.must(err)
			if got.Accounts > 2 || got.Others > 4 {
				t.Fatalf("got %+v in one round of 2", got)
			}
			accounts, others = accounts+got.Accounts, others+got.Others
			if !got.More {
				break
			}
			if rounds > 20 {
				t.Fatal("the sweep does not end")
			}
		}
		if accounts != 5 || others != 15 {
			t.Errorf("removed %d accounts and %d others, want 5 and 15", accounts, others)
		}
	}},
	{"removes expired places of a large store in several sweeps, and no others", func(t *test) {
		const n = 60
		for i := range n {
			t.addPending(fmt.Sprint("ann", i), noon) // a place for an hour, and one for a day
		}
		var others int64
		sweep := func(at time.Time, limit int) {
			for range n {
				for more := true; more; {
					got, err := t.Sweep(t.ctx, at, noon, limit)
					t.must(err)
					others, more = others+got.Others, got.More
				}
			}
		}
		sweep(noon.Add(time.Hour), 2)
		if others != 2*n { // with the captchas
			t.Errorf("removed %d rows after an hour, want %d", others, 2*n)
		}
		sweep(noon.Add(throttle.Longest), n)
		if others != 3*n {
			t.Errorf("removed %d rows after a day, want %d", others, 3*n)
		}
	}},
	{"removes in the order of expiry", func(t *test) {
		for i, user := range []string{"cid", "ann", "bob"} {
			t.addPending(user, noon.Add(time.Duration(i)*time.Second))
		}
		_, err := t.Sweep(t.ctx, noon, noon.Add(2*week), 2)
		t.must(err)
		t.wantEqual(t.listedUsers(noon), []string{"bob"})
	}},
}
