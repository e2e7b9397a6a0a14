package conformance

import (
	"fmt"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/throttle"
)

// forget adds the request of someone who forgot a password, within limits.
func (t *test) forget(who string, at time.Time, limits ...throttle.Allowance) (account.Forgotten, error) {
	f := account.Forgotten{
		ID: account.ForgottenID(newID()), Tenant: t.tenant, Sealed: []byte(who), Net: "192.0.2.0/24",
		Allowances: limits,
	}
	return f, t.AddForgotten(t.ctx, f, at)
}

// wantForgotten compares what people wrote in the requests that are left.
func (t *test) wantForgotten(want ...string) {
	t.Helper()
	list, err := t.Forgotten(t.ctx, 0, 100)
	t.must(err)
	var got []string
	for _, f := range list {
		got = append(got, string(f.Sealed))
	}
	t.wantEqual(got, want)
}

// trailOf returns the actions in the trail of a user.
func (t *test) trailOf(user string) (actions []string) {
	t.Helper()
	t.must(t.Changes(t.ctx, audit.Filter{User: user}, func(c audit.Change) error {
		actions = append(actions, string(c.Action))
		return nil
	}))
	return actions
}

var forgottenTests = []testCase{
	{"keeps what people wrote, oldest first", func(t *test) {
		t.addActive("ann", noon)
		first, err := t.forget("ann", noon)
		t.must(err)
		_, err = t.forget("ܐ no account, 100 % ", noon.Add(tick))
		t.must(err)
		list, err := t.Forgotten(t.ctx, 0, 1)
		t.must(err)
		if len(list) != 1 || list[0].ID != first.ID || list[0].Tenant != t.tenant || string(list[0].Sealed) != "ann" ||
			list[0].Net != first.Net {
			t.Errorf("got %+v", list)
		}
		t.wantForgotten("ann", "ܐ no account, 100 % ")
		for _, want := range []bool{true, false} {
			if removed, err := t.RemoveForgotten(t.ctx, first.ID); err != nil || removed != want {
				t.Errorf("got %t, %v, want %t", removed, err, want)
			}
		}
		t.wantForgotten("ܐ no account, 100 % ")
	}},
	{"takes places, and none over a limit", func(t *test) {
		address, site := allowance(newBucket(), 2), allowance(newBucket(), 3)
		other := allowance(newBucket(), 2)
		for i := range 2 {
			_, err := t.forget(fmt.Sprint("ann", i), noon.Add(time.Duration(i)*tick), address, site)
			t.must(err)
		}
		refusal := func(wait time.Duration) error {
			return account.ForgottenRefusal(throttle.Wait{For: wait})
		}
		_, err := t.forget("over the limit of the address", noon.Add(time.Minute), address, site)
		t.wantLimited(err, refusal, 59*time.Minute)
		_, err = t.forget("ann2", noon.Add(time.Minute), other, site)
		t.must(err)
		_, err = t.forget("over the limit of the site", noon.Add(time.Minute), other, site)
		t.wantLimited(err, refusal, 59*time.Minute)
		t.wantForgotten("ann0", "ann1", "ann2")
		_, err = t.forget("ann3", noon.Add(time.Hour), address, site)
		t.must(err)
	}},
	{"admits exactly as many concurrent requests as the limit allows", func(t *test) {
		limit := allowance(newBucket(), 3)
		kinds := t.concurrently(12, func(int) error {
			_, err := t.forget("ann", noon, limit)
			return err
		})
		if kinds[succeeded] != 3 || kinds[fault.Limited] != 9 {
			t.Errorf("got %v", kinds)
		}
		t.wantForgotten("ann", "ann", "ann")
	}},
	{"finds the accounts of an address", func(t *test) {
		t.addWithAddress("bob", "Home@mail.test", noon)
		t.addWithAddress("ann", "home@mail.test", noon)
		t.addWithAddress("cid", "other@mail.test", noon)
		waiting := t.signup("dan", noon)
		waiting.Account.Email = "home@mail.test"
		t.must(t.Create(t.ctx, waiting, noon))
		other := t.addTenant("b.test")
		users := func(tenant int64, email string, at time.Time) (users []string) {
			list, err := t.OfEmail(t.ctx, tenant, email, at)
			t.must(err)
			for _, a := range list {
				users = append(users, a.User)
			}
			return users
		}
		t.wantEqual(users(t.tenant, "hoME@mail.test", noon), []string{"ann", "bob", "dan"})
		t.wantEqual(users(t.tenant, "home@mail.test", waiting.Account.Expires), []string{"ann", "bob"})
		t.wantEqual(users(other, "home@mail.test", noon), nil)
		t.wantEqual(users(t.tenant, "", noon), nil)
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		t.wantEqual(users(t.tenant, "home@mail.test", noon), []string{"bob", "dan"})
		t.wantEqual(users(t.tenant, "", noon), nil)
	}},
	{"is handled once by many servers", func(t *test) {
		t.addActive("ann", noon)
		f, err := t.forget("ann", noon)
		t.must(err)
		kinds := t.concurrently(8, func(int) error {
			r := t.newResetLink("ann", notice(mailmsg.Reset, noon))
			r.Forgotten = f.ID
			_, err := t.AddResetLink(t.ctx, r, noon)
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.NotFound] != 7 {
			t.Errorf("got %v", kinds)
		}
		t.wantForgotten()
		t.wantEqual(t.pendingUsers(), []string{"ann", "ann"})
		t.wantEqual(t.trailOf("ann"), []string{"password.link"})
	}},
	{"is handled once by many servers for a waiting account", func(t *test) {
		a := t.addPending("ann", noon)
		f, err := t.forget("ann", noon)
		t.must(err)
		links := make([]account.LinkReplacement, 8)
		for i := range links {
			links[i] = account.LinkReplacement{
				Account: a.Account, Was: a.Account.Email, Token: newToken(), Message: mailmsg.ID(newID()),
				SealedToken: []byte("sealed token"), Made: noon, Forgotten: f.ID,
			}
		}
		links[0].CheckOnly = true
		t.must(t.Resend(t.ctx, links[0], noon))
		t.wantForgotten("ann")
		links[0].CheckOnly = false
		kinds := t.concurrently(8, func(i int) error { return t.Resend(t.ctx, links[i], noon) })
		if kinds[succeeded] != 1 || kinds[fault.NotFound] != 7 {
			t.Errorf("got %v", kinds)
		}
		t.wantForgotten()
	}},
	{"is removed without a link over a limit", func(t *test) {
		t.addActive("ann", noon)
		perAccount, perRecipient := allowance(newBucket(), 2), allowance(newBucket(), 9)
		add := func(at time.Time) error {
			f, err := t.forget("ann", at)
			t.must(err)
			r := t.newResetLink("ann", notice(mailmsg.Reset, at))
			r.Forgotten, r.Allowances = f.ID, []throttle.Allowance{perAccount, perRecipient}
			_, err = t.AddResetLink(t.ctx, r, at)
			t.wantForgotten()
			return err
		}
		t.must(add(noon))
		t.must(add(noon.Add(time.Minute)))
		messages := len(t.pendingUsers())
		t.wantLimited(add(noon.Add(2*time.Minute)),
			func(wait time.Duration) error { return account.ResetRefusal(throttle.Wait{For: wait}) }, 58*time.Minute)
		if got := len(t.pendingUsers()); got != messages {
			t.Errorf("%d messages were added", got-messages)
		}
		t.wantEqual(t.trailOf("ann"), []string{"password.link", "password.link"})
		t.must(add(noon.Add(time.Hour)))
	}},
	{"is removed without a link for an account in another state", func(t *test) {
		t.addPending("ann", noon)
		t.addActive("bob", noon)
		_, err := t.Disable(t.ctx, t.tenant, "bob", noon)
		t.must(err)
		for user, want := range map[string]fault.Kind{
			"ann": fault.NotFound, "bob": fault.Conflict, "cid": fault.NotFound,
		} {
			f, err := t.forget(user, noon)
			t.must(err)
			r := t.newResetLink(user, notice(mailmsg.Reset, noon))
			r.Forgotten = f.ID
			_, err = t.AddResetLink(t.ctx, r, noon)
			t.wantKind(err, want)
			t.wantForgotten()
			t.wantResetLink(r.Token, noon)
		}
	}},
	{"is removed after a day", func(t *test) {
		_, err := t.forget("ann", noon)
		t.must(err)
		_, err = t.Sweep(t.ctx, noon.Add(24*time.Hour-tick), noon, 10)
		t.must(err)
		t.wantForgotten("ann")
		swept, err := t.Sweep(t.ctx, noon.Add(24*time.Hour), noon, 10)
		t.must(err)
		t.wantForgotten()
		if swept.Others != 1 {
			t.Errorf("%d rows were removed, want 1", swept.Others)
		}
	}},
}

// changed changes the password of an active account, and returns the message about it.
func (t *test) changed(user, sealed string, at time.Time) account.Notice {
	t.Helper()
	c := newPassword(t.find(user, at), sealed, at)
	_, err := t.SetPassword(t.ctx, c, at)
	t.must(err)
	return c.Notice
}

// unsent returns a reset link without a message.
func unsent(at time.Time) account.Notice {
	n := notice(mailmsg.Reset, at)
	n.Message, n.SealedToken, n.Net = mailmsg.ID{}, nil, ""
	return n
}

var notMeTests = []testCase{
	{"is in the trail with what it undoes", func(t *test) {
		t.addWithAddress("ann", "ann@mail.test", noon)
		wantTrail := func(token [32]byte, want string) {
			t.Helper()
			got := t.newChanges(func() { t.must(t.notMe(token, noon)) })
			t.wantEqual(got, []string{"password.not-me phone.test ann " + want})
		}
		wantTrail(t.changed("ann", "of somebody else", noon).Token, "sessions")
		changed := t.changed("ann", "another", noon)
		t.passkey("ann", "first", noon)
		link := t.emailLink("ann", "eve@evil.test", noon)
		_, err := t.SetEmail(t.ctx, t.tenant, link.Token, notice(mailmsg.EmailChanged, noon), noon)
		t.must(err)
		t.must(t.StartApp(t.ctx, t.find("ann", noon), []byte("secret"), noon)) // not finished
		t.leave("ann", noon)
		wantTrail(changed.Token, "sessions,email,passkeys leaving e***@evil.test>active a***@mail.test")
		changed = t.changed("ann", "third", noon)
		a := t.find("ann", noon)
		t.must(t.StartApp(t.ctx, a, []byte("secret"), noon))
		_, err = t.FinishApp(t.ctx, t.finished(a, "secret", noon), noon)
		t.must(err)
		wantTrail(changed.Token, "sessions,app")
	}},
	{"removes the recovery codes if one was used or they were replaced, and keeps the app", func(t *test) {
		a, c := t.withApp("ann")
		at := noon.Add(time.Minute)
		check := func(claim string, token [32]byte, codes int, did string) {
			t.Helper()
			a = t.find("ann", at)
			t.wantNotMeLink(t.tenant, token, at, account.Undone{Account: a, Email: a.Email, Codes: codes})
			got := t.newChanges(func() {
				_, err := t.NotMe(t.ctx, t.tenant, token, unsent(at), at)
				t.must(err)
			})
			t.wantEqual(got, []string{"password.not-me phone.test ann " + did})
			if a = t.find("ann", at); a.Factors != account.FactorApp {
				t.Errorf("%s: the app is gone", claim)
			}
		}
		renew := func() account.AppChange {
			t.Helper()
			r := renewal(a, at)
			_, err := t.RenewCodes(t.ctx, r, at)
			t.must(err)
			return r
		}
		use := func(code [32]byte) [32]byte {
			t.Helper()
			u := recovery(a, code)
			u.Notice = notice("", at)
			_, err := t.UseCode(t.ctx, u, at)
			t.must(err)
			return u.Token
		}
		wantNone := func(codes ...[32]byte) {
			t.Helper()
			for _, code := range codes {
				t.wantErr(t.use(recovery(a, code)), account.ErrCodeWrong)
			}
		}
		check("another change", t.changed("ann", "new", at).Token, 0, "sessions")
		check("a used code", use(c.Codes[0]), 2, "sessions,codes")
		wantNone(c.Codes...)
		first := renew()
		check("replaced codes", first.Token, 4, "sessions,codes")
		wantNone(first.Codes...)
		first = renew()
		second := renew()
		check("codes that were replaced since", first.Token, 4, "sessions,codes")
		wantNone(second.Codes...)
		check("no codes", second.Token, 0, "sessions")
		third := renew()
		t.must(t.use(recovery(a, third.Codes[0])))
	}},
	{"removes the recovery codes together with an app that was added since", func(t *test) {
		a, _ := t.withApp("ann")
		r := renewal(a, noon)
		_, err := t.RenewCodes(t.ctx, r, noon)
		t.must(err)
		t.wantNotMeLink(t.tenant, r.Token, noon, account.Undone{Account: a, Email: a.Email, App: true})
		got := t.newChanges(func() { t.must(t.notMe(r.Token, noon)) })
		t.wantEqual(got, []string{"password.not-me phone.test ann sessions,app"})
	}},
	{"ends sessions and creates a reset link", func(t *test) {
		t.addActive("ann", noon)
		change := t.changed("ann", "of somebody else", noon)
		before := t.find("ann", noon)
		messages := len(t.pendingUsers())
		n := unsent(noon)
		got, err := t.NotMe(t.ctx, t.tenant, change.Token, n, noon)
		t.must(err)
		want := before
		want.Epoch++
		want.Passwords++
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", noon), want)
		t.wantResetLink(n.Token, noon, "ann")
		if len(t.pendingUsers()) != messages {
			t.Error("a message was added")
		}
		t.wantEqual(t.trailOf("ann"), []string{"password.change", "password.not-me"})
	}},
	{"ends no reset link of an earlier owner of the address", func(t *test) {
		t.addWithAddress("ann", "ann@mail.test", noon)
		undo := t.setEmail("ann", "thief@mail.test", noon)
		owner := unsent(noon)
		_, err := t.NotMe(t.ctx, t.tenant, undo.Token, owner, noon)
		t.must(err)
		t.setEmail("ann", "thief@mail.test", noon)
		change, thief := t.changed("ann", "of the thief", noon), unsent(noon)
		_, err = t.NotMe(t.ctx, t.tenant, change.Token, thief, noon)
		t.must(err)
		t.wantResetLink(owner.Token, noon, "ann")
		byThief := newPassword(t.find("ann", noon), "without a message", noon)
		byThief.Link = &thief.Token
		_, err = t.SetPassword(t.ctx, byThief, noon)
		t.must(err)
		t.wantResetLink(owner.Token, noon, "ann")
		c, link := newPassword(t.find("ann", noon), "by message", noon), t.resetLink("ann", noon)
		c.Link = &link.Token
		_, err = t.SetPassword(t.ctx, c, noon)
		t.must(err)
		t.wantResetLink(owner.Token, noon, "ann")
		other := unsent(noon)
		_, err = t.AddResetLink(t.ctx, t.newResetLink("ann", other), noon)
		t.must(err)
		t.wantResetLink(owner.Token, noon)
	}},
	{"works once", func(t *test) {
		t.addActive("ann", noon)
		change := t.changed("ann", "of somebody else", noon)
		kinds := t.concurrently(8, func(int) error {
			_, err := t.NotMe(t.ctx, t.tenant, change.Token, unsent(noon), noon)
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.NotFound] != 7 {
			t.Errorf("got %v", kinds)
		}
	}},
	{"works after the password was changed again", func(t *test) {
		t.addActive("ann", noon)
		first := t.changed("ann", "one", noon)
		second := t.changed("ann", "two", noon)
		for _, change := range []account.Notice{first, second} {
			n := unsent(noon)
			_, err := t.NotMe(t.ctx, t.tenant, change.Token, n, noon)
			t.must(err)
			c := newPassword(t.find("ann", noon), "mine", noon)
			c.Link = &n.Token
			_, err = t.SetPassword(t.ctx, c, noon)
			t.must(err)
		}
	}},
	{"replaces a reset link that someone else may have", func(t *test) {
		t.addActive("ann", noon)
		change := t.changed("ann", "one", noon)
		other := t.resetLink("ann", noon)
		n := unsent(noon)
		_, err := t.NotMe(t.ctx, t.tenant, change.Token, n, noon)
		t.must(err)
		t.wantResetLink(other.Token, noon)
		t.wantResetLink(n.Token, noon, "ann")
	}},
	{"is refused for other links, tenants, times and states", func(t *test) {
		t.addActive("ann", noon)
		change := t.changed("ann", "one", noon)
		reset := t.resetLink("ann", noon)
		refused := func(tenant int64, token [32]byte, at time.Time) {
			t.Helper()
			_, err := t.NotMe(t.ctx, tenant, token, unsent(at), at)
			t.wantErr(err, account.ErrLinkUsed)
		}
		refused(t.tenant, newToken(), noon)
		refused(t.tenant, reset.Token, noon)
		refused(t.addTenant("b.test"), change.Token, noon)
		refused(t.tenant, change.Token, change.Until)
		before := t.find("ann", noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		_, err = t.NotMe(t.ctx, t.tenant, change.Token, unsent(noon), noon)
		t.wantErr(err, account.ErrLinkUsed)
		_, err = t.Enable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		if after := t.find("ann", noon); after.Epoch != before.Epoch+1 { // by Disable
			t.Errorf("the epoch went from %d to %d", before.Epoch, after.Epoch)
		}
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		refused(t.tenant, change.Token, noon)
	}},
	{"and a concurrent reset happen one after the other", func(t *test) {
		t.addActive("ann", noon)
		change := t.changed("ann", "one", noon)
		link := t.resetLink("ann", noon)
		n := unsent(noon)
		kinds := t.concurrently(2, func(i int) error {
			if i == 0 {
				_, err := t.NotMe(t.ctx, t.tenant, change.Token, n, noon)
				return err
			}
			c := newPassword(t.find("ann", noon), "two", noon)
			c.Link = &link.Token
			_, err := t.SetPassword(t.ctx, c, noon)
			return err
		})
		// The reset may come too late, as its link was replaced. The new link works in any case.
		if kinds[succeeded]+kinds[fault.NotFound] != 2 || kinds[succeeded] == 0 {
			t.Errorf("got %v", kinds)
		}
		list, _, err := t.ResetLink(t.ctx, t.tenant, n.Token, noon)
		t.must(err)
		if !slices.ContainsFunc(list, func(a account.Account) bool { return a.User == "ann" }) {
			t.Errorf("got %+v", list)
		}
	}},
}
