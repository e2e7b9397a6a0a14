package conformance

import (
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/session"
	"dialtone/internal/throttle"
)

// newEmailLink returns the argument of AddEmailLink for a user, without limits.
func (t *test) newEmailLink(user, email string, at time.Time) account.NewEmailLink {
	t.Helper()
	return account.NewEmailLink{
		Account: t.find(user, at), Email: email, Notice: notice(mailmsg.ConfirmEmail, at),
	}
}

// emailLink adds a link that sets another address for the account of a user.
func (t *test) emailLink(user, email string, at time.Time) account.Notice {
	t.Helper()
	l := t.newEmailLink(user, email, at)
	sent, err := t.AddEmailLink(t.ctx, l, at)
	t.must(err)
	if !sent {
		t.Fatal("not sent")
	}
	return l.Notice
}

// setEmail changes the address of a user, and returns the message to the previous address.
func (t *test) setEmail(user, email string, at time.Time) account.Notice {
	t.Helper()
	n := notice(mailmsg.EmailChanged, at)
	_, err := t.SetEmail(t.ctx, t.tenant, t.emailLink(user, email, at).Token, n, at)
	t.must(err)
	return n
}

// wantEmailLink checks that a link sets an address for a user or, if email is empty, that it does
// not work.
func (t *test) wantEmailLink(token [32]byte, at time.Time, user, email string) {
	t.Helper()
	a, got, err := t.EmailLink(t.ctx, t.tenant, token, at)
	if email == "" {
		t.wantErr(err, account.ErrLinkUsed)
		_, err = t.SetEmail(t.ctx, t.tenant, token, notice(mailmsg.EmailChanged, at), at)
		t.wantErr(err, account.ErrLinkUsed)
		return
	}
	t.must(err)
	if a.User != user || got != email {
		t.Errorf("the link sets the address of %s to %s, want %s and %s", a.User, got, user, email)
	}
}

func (t *test) wantEmail(user, want string, at time.Time) {
	t.Helper()
	if got := t.find(user, at).Email; got != want {
		t.Errorf("the address of %s is %s, want %s", user, got, want)
	}
}

// notMe uses the link of a message about a change.
func (t *test) notMe(token [32]byte, at time.Time) error {
	_, err := t.NotMe(t.ctx, t.tenant, token, unsent(at), at)
	return err
}

var emailTests = []testCase{
	{"set the address, and confirm the account", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		before := t.find("ann", noon)
		link := t.emailLink("ann", "b@mail.test", noon)
		t.wantAccount(t.find("ann", noon), before)
		t.wantEmailLink(link.Token, noon, "ann", "b@mail.test")
		at := noon.Add(time.Minute)
		got, err := t.SetEmail(t.ctx, t.tenant, link.Token, notice(mailmsg.EmailChanged, at), at)
		t.must(err)
		want := before
		want.Email, want.Emails, want.Confirmed = "b@mail.test", 1, at
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", at), want)
		t.wantEmailLink(link.Token, at, "", "")
		t.wantEqual(t.trailOf("ann"), []string{"account.email"})
		later := noon.Add(time.Hour)
		t.setEmail("ann", "c@mail.test", later)
		want.Email, want.Emails = "c@mail.test", 2
		t.wantAccount(t.find("ann", later), want)
	}},
	{"send one message to each address", func(t *test) {
		a := t.addWithAddress("ann", "a@mail.test", noon)
		t.ack([]outbox.Ref{ref(a)})
		link := t.emailLink("ann", "b@mail.test", noon)
		changed := notice(mailmsg.EmailChanged, noon)
		_, err := t.SetEmail(t.ctx, t.tenant, link.Token, changed, noon)
		t.must(err)
		list, err := t.Pending(t.ctx)
		t.must(err)
		got := map[mailmsg.ID]string{}
		for _, e := range list {
			got[e.Message] = string(e.Kind) + " " + e.Email + " " + e.Net
		}
		if len(list) != 2 || got[link.Message] != "confirm_email b@mail.test 192.0.2.0/24" ||
			got[changed.Message] != "email_changed a@mail.test 192.0.2.0/24" {
			t.Errorf("got %v", got)
		}
	}},
	{"accept only the newest link", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		t.addWithAddress("bob", "a@mail.test", noon)
		of := t.emailLink("bob", "b@mail.test", noon)
		first := t.emailLink("ann", "b@mail.test", noon)
		second := t.emailLink("ann", "c@mail.test", noon)
		t.wantEmailLink(first.Token, noon, "", "")
		t.wantEmailLink(second.Token, noon, "ann", "c@mail.test")
		t.wantEmailLink(second.Token, second.Until.Add(-tick), "ann", "c@mail.test")
		t.wantEmailLink(second.Token, second.Until, "", "")
		t.wantEmailLink(of.Token, noon, "bob", "b@mail.test")
	}},
	{"accept no link of another kind or tenant", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		reset := t.resetLink("ann", noon)
		changed := t.changed("ann", "new", noon)
		for _, token := range [][32]byte{newToken(), reset.Token, changed.Token} {
			t.wantEmailLink(token, noon, "", "")
		}
		link := t.emailLink("ann", "b@mail.test", noon)
		other := t.addTenant("b.test")
		_, err := t.SetEmail(t.ctx, other, link.Token, notice(mailmsg.EmailChanged, noon), noon)
		t.wantErr(err, account.ErrLinkUsed)
		t.wantResetLink(link.Token, noon)
		t.wantErr(t.notMe(link.Token, noon), account.ErrLinkUsed)
		t.wantEmail("ann", "a@mail.test", noon)
	}},
	{"happen once despite concurrent calls", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		link := t.emailLink("ann", "b@mail.test", noon)
		kinds := t.concurrently(8, func(int) error {
			_, err := t.SetEmail(t.ctx, t.tenant, link.Token, notice(mailmsg.EmailChanged, noon), noon)
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.NotFound] != 7 {
			t.Errorf("got %v", kinds)
		}
		t.wantEqual(t.trailOf("ann"), []string{"account.email"})
	}},
	{"end with a change of the password", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		link := t.emailLink("ann", "b@mail.test", noon)
		t.changed("ann", "new", noon)
		t.wantEmailLink(link.Token, noon, "", "")
	}},
	{"end with a reset", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		link := t.emailLink("ann", "b@mail.test", noon)
		reset := t.resetLink("ann", noon)
		t.wantEmailLink(link.Token, noon, "ann", "b@mail.test")
		c := newPassword(t.find("ann", noon), "new", noon)
		c.Link = &reset.Token
		_, err := t.SetPassword(t.ctx, c, noon)
		t.must(err)
		t.wantEmailLink(link.Token, noon, "", "")
	}},
	{"end with a \"not me\" link", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		change := t.changed("ann", "new", noon)
		link := t.emailLink("ann", "b@mail.test", noon)
		t.must(t.notMe(change.Token, noon))
		t.wantEmailLink(link.Token, noon, "", "")
	}},
	{"end when the account is disabled or deleted", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		link := t.emailLink("ann", "b@mail.test", noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantEmailLink(link.Token, noon, "", "")
		_, err = t.AddEmailLink(t.ctx, t.newEmailLink("ann", "b@mail.test", noon), noon)
		t.wantErr(err, account.ErrHeld)
		_, err = t.Enable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantEmailLink(link.Token, noon, "", "")
		l := t.newEmailLink("ann", "b@mail.test", noon)
		_, err = t.AddEmailLink(t.ctx, l, noon)
		t.must(err)
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		t.wantEmailLink(l.Token, noon, "", "")
		_, err = t.AddEmailLink(t.ctx, l, noon)
		t.wantKind(err, fault.NotFound)
	}},
	{"need a proof of the current password and the current address", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		t.addPending("bob", noon)
		_, err := t.AddEmailLink(t.ctx, t.newEmailLink("bob", "b@mail.test", noon), noon)
		t.wantKind(err, fault.NotFound)
		l := t.newEmailLink("ann", "b@mail.test", noon)
		other := l
		other.Account.UID = account.UID(newID())
		_, err = t.AddEmailLink(t.ctx, other, noon)
		t.wantKind(err, fault.NotFound)
		t.setEmail("ann", "c@mail.test", noon)
		_, err = t.AddEmailLink(t.ctx, l, noon)
		t.wantErr(err, account.ErrAddressChanged)
		l = t.newEmailLink("ann", "b@mail.test", noon)
		t.changed("ann", "new", noon)
		_, err = t.AddEmailLink(t.ctx, l, noon)
		t.wantErr(err, account.ErrPasswordChanged)
		t.wantEmailLink(l.Token, noon, "", "")
	}},
	{"end reset links to the previous address", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		t.addWithAddress("bob", "a@mail.test", noon)
		t.addWithAddress("cid", "b@mail.test", noon)
		own := unsent(noon)
		_, err := t.AddResetLink(t.ctx, t.newResetLink("ann", own), noon)
		t.must(err)
		ofOld, ofNew := t.resetLink("bob", noon), t.resetLink("cid", noon)
		t.setEmail("ann", "b@mail.test", noon)
		t.wantResetLink(ofOld.Token, noon)
		t.wantResetLink(ofNew.Token, noon, "ann", "cid")
		t.wantResetLink(own.Token, noon, "ann") // somebody who knows the password cannot remove it
	}},
	{"are limited for each account", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		perAccount, perRecipient := allowance(newBucket(), 2), allowance(newBucket(), 9)
		add := func(at time.Time) error {
			l := t.newEmailLink("ann", "b@mail.test", at)
			l.Allowances, l.Recipient = []throttle.Allowance{perAccount}, []throttle.Allowance{perRecipient}
			_, err := t.AddEmailLink(t.ctx, l, at)
			return err
		}
		t.must(add(noon))
		t.must(add(noon.Add(time.Minute)))
		t.wantLimited(add(noon.Add(2*time.Minute)),
			func(wait time.Duration) error { return account.EmailRefusal(throttle.Wait{For: wait}) }, 58*time.Minute)
		t.must(add(noon.Add(time.Hour)))
	}},
	{"send nothing over the limit of the recipient, and do not reveal that", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		bucket := newBucket()
		older := t.emailLink("ann", "b@mail.test", noon)
		add := func(at time.Time) (account.NewEmailLink, bool) {
			l := t.newEmailLink("ann", "c@mail.test", at)
			l.Recipient = []throttle.Allowance{allowance(bucket, 1)}
			sent, err := t.AddEmailLink(t.ctx, l, at)
			t.must(err)
			return l, sent
		}
		if _, sent := add(noon); !sent {
			t.Error("not sent")
		}
		t.wantEmailLink(older.Token, noon, "", "")
		messages := len(t.pendingUsers())
		l, sent := add(noon.Add(time.Minute))
		if sent || len(t.pendingUsers()) != messages {
			t.Error("sent over the limit")
		}
		t.wantEmailLink(l.Token, noon.Add(time.Minute), "", "")
		if _, sent := add(noon.Add(time.Hour)); !sent {
			t.Error("not sent after the limit")
		}
	}},
	{"send nothing to an address that declined an account", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		a := t.addPending("bob", noon)
		bucket := newBucket()
		d := t.decline(a, a.Token)
		d.Recipient = append(d.Recipient, throttle.Allowance{Bucket: bucket, Rule: a.Recipient.Rule})
		t.must(t.Decline(t.ctx, d, noon))
		add := func(at time.Time) bool {
			l := t.newEmailLink("ann", a.Account.Email, at)
			l.Recipient = d.Recipient[1:]
			sent, err := t.AddEmailLink(t.ctx, l, at)
			t.must(err)
			return sent
		}
		if add(noon.Add(a.Recipient.Rule.Per - tick)) {
			t.Error("sent")
		}
		if !add(noon.Add(a.Recipient.Rule.Per)) {
			t.Error("not sent after a day")
		}
	}},
	{"are undone however late the message about a sign-in is recorded", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		signedIn := signIn(t.find("ann", noon), "192.0.2.0/24", "Firefox", noon.Add(2*session.SettlingTime))
		ofA := t.setEmail("ann", "evil@mail.test", signedIn.Began.Add(time.Second))
		t.recordSessions(signedIn) // its message goes to the new address, and is older than the change
		t.must(t.notMe(signedIn.New.Notice.Token, signedIn.Began.Add(2*time.Second)))
		t.must(t.notMe(ofA.Token, signedIn.Began.Add(3*time.Second)))
		if got := t.find("ann", noon).Email; got != "a@mail.test" {
			t.Errorf("the address is %s", got)
		}
	}},
	{"are undone by the first of several messages, which ends the later ones", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		ofA := t.setEmail("ann", "b@mail.test", noon.Add(time.Minute))
		ofB := t.setEmail("ann", "c@mail.test", noon.Add(2*time.Minute))
		waiting := t.emailLink("ann", "d@mail.test", noon.Add(3*time.Minute))
		before := t.find("ann", noon)
		n := unsent(noon)
		got, err := t.NotMe(t.ctx, t.tenant, ofA.Token, n, noon.Add(4*time.Minute))
		t.must(err)
		want := before
		want.Email, want.Emails = "a@mail.test", 3
		want.Epoch, want.Passwords = before.Epoch+1, before.Passwords+1
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", noon), want)
		t.wantErr(t.notMe(ofB.Token, noon), account.ErrLinkUsed)
		t.wantErr(t.notMe(ofA.Token, noon), account.ErrLinkUsed)
		t.wantEmailLink(waiting.Token, noon, "", "")
		t.wantResetLink(n.Token, noon, "ann")
	}},
	{"are undone by the last of several messages, which leaves the earlier ones", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		ofA := t.setEmail("ann", "b@mail.test", noon.Add(time.Minute))
		ofB := t.setEmail("ann", "c@mail.test", noon.Add(2*time.Minute))
		t.must(t.notMe(ofB.Token, noon))
		t.wantEmail("ann", "b@mail.test", noon)
		t.must(t.notMe(ofA.Token, noon))
		t.wantEmail("ann", "a@mail.test", noon)
	}},
	{"are undone after a change of the password", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		ofA := t.setEmail("ann", "b@mail.test", noon.Add(time.Minute))
		ofB := t.changed("ann", "of somebody else", noon.Add(2*time.Minute))
		t.must(t.notMe(ofA.Token, noon))
		t.wantEmail("ann", "a@mail.test", noon)
		t.wantErr(t.notMe(ofB.Token, noon), account.ErrLinkUsed)
	}},
	{"invalidate an older activation link", func(t *test) {
		a := t.addPending("ann", noon)
		r := t.resend(a.Account, a.Account.Email, noon)
		_, err := t.Activate(t.ctx, t.tenant, r.Token, noon)
		t.must(err)
		linked := func(token [32]byte) error {
			_, err := t.LinkedAddress(t.ctx, t.tenant, token, noon)
			return err
		}
		t.wantErr(linked(a.Token), account.ErrActive)
		ofA := t.setEmail("ann", "b@mail.test", noon.Add(time.Minute))
		if err := linked(a.Token); !errors.Is(err, account.ErrReplaced) {
			t.Errorf("got %v", err)
		}
		t.must(t.notMe(ofA.Token, noon))
		if err := linked(a.Token); !errors.Is(err, account.ErrReplaced) {
			t.Errorf("after it was undone, got %v", err)
		}
	}},
	{"have one outcome with a concurrent link that undoes them", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		ofA := t.setEmail("ann", "b@mail.test", noon.Add(time.Minute))
		link := t.emailLink("ann", "c@mail.test", noon.Add(2*time.Minute))
		errs := make([]error, 2)
		t.concurrently(2, func(i int) error {
			if i == 0 {
				errs[0] = t.notMe(ofA.Token, noon)
				return errs[0]
			}
			_, errs[1] = t.SetEmail(t.ctx, t.tenant, link.Token, notice(mailmsg.EmailChanged, noon.Add(3*time.Minute)),
				noon)
			return errs[1]
		})
		t.must(errs[0])
		if errs[1] != nil {
			t.wantErr(errs[1], account.ErrLinkUsed)
		}
		t.wantEmail("ann", "a@mail.test", noon)
	}},
	{"have one outcome with a concurrent reset through the previous address", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		link, reset := t.emailLink("ann", "b@mail.test", noon), t.resetLink("ann", noon)
		before := t.find("ann", noon)
		kinds := t.concurrently(2, func(i int) error {
			if i == 0 {
				_, err := t.SetEmail(t.ctx, t.tenant, link.Token, notice(mailmsg.EmailChanged, noon), noon)
				return err
			}
			c := newPassword(before, "new", noon)
			c.Link = &reset.Token
			_, err := t.SetPassword(t.ctx, c, noon)
			return err
		})
		after := t.find("ann", noon)
		if kinds[succeeded] != 1 || kinds[fault.NotFound] != 1 ||
			(after.Email == "b@mail.test") == (after.Passwords == 1) {
			t.Errorf("got %v, %s, %d changes", kinds, after.Email, after.Passwords)
		}
	}},
	{"have one outcome with a concurrent disable", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		link := t.emailLink("ann", "b@mail.test", noon)
		changed := notice(mailmsg.EmailChanged, noon)
		errs := make([]error, 2)
		t.concurrently(2, func(i int) error {
			if i == 0 {
				_, errs[0] = t.Disable(t.ctx, t.tenant, "ann", noon)
			} else {
				_, errs[1] = t.SetEmail(t.ctx, t.tenant, link.Token, changed, noon)
			}
			return errs[i]
		})
		t.must(errs[0])
		want := "b@mail.test"
		if errs[1] != nil {
			want = "a@mail.test"
			if !errors.Is(errs[1], account.ErrLinkUsed) && !errors.Is(errs[1], account.ErrHeld) {
				t.Error(errs[1])
			}
		}
		t.wantEmail("ann", want, noon)
		t.wantErr(t.notMe(changed.Token, noon), account.ErrLinkUsed)
	}},
	{"both happen when two accounts swap their addresses", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		t.addWithAddress("bob", "b@mail.test", noon)
		links := []account.Notice{t.emailLink("ann", "b@mail.test", noon), t.emailLink("bob", "a@mail.test", noon)}
		kinds := t.concurrently(2, func(i int) error {
			_, err := t.SetEmail(t.ctx, t.tenant, links[i].Token, notice(mailmsg.EmailChanged, noon), noon)
			return err
		})
		if kinds[succeeded] != 2 {
			t.Errorf("got %v", kinds)
		}
		t.wantEmail("ann", "b@mail.test", noon)
		t.wantEmail("bob", "a@mail.test", noon)
	}},
}

var profileTests = []testCase{
	{"sets the name, the language, or both", func(t *test) {
		t.addActive("ann", noon)
		want := t.find("ann", noon)
		for _, p := range []account.ProfileChange{
			{Name: "Ann Émile"}, {Lang: i18n.German},
			{Name: "Ann", Lang: i18n.Arabic}, {Name: "Ann", Lang: i18n.Arabic}, // the last one changes nothing
		} {
			p.Account = want
			if p.Name != "" {
				want.Name = p.Name
			}
			if p.Lang != "" {
				want.Lang = p.Lang
			}
			got, err := t.SetProfile(t.ctx, p, noon)
			t.must(err)
			t.wantAccount(got, want)
			t.wantAccount(t.find("ann", noon), want)
		}
		var changed []string
		t.must(t.Changes(t.ctx, audit.Filter{User: "ann"}, func(c audit.Change) error {
			changed = append(changed, string(c.Action)+" "+c.Subject+c.Before+c.After)
			return nil
		}))
		t.wantEqual(changed, []string{"account.profile name", "account.profile lang", "account.profile name,lang"})
	}},
	{"is refused for other accounts and states", func(t *test) {
		a := t.addPending("ann", noon)
		set := func(a account.Account) error {
			_, err := t.SetProfile(t.ctx, account.ProfileChange{Account: a, Name: "Other"}, noon)
			return err
		}
		t.wantKind(set(a.Account), fault.NotFound)
		t.addActive("bob", noon)
		bob := t.find("bob", noon)
		other := bob
		other.UID = account.UID(newID())
		t.wantKind(set(other), fault.NotFound)
		other = bob
		other.Tenant = t.addTenant("b.test")
		t.wantKind(set(other), fault.NotFound)
		_, err := t.Disable(t.ctx, t.tenant, "bob", noon)
		t.must(err)
		t.wantErr(set(bob), account.ErrHeld)
		if got := t.find("bob", noon); got.Name != bob.Name {
			t.Errorf("the name is %q", got.Name)
		}
	}},
}
