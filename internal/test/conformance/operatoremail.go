package conformance

import (
	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/session"
)

// replaceEmail sets the address of a user's account, as an operator.
func (t *test) replaceEmail(user, email string) account.Account {
	t.Helper()
	ctx := audit.With(t.ctx, audit.Cause{Actor: audit.Actor{Kind: audit.Command, Name: "op"}, Reason: "asked"})
	a, err := t.ReplaceEmail(ctx, t.tenant, user, email, noon)
	t.must(err)
	return a
}

var replacedEmailTests = []testCase{
	{"end sessions, device tokens and all links", func(t *test) {
		_, c := t.withApp("ann")
		t.addWithAddress("bob", "ann@mail.test", noon)
		t.addWithAddress("cid", "new@mail.test", noon)
		ofBob, ofCid := t.resetLink("bob", noon), t.resetLink("cid", noon)
		ofA := t.setEmail("ann", "thief@mail.test", noon)
		a := t.find("ann", noon)
		own := unsent(noon)
		_, err := t.AddResetLink(t.ctx, t.newResetLink("ann", own), noon)
		t.must(err)
		t.setEmail("bob", "thief@mail.test", noon)
		toThief := t.resetLink("bob", noon)
		confirm := t.emailLink("ann", "other@mail.test", noon)
		list := t.begin(a, 2, noon)
		messages := len(t.pendingUsers())
		got := t.replaceEmail("ann", "new@mail.test")
		want := a
		want.Email, want.Epoch, want.Passwords = "new@mail.test", a.Epoch+1, a.Passwords+1
		want.Emails++
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", noon), want)
		t.wantErr(t.End(t.ctx, a.UID, want.Epoch, list[0].ID, noon), session.ErrNoSession)
		t.wantEmailLink(confirm.Token, noon, "", "")
		for _, n := range []account.Notice{own, toThief, ofCid, ofBob} {
			t.wantResetLink(n.Token, noon)
		}
		for _, n := range []account.Notice{ofA, c.Notice} {
			t.wantErr(t.notMe(n.Token, noon), account.ErrLinkUsed)
		}
		t.wantEmail("ann", "new@mail.test", noon)
		for _, user := range t.pendingUsers() {
			if user == "ann" {
				t.Error("a message to ann is left")
			}
		}
		if len(t.pendingUsers()) >= messages {
			t.Error("there is another message")
		}
		app, err := t.App(t.ctx, a.UID)
		t.must(err)
		if app.Codes != len(c.Codes) {
			t.Errorf("the app is %+v", app)
		}
	}},
	{"are in the trail with the operator and the reason", func(t *test) {
		t.addActive("ann", noon)
		t.replaceEmail("ann", "new@mail.test")
		var list []audit.Change
		t.must(t.Changes(t.ctx, audit.Filter{User: "ann"}, func(c audit.Change) error {
			list = append(list, c)
			return nil
		}))
		if len(list) != 1 || list[0].Action != audit.EmailChange || list[0].Actor.Name != "op" ||
			list[0].Reason != "asked" || list[0].Before+list[0].After+list[0].Subject != "" {
			t.Errorf("got %+v", list)
		}
	}},
	{"leave a waiting account without a link, until it gets another one", func(t *test) {
		s := t.addPending("ann", noon)
		r := t.resend(s.Account, s.Account.Email, noon)
		a := t.replaceEmail("ann", "new@mail.test")
		if a.State() != account.Waiting || len(t.pendingUsers()) != 0 {
			t.Errorf("the account is %s, and %q have messages", a.State(), t.pendingUsers())
		}
		for _, token := range [][32]byte{s.Token, r.Token} {
			_, err := t.Activate(t.ctx, t.tenant, token, noon)
			t.wantKind(err, fault.NotFound)
			_, err = t.LinkedAddress(t.ctx, t.tenant, token, noon)
			t.wantKind(err, fault.NotFound)
		}
		t.must(t.Undo(t.ctx, s, noon)) // changes nothing
		t.must(t.UndoResend(t.ctx, r, noon))
		t.wantEmail("ann", "new@mail.test", noon)
		next := t.resend(a, a.Email, noon)
		_, err := t.Activate(t.ctx, t.tenant, next.Token, noon)
		t.must(err)
	}},
	{"are set in any state, and keep it", func(t *test) {
		t.addActive("ann", noon)
		t.addActive("bob", noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		left := t.leave("bob", noon)
		for user, want := range map[string]account.State{"ann": account.Disabled, "bob": account.Leaving} {
			if a := t.replaceEmail(user, "new@mail.test"); a.State() != want || a.Email != "new@mail.test" {
				t.Errorf("got %s with %s, want %s", a.State(), a.Email, want)
			}
		}
		_, err = t.Stay(t.ctx, t.tenant, left.Token, noon)
		t.wantErr(err, account.ErrLinkUsed)
		_, err = t.ReplaceEmail(t.ctx, t.tenant, "nobody", "new@mail.test", noon)
		t.wantKind(err, fault.NotFound)
		_, err = t.ReplaceEmail(t.ctx, t.addTenant("b.test"), "ann", "new@mail.test", noon)
		t.wantKind(err, fault.NotFound)
	}},
	{"win over concurrent changes by someone with the password", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		link := t.emailLink("ann", "thief@mail.test", noon)
		a := t.find("ann", noon)
		errs := make([]error, 3)
		t.concurrently(3, func(i int) error {
			switch i {
			case 0:
				_, errs[0] = t.ReplaceEmail(t.ctx, t.tenant, "ann", "new@mail.test", noon)
			case 1:
				_, errs[1] = t.SetEmail(t.ctx, t.tenant, link.Token, notice(mailmsg.EmailChanged, noon), noon)
			case 2:
				l := account.NewEmailLink{Account: a, Email: "b@mail.test", Notice: notice(mailmsg.ConfirmEmail, noon)}
				_, errs[2] = t.AddEmailLink(t.ctx, l, noon)
				if errs[2] == nil {
					_, _ = t.SetEmail(t.ctx, t.tenant, l.Token, notice(mailmsg.EmailChanged, noon), noon)
				}
			}
			return errs[i]
		})
		t.must(errs[0])
		t.wantEmail("ann", "new@mail.test", noon)
	}},
}
