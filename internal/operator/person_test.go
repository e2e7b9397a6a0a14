package operator_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
	"dialtone/internal/totp"
)

func TestAdmin(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	s := operator.NewService(operator.Deps{Now: func() time.Time { return now }})
	own := &tenant.Tenant{ID: 1}
	admin := account.Account{Tenant: 1, User: "ann", Role: account.Admin, Activated: now}
	current := func(change func(*session.Current)) session.Current {
		c := session.Current{Owner: admin, Began: now.Add(-time.Hour), How: session.ByCode}
		change(&c)
		return c
	}
	for name, c := range map[string]session.Current{
		"user":     current(func(c *session.Current) { c.Owner.Role = account.User }),
		"guest":    current(func(c *session.Current) { c.Owner.Role = account.Guest }),
		"sip only": current(func(c *session.Current) { c.Owner.Role = account.SIPOnly }),
		"no role":  current(func(c *session.Current) { c.Owner.Role = "" }),
		"held":     current(func(c *session.Current) { c.Owner.Held = true }),
		"waiting":  current(func(c *session.Current) { c.Owner.Activated = time.Time{} }),
	} {
		if _, err := s.Admin(c, account.Origin{}); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := s.Admin(current(func(*session.Current) {}), account.Origin{Request: "r1"})
	if err != nil || c.Actor.Name != "ann" || c.Actor.Kind != "admin" || c.Tenant != 1 || c.Request != "r1" {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, scope := range operator.Scopes {
		if err := c.Check(scope, own); (err == nil) != (scope != operator.TokensWrite) {
			t.Errorf("%s: %v", scope, err)
		}
		for _, other := range []*tenant.Tenant{nil, {ID: 2}} {
			if err := c.Check(scope, other); !fault.Is(err, fault.Forbidden) {
				t.Errorf("%s elsewhere: %v", scope, err)
			}
		}
	}
	stale, err := s.Admin(current(func(c *session.Current) { c.How = session.ByPassword }), account.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	for age, want := range map[time.Duration]bool{
		operator.FactorFor - time.Second: false, operator.FactorFor: true,
	} {
		c, err := s.Admin(current(func(c *session.Current) { c.Began = now.Add(-age) }), account.Origin{})
		if err != nil || c.Stale != want || c.Recent || !c.Factor {
			t.Errorf("%v after a sign-in with a second factor: %+v, %v", age, c, err)
		}
	}
	for scope, want := range map[operator.Scope]error{
		operator.AccountsRead: nil, operator.TenantRead: nil, operator.AuditRead: nil, operator.StatsRead: nil,
		operator.AccountsWrite: operator.ErrSignInAgain, operator.TenantWrite: operator.ErrSignInAgain,
	} {
		if err := stale.Check(scope, own); !errors.Is(err, want) {
			t.Errorf("%s with an old sign-in: %v", scope, err)
		}
	}
	if !errors.Is(c.Others("ann"), operator.ErrOwnAccount) || c.Others("bob") != nil ||
		(operator.Caller{}).Others("ann") != nil {
		t.Error("the own account is not distinguished from others")
	}
}

// changesOf returns all changes of an account by the names of their methods.
func changesOf(s *operator.Service, tn *tenant.Tenant, user string) map[string]func(context.Context,
	operator.Caller) error {
	type changed = func(context.Context, operator.Caller) (account.Account, error)
	list := map[string]changed{
		"Enable": func(ctx context.Context, c operator.Caller) (account.Account, error) {
			return s.Enable(ctx, c, tn, user, "", true)
		},
		"Disable": func(ctx context.Context, c operator.Caller) (account.Account, error) {
			return s.Disable(ctx, c, tn, user, "")
		},
		"SetRole": func(ctx context.Context, c operator.Caller) (account.Account, error) {
			return s.SetRole(ctx, c, tn, user, "", account.User)
		},
		"Delete": func(ctx context.Context, c operator.Caller) (account.Account, error) {
			return s.Delete(ctx, c, tn, user, "")
		},
		"Resend": func(ctx context.Context, c operator.Caller) (account.Account, error) {
			return s.Resend(ctx, c, tn, user, "", "x@mail.test")
		},
		"SetEmail": func(ctx context.Context, c operator.Caller) (account.Account, error) {
			return s.SetEmail(ctx, c, tn, user, "", "x@mail.test")
		},
		"Rename": func(ctx context.Context, c operator.Caller) (account.Account, error) {
			return s.Rename(ctx, c, tn, user, "", "X")
		},
		"ResetLink": func(ctx context.Context, c operator.Caller) (a account.Account, err error) {
			_, _, err = s.ResetLink(ctx, c, tn, user, "", time.Hour)
			return a, err
		},
		"MailResetLink": func(ctx context.Context, c operator.Caller) (a account.Account, err error) {
			_, _, err = s.MailResetLink(ctx, c, tn, user, "")
			return a, err
		},
		"SignOut": func(ctx context.Context, c operator.Caller) (account.Account, error) {
			return s.SignOut(ctx, c, tn, user, "")
		},
		"RemoveFactors": func(ctx context.Context, c operator.Caller) (account.Account, error) {
			return s.RemoveFactors(ctx, c, tn, user, "")
		},
		"FreeName": func(ctx context.Context, c operator.Caller) (account.Account, error) {
			return account.Account{}, s.FreeName(ctx, c, tn, user, "")
		},
	}
	calls := map[string]func(context.Context, operator.Caller) error{}
	for name, do := range list {
		calls[name] = func(ctx context.Context, c operator.Caller) error {
			_, err := do(ctx, c)
			return err
		}
	}
	return calls
}

// TestAdmins checks which changes a person with the role admin may not make to the own account,
// and which changes to the account of another admin need a recent sign-in.
func TestAdmins(t *testing.T) {
	w, s := newService(t)
	ctx, tn := w.Context(), w.Tenant
	for _, user := range []string{"ann", "bob", "cid"} {
		w.Member(user)
	}
	admins := []string{"ann", "bob"}
	for _, user := range admins {
		_, err := s.SetRole(ctx, root, tn, user, "", account.Admin)
		w.Must(err)
	}
	caller := func(how session.How, age time.Duration) operator.Caller {
		ann, err := w.Accounts.Find(ctx, tn.ID, "ann")
		w.Must(err)
		c, err := s.Admin(session.Current{Owner: ann, How: how, Began: w.Now().Add(-age)}, account.Origin{})
		w.Must(err)
		return c
	}
	now, later := caller(session.ByCode, 0), caller(session.ByCode, session.FreshFor)
	for name, do := range changesOf(s, tn, "ann") {
		if err := do(ctx, now); !errors.Is(err, operator.ErrOwnAccount) {
			t.Errorf("%s of the own account: %v", name, err)
		}
	}
	for name, do := range changesOf(s, tn, "bob") {
		if err := do(ctx, later); !errors.Is(err, operator.ErrSignInAgain) {
			t.Errorf("%s of another admin, 15 minutes after signing in: %v", name, err)
		}
	}
	_, _, err := s.ResetLink(ctx, now, tn, "bob", "", time.Hour)
	w.Must(err)
	if _, err := s.SetRole(ctx, later, tn, "cid", "", account.Admin); !errors.Is(err, operator.ErrSignInAgain) {
		t.Errorf("another admin, 15 minutes after signing in: %v", err)
	}
	_, err = s.Add(ctx, later, tn, account.NewAccount{
		User: "dan", Name: "Dan", Email: "dan@mail.test", Role: account.Admin,
	}, "")
	if !errors.Is(err, operator.ErrSignInAgain) {
		t.Errorf("a new admin, 15 minutes after signing in: %v", err)
	}
	_, err = s.StartBulk(ctx, later, tn, operator.BulkDisable, account.Query{Roles: []account.Role{account.Admin}}, "")
	if !errors.Is(err, operator.ErrSignInAgain) {
		t.Errorf("a bulk change of admins, 15 minutes after signing in: %v", err)
	}
	_, err = s.SetEmail(ctx, later, tn, "cid", "", "cid2@mail.test")
	w.Must(err)
	// A sign-in with the password alone is enough for a person without a second factor.
	_, _, err = s.MailResetLink(ctx, caller(session.ByPassword, 0), tn, "bob", "")
	w.Must(err)
	ann, err := w.Accounts.Find(ctx, tn.ID, "ann")
	w.Must(err)
	from := account.Origin{Addr: netip.MustParseAddr("192.0.2.1")}
	app, err := w.Accounts.StartApp(ctx, tn, ann, from)
	w.Must(err)
	_, _, err = w.Accounts.FinishApp(ctx, tn, ann, app.Code(totp.Step(w.Now())), from)
	w.Must(err)
	if _, _, err = s.MailResetLink(ctx, caller(session.ByPassword, 0), tn, "bob", ""); !errors.Is(err,
		operator.ErrSignInAgain) {
		t.Errorf("without the second factor that the person has: %v", err)
	}
}
