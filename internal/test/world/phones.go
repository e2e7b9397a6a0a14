package world

import (
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
)

// RegistryDeps returns what a sipserver.Registry needs to look up the accounts of the World.
func (w *World) RegistryDeps() sipserver.Deps {
	return sipserver.Deps{
		Store: w.Store, Tenants: w.Tenants, Accounts: w.Accounts, SealRing: w.SealRing, Audit: w.Audit,
		Now: w.Now,
	}
}

// AddServer adds a phone server, which may look up the accounts of tenants, and returns its token.
// A registry knows the server after its next Refresh.
func (w *World) AddServer(name string, hosts ...string) (token string) {
	w.Helper()
	t := secret.NewToken()
	s := sipserver.Server{Name: name, Token: t.Hash(), Created: w.Now()}
	for _, host := range hosts {
		s.Tenants = append(s.Tenants, w.At(host).Tenant.ID)
	}
	w.Must(w.Store.AddServer(w.Context(), s))
	w.Log.Hide(t.Text())
	return t.Text()
}
