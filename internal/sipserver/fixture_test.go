package sipserver_test

import (
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

// fixture is a registry on a store with the tenants a.test, b.test and c.test. The realm of c.test is "C Phones".
type fixture struct {
	*world.World
	registry *sipserver.Registry
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{World: world.New(t, world.Options{Tenants: []tenant.Tenant{
		{Host: "a.test"}, {Host: "b.test"}, {Host: "c.test", Realm: "C Phones"},
	}})}
	f.registry = sipserver.NewRegistry(f.RegistryDeps())
	return f
}

// addServer adds a phone server and returns its token.
func (f *fixture) addServer(name string, hosts ...string) (token string) {
	f.Helper()
	token = f.AddServer(name, hosts...)
	f.Must(f.registry.Refresh(f.Context()))
	return token
}

// caller authenticates a server.
func (f *fixture) caller(token string) *sipserver.Caller {
	f.Helper()
	c, err := f.registry.Authenticate(f.Context(), token, account.Origin{})
	f.Must(err)
	return c
}
