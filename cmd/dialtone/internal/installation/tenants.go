package installation

import (
	"context"
	"net"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// TenantOf returns the tenant of a host name, which an operator may have typed in upper case or in any script.
func (in *Installation) TenantOf(ctx context.Context, host string) (*tenant.Tenant, error) {
	normal, err := NormalizeHost(host)
	if err != nil {
		return nil, err
	}
	list, _, err := in.Store.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		if t.Host == normal {
			return &t, nil
		}
	}
	return nil, fault.New(fault.NotFound, "there is no tenant %s; see: dialtone tenant list", host)
}

// NormalizeHost returns a host name in the form in which the store contains it.
func NormalizeHost(host string) (string, error) {
	t, err := tenant.New(tenant.Tenant{Host: host})
	return t.Host, err
}

// DefaultURL returns the public URL of a tenant whose settings contain none.
func (in *Installation) DefaultURL(host string) string {
	_, port, err := net.SplitHostPort(in.Listen)
	if err != nil {
		port = "8080"
	}
	return tenant.DefaultURL(host, port, in.TLS.On())
}

// FirstTenant adds the tenant localhost to a store without tenants.
func (in *Installation) FirstTenant(ctx context.Context) error {
	t, err := tenant.New(tenant.Tenant{Host: "localhost", Created: time.Now()})
	if err != nil {
		return err
	}
	return in.Store.AddFirstTenant(ctx, t)
}
