package conformance

import (
	"crypto/rand"
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

func newToken() (token [32]byte) {
	rand.Read(token[:])
	return token
}

// notice returns a message of a kind with a link for an hour.
func notice(kind mailmsg.Kind, at time.Time) account.Notice {
	return account.Notice{
		Kind: kind, Message: mailmsg.ID(newID()), Token: newToken(), SealedToken: []byte("sealed token"),
		Made: at, Until: at.Add(time.Hour), Net: "192.0.2.0/24",
	}
}

func factorNotice(detail string, at time.Time) account.Notice {
	n := notice(mailmsg.FactorChanged, at)
	n.Detail = detail
	return n
}

// newPassword returns a change of the password of an account in its current state.
func newPassword(a account.Account, sealed string, at time.Time) account.PasswordChange {
	a.Sealed, a.HasSHA256 = []byte(sealed), true
	return account.PasswordChange{Account: a, Notice: notice(mailmsg.PasswordChanged, at)}
}

// newResetLink returns the argument of AddResetLink for a user, without limits.
func (t *test) newResetLink(user string, n account.Notice) account.NewResetLink {
	return account.NewResetLink{Tenant: t.tenant, User: user, Notice: n}
}

// passwordRefusal is the error of SetPassword for a limit, with the time to wait.
func passwordRefusal(wait time.Duration) error {
	return account.PasswordRefusal(throttle.Wait{For: wait})
}

// resetLink adds a reset link for the account of a user.
func (t *test) resetLink(user string, at time.Time) account.Notice {
	t.Helper()
	n := notice(mailmsg.Reset, at)
	_, err := t.AddResetLink(t.ctx, t.newResetLink(user, n), at)
	t.must(err)
	return n
}

// wantResetLink compares the users that a reset link can choose among.
func (t *test) wantResetLink(token [32]byte, at time.Time, want ...string) {
	t.Helper()
	list, _, err := t.ResetLink(t.ctx, t.tenant, token, at)
	if len(want) == 0 {
		t.wantErr(err, account.ErrLinkUsed)
		return
	}
	t.must(err)
	var users []string
	for _, a := range list {
		users = append(users, a.User)
	}
	t.wantEqual(users, want)
}

// addWithAddress adds an active account with an address.
func (t *test) addWithAddress(user, email string, at time.Time) account.Signup {
	t.Helper()
	a := t.signup(user, at)
	a.Account.Email = email
	t.must(t.Create(t.ctx, a, at))
	_, err := t.Activate(t.ctx, t.tenant, a.Token, at)
	t.must(err)
	return a
}

var passwordTests = []testCase{
	{"replaces the credential and ends sessions", func(t *test) {
		t.addActive("ann", noon)
		before := t.find("ann", noon)
		at := noon.Add(3*tick + time.Minute)
		c := newPassword(before, "new", at)
		got, err := t.SetPassword(t.ctx, c, at)
		t.must(err)
		want := before
		want.Sealed, want.HasSHA256 = []byte("new"), true
		want.Passwords, want.Epoch = before.Passwords+1, before.Epoch+1
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", at), want)
	}},
	{"adds the message with the change", func(t *test) {
		a := t.addActive("ann", noon)
		t.ack([]outbox.Ref{ref(a)})
		at := noon.Add(time.Minute)
		c := newPassword(t.find("ann", noon), "new", at)
		_, err := t.SetPassword(t.ctx, c, at)
		t.must(err)
		list, err := t.Pending(t.ctx)
		t.must(err)
		if len(list) != 1 {
			t.Fatalf("got %+v", list)
		}
		e := list[0]
		if e.Message != c.Message || e.Kind != mailmsg.PasswordChanged || e.Email != a.Account.Email ||
			!e.Made.Equal(c.Made) || !e.Expires.Equal(c.Until) || e.Net != c.Net || e.Resent || e.Replaced ||
			string(e.SealedToken) != string(c.SealedToken) {
			t.Errorf("got %+v for %+v", e, c.Notice)
		}
	}},
	{"keeps every message until its own acknowledgement", func(t *test) {
		a := t.addActive("ann", noon)
		var sent []mailmsg.ID
		for i := range 3 {
			at := noon.Add(time.Duration(i) * time.Minute)
			c := newPassword(t.find("ann", at), fmt.Sprint("new ", i), at)
			_, err := t.SetPassword(t.ctx, c, at)
			t.must(err)
			sent = append(sent, c.Message)
		}
		list, err := t.Pending(t.ctx)
		t.must(err)
		if len(list) != 4 || slices.ContainsFunc(list, func(e outbox.Entry) bool { return e.Replaced }) {
			t.Errorf("got %+v", list)
		}
		_, err = t.Enqueue(t.ctx, []outbox.Ref{{Tenant: t.tenant, Account: a.Account.UID, Message: sent[2]}}, noon)
		t.must(err)
		t.ack([]outbox.Ref{{Tenant: t.tenant, Account: a.Account.UID, Message: sent[1]}})
		list, err = t.Pending(t.ctx)
		t.must(err)
		if len(list) != 2 || list[0].Message != a.Message && list[1].Message != a.Message {
			t.Errorf("got %+v", list)
		}
	}},
	{"sends a message to the address that it was created for", func(t *test) {
		a := t.addActive("ann", noon)
		c := newPassword(t.find("ann", noon), "new", noon)
		_, err := t.SetPassword(t.ctx, c, noon)
		t.must(err)
		_, err = t.Enqueue(t.ctx, []outbox.Ref{{Tenant: t.tenant, Account: a.Account.UID, Message: c.Message}}, noon)
		t.must(err)
		d, err := t.Store.Delivery(t.ctx, c.Message)
		t.must(err)
		if d.Email != a.Account.Email || !d.Expires.Equal(c.Until) {
			t.Errorf("got %+v", d)
		}
	}},
	{"notifies phone servers and adds to the trail", func(t *test) {
		t.addActive("ann", noon)
		h := t.addHook("all")
		_, err := t.SetPassword(t.ctx, newPassword(t.find("ann", noon), "new", noon), noon)
		t.must(err)
		list := t.claim(h, noon, 10)
		if len(list) != 1 || list[0].Type != hook.AccountPassword || list[0].User != "ann" {
			t.Errorf("got %+v", list)
		}
		var actions []string
		t.must(t.Changes(t.ctx, audit.Filter{User: "ann"}, func(c audit.Change) error {
			actions = append(actions, string(c.Action)+" "+c.Before+c.After)
			return nil
		}))
		t.wantEqual(actions, []string{"password.change "})
	}},
	{"is refused if the proof is older than the last change", func(t *test) {
		t.addActive("ann", noon)
		proved := t.find("ann", noon)
		_, err := t.SetPassword(t.ctx, newPassword(proved, "one", noon), noon)
		t.must(err)
		_, err = t.SetPassword(t.ctx, newPassword(proved, "two", noon), noon)
		t.wantErr(err, account.ErrPasswordChanged)
		if got := t.find("ann", noon); string(got.Sealed) != "one" {
			t.Errorf("the credential is %q", got.Sealed)
		}
	}},
	{"happens once despite concurrent calls", func(t *test) {
		t.addActive("ann", noon)
		proved := t.find("ann", noon)
		kinds := t.concurrently(8, func(i int) error {
			_, err := t.SetPassword(t.ctx, newPassword(proved, fmt.Sprint("new ", i), noon), noon)
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.Conflict] != 7 {
			t.Errorf("got %v", kinds)
		}
		if got := t.find("ann", noon); got.Passwords != 1 {
			t.Errorf("changed %d times", got.Passwords)
		}
	}},
	{"takes a place under each limit", func(t *test) {
		t.addActive("ann", noon)
		bucket := newBucket()
		change := func(sealed string, at time.Time) error {
			c := newPassword(t.find("ann", at), sealed, at)
			c.Allowances = []throttle.Allowance{allowance(bucket, 2)}
			_, err := t.SetPassword(t.ctx, c, at)
			return err
		}
		t.must(change("one", noon))
		t.must(change("two", noon.Add(time.Minute)))
		t.wantLimited(change("three", noon.Add(2*time.Minute)), passwordRefusal, 58*time.Minute)
		if got := t.find("ann", noon); string(got.Sealed) != "two" || got.Passwords != 2 {
			t.Errorf("got %+v", got)
		}
		t.must(change("three", noon.Add(time.Hour)))
	}},
	{"is refused for other accounts and states", func(t *test) {
		a := t.addPending("ann", noon)
		_, err := t.SetPassword(t.ctx, newPassword(a.Account, "new", noon), noon)
		t.wantKind(err, fault.NotFound)
		t.addActive("bob", noon)
		bob := t.find("bob", noon)
		other := bob
		other.UID = account.UID(newID())
		_, err = t.SetPassword(t.ctx, newPassword(other, "new", noon), noon)
		t.wantKind(err, fault.NotFound)
		other = bob
		other.Tenant = t.addTenant("b.test")
		_, err = t.SetPassword(t.ctx, newPassword(other, "new", noon), noon)
		t.wantKind(err, fault.NotFound)
		_, err = t.Disable(t.ctx, t.tenant, "bob", noon)
		t.must(err)
		_, err = t.SetPassword(t.ctx, newPassword(bob, "new", noon), noon)
		t.wantErr(err, account.ErrHeld)
		if got := t.find("bob", noon); string(got.Sealed) != string(bob.Sealed) {
			t.Errorf("the credential is %q", got.Sealed)
		}
	}},
}

var resetTests = []testCase{
	{"lists the active accounts of its address", func(t *test) {
		t.addWithAddress("ann", "home@mail.test", noon)
		t.addWithAddress("aaa", "Home@mail.test", noon) // another mailbox, for all we know
		t.addWithAddress("bob", "home@mail.test", noon)
		t.addWithAddress("cid", "other@mail.test", noon)
		t.addWithAddress("dan", "home@mail.test", noon)
		waiting := t.signup("eve", noon)
		waiting.Account.Email = "home@mail.test"
		t.must(t.Create(t.ctx, waiting, noon))
		_, err := t.Disable(t.ctx, t.tenant, "dan", noon)
		t.must(err)
		link := t.resetLink("bob", noon)
		t.wantResetLink(link.Token, noon, "ann", "bob")
		t.wantResetLink(link.Token, link.Until.Add(-tick), "ann", "bob")
		t.wantResetLink(link.Token, link.Until)
		t.wantResetLink(newToken(), noon)
	}},
	{"changes the password once, and confirms the account", func(t *test) {
		t.addWithAddress("ann", "home@mail.test", noon)
		t.addWithAddress("bob", "home@mail.test", noon)
		link := t.resetLink("ann", noon)
		at := noon.Add(time.Minute)
		c := newPassword(t.find("bob", at), "new", at)
		c.Account.Passwords, c.Link = -1, &link.Token
		got, err := t.SetPassword(t.ctx, c, at)
		t.must(err)
		if string(got.Sealed) != "new" || !got.Confirmed.Equal(at) || got.Passwords != 1 {
			t.Errorf("got %+v", got)
		}
		again := newPassword(t.find("ann", at), "other", at)
		again.Link = &link.Token
		_, err = t.SetPassword(t.ctx, again, at)
		t.wantErr(err, account.ErrLinkUsed)
		t.wantResetLink(link.Token, at)
	}},
	{"ends with any change of the password", func(t *test) {
		t.addWithAddress("ann", "home@mail.test", noon)
		t.addWithAddress("bob", "home@mail.test", noon)
		link := t.resetLink("ann", noon)
		_, err := t.SetPassword(t.ctx, newPassword(t.find("bob", noon), "new", noon), noon)
		t.must(err)
		t.wantResetLink(link.Token, noon)
	}},
	{"outlives a change by proof if it was not sent", func(t *test) {
		t.addWithAddress("ann", "home@mail.test", noon)
		t.addWithAddress("bob", "home@mail.test", noon)
		unsent := func() account.Notice {
			n := notice(mailmsg.Reset, noon)
			n.Message = mailmsg.ID{}
			_, err := t.AddResetLink(t.ctx, t.newResetLink("ann", n), noon)
			t.must(err)
			return n
		}
		first, link := unsent(), unsent()
		t.wantResetLink(first.Token, noon)
		t.resetLink("ann", noon) // anybody can ask for it
		for _, user := range []string{"ann", "bob"} {
			_, err := t.SetPassword(t.ctx, newPassword(t.find(user, noon), "new", noon), noon)
			t.must(err)
		}
		t.wantResetLink(link.Token, noon, "ann")
		mailed := t.resetLink("ann", noon)
		c := newPassword(t.find("ann", noon), "newer", noon)
		c.Link = &mailed.Token
		_, err := t.SetPassword(t.ctx, c, noon)
		t.must(err)
		t.wantResetLink(link.Token, noon)
	}},
	{"ends when the account is disabled, like the other links", func(t *test) {
		t.addActive("ann", noon)
		notMe := newPassword(t.find("ann", noon), "new", noon)
		_, err := t.SetPassword(t.ctx, notMe, noon)
		t.must(err)
		link := t.resetLink("ann", noon)
		_, err = t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		_, err = t.Enable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantResetLink(link.Token, noon)
		_, err = t.NotMe(t.ctx, t.tenant, notMe.Token, notice(mailmsg.Reset, noon), noon)
		t.wantErr(err, account.ErrLinkUsed)
	}},
	{"is replaced by a newer one to the address", func(t *test) {
		t.addWithAddress("ann", "home@mail.test", noon)
		t.addWithAddress("bob", "home@mail.test", noon)
		first := t.resetLink("ann", noon)
		second := t.resetLink("bob", noon)
		t.wantResetLink(first.Token, noon)
		t.wantResetLink(second.Token, noon, "ann", "bob")
	}},
	{"is for accounts of its address and tenant", func(t *test) {
		t.addWithAddress("ann", "home@mail.test", noon)
		t.addWithAddress("cid", "other@mail.test", noon)
		link := t.resetLink("ann", noon)
		c := newPassword(t.find("cid", noon), "new", noon)
		c.Link = &link.Token
		_, err := t.SetPassword(t.ctx, c, noon)
		t.wantErr(err, account.ErrLinkUsed)
		other := t.addTenant("b.test")
		_, _, err = t.ResetLink(t.ctx, other, link.Token, noon)
		t.wantErr(err, account.ErrLinkUsed)
		notMe := notice(mailmsg.PasswordChanged, noon)
		_, err = t.SetPassword(t.ctx, account.PasswordChange{Account: t.find("ann", noon), Notice: notMe}, noon)
		t.must(err)
		t.wantResetLink(notMe.Token, noon)
	}},
	{"does not enable a disabled or pending account", func(t *test) {
		t.addPending("ann", noon)
		_, err := t.AddResetLink(t.ctx, t.newResetLink("ann", notice(mailmsg.Reset, noon)), noon)
		t.wantKind(err, fault.NotFound)
		t.addActive("bob", noon)
		link := t.resetLink("bob", noon)
		_, err = t.Disable(t.ctx, t.tenant, "bob", noon)
		t.must(err)
		t.wantResetLink(link.Token, noon)
		c := newPassword(t.find("bob", noon), "new", noon)
		c.Link = &link.Token
		_, err = t.SetPassword(t.ctx, c, noon)
		t.wantErr(err, account.ErrHeld)
		_, err = t.AddResetLink(t.ctx, t.newResetLink("bob", notice(mailmsg.Reset, noon)), noon)
		t.wantErr(err, account.ErrHeld)
	}},
	{"is without a message for an operator", func(t *test) {
		a := t.addActive("ann", noon)
		t.ack([]outbox.Ref{ref(a)})
		n := notice(mailmsg.Reset, noon)
		n.Message = mailmsg.ID{}
		_, err := t.AddResetLink(t.ctx, t.newResetLink("ann", n), noon)
		t.must(err)
		t.wantEqual(t.pendingUsers(), nil)
		t.wantResetLink(n.Token, noon, "ann")
		// It proves no mailbox, so it is for this account alone and does not confirm it.
		t.addWithAddress("bob", a.Account.Email, noon)
		t.wantResetLink(n.Token, noon, "ann")
		c := newPassword(t.find("bob", noon), "new", noon)
		c.Link = &n.Token
		_, err = t.SetPassword(t.ctx, c, noon)
		t.wantErr(err, account.ErrLinkUsed)
		c = newPassword(t.find("ann", noon), "new", noon)
		c.Link = &n.Token
		got, err := t.SetPassword(t.ctx, c, noon)
		t.must(err)
		if !got.Confirmed.IsZero() {
			t.Error("the account is confirmed")
		}
	}},
	{"is used once despite concurrent calls", func(t *test) {
		users := []string{"ann", "bob", "cid", "dan"}
		for _, user := range users {
			t.addWithAddress(user, "home@mail.test", noon)
		}
		link := t.resetLink("ann", noon)
		kinds := t.concurrently(8, func(i int) error {
			c := newPassword(t.find(users[i%4], noon), fmt.Sprint("new ", i), noon)
			c.Link = &link.Token
			_, err := t.SetPassword(t.ctx, c, noon)
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.NotFound] != 7 {
			t.Errorf("got %v", kinds)
		}
	}},
	{"excludes a concurrent change of the password", func(t *test) {
		t.addActive("ann", noon)
		link := t.resetLink("ann", noon)
		proved := t.find("ann", noon)
		kinds := t.concurrently(6, func(i int) error {
			c := newPassword(proved, fmt.Sprint("new ", i), noon)
			if i%2 == 0 {
				c.Link = &link.Token
			}
			_, err := t.SetPassword(t.ctx, c, noon)
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.NotFound]+kinds[fault.Conflict] != 5 {
			t.Errorf("got %v", kinds)
		}
		if got := t.find("ann", noon); got.Passwords != 1 {
			t.Errorf("changed %d times", got.Passwords)
		}
		t.wantResetLink(link.Token, noon)
	}},
	{"is removed when it has expired", func(t *test) {
		t.addActive("ann", noon)
		link := t.resetLink("ann", noon.Add(time.Minute))
		before := link.Until.Add(-tick)
		_, err := t.Sweep(t.ctx, before, noon, 10)
		t.must(err)
		t.wantResetLink(link.Token, before, "ann")
		swept, err := t.Sweep(t.ctx, link.Until, noon, 10)
		t.must(err)
		if swept.Others != 1 {
			t.Errorf("%d rows were removed, want 1", swept.Others)
		}
	}},
}
