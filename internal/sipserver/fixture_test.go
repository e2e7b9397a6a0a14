package sipserver_test

import (
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

// fixture is a registry on a store with the tenants a.test, b.test and c.test, whose realm is
// "C Phones".
type fixture struct {
	*world.World
	registry *sipserver.Registry
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{World: world.New(t, world.Options{Tenants: []tenant.Tenant{
		{Host: "a.test"}, {Host: "b.test"}, {Host: "c.test", Realm: "C Phones"},
	}})}
	f.registry = sipserver.NewRegistry(sipserver.Deps{
		Store: f.Store, Tenants: f.Tenants, Accounts: f.Accounts, SealRing: f.SealRing,
		Audit: f.Audit, Now: f.Now,
	})
	return f
}

// addPending adds an account that is not activated.
func (f *fixture) addPending(host, user string, options ...world.Option) world.Person {
	f.Helper()
	return f.At(host).Join(user, options...)
}

// addActive adds an account and activates it.
func (f *fixture) addActive(host, user string, options ...world.Option) {
	f.Helper()
	f.Activate(f.addPending(host, user, options...))
}

// addServer adds a phone server and returns its token.
func (f *fixture) addServer(name string, hosts ...string) (token string) {
	f.Helper()
	t := secret.NewToken()
	s := sipserver.Server{Name: name, Token: t.Hash(), Created: world.Noon}
	for _, host := range hosts {
		s.Tenants = append(s.Tenants, f.At(host).Tenant.ID)
	}
	f.Must(f.Store.AddServer(f.Context(), s))
	f.Must(f.registry.Refresh(f.Context()))
	return t.Text()
}

// caller authenticates a server.
func (f *fixture) caller(token string) *sipserver.Caller {
	f.Helper()
	c, err := f.registry.Authenticate(f.Context(), token, account.Origin{})
	f.Must(err)
	return c
}
