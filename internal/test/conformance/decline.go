package conformance

import (
	"errors"
	"fmt"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/outbox"
	"dialtone/internal/throttle"
)

// decline returns the Decline that removes the account of signup a through a link.
func (t *test) decline(a account.Signup, token [32]byte) account.Decline {
	d := account.Decline{Account: a.Account, Token: token, Recipient: []throttle.Allowance{a.Recipient}}
	for range a.Recipient.Rule.Limit {
		d.Places = append(d.Places, newID())
	}
	return d
}

// wantDecline checks that LinkedAddress and Decline agree about a link. want may be errAbsent.
func (t *test) wantDecline(a account.Signup, token [32]byte, at time.Time, want error) {
	t.Helper()
	_, err := t.LinkedAddress(t.ctx, a.Account.Tenant, token, at)
	for _, err := range []error{err, t.Decline(t.ctx, t.decline(a, token), at)} {
		if want == errAbsent && fault.Is(err, fault.NotFound) && !errors.Is(err, account.ErrReplaced) {
			err = errAbsent
		}
		t.wantErr(err, want)
	}
}

var declineTests = []testCase{
	{"removes the account, its links and its messages", func(t *test) {
		a := t.addPending("ann", noon)
		t.ack([]outbox.Ref{ref(a)})
		r := t.resend(a.Account, a.Account.Email, noon)
		t.wantDecline(a, r.Token, noon, nil)
		t.wantNoAccount("ann", noon)
		t.wantLinkErr(r.Token, noon, errAbsent)
		t.wantLinkErr(a.Token, noon, errAbsent)
		t.wantEqual(t.pendingUsers(), nil)
		t.wantDecline(a, r.Token, noon, errAbsent)
		t.addPending("ann", noon) // the name is free
	}},
	{"removes a message that waits to be sent", func(t *test) {
		a := t.addEnqueued("ann", noon)
		t.wantState(a, delivery.Waiting)
		t.wantDecline(a, a.Token, noon, nil)
		t.wantNoDelivery(a)
		t.wantEqual(t.dueMessages(noon.Add(time.Hour)), nil)
	}},
	{"changes nothing before it is called", func(t *test) {
		a := t.addPending("ann", noon)
		for range 3 {
			got, err := t.LinkedAddress(t.ctx, t.tenant, a.Token, noon)
			t.must(err)
			t.wantAccount(got, a.Account)
		}
		_, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
		t.must(err)
	}},
	{"takes all places of the recipient for a day", func(t *test) {
		a := t.addPending("ann", noon)
		at := noon.Add(time.Hour)
		t.wantDecline(a, a.Token, at, nil)
		again := func(at time.Time) error {
			next := t.signup("bob", at)
			next.Recipient = a.Recipient
			return t.Create(t.ctx, next, at)
		}
		day := a.Recipient.Rule.Per
		t.wantLimited(again(at), account.RecipientLimit, day)
		t.wantLimited(again(at.Add(day-time.Second)), account.RecipientLimit, time.Second)
		t.must(again(at.Add(day)))
	}},
	{"takes no place if it fails", func(t *test) {
		a := t.addActive("ann", noon)
		t.wantDecline(a, a.Token, noon, account.ErrActive)
		next := t.signup("bob", noon)
		next.Recipient = a.Recipient
		t.must(t.Create(t.ctx, next, noon))
	}},
	{"refuses an active account", func(t *test) {
		a := t.addActive("ann", noon)
		before := t.find("ann", noon)
		t.wantDecline(a, a.Token, noon, account.ErrActive)
		t.wantAccount(t.find("ann", noon), before)
	}},
	{"refuses a disabled account", func(t *test) {
		a := t.addPending("ann", noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantDecline(a, a.Token, noon, account.ErrHeld)
		_, err = t.Enable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantDecline(a, a.Token, noon, nil)
	}},
	{"refuses an expired account", func(t *test) {
		a := t.addPending("ann", noon)
		t.wantDecline(a, a.Token, a.Account.Expires, errAbsent)
	}},
	{"refuses an unknown link, and one of another tenant", func(t *test) {
		a := t.addPending("ann", noon)
		t.wantDecline(a, newToken(), noon, errAbsent)
		other := a
		other.Account.Tenant = t.addTenant("other.test")
		t.wantDecline(other, a.Token, noon, errAbsent)
		t.find("ann", noon)
	}},
	{"takes an older link of the same address", func(t *test) {
		a := t.addPending("ann", noon)
		r := t.resend(a.Account, a.Account.Email, noon)
		t.ack([]outbox.Ref{ref(a), newRef(r)})
		t.resend(a.Account, a.Account.Email, noon)
		t.wantDecline(a, a.Token, noon, nil)
		t.wantNoAccount("ann", noon)
	}},
	{"takes an older link after a disable and an enable", func(t *test) {
		a := t.addPending("ann", noon)
		t.resend(a.Account, a.Account.Email, noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		if _, err = t.Enable(t.ctx, t.tenant, "ann", noon); err != nil && !errors.Is(err, account.ErrWaiting) {
			t.Fatal(err)
		}
		t.wantDecline(a, a.Token, noon, nil)
	}},
	{"does not take a link that went to another address", func(t *test) {
		a := t.addPending("ann", noon)
		first := t.resend(a.Account, a.Account.Email, noon)
		moved := a
		moved.Account.Email = "right@mail.test"
		t.resend(a.Account, moved.Account.Email, noon)
		last := t.resend(moved.Account, moved.Account.Email, noon)
		t.wantDecline(moved, a.Token, noon, account.ErrReplaced)
		t.wantDecline(moved, first.Token, noon, account.ErrReplaced)
		// After the return to the first address, its older links still do not count.
		back := t.resend(moved.Account, a.Account.Email, noon)
		t.wantDecline(a, a.Token, noon, account.ErrReplaced)
		t.wantDecline(a, last.Token, noon, account.ErrReplaced)
		t.wantDecline(a, back.Token, noon, nil)
	}},
	{"takes the link that is the newest after an undo, and not the one that was undone", func(t *test) {
		a := t.addPending("ann", noon)
		r := t.resend(a.Account, a.Account.Email, noon)
		t.must(t.UndoResend(t.ctx, r, noon))
		t.wantDecline(a, r.Token, noon, errAbsent)
		moved := a
		moved.Account.Email = "right@mail.test"
		t.resend(a.Account, moved.Account.Email, noon)
		t.wantDecline(moved, a.Token, noon, account.ErrReplaced)
	}},
	{"refuses if the address has changed in the meantime", func(t *test) {
		a := t.addPending("ann", noon)
		r := t.resend(a.Account, "right@mail.test", noon)
		t.wantErr(t.Decline(t.ctx, t.decline(a, r.Token), noon), account.ErrAddressChanged)
		t.find("ann", noon)
	}},
	{"adds to the trail", func(t *test) {
		a := t.addPending("ann", noon)
		since := t.lastChange()
		ctx := audit.With(t.ctx, audit.Cause{Actor: audit.Actor{Kind: audit.Person}})
		t.must(t.Decline(ctx, t.decline(a, a.Token), noon))
		list := t.changes(audit.Filter{AfterID: since})
		if len(list) != 1 {
			t.Fatalf("got %+v", list)
		}
		c := list[0]
		if c.Action != audit.AccountDecline || c.Actor.Kind != audit.Person || c.User != "ann" ||
			c.Account != a.Account.UID.String() || c.Before != string(account.Waiting) || c.After != "" {
			t.Errorf("got %+v", c)
		}
	}},
	{"excludes a concurrent Activate", func(t *test) {
		for i := range 30 {
			a := t.addPending(fmt.Sprint("ann", i), noon)
			var activated, declined error
			t.concurrently(2, func(i int) error {
				if i == 0 {
					_, activated = t.Activate(t.ctx, t.tenant, a.Token, noon)
					return activated
				}
				declined = t.Decline(t.ctx, t.decline(a, a.Token), noon)
				return declined
			})
			switch {
			case activated == nil && errors.Is(declined, account.ErrActive):
				t.find(a.Account.User, noon)
			case declined == nil && fault.Is(activated, fault.NotFound):
				t.wantNoAccount(a.Account.User, noon)
			default:
				t.Fatalf("Activate: %v; Decline: %v", activated, declined)
			}
		}
	}},
	{"succeeds once", func(t *test) {
		a := t.addPending("ann", noon)
		got := t.concurrently(8, func(int) error { return t.Decline(t.ctx, t.decline(a, a.Token), noon) })
		if got[succeeded] != 1 || got[fault.NotFound] != 7 {
			t.Errorf("got %v", got)
		}
	}},
}
