package conformance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/tenant"
)

// byOperator returns a context for changes by an operator.
func (t *test) byOperator() context.Context {
	return audit.With(t.ctx, audit.Cause{
		Actor: audit.Actor{Kind: audit.Command, Name: "op", ID: "1"}, Reason: "asked",
	})
}

// addition returns an account that an operator adds, with a message of a kind.
func (t *test) addition(user string, kind mailmsg.Kind, at time.Time) account.Addition {
	n := account.Addition{
		Account: account.Account{
			UID: account.NewUID(at), Tenant: t.tenant, User: user, Name: "Ann Example", Email: user + "@mail.test",
			Role: account.User, Lang: i18n.French, NotSignedIn: true, Created: at, Expires: at.Add(account.PendingLife),
			Sealed: []byte("sealed credential of " + user), HasSHA256: true,
			Set: account.SetState{State: account.Waiting},
		},
		Token: newToken(), Notice: notice(kind, at),
	}
	n.Notice.Until = n.Account.Expires
	if kind == mailmsg.Activation {
		n.Token = n.Notice.Token
	}
	return n
}

func (t *test) add(n account.Addition) account.Account {
	t.Helper()
	a, err := t.AddAccount(t.byOperator(), n, n.Account.Created)
	t.must(err)
	return a
}

// wantLeft takes over the messages that were left to a server, and compares the kinds and addresses of those that are
// not replaced.
func (t *test) wantLeft(want ...string) {
	t.Helper()
	list, err := t.TakeOver(t.ctx)
	t.must(err)
	var got []string
	for _, e := range list {
		if !e.Unowned {
			t.Errorf("the message to %s is not one of a command", e.Email)
		}
		if !e.Replaced {
			got = append(got, fmt.Sprint(account.KindName(e.Kind), " ", e.Email))
		}
	}
	slices.Sort(got)
	t.wantEqual(got, want)
}

// changesOf returns the changes of accounts with a user name, one line each.
func (t *test) changesOf(user string) (lines []string) {
	t.Helper()
	t.must(t.Changes(t.ctx, audit.Filter{User: user}, func(c audit.Change) error {
		lines = append(lines,
			fmt.Sprintf("%s %s[%s>%s] %s %s", c.Action, c.Subject, c.Before, c.After, c.Actor, c.Reason))
		return nil
	}))
	return lines
}

var addedTests = []testCase{
	{"wait for their activation link", func(t *test) {
		n := t.addition("ann", mailmsg.Activation, noon)
		a := t.add(n)
		want := n.Account
		want.Disabled = true
		want.Set = account.SetState{State: account.Waiting, At: noon, By: "op", Reason: "asked"}
		t.wantAccount(a, want)
		t.wantAccount(t.find("ann", noon), want)
		t.wantLeft("activation ann@mail.test")
		t.wantEqual(t.changesOf("ann"), []string{"account.add user[>waiting] op asked"})
		_, err := t.Activate(t.ctx, t.tenant, n.Token, noon)
		t.must(err)
		if got := t.find("ann", noon).State(); got != account.Active {
			t.Errorf("the account is %s", got)
		}
	}},
	{"are active at once, without a message", func(t *test) {
		n := t.addition("ann", mailmsg.Activation, noon)
		n.Account.Activated, n.Account.Set.State, n.Notice = noon, account.Active, account.Notice{}
		if a := t.add(n); a.State() != account.Active || a.Disabled || !a.Confirmed.IsZero() {
			t.Errorf("got %+v", a)
		}
		t.wantLeft()
		t.wantEqual(t.changesOf("ann"), []string{"account.add user[>active] op asked"})
	}},
	{"take no name that is taken", func(t *test) {
		t.addPending("ann", noon)
		t.addActive("bob", noon)
		t.must(t.Delete(t.ctx, t.tenant, "bob", noon))
		for _, user := range []string{"ann", "bob"} {
			_, err := t.AddAccount(t.ctx, t.addition(user, mailmsg.SetPassword, noon), noon)
			t.wantErr(err, account.ErrTaken)
		}
		t.wantLeft()
		late := noon.Add(account.PendingLife)
		if a := t.add(t.addition("ann", mailmsg.SetPassword, late)); !a.Created.Equal(late) {
			t.Errorf("got %+v", a)
		}
	}},
	{"compete with signups for a name, and one gets it", func(t *test) {
		kinds := t.concurrently(8, func(i int) error {
			if i%2 == 0 {
				return t.Create(t.ctx, t.signup("ann", noon), noon)
			}
			_, err := t.AddAccount(t.ctx, t.addition("ann", mailmsg.SetPassword, noon), noon)
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.Conflict] != 7 {
			t.Errorf("got %v", kinds)
		}
	}},
	{"get their password through the link, which activates and confirms them", func(t *test) {
		n := t.addition("ann", mailmsg.SetPassword, noon)
		a := t.add(n)
		t.wantLeft("set_password ann@mail.test")
		t.wantResetLink(n.Notice.Token, noon, "ann")
		if has, err := t.HasPasswordLink(t.ctx, a.UID); err != nil || !has {
			t.Errorf("got %t, %v", has, err)
		}
		t.wantResetLink(n.Notice.Token, n.Account.Expires)
		_, err := t.Activate(t.ctx, t.tenant, n.Notice.Token, noon)
		t.wantKind(err, fault.NotFound)
		c := newPassword(a, "first", noon)
		_, err = t.SetPassword(t.ctx, c, noon)
		t.wantKind(err, fault.NotFound) // without the link
		c.Link = &n.Notice.Token
		_, err = t.SetPassword(t.ctx, c, noon)
		t.wantKind(err, fault.NotFound) // not as a first password
		c.First = true
		later := noon.Add(time.Minute)
		kinds := t.concurrently(4, func(int) error {
			_, err := t.SetPassword(t.ctx, c, later)
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.NotFound] != 3 {
			t.Errorf("got %v", kinds)
		}
		got := t.find("ann", later)
		if got.State() != account.Active || !got.Activated.Equal(later) || !got.Confirmed.Equal(later) ||
			string(got.Sealed) != "first" || got.Passwords != 1 {
			t.Errorf("got %+v", got)
		}
		t.wantEqual(t.pendingUsers(), []string{"ann"}) // no message that the password was changed
		t.wantResetLink(n.Notice.Token, later)
	}},
	{"are activated by no other link", func(t *test) {
		a := t.add(t.addition("ann", mailmsg.SetPassword, noon))
		t.addWithAddress("bob", "ann@mail.test", noon)
		other := t.resetLink("bob", noon)
		c := newPassword(a, "first", noon)
		c.First, c.Link = true, &other.Token
		_, err := t.SetPassword(t.ctx, c, noon)
		t.wantErr(err, account.ErrLinkUsed)
		t.wantResetLink(other.Token, noon, "bob")
	}},
	{"while disabled, get no password", func(t *test) {
		n := t.addition("ann", mailmsg.SetPassword, noon)
		a := t.add(n)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantResetLink(n.Notice.Token, noon)
		c := newPassword(a, "first", noon)
		c.First, c.Link = true, &n.Notice.Token
		_, err = t.SetPassword(t.ctx, c, noon)
		t.wantErr(err, account.ErrHeld)
	}},
	{"lose their link to a reset link", func(t *test) {
		n := t.addition("ann", mailmsg.SetPassword, noon)
		n.Account.Activated, n.Account.Set.State = noon, account.Active
		t.add(n)
		t.wantResetLink(n.Notice.Token, noon, "ann")
		t.resetLink("ann", noon)
		t.wantResetLink(n.Notice.Token, noon)
	}},
	{"get another link from the page for forgotten passwords", func(t *test) {
		n := t.addition("ann", mailmsg.SetPassword, noon)
		t.add(n)
		t.addPending("bob", noon)
		_, err := t.AddResetLink(t.ctx, t.newResetLink("ann", notice(mailmsg.Reset, noon)), noon)
		t.wantKind(err, fault.NotFound)
		_, err = t.AddResetLink(t.ctx, t.newResetLink("bob", notice(mailmsg.SetPassword, noon)), noon)
		t.wantKind(err, fault.NotFound)
		next := notice(mailmsg.SetPassword, noon)
		_, err = t.AddResetLink(t.ctx, t.newResetLink("ann", next), noon)
		t.must(err)
		t.wantResetLink(n.Notice.Token, noon)
		t.wantResetLink(next.Token, noon, "ann")
	}},
}

// again returns the argument of SendAgain for a user.
func (t *test) again(user, email string) account.Resending {
	return account.Resending{
		Tenant: t.tenant, User: user, Email: email,
		Activation: notice(mailmsg.Activation, noon), SetPassword: notice(mailmsg.SetPassword, noon),
	}
}

var sentAgainTests = []testCase{
	{"have an activation link that replaces the previous one", func(t *test) {
		s := t.addPending("ann", noon)
		r := t.again("ann", "new@mail.test")
		a, err := t.SendAgain(t.byOperator(), r, noon)
		t.must(err)
		if a.Email != "new@mail.test" || a.State() != account.Waiting || !a.Expires.Equal(s.Account.Expires) {
			t.Errorf("got %+v", a)
		}
		t.wantEmail("ann", "new@mail.test", noon)
		t.wantLeft("activation new@mail.test")
		t.wantEqual(t.changesOf("ann"), []string{"account.resend email[>] op asked"})
		_, err = t.Activate(t.ctx, t.tenant, s.Token, noon)
		t.wantErr(err, account.ErrReplaced)
		t.must(t.Undo(t.ctx, s, noon)) // changes nothing
		_, err = t.SendAgain(t.byOperator(), t.again("ann", ""), noon)
		t.must(err)
		_, err = t.Activate(t.ctx, t.tenant, r.Activation.Token, noon)
		t.wantErr(err, account.ErrReplaced)
	}},
	{"have a link for the first password", func(t *test) {
		n := t.addition("ann", mailmsg.SetPassword, noon)
		t.add(n)
		r := t.again("ann", "new@mail.test")
		_, err := t.SendAgain(t.byOperator(), r, noon)
		t.must(err)
		t.wantLeft("set_password new@mail.test")
		t.wantResetLink(n.Notice.Token, noon)
		t.wantResetLink(r.SetPassword.Token, noon, "ann")
		t.wantResetLink(r.SetPassword.Token, n.Account.Expires.Add(-tick), "ann")
		next := t.again("ann", "") // to the same address
		_, err = t.SendAgain(t.byOperator(), next, noon)
		t.must(err)
		t.wantResetLink(r.SetPassword.Token, noon)
		t.wantResetLink(next.SetPassword.Token, noon, "ann")
		_, err = t.Activate(t.ctx, t.tenant, r.Activation.Token, noon)
		t.wantKind(err, fault.NotFound)
	}},
	{"are for waiting accounts only", func(t *test) {
		t.addActive("ann", noon)
		t.addPending("bob", noon)
		_, err := t.Disable(t.ctx, t.tenant, "bob", noon)
		t.must(err)
		for user, want := range map[string]error{"ann": account.ErrActive, "bob": account.ErrHeld} {
			_, err := t.SendAgain(t.ctx, t.again(user, "new@mail.test"), noon)
			t.wantErr(err, want)
			t.wantEmail(user, user+"@mail.test", noon)
		}
		_, err = t.SendAgain(t.ctx, t.again("nobody", ""), noon)
		t.wantKind(err, fault.NotFound)
		_, err = t.SendAgain(t.ctx, t.again("bob", ""), noon.Add(account.PendingLife))
		t.wantKind(err, fault.NotFound)
	}},
	{"include reset links, whose messages a server writes", func(t *test) {
		t.addActive("ann", noon)
		t.wantLeft()
		r := t.newResetLink("ann", notice(mailmsg.Reset, noon))
		r.TakenOver = true
		_, err := t.AddResetLink(t.byOperator(), r, noon)
		t.must(err)
		t.wantLeft("activation ann@mail.test", "reset ann@mail.test")
		t.wantResetLink(r.Token, noon, "ann")
		t.wantEqual(t.changesOf("ann"), []string{"password.link message[>] op asked"})
	}},
}

var renameTests = []testCase{
	{"set the name in any state, without the name in the trail", func(t *test) {
		t.addPending("ann", noon)
		for range 2 { // the second changes nothing
			a, err := t.Rename(t.byOperator(), t.tenant, "ann", "Other", noon)
			t.must(err)
			if a.Name != "Other" || t.find("ann", noon).Name != "Other" {
				t.Errorf("got %+v", a)
			}
		}
		t.wantEqual(t.changesOf("ann"), []string{"account.profile name[>] op asked"})
		_, err := t.Rename(t.ctx, t.tenant, "nobody", "Other", noon)
		t.wantKind(err, fault.NotFound)
		_, err = t.Rename(t.ctx, t.addTenant("b.test"), "ann", "Other", noon)
		t.wantKind(err, fault.NotFound)
	}},
	{"end the sessions of an active account", func(t *test) {
		t.addActive("ann", noon)
		t.addPending("bob", noon)
		t.begin(t.find("ann", noon), 2, noon)
		a, err := t.EndSessions(t.byOperator(), t.tenant, "ann", noon)
		t.must(err)
		if a.Epoch != 1 {
			t.Errorf("got %+v", a)
		}
		list, err := t.Store.Sessions(t.ctx, a.UID, 0, noon)
		if err != nil || len(list) != 0 {
			t.Errorf("got %+v, %v", list, err)
		}
		t.wantEqual(t.changesOf("ann"), []string{"sessions.end all[>] op asked"})
		if b, err := t.EndSessions(t.ctx, t.tenant, "bob", noon); err != nil || b.Epoch != 0 {
			t.Errorf("got %+v, %v", b, err)
		}
		_, err = t.EndSessions(t.ctx, t.tenant, "nobody", noon)
		t.wantKind(err, fault.NotFound)
	}},
}

var detailTests = []testCase{
	{"have the messages in the outbox and those being sent, newest first", func(t *test) {
		s := t.addActive("ann", noon)
		t.addActive("bob", noon)
		_, err := t.Enqueue(t.ctx, []outbox.Ref{ref(s)}, noon)
		t.must(err)
		t.resetLink("ann", noon.Add(time.Minute))
		list, err := t.MessagesOf(t.ctx, s.Account.UID, 10)
		t.must(err)
		if len(list) != 2 || list[0].Kind != "reset" || list[0].State != "writing" || list[0].To != "ann@mail.test" ||
			list[1].State != "waiting" || !list[1].Since.Equal(noon) {
			t.Errorf("got %+v", list)
		}
		if list, err = t.MessagesOf(t.ctx, s.Account.UID, 1); err != nil || len(list) != 1 || list[0].Kind != "reset" {
			t.Errorf("got %+v, %v", list, err)
		}
	}},
	{"report that messages without a relay were written", func(t *test) {
		want := func(user string, want ...account.DataMessage) {
			t.Helper()
			list, err := t.MessagesOf(t.ctx, t.find(user, noon).UID, 10)
			t.must(err)
			t.wantSame(len(list), len(want))
			for i := range want {
				if got := list[i]; got.ID != want[i].ID || got.To != user+"@mail.test" || got.State != "written" ||
					got.Kind != want[i].Kind || !got.Since.Equal(want[i].Since) ||
					!got.Expires.Equal(*want[i].Expires) {
					t.Errorf("got %+v, want %+v", got, want[i])
				}
			}
		}
		written := func(id mailmsg.ID, since, expires time.Time) account.DataMessage {
			return account.DataMessage{ID: id.String(), Kind: "activation", Since: since, Expires: &expires}
		}
		acknowledge := func(m outbox.Ref, at time.Time) {
			t.Helper()
			for range 2 { // the second time, it is missing
				left, err := t.Ack(t.ctx, []outbox.Ref{m}, at)
				t.must(err)
				t.wantSame(len(left), 0)
			}
		}
		end, at := noon.Add(account.PendingLife), noon.Add(time.Hour)

		ann := t.addPending("ann", noon)
		acknowledge(ref(ann), noon.Add(time.Second))
		first := written(mailmsg.ID{}, noon, end)
		first.ID = ""
		want("ann", first)
		t.wantNoDelivery(ann) // signups write nothing more
		r := t.resend(ann.Account, "ann@mail.test", at)
		acknowledge(newRef(r), at.Add(time.Minute))
		want("ann", written(r.Message, at.Add(time.Minute), end))

		bob := t.addPending("bob", noon)
		acknowledge(ref(bob), at) // the pickup directory failed for an hour
		want("bob", written(bob.Message, at, end))

		eve := t.addActive("eve", noon)
		acknowledge(ref(eve), noon)
		want("eve")
		n := t.resetLink("eve", noon)
		acknowledge(outbox.Ref{Tenant: t.tenant, Account: eve.Account.UID, Message: n.Message}, noon.Add(time.Second))
		reset := written(n.Message, noon.Add(time.Second), n.Until)
		reset.Kind = "reset"
		want("eve", reset)
	}},
	{"have the newest changes, and the name of a deleted account", func(t *test) {
		t.addActive("ann", noon)
		_, err := t.ClosedName(t.ctx, t.tenant, "ann")
		t.wantKind(err, fault.NotFound)
		_, err = t.SetRole(t.ctx, t.tenant, "ann", account.User, noon)
		t.must(err)
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		list, err := t.NewestChanges(t.ctx, "phone.test", "ann", noon, 2)
		t.must(err)
		if len(list) != 2 || list[0].Action != audit.AccountDelete || list[1].Action != audit.AccountRole {
			t.Errorf("got %+v", list)
		}
		later, err := t.NewestChanges(t.ctx, "phone.test", "ann", noon.Add(tick), 2)
		if err != nil || len(later) > 0 {
			t.Errorf("later: %+v, %v", later, err)
		}
		if n, err := t.ClosedName(t.ctx, t.tenant, "ann"); err != nil || n.User != "ann" || !n.Closed.Equal(noon) {
			t.Errorf("got %+v, %v", n, err)
		}
		for _, user := range []string{"nobody", "\xff", "a\x00"} {
			_, err = t.ClosedName(t.ctx, t.tenant, user)
			t.wantKind(err, fault.NotFound)
		}
	}},
	{"add a view by an actor to the trail once in a period", func(t *test) {
		s := t.addActive("ann", noon)
		view := func(actor string, at, since time.Time) {
			t.Helper()
			ctx := audit.With(t.ctx, audit.Cause{Actor: audit.Actor{Kind: audit.Token, Name: actor}})
			kinds := t.concurrently(4, func(int) error {
				return t.AddView(ctx, audit.Change{
					At: at, Action: audit.AccountView, Outcome: audit.OK, Tenant: "phone.test",
					Account: s.Account.UID.String(), User: "ann",
				}, since)
			})
			if kinds[succeeded] != 4 {
				t.Errorf("got %v", kinds)
			}
		}
		view("a", noon, noon)
		view("a", noon.Add(time.Minute), noon)
		view("b", noon.Add(time.Minute), noon)
		view("a", noon.Add(time.Hour), noon.Add(time.Hour))
		t.wantEqual(t.changesOf("ann"), []string{
			"account.view [>] token a ", "account.view [>] token b ", "account.view [>] token a ",
		})
	}},
	{"add a list by an actor of a tenant to the trail once in a period", func(t *test) {
		list := func(actor, host string, at, since time.Time) {
			t.Helper()
			ctx := audit.With(t.ctx, audit.Cause{Actor: audit.Actor{Kind: audit.Token, Name: actor}})
			kinds := t.concurrently(4, func(int) error {
				return t.AddView(ctx, audit.Change{
					At: at, Action: audit.AccountList, Outcome: audit.OK, Tenant: host,
				}, since)
			})
			t.wantSame(kinds[succeeded], 4)
		}
		list("a", "phone.test", noon, noon)
		list("b", "phone.test", noon, noon)
		list("a", "phone.test", noon.Add(time.Minute), noon)
		list("a", "other.test", noon.Add(time.Minute), noon)
		list("a", "phone.test", noon.Add(time.Hour), noon.Add(time.Hour))
		var got []string
		t.must(t.Changes(t.ctx, audit.Filter{Action: "account.list"}, func(c audit.Change) error {
			got = append(got, c.Actor.Name+" "+c.Tenant+c.At.UTC().Format(" 15:04"))
			return nil
		}))
		t.wantEqual(got, []string{
			"a phone.test 12:00", "b phone.test 12:00", "a other.test 12:01", "a phone.test 13:00",
		})
	}},
}

var signupModeTests = []testCase{
	{"are set without other settings", func(t *test) {
		tn := t.onlyTenant()
		tn.Product = "Example"
		t.must(t.SetTenant(t.ctx, tn, noon))
		version, err := t.TenantVersion(t.ctx)
		t.must(err)
		note := "Back on Monday."
		got, err := t.SetSignups(t.byOperator(), t.tenant, tenant.SignupsClosed, &note, noon)
		t.must(err)
		if shown, closed := t.onlyTenant().Closed(); !closed || shown != note || got.Host != "phone.test" ||
			t.onlyTenant().Product != "Example" {
			t.Errorf("got %+v, %q", got, shown)
		}
		if next, err := t.TenantVersion(t.ctx); err != nil || next <= version {
			t.Errorf("the version is %d, %v, after %d", next, err, version)
		}
		for range 2 { // the second changes nothing
			_, err = t.SetSignups(t.byOperator(), t.tenant, tenant.SignupsOpen, nil, noon)
			t.must(err)
		}
		if _, closed := t.onlyTenant().Closed(); closed || t.onlyTenant().SignupsNote != note {
			t.Error("the note is gone, or signups are closed")
		}
		t.wantEqual(t.signupChanges(), []string{
			`tenant.set {}>{"signups":"closed","signups_note":"Back on Monday."}`,
			`tenant.set {"signups":"closed"}>{"signups":"open"}`,
		})
		_, err = t.SetSignups(t.ctx, 12345, tenant.SignupsOpen, nil, noon)
		t.wantKind(err, fault.NotFound)
	}},
	{"of all tenants are frozen, whatever their own settings are", func(t *test) {
		if f, err := t.Freeze(t.ctx); err != nil || f != nil {
			t.Errorf("got %+v, %v", f, err)
		}
		t.must(t.SetFreeze(t.ctx, nil, noon)) // changes nothing
		version, err := t.TenantVersion(t.ctx)
		t.must(err)
		for range 2 {
			t.must(t.SetFreeze(t.byOperator(), &tenant.Freeze{Note: "A flood."}, noon))
		}
		if f, err := t.Freeze(t.ctx); err != nil || f == nil || f.Note != "A flood." {
			t.Errorf("got %+v, %v", f, err)
		}
		if note, closed := t.onlyTenant().Closed(); !closed || note != "A flood." {
			t.Errorf("got %q, %t", note, closed)
		}
		next, err := t.TenantVersion(t.ctx)
		if err != nil || next <= version {
			t.Errorf("the version is %d, %v, after %d", next, err, version)
		}
		t.must(t.SetFreeze(t.byOperator(), nil, noon))
		if _, closed := t.onlyTenant().Closed(); closed {
			t.Error("signups are still closed")
		}
		if after, err := t.TenantVersion(t.ctx); err != nil || after <= next {
			t.Errorf("the version is %d, %v, after %d", after, err, next)
		}
		t.wantEqual(t.signupChanges(), []string{
			`signups.freeze >{"note":"A flood."}`, `signups.unfreeze {"note":"A flood."}>`,
		})
	}},
}

// onlyTenant returns the tenant of the test.
func (t *test) onlyTenant() tenant.Tenant {
	t.Helper()
	list, _, err := t.Tenants(t.ctx)
	t.must(err)
	return list[0]
}

// signupChanges returns the operator's changes of who can sign up.
func (t *test) signupChanges() (lines []string) {
	t.Helper()
	t.must(t.Changes(t.ctx, audit.Filter{}, func(c audit.Change) error {
		if c.Actor.Name == "op" {
			lines = append(lines, fmt.Sprintf("%s %s>%s", c.Action, c.Before, c.After))
		}
		return nil
	}))
	return lines
}
