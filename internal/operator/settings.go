package operator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// SettingsStore reads the settings of tenants.
type SettingsStore interface {
	// Tenants returns all tenants, as tenant.Store says.
	Tenants(ctx context.Context) ([]tenant.Tenant, int64, error)
}

// SettingsVersion returns a text that is the same as long as nobody changes the settings.
func SettingsVersion(s tenant.Settings) string {
	sum := sha256.New()
	json.NewEncoder(sum).Encode(s) // to a hash: cannot fail
	sum.Write(s.Logo.Data)
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// SetSettings changes settings of a tenant: change gets those that are stored. version is that of the settings that
// the caller has seen. SetSettings fails with fault.Conflict if they were changed since, and as tenant.New and
// tenant.Store.SetTenant do. Servers follow within a second.
func (s *Service) SetSettings(ctx context.Context, c Caller, t *tenant.Tenant, version string,
	change func(*tenant.Settings), reason string) error {
	if err := c.Check(TenantWrite, t); err != nil {
		return err
	}
	ctx, err := c.With(ctx, reason)
	if err != nil {
		return err
	}
	list, _, err := s.deps.Store.Tenants(ctx)
	if err != nil {
		return err
	}
	for _, stored := range list {
		if stored.ID != t.ID {
			continue
		}
		if version != SettingsVersion(stored.Settings) {
			return fault.New(fault.Conflict, "somebody else has changed the settings; look at them and try again")
		}
		change(&stored.Settings)
		checked, err := tenant.New(stored)
		if err != nil {
			return err
		}
		return s.deps.Store.SetTenant(ctx, checked, s.deps.Now())
	}
	return fault.New(fault.NotFound, "there is no such tenant")
}
