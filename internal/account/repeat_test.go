package account_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
)

// TestRepeatedSignup sends a form again after the answer was lost.
func TestRepeatedSignup(t *testing.T) {
	other := func(o *fixture) string {
		return digest.Compute("ann", o.Tenant.Realm, "another password").Hex()
	}
	for _, c := range []struct {
		name   string
		change func(*fixture, *account.Form)
		want   fault.Kind // or Internal for success
	}{
		{"the same form", func(*fixture, *account.Form) {}, fault.Internal},
		{"a new captcha", func(o *fixture, f *account.Form) {
			f.CaptchaToken, f.CaptchaAnswer = o.answered(o.Tenant.ID)
		}, fault.Internal},
		{"no captcha of ours", func(_ *fixture, f *account.Form) { f.CaptchaToken = "x" },
			fault.Internal},
		{"a wrong answer", func(_ *fixture, f *account.Form) { f.CaptchaAnswer = "99" },
			fault.Internal},
		{"another display name", func(_ *fixture, f *account.Form) { f.Name = "Ann" },
			fault.Internal},
		{"after 15 minutes", func(o *fixture, _ *account.Form) { o.Advance(15 * time.Minute) },
			fault.Internal},
		{"after more than 15 minutes", func(o *fixture, f *account.Form) {
			o.Advance(15*time.Minute + time.Second)
			f.CaptchaToken, f.CaptchaAnswer = o.answered(o.Tenant.ID)
		}, fault.Conflict},
		{"another address", func(o *fixture, f *account.Form) {
			f.Email = "bob@mail.test"
			f.CaptchaToken, f.CaptchaAnswer = o.answered(o.Tenant.ID)
		}, fault.Conflict},
		{"another password", func(o *fixture, f *account.Form) {
			f.HA1 = other(o)
			f.CaptchaToken, f.CaptchaAnswer = o.answered(o.Tenant.ID)
		}, fault.Conflict},
		{"another password and a spent captcha", func(o *fixture, f *account.Form) {
			f.HA1 = other(o)
		}, fault.Captcha},
		{"an active account", func(o *fixture, f *account.Form) {
			o.Enable("ann")
			f.CaptchaToken, f.CaptchaAnswer = o.answered(o.Tenant.ID)
		}, fault.Conflict},
		{"a disabled account", func(o *fixture, f *account.Form) {
			o.Disable("ann")
			f.CaptchaToken, f.CaptchaAnswer = o.answered(o.Tenant.ID)
		}, fault.Conflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newFixture(t)
			form := o.form("ann")
			first, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
			o.Must(err)
			file, _ := o.onlyFile()
			c.change(o, &form)
			again, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
			if c.want == fault.Internal {
				o.Must(err)
				if again.User != first.User || again.UID != first.UID || first.UID == (account.UID{}) {
					t.Errorf("the answer is for %q, %v; want %q, %v", again.User, again.UID, first.User, first.UID)
				}
				if o.Log.Count(`"msg":"signup","outcome":"repeated"`) != 1 {
					t.Error("the log does not say that the signup was sent again")
				}
			} else {
				o.refused(err, c.want)
			}
			if now, _ := o.onlyFile(); now != file {
				t.Error("there is another message")
			}
		})
	}
}

// TestRepeatedSignupTakesNoPlace repeats a signup from an address that has reached its limits
// for signups and for failures.
func TestRepeatedSignupTakesNoPlace(t *testing.T) {
	o := newFixture(t)
	form := o.form("ann")
	signup := func(f account.Form) error {
		_, err := o.Accounts.Signup(o.Context(), o.Tenant, f, from(1))
		return err
	}
	o.Must(signup(form))
	for range 100 {
		o.Must(signup(form))
	}
	o.Must(signup(o.form("bob")))
	o.Must(signup(o.form("carl")))
	o.refused(signup(o.form("dora")), fault.Limited)
	o.Must(signup(form))
	for range 60 {
		signup(account.Form{})
	}
	o.Must(signup(form))
}

// TestRepeatedSignupIsNoOracle guesses passwords with signups. Wrong guesses count like those
// in sign-ins. At the limit even the right password is refused.
func TestRepeatedSignupIsNoOracle(t *testing.T) {
	o := newFixture(t)
	form := o.form("ann")
	_, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(0))
	o.Must(err)
	right := form.HA1
	form.CaptchaToken, form.CaptchaAnswer = "x", "1" // others do not know the captcha of the signup
	for i := range 10 {
		form.HA1 = digest.Compute("ann", o.Tenant.Realm, fmt.Sprint("guess number ", i)).Hex()
		_, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(i+1))
		o.refused(err, fault.Captcha)
	}
	form.HA1 = right
	_, err = o.Accounts.Signup(o.Context(), o.Tenant, form, from(100))
	o.refused(err, fault.Captcha)
	addr := from(101).Addr
	_, wait, err := o.AccountDeps.Passwords.Begin(o.Context(), o.Tenant.ID, addr, "ann", "")
	if err != nil || wait == 0 {
		t.Errorf("sign-ins for the name do not have to wait: %v", err)
	}
}

// TestRepeatedSignupOfLockedName repeats a signup after others have guessed passwords for its
// name, and from its address, until both were refused.
func TestRepeatedSignupOfLockedName(t *testing.T) {
	o := newFixture(t)
	o.Advance(-14 * time.Minute)
	form, other := o.form("ann"), o.form("bob")
	o.Advance(14 * time.Minute)
	first, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(0))
	o.Must(err)
	_, err = o.Accounts.Signup(o.Context(), o.Tenant, other, from(0))
	o.Must(err)
	lock := func() {
		t.Helper()
		for i := range 110 {
			name := "ann"
			if i >= 10 {
				name = fmt.Sprint("user", i)
			}
			guess, wait, err := o.AccountDeps.Passwords.Begin(
				o.Context(), o.Tenant.ID, from(0).Addr, name, "")
			o.Must(err)
			if wait == 0 {
				guess.Wrong()
			}
		}
		_, wait, err := o.AccountDeps.Passwords.Begin(o.Context(), o.Tenant.ID, from(1).Addr, "ann", "")
		if err != nil || wait == 0 {
			t.Fatalf("the name is not locked: %v", err)
		}
	}
	signup := func(f account.Form) error {
		a, err := o.Accounts.Signup(o.Context(), o.Tenant, f, from(0))
		if err == nil && a.UID != first.UID {
			t.Errorf("the answer is for %v, want %v", a.UID, first.UID)
		}
		return err
	}
	lock()
	o.Must(signup(form))
	o.Advance(14 * time.Minute) // the captcha has expired
	lock()
	o.Must(signup(form))

	for name, token := range map[string]string{
		"no captcha": "x", "the captcha of another account": other.CaptchaToken,
	} {
		f := form
		if f.CaptchaToken = token; !fault.Is(signup(f), fault.Captcha) {
			t.Errorf("with %s, the signup is repeated", name)
		}
	}
	// The captcha of the account also allows ten guesses.
	wrong := form
	for i := range 10 {
		wrong.HA1 = o.hash("ann", fmt.Sprint("guess number ", i))
		o.refused(signup(wrong), fault.Captcha)
	}
	o.refused(signup(form), fault.Captcha)
}

// TestRepeatedSignupIsNotUndone repeats a signup while the first one is about to fail. The
// repeated one succeeded, so the account is kept and its message is written.
func TestRepeatedSignupIsNotUndone(t *testing.T) {
	o := newFixture(t)
	form := o.form("ann")
	o.Pickup.PublishErr = errBroken
	o.Pickup.BeforePublish = func() {
		_, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
		o.Must(err)
	}
	_, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
	o.Is(err, errBroken)
	o.Pickup.PublishErr, o.Pickup.BeforePublish = nil, nil
	if _, err := o.Accounts.Find(o.Context(), o.Tenant.ID, "ann"); err != nil {
		t.Errorf("the account is gone: %v", err)
	}
	for range 2 { // one finds that the message is missing, the next writes it
		o.Must(o.Outbox.Flush(o.Context()))
	}
	_, content := o.onlyFile()
	a, err := o.Accounts.Activate(o.Context(), o.Tenant, tokenIn(t, content), from(1))
	if err != nil || a.User != "ann" {
		t.Errorf("the link does not activate the account: %v", err)
	}
}

// TestConcurrentRepeats sends one form many times concurrently. This creates exactly one
// account and one message, and every sender gets the same answer.
func TestConcurrentRepeats(t *testing.T) {
	o := newFixture(t)
	form := o.form("ann")
	errs := make([]error, 20)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { _, errs[i] = o.Accounts.Signup(o.Context(), o.Tenant, form, from(1)) })
	}
	all.Wait()
	o.Must(errors.Join(errs...))
	o.onlyFile()
}

// TestCrossSiteSignups checks that requests from another site's page do not use up the
// allowance of the person whose browser sends them.
func TestCrossSiteSignups(t *testing.T) {
	o := newFixture(t)
	refused := fault.New(fault.Invalid, "from another site")
	for range 100 {
		_, err := o.Accounts.Signup(o.Context(), o.Tenant,
			account.Form{Malformed: refused, CrossSite: true}, from(1))
		o.Is(err, refused)
	}
	_, err := o.Accounts.Signup(o.Context(), o.Tenant, o.form("ann"), from(1))
	o.Must(err)
}
