package session_test

import (
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/world"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// TestSessionsOnTwoNodes ends sessions on one server while they are used and listed on another.
func TestSessionsOnTwoNodes(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(world.Noon)
	one := newFixtureOn(t, world.OpenPostgres(t, url, ring), ring)
	two := &fixture{World: one.World, deps: one.deps}
	two.deps.Store = world.OpenPostgres(t, url, ring)
	accounts := one.AccountDeps
	accounts.Store = two.deps.Store.(*world.Store)
	two.deps.Accounts = account.NewService(accounts)
	two.restart()
	for name, end := range map[string]func(user string, own string, id [16]byte) error{
		"one session": func(_, own string, id [16]byte) error {
			return one.End(t.Context(), one.Tenant, own, id, world.NewOrigin())
		},
		"all others": func(_, own string, _ [16]byte) error {
			_, err := one.EndOthers(t.Context(), one.Tenant, own, world.NewOrigin())
			return err
		},
		"disable": func(user, _ string, _ [16]byte) error {
			_, err := one.Accounts.Disable(t.Context(), one.Tenant, user)
			return err
		},
		"delete": func(user, _ string, _ [16]byte) error {
			return one.Store.Delete(t.Context(), one.Tenant.ID, user, one.Now())
		},
		"new password": func(user, _ string, _ [16]byte) error {
			a, err := one.Accounts.Find(t.Context(), one.Tenant.ID, user)
			if err == nil {
				_, err = one.Store.SetPassword(t.Context(), account.PasswordChange{Account: a}, one.Now())
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			user := "u" + name[:3]
			one.member(user)
			own, _ := one.start(user, "")
			elsewhere, _ := two.start(user, firefox)
			one.Must(one.Flush(t.Context()))
			one.Must(two.Flush(t.Context()))
			_, id := two.sessions(elsewhere, 2)
			one.sessions(own, 2)
			one.Must(end(user, own, id))
			two.over(elsewhere)
			_, _, err := two.Sessions(t.Context(), two.Tenant, elsewhere, world.NewOrigin())
			one.Is(err, session.ErrDenied)
		})
	}
}
