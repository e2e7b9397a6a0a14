package conformance

import (
	"fmt"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/throttle"
)

// departure returns the Departure of an account's owner, given the account's current state.
func departure(a account.Account, at time.Time) account.Departure {
	n := notice(mailmsg.Leaving, at)
	n.Until = at.Add(account.Grace)
	return account.Departure{Account: a, Notice: n}
}

// leave makes the owner of an account leave.
func (t *test) leave(user string, at time.Time) account.Departure {
	t.Helper()
	d := departure(t.find(user, at), at)
	_, err := t.Leave(t.ctx, d, at)
	t.must(err)
	return d
}

// overdue returns the users of the accounts that must be erased by a time.
func (t *test) overdue(by time.Time) (users []string) {
	t.Helper()
	list, err := t.Overdue(t.ctx, by, 10)
	t.must(err)
	for _, a := range list {
		users = append(users, a.User)
	}
	return users
}

// changedPassword changes the password of an account, with a message that has a link for a week.
func (t *test) changedPassword(user string, at time.Time) account.PasswordChange {
	t.Helper()
	c := newPassword(t.find(user, at), "changed "+fmt.Sprint(at.UnixMicro()), at)
	c.Until = at.Add(week)
	_, err := t.SetPassword(t.ctx, c, at)
	t.must(err)
	return c
}

var leaveTests = []testCase{
	{"holds the account, and returns it when its owner stays", func(t *test) {
		t.addActive("ann", noon)
		before := t.find("ann", noon)
		at := noon.Add(time.Hour + tick)
		d := departure(before, at)
		got, err := t.Leave(audit.With(t.ctx, audit.Cause{Actor: audit.Actor{Kind: audit.Person}}), d, at)
		t.must(err)
		want := before
		want.Held, want.Disabled, want.Leaving, want.Epoch = true, true, d.Until, before.Epoch+1
		want.Set = account.SetState{State: account.Leaving, At: at, By: "person"}
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", at), want)
		t.wantAccountState(got, account.Leaving, at, "person", "")

		back := at.Add(time.Minute)
		got, err = t.Stay(t.ctx, t.tenant, d.Token, back)
		t.must(err)
		want = before
		want.Epoch++
		want.Set = account.SetState{State: account.Active, At: back, By: "system"}
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", back), want)
		_, err = t.Stay(t.ctx, t.tenant, d.Token, back)
		t.wantErr(err, account.ErrLinkUsed)
		t.wantEqual(t.overdue(noon.Add(2*week)), nil)
	}},
	{"adds its message, notifies phone servers once, and adds to the trail", func(t *test) {
		a := t.addActive("ann", noon)
		t.ack([]outbox.Ref{ref(a)})
		h := t.addHook("all")
		var d account.Departure
		got := t.newChanges(func() {
			d = t.leave("ann", noon)
			_, err := t.Stay(t.ctx, t.tenant, d.Token, noon)
			t.must(err)
		})
		t.wantEqual(got, []string{
			"account.leave phone.test ann active>leaving", "account.stay phone.test ann leaving>active",
		})
		list, err := t.Pending(t.ctx)
		t.must(err)
		if len(list) != 1 || list[0].Message != d.Message || list[0].Kind != mailmsg.Leaving ||
			list[0].Email != a.Account.Email || !list[0].Expires.Equal(d.Until) {
			t.Errorf("got %+v", list)
		}
		notices := t.claim(h, noon, 10)
		if len(notices) != 1 || notices[0].Type != hook.AccountDisabled || notices[0].User != "ann" {
			t.Errorf("got %+v", notices)
		}
	}},
	{"ends the link for another address, and no others", func(t *test) {
		t.addActive("ann", noon)
		changed := t.changedPassword("ann", noon)
		kept := unsent(noon)
		_, err := t.AddResetLink(t.ctx, t.newResetLink("ann", kept), noon)
		t.must(err)
		reset, other := t.resetLink("ann", noon), t.emailLink("ann", "other@mail.test", noon)
		d := t.leave("ann", noon.Add(time.Minute))
		t.wantResetLink(reset.Token, noon.Add(time.Minute), "ann")
		t.wantResetLink(kept.Token, noon.Add(time.Minute), "ann")
		_, err = t.Stay(t.ctx, t.tenant, d.Token, noon.Add(2*time.Minute))
		t.must(err)
		t.wantResetLink(reset.Token, noon.Add(2*time.Minute), "ann")
		t.wantResetLink(kept.Token, noon.Add(2*time.Minute), "ann")
		t.wantEmailLink(other.Token, noon, "", "")
		_, err = t.NotMe(t.ctx, t.tenant, changed.Token, notice(mailmsg.Reset, noon), noon.Add(2*time.Minute))
		t.must(err)
	}},
	{"is undone by the link for a change that the owner did not make", func(t *test) {
		t.addActive("ann", noon)
		changed := t.changedPassword("ann", noon)
		d := t.leave("ann", noon.Add(time.Minute))
		next := notice(mailmsg.Reset, noon.Add(2*time.Minute))
		epoch := t.find("ann", noon).Epoch
		var got account.Account
		changes := t.newChanges(func() {
			var err error
			got, err = t.NotMe(t.ctx, t.tenant, changed.Token, next, noon.Add(2*time.Minute))
			t.must(err)
		})
		t.wantEqual(changes, []string{"password.not-me phone.test ann sessions leaving>active"})
		if got.State() != account.Active || got.Disabled || !got.Leaving.IsZero() || got.Epoch != epoch+1 {
			t.Errorf("got %+v", got)
		}
		t.wantResetLink(next.Token, noon.Add(2*time.Minute), "ann")
		_, err := t.Stay(t.ctx, t.tenant, d.Token, noon.Add(3*time.Minute))
		t.wantErr(err, account.ErrLinkUsed)
		t.wantEqual(t.overdue(noon.Add(2*week)), nil)
	}},
	{"is undone by a reset of the password, whose message says so", func(t *test) {
		t.addActive("ann", noon)
		for _, mailed := range []bool{true, false} {
			d := t.leave("ann", noon.Add(time.Minute))
			left, n := t.find("ann", noon), unsent(noon)
			if mailed {
				n = notice(mailmsg.Reset, noon)
			}
			_, err := t.AddResetLink(t.ctx, t.newResetLink("ann", n), noon.Add(2*time.Minute))
			t.must(err)
			t.wantResetLink(n.Token, noon.Add(2*time.Minute), "ann")
			c := newPassword(left, fmt.Sprint("new ", mailed), noon.Add(3*time.Minute))
			_, err = t.SetPassword(t.ctx, c, noon.Add(3*time.Minute))
			t.wantErr(err, account.ErrHeld)
			c.Link = &n.Token
			changes := t.newChanges(func() {
				got, err := t.SetPassword(t.ctx, c, noon.Add(3*time.Minute))
				t.must(err)
				want := left
				want.Held, want.Disabled, want.Leaving = false, false, time.Time{}
				want.Sealed, want.HasSHA256 = c.Account.Sealed, true
				want.Passwords, want.Epoch = left.Passwords+1, left.Epoch+1
				want.Set = account.SetState{State: account.Active, At: noon.Add(3 * time.Minute), By: "system"}
				if mailed {
					want.Confirmed = noon.Add(3 * time.Minute)
				} else {
					want.Confirmed = got.Confirmed
				}
				t.wantAccount(got, want)
				t.wantAccount(t.find("ann", noon), want)
			})
			t.wantEqual(changes, []string{
				"account.stay phone.test ann leaving>active", "password.reset phone.test ann",
			})
			list, err := t.Pending(t.ctx)
			t.must(err)
			i := slices.IndexFunc(list, func(e outbox.Entry) bool { return e.Message == c.Message })
			if i < 0 || list[i].Detail != mailmsg.Stays {
				t.Errorf("got %+v", list)
			}
			_, err = t.Stay(t.ctx, t.tenant, d.Token, noon.Add(3*time.Minute))
			t.wantErr(err, account.ErrLinkUsed)
			t.wantEqual(t.overdue(noon.Add(2*week)), nil)
		}
	}},
	{"is not undone by a reset link after an operator has disabled the account", func(t *test) {
		t.addActive("ann", noon)
		t.leave("ann", noon)
		reset := t.resetLink("ann", noon)
		a := t.find("ann", noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantResetLink(reset.Token, noon)
		c := newPassword(a, "new", noon)
		c.Link = &reset.Token
		_, err = t.SetPassword(t.ctx, c, noon)
		t.wantErr(err, account.ErrHeld)
		_, err = t.AddResetLink(t.ctx, t.newResetLink("ann", unsent(noon)), noon)
		t.wantErr(err, account.ErrHeld)
		if got := t.find("ann", noon); got.State() != account.Disabled {
			t.Errorf("got %+v", got)
		}
	}},
	{"is limited", func(t *test) {
		t.addActive("ann", noon)
		bucket := newBucket()
		leave := func(at time.Time) (account.Departure, error) {
			d := departure(t.find("ann", noon), at)
			d.Allowances = []throttle.Allowance{allowance(bucket, 2)}
			_, err := t.Leave(t.ctx, d, at)
			return d, err
		}
		for i := range 2 {
			at := noon.Add(time.Duration(i) * time.Minute)
			d, err := leave(at)
			t.must(err)
			_, err = t.Stay(t.ctx, t.tenant, d.Token, at)
			t.must(err)
		}
		_, err := leave(noon.Add(2 * time.Minute))
		t.wantLimited(err, func(wait time.Duration) error {
			return account.LeaveRefusal(throttle.Wait{For: wait})
		}, 58*time.Minute)
		if got := t.find("ann", noon); got.State() != account.Active {
			t.Errorf("got %+v", got)
		}
		_, err = leave(noon.Add(time.Hour))
		t.must(err)
	}},
	{"is refused for other accounts and states", func(t *test) {
		a := t.addPending("ann", noon)
		_, err := t.Leave(t.ctx, departure(a.Account, noon), noon)
		t.wantKind(err, fault.NotFound)
		t.addActive("bob", noon)
		bob := t.find("bob", noon)
		other := bob
		other.UID = account.UID(newID())
		_, err = t.Leave(t.ctx, departure(other, noon), noon)
		t.wantKind(err, fault.NotFound)
		other = bob
		other.Tenant = t.addTenant("b.test")
		_, err = t.Leave(t.ctx, departure(other, noon), noon)
		t.wantKind(err, fault.NotFound)
		t.changedPassword("bob", noon)
		_, err = t.Leave(t.ctx, departure(bob, noon), noon)
		t.wantErr(err, account.ErrPasswordChanged)
		t.leave("bob", noon)
		_, err = t.Leave(t.ctx, departure(t.find("bob", noon), noon), noon)
		t.wantErr(err, account.ErrHeld)
		t.addActive("cid", noon)
		_, err = t.Disable(t.ctx, t.tenant, "cid", noon)
		t.must(err)
		_, err = t.Leave(t.ctx, departure(t.find("cid", noon), noon), noon)
		t.wantErr(err, account.ErrHeld)
	}},
	{"has a link that works until the end, for one tenant and account", func(t *test) {
		t.addActive("ann", noon)
		d := t.leave("ann", noon)
		other := t.addTenant("b.test")
		for _, c := range []struct {
			tenant int64
			token  [32]byte
			at     time.Time
		}{
			{other, d.Token, noon}, {t.tenant, newToken(), noon}, {t.tenant, d.Token, d.Until},
			{t.tenant, t.changedPasswordOf("bob").Token, noon},
		} {
			_, err := t.Stay(t.ctx, c.tenant, c.token, c.at)
			t.wantErr(err, account.ErrLinkUsed)
		}
		_, err := t.Stay(t.ctx, t.tenant, d.Token, d.Until.Add(-tick))
		t.must(err)
	}},
	{"remains in effect when an operator disables the account, and ends when one enables it", func(t *test) {
		t.addActive("ann", noon)
		d := t.leave("ann", noon)
		at := noon.Add(time.Hour)
		got, err := t.Disable(t.as("fraud"), t.tenant, "ann", at)
		t.must(err)
		t.wantAccountState(got, account.Disabled, at, operator.String(), "fraud")
		_, err = t.Stay(t.ctx, t.tenant, d.Token, at)
		t.wantErr(err, account.ErrLinkUsed)
		t.wantEqual(t.overdue(d.Until), []string{"ann"})
		for _, enable := range []func() (account.Account, error){
			func() (account.Account, error) { return t.Enable(t.ctx, t.tenant, "ann", at) },
			func() (account.Account, error) { return t.EnableNow(t.ctx, t.tenant, "ann", at) },
		} {
			got, err = enable()
			t.must(err)
			t.wantAccountState(got, account.Active, at, "system", "")
			t.wantEqual(t.overdue(d.Until.Add(week)), nil)
			// Another disable does not bring back the time of the erasure.
			_, err = t.Disable(t.ctx, t.tenant, "ann", at)
			t.must(err)
			t.wantEqual(t.overdue(d.Until.Add(week)), nil)
			_, err = t.Enable(t.ctx, t.tenant, "ann", at)
			t.must(err)
			d = t.leave("ann", at)
		}
		// Without a reason, too.
		got, err = t.Disable(t.ctx, t.tenant, "ann", at)
		t.must(err)
		t.wantAccountState(got, account.Disabled, at, "system", "")
	}},
	{"is a state to select accounts by", func(t *test) {
		for _, user := range []string{"ann", "bob", "cid"} {
			t.addActive(user, noon)
		}
		t.leave("ann", noon)
		t.leave("bob", noon)
		_, err := t.Disable(t.ctx, t.tenant, "bob", noon)
		t.must(err)
		for state, want := range map[account.State]string{
			account.Leaving: "ann", account.Disabled: "bob", account.Active: "cid",
		} {
			got := accountUsers(t.pages(account.Query{States: []account.State{state}}, 10, noon))
			t.wantEqual(got, []string{want})
		}
	}},
	{"ends with the account erased as by Delete", func(t *test) {
		for _, user := range []string{"ann", "bob", "cid", "dan"} {
			t.addActive(user, noon)
		}
		h := t.addHook("all")
		first := t.leave("ann", noon)
		t.leave("bob", noon.Add(time.Hour))
		t.leave("cid", noon.Add(2*time.Hour))
		_, err := t.Disable(t.ctx, t.tenant, "bob", noon.Add(3*time.Hour))
		t.must(err)
		t.claim(h, noon.Add(3*time.Hour), 10)
		t.wantEqual(t.overdue(first.Until.Add(-tick)), nil)
		t.wantEqual(t.overdue(first.Until.Add(time.Hour)), []string{"ann", "bob"})
		t.wantEqual(t.overdue(first.Until.Add(week)), []string{"ann", "bob", "cid"})
		by := first.Until.Add(time.Hour)
		now := by.Add(24 * time.Hour)
		list, err := t.Overdue(t.ctx, by, 10)
		t.must(err)
		changes := t.newChanges(func() {
			for _, a := range append(list, t.find("cid", noon), t.find("dan", noon)) {
				erased, err := t.EraseOverdue(t.ctx, a, by, now)
				t.must(err)
				if want := slices.Contains([]string{"ann", "bob"}, a.User); erased != want {
					t.Errorf("%s: erased is %t", a.User, erased)
				}
			}
		})
		t.wantEqual(changes, []string{
			"account.delete phone.test ann leaving>closed", "account.delete phone.test bob disabled>closed",
		})
		for _, c := range t.changes(audit.Filter{User: "ann"}) {
			if c.Action == audit.AccountDelete && c.Actor.Kind != audit.System {
				t.Errorf("got %+v", c)
			}
		}
		_, err = t.Find(t.ctx, t.tenant, "ann", now)
		t.wantKind(err, fault.NotFound)
		_, err = t.Stay(t.ctx, t.tenant, first.Token, noon)
		t.wantErr(err, account.ErrLinkUsed)
		t.wantErr(t.Create(t.ctx, t.signup("ann", now), now), account.ErrTaken)
		var deleted []string
		for _, n := range t.claim(h, now, 10) {
			if n.Type == hook.AccountDeleted {
				deleted = append(deleted, n.User)
			}
		}
		slices.Sort(deleted)
		t.wantEqual(deleted, []string{"ann", "bob"})
	}},
	{"erases once despite concurrent calls, and not if the owner stays", func(t *test) {
		for i := range 5 {
			user := fmt.Sprint("ann", i)
			t.addActive(user, noon)
			d := t.leave(user, noon)
			list, err := t.Overdue(t.ctx, d.Until, 10)
			t.must(err)
			var erased [8]bool
			var stayed error
			t.concurrently(9, func(i int) (err error) {
				if i == 8 {
					_, stayed = t.Stay(t.ctx, t.tenant, d.Token, noon.Add(time.Hour))
					return stayed
				}
				erased[i], err = t.EraseOverdue(t.ctx, list[0], d.Until, d.Until.Add(time.Hour))
				return err
			})
			n := 0
			for _, e := range erased {
				if e {
					n++
				}
			}
			if stayed == nil {
				n++
			}
			if n != 1 {
				t.Errorf("%d succeeded: %v, %v", n, erased, stayed)
			}
			if _, err := t.Find(t.ctx, t.tenant, user, noon); (err == nil) != (stayed == nil) {
				t.Errorf("found: %v, stayed: %v", err, stayed)
			}
		}
	}},
	{"happens once despite concurrent calls", func(t *test) {
		t.addActive("ann", noon)
		a := t.find("ann", noon)
		kinds := t.concurrently(8, func(int) error {
			_, err := t.Leave(t.ctx, departure(a, noon), noon)
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.Conflict] != 7 {
			t.Errorf("got %v", kinds)
		}
		if got := t.find("ann", noon); got.State() != account.Leaving || got.Epoch != a.Epoch+1 {
			t.Errorf("got %+v", got)
		}
	}},
	{"has one outcome with a concurrent reset, change of the password and disable", func(t *test) {
		for i := range 5 {
			user := fmt.Sprint("ann", i)
			t.addActive(user, noon)
			a := t.find(user, noon)
			link := t.resetLink(user, noon)
			d := departure(a, noon)
			errs := make([]error, 4)
			t.concurrently(4, func(i int) error {
				switch i {
				case 0:
					_, errs[0] = t.Leave(t.ctx, d, noon)
				case 1:
					c := newPassword(a, "reset", noon)
					c.Link = &link.Token
					_, errs[1] = t.SetPassword(t.ctx, c, noon)
				case 2:
					_, errs[2] = t.SetPassword(t.ctx, newPassword(a, "changed", noon), noon)
				case 3:
					_, errs[3] = t.Disable(t.ctx, t.tenant, user, noon)
				}
				return errs[i]
			})
			t.must(errs[3])
			got := t.find(user, noon)
			left := errs[0] == nil
			// A reset after the leave ends it.
			if got.State() != account.Disabled && got.State() != account.Leaving ||
				left && got.Leaving.IsZero() && errs[1] != nil || !left && !got.Leaving.IsZero() {
				t.Errorf("got %s, leaving %v, %d changes; %v", got.State(), got.Leaving, got.Passwords, errs)
			}
			if _, err := t.Stay(t.ctx, t.tenant, d.Token, noon); err == nil {
				t.Errorf("the owner of an account that is %s stays", got.State())
			}
		}
	}},
}

// changedPasswordOf adds an account with a link for a change that its owner did not make.
func (t *test) changedPasswordOf(user string) account.PasswordChange {
	t.Helper()
	t.addActive(user, noon)
	return t.changedPassword(user, noon)
}
