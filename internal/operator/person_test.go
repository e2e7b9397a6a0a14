package operator_test

import (
	"errors"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
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
		t.Error("the own account is not told from others")
	}
}
