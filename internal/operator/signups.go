package operator

import (
	"context"
	"errors"

	"dialtone/internal/tenant"
)

// SignupsStore opens and closes signups.
type SignupsStore interface {
	// Freeze returns the freeze of the signups of all tenants, or nil if there is none.
	Freeze(ctx context.Context) (*tenant.Freeze, error)
}

// Signups says whether people can sign up.
type Signups struct {
	// Mode and Note are the tenant's own settings.
	Mode tenant.Signups
	Note string
	// Freeze is nil unless the signups of all tenants are closed, which overrides Mode and Note.
	Freeze *tenant.Freeze
}

// Signups returns whether people can sign up at a tenant. For no tenant it has the freeze only.
func (s *Service) Signups(ctx context.Context, c Caller, t *tenant.Tenant) (Signups, error) {
	if err := c.Check(TenantRead, t); err != nil {
		return Signups{}, err
	}
	freeze, err := s.deps.Store.Freeze(ctx)
	if err != nil || t == nil {
		return Signups{Freeze: freeze}, err
	}
	return Signups{t.SignupMode(), t.SignupsNote, freeze}, nil
}

// SetSignups opens or closes the signups of a tenant. A note that is nil stays. It fails with fault.Invalid.
// Servers follow within a second.
func (s *Service) SetSignups(ctx context.Context, c Caller, t *tenant.Tenant, mode tenant.Signups, note *string,
	reason string) (Signups, error) {
	if err := c.Check(TenantWrite, t); err != nil {
		return Signups{}, err
	}
	return Signups{}, errors.ErrUnsupported
}

// SetFreeze closes the signups of all tenants, or lifts that with nil. Servers follow within a second.
func (s *Service) SetFreeze(ctx context.Context, c Caller, freeze *tenant.Freeze, reason string) error {
	if err := c.Check(TenantWrite, nil); err != nil {
		return err
	}
	return errors.ErrUnsupported
}
