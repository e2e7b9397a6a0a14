package account_test

import (
	"context"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

// closed returns the tenant of a fixture, with signups closed.
func (o *fixture) closed(note string) *tenant.Tenant {
	t := *o.Tenant
	t.Signups, t.SignupsNote = tenant.SignupsClosed, note
	return &t
}

// finds counts the calls of Find.
type finds struct {
	account.Store
	n int
}

func (f *finds) Find(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	f.n++
	return f.Store.Find(ctx, tenant, user, now)
}

func TestClosedSignup(t *testing.T) {
	for _, c := range []struct {
		name  string
		close func(*tenant.Tenant)
		want  string
	}{
		{"by its own setting", func(t *tenant.Tenant) { t.Signups = tenant.SignupsClosed },
			"nobody can sign up here at the moment; an account that you have already works as before"},
		{"with a note", func(t *tenant.Tenant) { t.Signups, t.SignupsNote = tenant.SignupsClosed, "100 % full." },
			"100 % full."},
		{"frozen", func(t *tenant.Tenant) { t.Freeze = &tenant.Freeze{} },
			"nobody can sign up here at the moment; an account that you have already works as before"},
		{"frozen with a note", func(t *tenant.Tenant) {
			t.SignupsNote, t.Freeze = "own", &tenant.Freeze{Note: "all"}
		}, "all"},
		{"frozen, without the note of the tenant", func(t *tenant.Tenant) {
			t.SignupsNote, t.Freeze = "own", &tenant.Freeze{}
		}, "nobody can sign up here at the moment; an account that you have already works as before"},
		{"in a way that this program does not know", func(t *tenant.Tenant) { t.Signups = "invited" },
			"nobody can sign up here at the moment; an account that you have already works as before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newFixture(t)
			closed := *o.Tenant
			c.close(&closed)
			_, err := o.Accounts.Signup(o.Context(), &closed, o.form("ann"), from(1))
			o.refused(err, fault.Closed)
			if err.Error() != c.want {
				t.Errorf("got %q, want %q", err, c.want)
			}
			if o.Log.Count(`"msg":"signup","outcome":"signups_closed"`) != 1 {
				t.Error("the log does not say it")
			}
		})
	}
}

// A refusal at a closed tenant spends no captcha and counts towards no limit. Without a captcha
// that we issued, it does not read the store.
func TestClosedSignupSpendsNothing(t *testing.T) {
	o := newFixture(t)
	store := &finds{Store: o.faults}
	o.AccountDeps.Store = store
	o.Rebuild()
	closed, form := o.closed(""), o.form("ann")
	for range 100 {
		_, err := o.Accounts.Signup(o.Context(), closed, form, from(1))
		o.refused(err, fault.Closed)
	}
	store.n = 0
	for _, change := range []func(*account.Form){
		func(f *account.Form) { f.CaptchaToken = "x" },
		func(f *account.Form) { *f = account.Form{} },
		func(f *account.Form) { f.Malformed = fault.New(fault.Invalid, "malformed") },
	} {
		other := form
		change(&other)
		_, err := o.Accounts.Signup(o.Context(), closed, other, from(1))
		o.refused(err, fault.Closed)
	}
	if store.n != 0 {
		t.Errorf("the store was read %d times", store.n)
	}
	if n := o.count(`SELECT (SELECT count(*) FROM taken) + (SELECT count(*) FROM spent)`); n != 0 {
		t.Errorf("%d places and captchas were used", n)
	}
	_, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
	o.Must(err)
}

// A signup that succeeded before the tenant was closed succeeds when it is repeated, and its
// account can get another link.
func TestClosedSignupSentAgain(t *testing.T) {
	o := newFixture(t)
	form := o.form("ann")
	first, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
	o.Must(err)
	closed := o.closed("")
	again, err := o.Accounts.Signup(o.Context(), closed, form, from(1))
	o.Must(err)
	if again.UID != first.UID || o.Log.Count(`"msg":"signup","outcome":"repeated"`) != 1 {
		t.Errorf("got %+v", again)
	}
	wrong := form
	wrong.HA1 = o.hash("ann", "another password")
	_, err = o.Accounts.Signup(o.Context(), closed, wrong, from(1))
	o.refused(err, fault.Closed)
	a, err := o.Store.Find(o.Context(), o.Tenant.ID, "ann", o.Now())
	o.Must(err)
	_, err = o.Accounts.Resend(o.Context(), closed, a, "", world.NewOrigin())
	o.Must(err)
	o.Advance(16 * time.Minute)
	_, err = o.Accounts.Signup(o.Context(), closed, form, from(1))
	o.refused(err, fault.Closed)
}
