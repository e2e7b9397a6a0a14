package conformance

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/session"
	"dialtone/internal/throttle"
)

// newCodes returns the hashes of n recovery codes.
func newCodes(n int) [][32]byte {
	list := make([][32]byte, n)
	for i := range list {
		list[i] = newToken()
	}
	return list
}

// finished returns the argument of FinishApp for the secret of a user's app, with three recovery
// codes.
func (t *test) finished(a account.Account, sealed string, at time.Time) account.AppChange {
	return account.AppChange{
		Account: a, Sealed: []byte(sealed), Step: 100, Codes: newCodes(3),
		Notice: factorNotice(mailmsg.AppOn, at),
	}
}

// withApp adds an active account with an app, whose secret is "secret", and returns its recovery codes too.
func (t *test) withApp(user string) (account.Account, account.AppChange) {
	t.Helper()
	a := t.active(user)
	t.must(t.StartApp(t.ctx, a, []byte("secret"), noon))
	c := t.finished(a, "secret", noon)
	a, err := t.FinishApp(t.ctx, c, noon)
	t.must(err)
	return a, c
}

// renewal returns the argument of RenewCodes, with four recovery codes.
func renewal(a account.Account, at time.Time) account.AppChange {
	return account.AppChange{Account: a, Codes: newCodes(4), Notice: factorNotice(mailmsg.CodesReplaced, at)}
}

// step returns the use of a code of an app by its step.
func step(a account.Account, n int64) account.CodeUse {
	return account.CodeUse{ID: newID(), Account: a, Sealed: []byte("secret"), Step: n}
}

// recovery returns the use of a recovery code.
func recovery(a account.Account, sums ...[32]byte) account.CodeUse {
	return account.CodeUse{ID: newID(), Account: a, Recovery: sums}
}

// use uses a code.
func (t *test) use(u account.CodeUse) error {
	_, err := t.UseCode(t.ctx, u, noon)
	return err
}

// off returns the argument of RemoveApp.
func off(a account.Account) account.AppChange {
	return account.AppChange{Account: a, Notice: notice(mailmsg.FactorChanged, noon)}
}

var appTests = []testCase{
	{"count when they are finished", func(t *test) {
		a := t.active("ann")
		_, err := t.App(t.ctx, a.UID)
		t.wantKind(err, fault.NotFound)
		t.must(t.StartApp(t.ctx, a, []byte("first"), noon))
		t.must(t.StartApp(t.ctx, a, []byte("secret"), noon))
		app, err := t.App(t.ctx, a.UID)
		t.must(err)
		if string(app.Sealed) != "secret" || !app.Since.IsZero() || app.Step != 0 || app.Codes != 0 {
			t.Errorf("got %+v", app)
		}
		t.wantAccount(t.find("ann", noon), a)
		t.wantErr(t.use(step(a, 101)), account.ErrCodeWrong)
		at := noon.Add(time.Minute)
		c := t.finished(a, "secret", at)
		got, err := t.FinishApp(t.ctx, c, at)
		t.must(err)
		want := a
		want.Factors = account.FactorApp
		want.Epoch++
		t.wantAccount(got, want)
		t.wantAccount(t.find("ann", at), want)
		app, err = t.App(t.ctx, a.UID)
		t.must(err)
		if !app.Since.Equal(at) || app.Step != 100 || app.Codes != 3 {
			t.Errorf("got %+v", app)
		}
		t.wantEqual(t.trailOf("ann"), []string{"two-step.on"})
		now := t.find("ann", at)
		t.wantErr(t.StartApp(t.ctx, now, []byte("other"), at), account.ErrAppOn)
		_, err = t.FinishApp(t.ctx, t.finished(now, "secret", at), at)
		t.wantErr(err, account.ErrAppOn)
	}},
	{"end proofs without a code, and pending changes of the address", func(t *test) {
		t.active("ann")
		k := t.passkey("ann", "1", noon)
		a := t.find("ann", noon)
		link := t.emailLink("ann", "other@mail.test", noon)
		t.must(t.StartApp(t.ctx, a, []byte("secret"), noon))
		_, err := t.FinishApp(t.ctx, t.finished(a, "secret", noon), noon)
		t.must(err)
		t.wantEmailLink(link.Token, noon, "", "")
		want := t.find("ann", noon)
		_, change := t.SetPassword(t.ctx, newPassword(a, "new", noon), noon)
		_, email := t.AddEmailLink(t.ctx, account.NewEmailLink{
			Account: a, Email: "third@mail.test", Notice: notice(mailmsg.ConfirmEmail, noon),
		}, noon)
		_, leave := t.Leave(t.ctx, departure(a, noon), noon)
		_, finish := t.FinishApp(t.ctx, t.finished(a, "secret", noon), noon)
		_, renew := t.RenewCodes(t.ctx, account.AppChange{Account: a, Codes: newCodes(3)}, noon)
		_, off := t.RemoveApp(t.ctx, off(a), noon)
		_, remove := t.RemovePasskey(t.ctx, removal(a, k.Passkey.ID), noon)
		for what, err := range map[string]error{
			"a password": change, "an address": email, "a leave": leave, "another app": finish, "new codes": renew,
			"no app": off, "no passkey": remove, "begin": t.StartApp(t.ctx, a, []byte("other"), noon),
		} {
			if !errors.Is(err, account.ErrPasswordChanged) {
				t.Errorf("%s: got %v", what, err)
			}
		}
		t.wantAccount(t.find("ann", noon), want)
		_, err = t.Leave(t.ctx, departure(want, noon), noon)
		t.must(err)
	}},
	{"finish only with the newest secret", func(t *test) {
		a := t.active("ann")
		_, err := t.FinishApp(t.ctx, t.finished(a, "secret", noon), noon)
		t.wantErr(err, account.ErrAppReplaced)
		t.must(t.StartApp(t.ctx, a, []byte("secret"), noon))
		t.must(t.StartApp(t.ctx, a, []byte("of somebody else"), noon))
		_, err = t.FinishApp(t.ctx, t.finished(a, "secret", noon), noon)
		t.wantErr(err, account.ErrAppReplaced)
		t.wantAccount(t.find("ann", noon), a)
	}},
	{"finish once despite concurrent calls, even while others begin", func(t *test) {
		a := t.active("ann")
		t.must(t.StartApp(t.ctx, a, []byte("secret"), noon))
		kinds := t.concurrently(6, func(i int) error {
			_, err := t.FinishApp(t.ctx, t.finished(a, "secret", noon), noon)
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.Conflict] != 5 {
			t.Errorf("got %v", kinds)
		}
		b := t.active("bob")
		t.must(t.StartApp(t.ctx, b, []byte("secret"), noon))
		kinds = t.concurrently(6, func(i int) error {
			if i%2 == 0 {
				_, err := t.FinishApp(t.ctx, t.finished(b, "secret", noon), noon)
				return err
			}
			return t.StartApp(t.ctx, b, []byte("of somebody else"), noon)
		})
		app, err := t.App(t.ctx, b.UID)
		t.must(err)
		// Either the app was finished, and everything later failed, or it was replaced earlier.
		if on := t.find("bob", noon).Factors == account.FactorApp; on != (string(app.Sealed) == "secret") ||
			on == app.Since.IsZero() || kinds[fault.Internal] > 0 {
			t.Errorf("got %+v and %v", app, kinds)
		}
	}},
	{"are turned off together with the recovery codes", func(t *test) {
		a, c := t.withApp("ann")
		got, err := t.RemoveApp(t.ctx, off(a), noon)
		t.must(err)
		a.Factors = 0
		t.wantAccount(got, a)
		_, err = t.App(t.ctx, a.UID)
		t.wantKind(err, fault.NotFound)
		t.wantErr(t.use(recovery(a, c.Codes[0])), account.ErrCodeWrong)
		_, err = t.RemoveApp(t.ctx, off(a), noon)
		t.wantErr(err, account.ErrAppOff)
		_, err = t.RenewCodes(t.ctx, account.AppChange{Account: a, Codes: newCodes(3)}, noon)
		t.wantErr(err, account.ErrAppOff)
		t.must(t.StartApp(t.ctx, a, []byte("secret"), noon))
		_, err = t.FinishApp(t.ctx, t.finished(a, "secret", noon), noon)
		t.must(err)
		t.wantErr(t.use(recovery(t.find("ann", noon), c.Codes[0])), account.ErrCodeWrong)
		t.wantEqual(t.trailOf("ann"), []string{"two-step.on", "two-step.off", "two-step.on"})
	}},
	{"send a message with each change, whose link removes them", func(t *test) {
		s := t.addActive("ann", noon)
		t.ack([]outbox.Ref{ref(s)})
		a := t.find("ann", noon)
		t.must(t.StartApp(t.ctx, a, []byte("secret"), noon))
		c := t.finished(a, "secret", noon.Add(time.Minute))
		_, err := t.FinishApp(t.ctx, c, noon.Add(time.Minute))
		t.must(err)
		list, err := t.Pending(t.ctx)
		t.must(err)
		if len(list) != 1 || list[0].Kind != mailmsg.FactorChanged || list[0].Message != c.Message ||
			list[0].Detail != mailmsg.AppOn {
			t.Errorf("got %+v", list)
		}
		_, err = t.NotMe(t.ctx, t.tenant, c.Token, unsent(noon), noon.Add(time.Minute))
		t.must(err)
		if got := t.find("ann", noon); got.Factors != 0 || got.Epoch != a.Epoch+2 {
			t.Errorf("got %+v", got)
		}
		_, err = t.App(t.ctx, a.UID)
		t.wantKind(err, fault.NotFound)
	}},
	{"are kept if they are older than the message", func(t *test) {
		a, _ := t.withApp("ann")
		changed := t.changed("ann", "one", noon.Add(time.Minute))
		_, err := t.NotMe(t.ctx, t.tenant, changed.Token, unsent(noon), noon.Add(time.Minute))
		t.must(err)
		if t.find("ann", noon).Factors != account.FactorApp {
			t.Errorf("the app of %s is gone", a.User)
		}
	}},
	{"use a recovery code with a message", func(t *test) {
		a, c := t.withApp("ann")
		use := func(u account.CodeUse) (n account.Notice, err error) {
			u.Notice = notice("", noon)
			_, err = t.UseCode(t.ctx, u, noon)
			return u.Notice, err
		}
		_, err := use(step(a, 200))
		t.must(err)
		n, err := use(recovery(a, c.Codes[0]))
		t.must(err)
		_, err = use(recovery(a, c.Codes[0]))
		t.wantErr(err, account.ErrCodeWrong)
		list := t.messagesOf(mailmsg.RecoveryUsed)
		if len(list) != 1 || list[0].Message != n.Message || list[0].Detail != "2" || list[0].Net != n.Net ||
			list[0].Email != a.Email {
			t.Errorf("the messages are %+v", list)
		}
		before := t.find("ann", noon)
		t.must(t.notMe(n.Token, noon))
		if got := t.find("ann", noon); got.Epoch != before.Epoch+1 {
			t.Error("the link ends no session")
		}
	}},
	{"send a limited number of messages a day about used recovery codes", func(t *test) {
		a, _ := t.withApp("ann")
		c := account.AppChange{Account: a, Codes: newCodes(account.RecoveryNotices + 2)}
		_, err := t.RenewCodes(t.ctx, c, noon)
		t.must(err)
		for i, at := range []time.Duration{0, 1, 2, 3, 4, 23, 25} {
			u, at := recovery(a, c.Codes[i]), noon.Add(at*time.Hour)
			u.Notice = notice("", at)
			u.Until = at.Add(account.NoticeLife)
			_, err := t.UseCode(t.ctx, u, at)
			t.must(err)
			want := min(i+1, account.RecoveryNotices)
			if i == 6 { // the first was a day ago
				want++
			}
			if n := len(t.messagesOf(mailmsg.RecoveryUsed)); n != want {
				t.Errorf("%d messages about %d codes, want %d", n, i+1, want)
			}
		}
	}},
	{"get new recovery codes", func(t *test) {
		a, c := t.withApp("ann")
		fresh := renewal(a, noon)
		before := len(t.messagesOf(mailmsg.FactorChanged))
		_, err := t.RenewCodes(t.ctx, fresh, noon)
		t.must(err)
		t.wantErr(t.use(recovery(a, c.Codes[0])), account.ErrCodeWrong)
		left, err := t.UseCode(t.ctx, recovery(a, fresh.Codes[0]), noon)
		t.must(err)
		list := slices.DeleteFunc(t.messagesOf(mailmsg.FactorChanged), func(e outbox.Entry) bool {
			return e.Message != fresh.Message
		})
		if left != 3 || len(list) != 1 || list[0].Detail != mailmsg.CodesReplaced || list[0].Net != fresh.Net ||
			len(t.messagesOf(mailmsg.FactorChanged)) != before+1 {
			t.Errorf("%d codes are left, and the messages are %+v", left, list)
		}
		t.wantEqual(t.trailOf("ann"), []string{"two-step.on", "two-step.codes", "two-step.recovery"})
	}},
	{"do not count a used code as a guess", func(t *test) {
		a, _ := t.withApp("ann")
		t.must(t.use(step(a, 200)))
		again := func(n int64) error {
			u := step(a, n)
			u.Allowances = []throttle.Allowance{allowance(newBucket(), 1)}
			for range 2 { // the second time, a guess would be refused by the limit
				u.ID = newID()
				if err := t.use(u); !errors.Is(err, account.ErrCodeWrong) {
					return err
				}
			}
			return nil
		}
		t.must(again(200))
		t.must(again(199))
		t.wantKind(again(0), fault.Limited)
	}},
	{"are changed under a limit", func(t *test) {
		a, _ := t.withApp("ann")
		limits := []throttle.Allowance{allowance(newBucket(), 1)}
		c := off(a)
		c.Allowances = limits
		_, err := t.RemoveApp(t.ctx, c, noon)
		t.must(err)
		t.must(t.StartApp(t.ctx, a, []byte("secret"), noon))
		c = t.finished(a, "secret", noon)
		c.Allowances = limits
		_, err = t.FinishApp(t.ctx, c, noon.Add(time.Minute))
		t.wantLimited(err, func(wait time.Duration) error {
			return account.FactorRefusal(throttle.Wait{For: wait})
		}, 59*time.Minute)
		_, err = t.FinishApp(t.ctx, c, noon.Add(time.Hour))
		t.must(err)
	}},
	{"are refused for other accounts, states and passwords", func(t *test) {
		all := func(a account.Account) map[string]error {
			_, finish := t.FinishApp(t.ctx, t.finished(a, "secret", noon), noon)
			_, renew := t.RenewCodes(t.ctx, account.AppChange{Account: a}, noon)
			_, remove := t.RemoveApp(t.ctx, off(a), noon)
			return map[string]error{
				"start": t.StartApp(t.ctx, a, []byte("other"), noon), "finish": finish, "renew": renew,
				"remove": remove, "use": t.use(step(a, 101)),
			}
		}
		a, _ := t.withApp("ann")
		for claim, c := range map[string]struct {
			change func(*account.Account)
			want   error
		}{
			"another account": {func(a *account.Account) { a.UID = account.UID(newID()) }, nil},
			"another tenant":  {func(a *account.Account) { a.Tenant++ }, nil},
			"an old password": {func(a *account.Account) { a.Passwords-- }, account.ErrPasswordChanged},
		} {
			other := a
			c.change(&other)
			for method, err := range all(other) {
				if c.want == nil && !fault.Is(err, fault.NotFound) || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%s of %s: %v", method, claim, err)
				}
			}
		}
		for method, err := range all(t.addPending("bob", noon).Account) {
			if !fault.Is(err, fault.NotFound) {
				t.Errorf("%s of a pending account: %v", method, err)
			}
		}
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		for method, err := range all(a) {
			if !errors.Is(err, account.ErrHeld) {
				t.Errorf("%s of a disabled account: %v", method, err)
			}
		}
		if app, err := t.App(t.ctx, a.UID); err != nil || string(app.Sealed) != "secret" || app.Step != 100 {
			t.Errorf("the app is %+v, %v", app, err)
		}
	}},
	{"are removed by operators", func(t *test) {
		a, c := t.withApp("ann")
		h := t.addHook("all")
		list := t.begin(a, 1, noon)
		n := factorNotice(mailmsg.FactorsRemoved, noon)
		got, err := t.RemoveFactors(t.ctx, t.tenant, "ann", n, noon)
		t.must(err)
		want := a
		want.Factors, want.Epoch = 0, a.Epoch+1
		t.wantAccount(got, want)
		t.wantErr(t.End(t.ctx, a.UID, want.Epoch, list[0].ID, noon), session.ErrNoSession)
		t.wantErr(t.use(recovery(want, c.Codes[0])), account.ErrCodeWrong)
		t.wantEqual(t.trailOf("ann"), []string{"two-step.on", "account.second-factor"})
		got, err = t.RemoveFactors(t.ctx, t.tenant, "ann", notice(mailmsg.FactorChanged, noon), noon)
		t.must(err)
		t.wantAccount(got, want)
		if list := t.claim(h, noon, 10); len(list) != 0 {
			t.Errorf("phone servers are notified: %+v", list)
		}
		_, err = t.RemoveFactors(t.ctx, t.tenant, "nobody", n, noon)
		t.wantKind(err, fault.NotFound)
		// A server writes the message that a command has added.
		taken, err := t.TakeOver(t.ctx)
		t.must(err)
		found := 0
		for _, e := range taken {
			if e.Message == n.Message && e.Kind == mailmsg.FactorChanged && e.Detail == mailmsg.AppAlone {
				found++
			}
		}
		if found != 1 {
			t.Errorf("taken over: %+v", taken)
		}
	}},
	{"are erased with the account", func(t *test) {
		a, _ := t.withApp("ann")
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		_, err := t.App(t.ctx, a.UID)
		t.wantKind(err, fault.NotFound)
	}},
}

var codeTests = []testCase{
	{"of an app work once, and not after a newer one", func(t *test) {
		a, _ := t.withApp("ann")
		t.wantErr(t.use(step(a, 100)), account.ErrCodeWrong) // it finished the app
		t.must(t.use(step(a, 101)))
		t.wantErr(t.use(step(a, 101)), account.ErrCodeWrong)
		t.must(t.use(step(a, 103)))
		t.wantErr(t.use(step(a, 102)), account.ErrCodeWrong)
		t.wantErr(t.use(account.CodeUse{ID: newID(), Account: a}), account.ErrCodeWrong)
		other := step(a, 104)
		other.Sealed = []byte("of an app before")
		t.wantErr(t.use(other), account.ErrCodeWrong)
	}},
	{"of an app work once despite concurrent calls", func(t *test) {
		a, _ := t.withApp("ann")
		kinds := t.concurrently(8, func(int) error { return t.use(step(a, 101)) })
		if kinds[succeeded] != 1 || kinds[fault.SecondFactor] != 7 {
			t.Errorf("got %v", kinds)
		}
	}},
	{"for recovery work once", func(t *test) {
		a, c := t.withApp("ann")
		left, err := t.UseCode(t.ctx, recovery(a, newToken(), c.Codes[1]), noon) // under an older key
		t.must(err)
		if left != 2 {
			t.Errorf("%d are left", left)
		}
		t.wantErr(t.use(recovery(a, c.Codes[1])), account.ErrCodeWrong)
		kinds := t.concurrently(8, func(int) error { return t.use(recovery(a, c.Codes[2])) })
		if kinds[succeeded] != 1 || kinds[fault.SecondFactor] != 7 {
			t.Errorf("got %v", kinds)
		}
		t.must(t.use(step(a, 101)))
		app, err := t.App(t.ctx, a.UID)
		t.must(err)
		if app.Codes != 1 || app.Step != 101 {
			t.Errorf("got %+v", app)
		}
	}},
	{"for recovery belong to one account", func(t *test) {
		_, c := t.withApp("ann")
		b, _ := t.withApp("bob")
		t.wantErr(t.use(recovery(b, c.Codes[0])), account.ErrCodeWrong)
		t.must(t.use(recovery(t.find("ann", noon), c.Codes[0])))
	}},
	{"are refused after too many wrong ones, whether correct or wrong", func(t *test) {
		a, c := t.withApp("ann")
		limits := []throttle.Allowance{allowance(newBucket(), 3)}
		try := func(u account.CodeUse, at time.Time) error {
			u.Allowances = limits
			_, err := t.UseCode(t.ctx, u, at)
			return err
		}
		t.must(try(step(a, 101), noon)) // takes no place
		kinds := t.concurrently(8, func(int) error { return try(recovery(a, newToken()), noon) })
		if kinds[fault.SecondFactor] != 3 || kinds[fault.Limited] != 5 {
			t.Errorf("got %v", kinds)
		}
		refusal := func(wait time.Duration) error { return account.CodeRefusal(throttle.Wait{For: wait}) }
		t.wantLimited(try(step(a, 102), noon.Add(time.Minute)), refusal, 59*time.Minute)
		t.wantLimited(try(recovery(a, c.Codes[0]), noon.Add(time.Minute)), refusal, 59*time.Minute)
		t.must(try(step(a, 102), noon.Add(time.Hour)))
	}},
	{"may work before a concurrent removal of the app", func(t *test) {
		for i := range 5 {
			a, _ := t.withApp(fmt.Sprint("ann", i))
			var codes, removed error
			t.concurrently(2, func(i int) error {
				if i == 0 {
					codes = t.use(step(a, 101))
					return nil
				}
				_, removed = t.RemoveApp(t.ctx, off(a), noon)
				return nil
			})
			t.must(removed)
			if codes != nil && !errors.Is(codes, account.ErrCodeWrong) {
				t.Errorf("got %v", codes)
			}
			if t.find(a.User, noon).Factors != 0 {
				t.Error("the app is on")
			}
		}
	}},
	{"notify no phone servers", func(t *test) {
		h := t.addHook("all")
		a, c := t.withApp("ann")
		t.must(t.use(recovery(a, c.Codes[0])))
		for _, n := range t.claim(h, noon, 10) {
			if n.Type == hook.AccountPassword {
				t.Errorf("got %+v", n)
			}
		}
	}},
}
