package operator

import (
	"context"
	"errors"
	"slices"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// TenantStore reads and changes one tenant.
type TenantStore interface {
	// Tenant returns a tenant as it is in the store. It fails with fault.NotFound.
	Tenant(ctx context.Context, id int64) (tenant.Tenant, error)
}

// Tenant returns a tenant as it is in the store. A tenant.Table may be behind by a second.
func (s *Service) Tenant(ctx context.Context, c Caller, t *tenant.Tenant) (tenant.Tenant, error) {
	if err := c.Check(TenantRead, t); err != nil {
		return tenant.Tenant{}, err
	}
	return s.deps.Store.Tenant(ctx, t.ID)
}

// setAttempts is how often SetTenant tries a change while others change the tenant too.
const setAttempts = 10

// SetTenant changes settings of a tenant, and returns it as it is then. edit gets the tenant as it is; it may be called
// several times, since the tenant may change meanwhile: no change of others is lost. With a condition in ctx
// (tenant.OnlyIf), SetTenant fails with fault.Changed unless it holds. It also fails with fault.Invalid and
// fault.Conflict.
func (s *Service) SetTenant(ctx context.Context, c Caller, t *tenant.Tenant, reason string,
	edit func(tenant.Tenant) (tenant.Tenant, error)) (tenant.Tenant, error) {
	if err := c.Check(TenantWrite, t); err != nil {
		return tenant.Tenant{}, err
	}
	ctx, err := c.With(ctx, reason)
	if err != nil {
		return tenant.Tenant{}, err
	}
	required, conditional := tenant.RequiredVersion(ctx)
	for range setAttempts {
		old, err := s.deps.Store.Tenant(ctx, t.ID)
		if err != nil {
			return tenant.Tenant{}, err
		}
		if conditional && old.Version() != required {
			return tenant.Tenant{}, tenant.ErrChanged
		}
		next, err := edit(old)
		if err != nil {
			return tenant.Tenant{}, err
		}
		if _, err := account.NewReserved(next.Reserved); err != nil {
			return tenant.Tenant{}, fault.Field("reserved", "%v", err)
		}
		if next, err = tenant.New(next); err != nil {
			return tenant.Tenant{}, err
		}
		err = s.deps.Store.SetTenant(tenant.OnlyIf(ctx, old.Version()), next, s.deps.Now())
		switch {
		case err == nil:
			return next, nil
		case !fault.Is(err, fault.Changed) || conditional:
			return tenant.Tenant{}, err
		}
	}
	return tenant.Tenant{}, errTenantKeepsChanging
}

// ReserveName adds a user name to those that nobody can sign up with. Accounts that have it, or one that looks like it,
// stay. It fails as SetTenant does.
func (s *Service) ReserveName(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string) error {
	_, err := s.SetTenant(ctx, c, t, reason, func(x tenant.Tenant) (tenant.Tenant, error) {
		if !slices.Contains(x.Reserved, user) {
			x.Reserved = append(slices.Clone(x.Reserved), user)
		}
		return x, nil
	})
	return err
}

var errTenantKeepsChanging = errors.New("the tenant was changed by others in each of the attempts to change it")
