package conformance

import (
	"fmt"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/throttle"
)

// changeRefusal is the error for the limit of changes that send no message.
func changeRefusal(wait time.Duration) error { return account.ChangeRefusal(throttle.Wait{For: wait}) }

var ownerLimitTests = []testCase{
	{"hold for a name and a language, and do not count a change to the same values", func(t *test) {
		t.addActive("ann", noon)
		limits := []throttle.Allowance{allowance(newBucket(), 2)}
		set := func(name string, at time.Time) error {
			_, err := t.SetProfile(t.ctx, account.ProfileChange{
				Account: t.find("ann", noon), Name: name, Lang: i18n.German, Allowances: limits,
			}, at)
			return err
		}
		t.must(set("One", noon))
		t.must(set("One", noon))
		t.must(set("Two", noon.Add(time.Minute)))
		t.wantLimited(set("Three", noon.Add(2*time.Minute)), changeRefusal, 58*time.Minute)
		t.must(set("Two", noon.Add(2*time.Minute)))
		if a := t.find("ann", noon); a.Name != "Two" {
			t.Errorf("the name is %q", a.Name)
		}
		t.wantEqual(t.trailOf("ann"), []string{"account.profile", "account.profile"})
		t.must(set("Three", noon.Add(time.Hour)))
	}},
	{"hold for concurrent changes", func(t *test) {
		t.addActive("ann", noon)
		limits := []throttle.Allowance{allowance(newBucket(), 3)}
		t.concurrently(8, func(i int) error {
			_, err := t.SetProfile(t.ctx, account.ProfileChange{
				Account: t.find("ann", noon), Name: fmt.Sprint("Ann ", i), Allowances: limits,
			}, noon)
			return err
		})
		if got := len(t.trailOf("ann")); got != 3 {
			t.Errorf("%d changes", got)
		}
	}},
	{"hold for names of passkeys, and the same name changes nothing", func(t *test) {
		t.addActive("ann", noon)
		id := t.passkey("ann", "1", noon).Passkey.ID
		a := t.find("ann", noon)
		limit := allowance(newBucket(), 1)
		rename := func(name string, at time.Time) error { return t.RenamePasskey(t.ctx, a, id, name, at, limit) }
		t.must(rename(t.readPasskey("1").Name, noon))
		t.must(rename("x", noon))
		t.must(rename("x", noon))
		t.wantLimited(rename("y", noon.Add(time.Minute)), changeRefusal, 59*time.Minute)
		if k := t.readPasskey("1"); k.Name != "x" {
			t.Errorf("got %+v", k)
		}
		t.wantEqual(t.trailOf("ann"), []string{"passkey.add", "passkey.rename"})
		t.must(rename("y", noon.Add(time.Hour)))
	}},
	{"hold for beginning to set up an app", func(t *test) {
		a := t.active("ann")
		limit := allowance(newBucket(), 1)
		start := func(sealed string, at time.Time) error { return t.StartApp(t.ctx, a, []byte(sealed), at, limit) }
		t.must(start("one", noon))
		t.wantLimited(start("two", noon.Add(time.Minute)), changeRefusal, 59*time.Minute)
		if app, err := t.App(t.ctx, a.UID); err != nil || string(app.Sealed) != "one" {
			t.Errorf("got %+v, %v", app, err)
		}
		t.must(start("two", noon.Add(time.Hour)))
	}},
	{"hold for renewals of recovery codes", func(t *test) {
		a, _ := t.withApp("ann")
		c := account.AppChange{
			Account: a, Codes: newCodes(2),
			Allowances: []throttle.Allowance{{Bucket: newBucket(), Rule: throttle.Rule{Limit: 2, Per: time.Hour},
				Limit: throttle.LimitRecoveryCodes}},
		}
		renew := func(at time.Time) error {
			_, err := t.RenewCodes(t.ctx, c, at)
			return err
		}
		t.must(renew(noon))
		t.must(renew(noon))
		refused := func(wait time.Duration) error {
			return account.FactorRefusal(throttle.Wait{For: wait, Limit: throttle.LimitRecoveryCodes})
		}
		t.wantLimited(renew(noon.Add(time.Minute)), refused, 59*time.Minute)
		t.must(renew(noon.Add(time.Hour)))
	}},
	{"hold for resets by links, which are kept", func(t *test) {
		t.addActive("ann", noon)
		limits := []throttle.Allowance{allowance(newBucket(), 1)}
		reset := func(token [32]byte, at time.Time) error {
			c := newPassword(t.find("ann", noon), fmt.Sprint("new ", at), at)
			c.Link, c.Allowances = &token, limits
			_, err := t.SetPassword(t.ctx, c, at)
			return err
		}
		t.must(reset(t.resetLink("ann", noon).Token, noon))
		next := t.resetLink("ann", noon.Add(time.Minute))
		t.wantLimited(reset(next.Token, noon.Add(time.Minute)), passwordRefusal, 59*time.Minute)
		t.wantResetLink(next.Token, noon.Add(time.Minute), "ann")
		t.must(reset(next.Token, noon.Add(time.Hour)))
	}},
	{"do not hold for resets by links without a message", func(t *test) {
		t.addActive("ann", noon)
		limits := []throttle.Allowance{allowance(newBucket(), 1)}
		for i := range 3 {
			n := unsent(noon)
			_, err := t.AddResetLink(t.ctx, t.newResetLink("ann", n), noon)
			t.must(err)
			c := newPassword(t.find("ann", noon), fmt.Sprint("new ", i), noon)
			c.Link, c.Allowances = &n.Token, limits
			_, err = t.SetPassword(t.ctx, c, noon)
			t.must(err)
		}
		c := newPassword(t.find("ann", noon), "other", noon)
		c.Allowances = limits
		_, err := t.SetPassword(t.ctx, c, noon)
		t.must(err)
	}},
	{"hold for \"not me\" links, which are kept", func(t *test) {
		t.addActive("ann", noon)
		bucket := newBucket()
		notMe := func(token [32]byte, at time.Time) error {
			_, err := t.NotMe(t.ctx, t.tenant, token, unsent(at), at, allowance(bucket, 1))
			return err
		}
		first, second := t.changed("ann", "one", noon), t.changed("ann", "two", noon)
		t.must(notMe(first.Token, noon))
		t.wantErr(notMe(first.Token, noon), account.ErrLinkUsed)
		epoch := t.find("ann", noon).Epoch
		refusal := func(wait time.Duration) error { return account.NotMeRefusal(throttle.Wait{For: wait}) }
		t.wantLimited(notMe(second.Token, noon.Add(time.Minute)), refusal, 59*time.Minute)
		if got := t.find("ann", noon).Epoch; got != epoch {
			t.Error("sessions have ended")
		}
		third := notice(mailmsg.PasswordChanged, noon.Add(time.Hour))
		c := newPassword(t.find("ann", noon), "three", noon)
		c.Notice = third
		_, err := t.SetPassword(t.ctx, c, noon.Add(time.Hour))
		t.must(err)
		t.must(notMe(third.Token, noon.Add(time.Hour)))
	}},
}

// wrongCode enters a wrong code, as the service does.
func (t *test) wrongCode(a account.Account, bucket throttle.Bucket, at time.Time) account.Notice {
	t.Helper()
	u := step(a, 0)
	u.Noticed = throttle.Allowance{Bucket: bucket, Rule: throttle.WrongCodesNoticed}
	u.Notice = notice("", at)
	u.Until = at.Add(account.NoticeLife)
	_, err := t.UseCode(t.ctx, u, at)
	t.wantErr(err, account.ErrCodeWrong)
	return u.Notice
}

// aboutWrongCodes returns the messages about wrong codes.
func (t *test) aboutWrongCodes() (list []mailmsg.ID) {
	t.Helper()
	for _, e := range t.messagesOf(mailmsg.WrongCodes) {
		list = append(list, e.Message)
	}
	return list
}

// messagesOf returns the entries of messages of a kind.
func (t *test) messagesOf(kind mailmsg.Kind) (list []outbox.Entry) {
	t.Helper()
	entries, err := t.Pending(t.ctx)
	t.must(err)
	for _, e := range entries {
		if e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}

var wrongCodeTests = []testCase{
	{"go out with the third within a day, once", func(t *test) {
		a, _ := t.withApp("ann")
		b := newBucket()
		t.wrongCode(a, b, noon)
		t.wrongCode(a, b, noon.Add(time.Hour))
		if n := len(t.aboutWrongCodes()); n != 0 {
			t.Errorf("%d messages after two", n)
		}
		third := t.wrongCode(a, b, noon.Add(24*time.Hour-tick))
		if got := t.aboutWrongCodes(); len(got) != 1 || got[0] != third.Message {
			t.Errorf("got %v, want %v", got, third.Message)
		}
		for i := range 5 {
			t.wrongCode(a, b, noon.Add(24*time.Hour+time.Duration(i)*time.Minute))
		}
		if n := len(t.aboutWrongCodes()); n != 1 {
			t.Errorf("%d messages within a day", n)
		}
		t.wrongCode(a, b, noon.Add(48*time.Hour-2*tick))
		if n := len(t.aboutWrongCodes()); n != 1 {
			t.Errorf("%d messages within a day", n)
		}
		t.wrongCode(a, b, noon.Add(48*time.Hour-tick))
		if n := len(t.aboutWrongCodes()); n != 2 {
			t.Errorf("%d messages after a day", n)
		}
		before := t.find("ann", noon)
		t.must(t.notMe(third.Token, noon.Add(24*time.Hour)))
		if got := t.find("ann", noon); got.Epoch != before.Epoch+1 {
			t.Error("the link ends no session")
		}
	}},
	{"do not go out for three within more than a day, or for correct codes", func(t *test) {
		a, _ := t.withApp("ann")
		b := newBucket()
		t.wrongCode(a, b, noon)
		t.wrongCode(a, b, noon.Add(12*time.Hour))
		t.wrongCode(a, b, noon.Add(24*time.Hour))
		for i := range int64(5) {
			u := step(a, 101+i)
			u.Noticed = throttle.Allowance{Bucket: b, Rule: throttle.WrongCodesNoticed}
			u.Notice = notice("", noon)
			_, err := t.UseCode(t.ctx, u, noon.Add(24*time.Hour))
			t.must(err)
		}
		if n := len(t.aboutWrongCodes()); n != 0 {
			t.Errorf("%d messages", n)
		}
	}},
	{"go out once for concurrent wrong codes", func(t *test) {
		a, _ := t.withApp("ann")
		b := newBucket()
		t.concurrently(8, func(int) error {
			u := step(a, 0)
			u.Noticed = throttle.Allowance{Bucket: b, Rule: throttle.WrongCodesNoticed}
			u.Notice = notice("", noon)
			_, err := t.UseCode(t.ctx, u, noon)
			return err
		})
		if n := len(t.aboutWrongCodes()); n != 1 {
			t.Errorf("%d messages", n)
		}
	}},
}
