package conformance

import (
	"fmt"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/session"
)

// settled is when the owners of accounts that were activated at noon begin to get messages about
// new browsers.
var settled = noon.Add(session.SettlingTime)

// signIn returns the record of a sign-in without a device token.
func signIn(a account.Account, net, browser string, at time.Time) session.Record {
	r := newRecord(a, at)
	r.Net, r.Browser = net, browser
	n := unsent(at)
	n.Kind, n.Message, n.SealedToken, n.Net, n.Detail = mailmsg.NewBrowser, newID(), []byte("sealed"), net, browser
	n.Until = at.Add(7 * 24 * time.Hour)
	r.New = &session.NewBrowser{At: at, Net: net, Browser: browser, Notice: n}
	return r
}

// wantNotices records sign-ins, and compares the networks of those whose owners get a message.
func (t *test) wantNotices(list []session.Record, want ...string) {
	t.Helper()
	var got []string
	for _, x := range t.recordSessions(list...) {
		got = append(got, x.New.Net)
		n := x.New.Notice
		if _, err := t.NotMe(t.ctx, t.tenant, n.Token, unsent(n.Until), n.Until); err == nil {
			t.Error("the link works too long")
		}
	}
	t.wantEqual(got, want)
}

func one(r session.Record) []session.Record { return []session.Record{r} }

// newBrowserMessages returns the number of outbox entries about new browsers.
func (t *test) newBrowserMessages() (n int) {
	t.Helper()
	list, err := t.Pending(t.ctx)
	t.must(err)
	for _, e := range list {
		if e.Kind == mailmsg.NewBrowser {
			n++
		}
	}
	return n
}

var newBrowserTests = []testCase{
	{"have a message with every field, and a link that ends all sessions", func(t *test) {
		a := t.active("ann")
		r := signIn(a, "192.0.2.0/24", "Firefox on Linux", settled)
		added, err := t.RecordSessions(audit.With(t.ctx, audit.Cause{Actor: audit.Actor{Kind: audit.Person}}), one(r))
		t.must(err)
		if len(added) != 1 || added[0].ID != r.ID || added[0].Owner.User != "ann" || added[0].Owner.Email != a.Email {
			t.Fatalf("added %+v", added)
		}
		list, err := t.Pending(t.ctx)
		t.must(err)
		n := r.New.Notice
		got := list[slices.IndexFunc(list, func(e outbox.Entry) bool { return e.Message == n.Message })]
		if got.Kind != mailmsg.NewBrowser || got.Message != n.Message || got.Account != a.UID || got.Net != n.Net ||
			got.Detail != n.Detail || string(got.SealedToken) != "sealed" || !got.Made.Equal(n.Made) ||
			!got.Expires.Equal(n.Until) || got.Email != a.Email || got.User != "ann" {
			t.Errorf("the outbox has %+v", got)
		}
		r.New = nil
		t.wantSessions(a, settled, r)
		next := unsent(settled)
		_, err = t.NotMe(t.ctx, t.tenant, n.Token, next, settled)
		t.must(err)
		t.wantSessions(t.find("ann", settled), settled)
		t.wantResetLink(next.Token, settled, "ann")
		t.wantEqual(t.trailOf("ann"), []string{"signin.new-browser", "password.not-me"})
	}},
	{"are new by browser and network of the account", func(t *test) {
		a, b := t.active("ann"), t.active("bob")
		at := settled
		for _, c := range []struct {
			a            account.Account
			net, browser string
			want         bool
		}{
			{a, "192.0.2.0/24", "Firefox on Linux", true},
			{a, "192.0.2.0/24", "Firefox on Linux", false},
			{a, "198.51.100.0/24", "Firefox on Linux", true},
			{a, "192.0.2.0/24", "Chrome on Linux", true},
			{a, "198.51.100.0/24", "Firefox on Linux", false},
			{b, "192.0.2.0/24", "Firefox on Linux", true},
			{b, "", "", true},
			{b, "", "", false},
		} {
			at = at.Add(time.Minute)
			if got := len(t.recordSessions(signIn(c.a, c.net, c.browser, at))) == 1; got != c.want {
				t.Errorf("%s of %s in %s: a message %v, want %v", c.browser, c.a.User, c.net, got, c.want)
			}
		}
		if n := t.newBrowserMessages(); n != 5 {
			t.Errorf("the outbox has %d messages, want 5", n)
		}
	}},
	{"are not new where a listed session began before", func(t *test) {
		a := t.active("ann")
		before := newRecord(a, settled) // with a device token
		before.Net, before.Browser = "192.0.2.0/24", "Firefox on Linux"
		t.recordSessions(before)
		t.wantNotices(one(signIn(a, before.Net, before.Browser, settled.Add(time.Second))))
		later := newRecord(a, settled.Add(time.Hour))
		later.Net = "198.51.100.0/24"
		t.recordSessions(later)
		t.wantNotices(one(signIn(a, later.Net, later.Browser, later.Began)), later.Net)
		ended := newRecord(a, settled)
		ended.Net = "203.0.113.0/24"
		t.recordSessions(ended)
		t.wantNotices(one(signIn(a, ended.Net, ended.Browser, settled.Add(session.Idle))), ended.Net)
	}},
	{"have no message just after the activation", func(t *test) {
		a := t.active("ann")
		t.wantNotices(one(signIn(a, "192.0.2.0/24", "", settled.Add(-tick))))
		t.wantNotices(one(signIn(a, "192.0.2.0/24", "", settled.Add(session.Life))))
		t.wantNotices(one(signIn(a, "198.51.100.0/24", "", settled)), "198.51.100.0/24")
	}},
	{"have a limited number of messages a day", func(t *test) {
		a, b := t.active("ann"), t.active("bob")
		net := func(i int) string { return fmt.Sprintf("192.0.%d.0/24", i) }
		for i := range session.MaxNotices {
			t.wantNotices(one(signIn(a, net(i), "", settled.Add(time.Duration(i)*time.Hour))), net(i))
		}
		without := signIn(a, net(9), "", settled.Add(24*time.Hour-tick))
		t.wantNotices(one(without))
		t.must(t.End(t.ctx, a.UID, a.Epoch, without.ID, noon)) // otherwise it is known by its session
		t.wantNotices(one(signIn(b, net(9), "", settled)), net(9))
		t.wantNotices(one(signIn(a, net(9), "", settled.Add(24*time.Hour))), net(9))
	}},
	{"are remembered, for longer after each sign-in", func(t *test) {
		a := t.active("ann")
		const net = "192.0.2.0/24"
		at := settled
		t.wantNotices(one(signIn(a, net, "", at)), net)
		for range 3 {
			at = at.Add(session.KnownLife - 23*time.Hour)
			_, err := t.Sweep(t.ctx, at, noon, 10)
			t.must(err)
			t.wantNotices(one(signIn(a, net, "", at)))
			at = at.Add(22 * time.Hour)
			t.wantNotices(one(signIn(a, net, "", at)))
		}
		for _, swept := range []bool{false, true} {
			at = at.Add(session.KnownLife)
			if swept {
				_, err := t.Sweep(t.ctx, at, noon, 10)
				t.must(err)
			}
			t.wantNotices(one(signIn(a, net, "", at)), net)
		}
	}},
	{"have a message although the session has ended", func(t *test) {
		const net = "192.0.2.0/24"
		ann := t.active("ann")
		out := signIn(ann, net, "", settled)
		t.must(t.SignOut(t.ctx, out, settled))
		t.wantNotices(one(out), net)
		t.wantSessions(ann, settled)

		bob := t.active("bob")
		first := signIn(bob, net, "", settled)
		own := newRecord(bob, settled)
		own.Net, own.Browser = net, ""
		own.Epoch++
		t.must(t.EndOthers(t.ctx, own, settled))
		t.wantNotices(one(first), net)
		t.wantSessions(t.find("bob", settled), settled, own)
	}},
	{"are new again after a new password and after \"not me\"", func(t *test) {
		const net = "192.0.2.0/24"
		a := t.active("ann")
		b := t.active("bob")
		first := signIn(a, net, "", settled)
		t.wantNotices([]session.Record{signIn(b, net, "", settled), first}, net, net)
		_, err := t.NotMe(t.ctx, t.tenant, first.New.Notice.Token, unsent(settled), settled)
		t.must(err)
		t.wantNotices([]session.Record{signIn(b, net, "", settled), signIn(a, net, "", settled)}, net)
		_, err = t.SetPassword(t.ctx, newPassword(t.find("ann", settled), "new", settled), settled)
		t.must(err)
		t.wantNotices([]session.Record{signIn(b, net, "", settled), signIn(a, net, "", settled)}, net)
	}},
	{"are those of active accounts", func(t *test) {
		pending := t.addPending("pam", noon).Account
		held, gone, unknown := t.active("held"), t.active("gone"), t.active("ann")
		_, err := t.Disable(t.ctx, t.tenant, "held", noon)
		t.must(err)
		t.wantNotices(one(signIn(gone, "192.0.2.0/24", "", settled)), "192.0.2.0/24")
		t.must(t.Delete(t.ctx, t.tenant, "gone", noon))
		unknown.UID = account.UID(newID())
		for _, x := range []account.Account{pending, held, gone, unknown} {
			t.wantNotices(one(signIn(x, "198.51.100.0/24", "", settled)))
		}
		if n := t.newBrowserMessages(); n != 0 {
			t.Errorf("the outbox has %d messages", n)
		}
	}},
	{"leave no link to an account that is disabled concurrently", func(t *test) {
		for i := range 10 {
			user := fmt.Sprint("ann", i)
			a := t.active(user)
			r := signIn(a, "192.0.2.0/24", "", settled)
			got := t.concurrently(2, func(i int) (err error) {
				if i == 0 {
					_, err = t.RecordSessions(t.ctx, one(r))
				} else {
					_, err = t.Disable(t.ctx, t.tenant, user, settled)
				}
				return err
			})
			if got[succeeded] != 2 {
				t.Errorf("got %v", got)
			}
			_, err := t.Enable(t.ctx, t.tenant, user, settled)
			t.must(err)
			_, err = t.NotMe(t.ctx, t.tenant, r.New.Notice.Token, unsent(settled), settled)
			t.wantErr(err, account.ErrLinkUsed)
		}
	}},
	{"are remembered up to a limit for each account", func(t *test) {
		a := t.active("ann")
		var list []session.Record
		for i := range session.MaxKnown + 1 {
			list = append(list, signIn(a, fmt.Sprintf("10.0.%d.0/24", i), "", noon.Add(time.Duration(i)*time.Second)))
		}
		t.wantNotices(list)
		at := settled.Add(session.Life)
		t.wantNotices(one(signIn(a, "10.0.1.0/24", "", at)))
		t.wantNotices(one(signIn(a, "10.0.0.0/24", "", at)), "10.0.0.0/24")
	}},
	{"have one message, for several calls and for several sign-ins", func(t *test) {
		a := t.active("ann")
		later, first := signIn(a, "192.0.2.0/24", "", settled.Add(time.Second)), signIn(a, "192.0.2.0/24", "", settled)
		added := t.recordSessions(later, first)
		if len(added) != 1 || added[0].ID != first.ID {
			t.Errorf("added %+v", added)
		}
		list := make([][]session.Noticed, 8)
		got := t.concurrently(8, func(i int) (err error) {
			list[i], err = t.RecordSessions(t.ctx, one(signIn(a, "198.51.100.0/24", "", settled)))
			return err
		})
		n := 0
		for _, x := range list {
			n += len(x)
		}
		if got[succeeded] != 8 || n != 1 || t.newBrowserMessages() != 2 {
			t.Errorf("got %v, %d notices, %d messages", got, n, t.newBrowserMessages())
		}
	}},
}
