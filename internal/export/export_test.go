package export_test

import (
	"slices"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/export"
	"dialtone/internal/tenant"
)

func TestDomains(t *testing.T) {
	for _, c := range []struct {
		name    string
		tenants []tenant.Tenant
		want    []export.Domain
	}{
		{"no tenant, no domain", nil, nil},
		{"the host", []tenant.Tenant{{ID: 1, Host: "a.test", Realm: "a.test"}}, []export.Domain{
			{Name: "a.test", Realm: "a.test", Tenant: 1},
		}},
		{"the host and the realm, if that is a host name", []tenant.Tenant{
			{ID: 1, Host: "accounts.a.test", Realm: "A.test"},
		}, []export.Domain{
			{Name: "accounts.a.test", Realm: "A.test", Tenant: 1},
			{Name: "a.test", Realm: "A.test", Tenant: 1},
		}},
		{"only the host, if the realm is not a host name", []tenant.Tenant{
			{ID: 1, Host: "a.test", Realm: "Our Phones"},
		}, []export.Domain{
			{Name: "a.test", Realm: "Our Phones", Tenant: 1},
		}},
		{"a host is never the domain of another tenant", []tenant.Tenant{
			{ID: 1, Host: "a.test", Realm: "b.test"},
			{ID: 2, Host: "b.test", Realm: "Our Phones"},
		}, []export.Domain{
			{Name: "a.test", Realm: "b.test", Tenant: 1},
			{Name: "b.test", Realm: "Our Phones", Tenant: 2},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := export.Domains(c.tenants); !slices.Equal(got, c.want) {
				t.Errorf("got  %v\nwant %v", got, c.want)
			}
		})
	}
}

func TestEntry(t *testing.T) {
	if got := (export.Entry{User: "ann", Realm: "a.test"}).Address(); got != "ann@a.test" {
		t.Errorf("the address is %s", got)
	}
	if !export.Includes(account.Account{}) || export.Includes(account.Account{Disabled: true}) {
		t.Error("an account has an entry unless it is disabled")
	}
}
