package account

import (
	"context"

	"dialtone/internal/audit"
	"dialtone/internal/tenant"
)

// Enable activates a pending account, and ends a hold, on behalf of an operator. Like the other
// methods for operators it fails with fault.NotFound.
func (s *Service) Enable(ctx context.Context, t *tenant.Tenant, user string) (Account, error) {
	a, err := s.deps.Store.Enable(ctx, t.ID, user, s.deps.Now())
	s.recordAdmin(ctx, audit.AccountEnable, t, a, user, err)
	return a, err
}

// Disable holds an account and ends its sessions.
func (s *Service) Disable(ctx context.Context, t *tenant.Tenant, user string) (Account, error) {
	a, err := s.deps.Store.Disable(ctx, t.ID, user, s.deps.Now())
	s.recordAdmin(ctx, audit.AccountDisable, t, a, user, err)
	return a, err
}

// SetRole changes the role of an account.
func (s *Service) SetRole(
	ctx context.Context, t *tenant.Tenant, user string, role Role,
) (Account, error) {
	a, err := s.deps.Store.SetRole(ctx, t.ID, user, role, s.deps.Now())
	s.recordAdmin(ctx, audit.AccountRole, t, a, user, err)
	return a, err
}

// Delete removes an account. The name of one that was active stays taken.
func (s *Service) Delete(ctx context.Context, t *tenant.Tenant, user string) error {
	err := s.deps.Store.Delete(ctx, t.ID, user, s.deps.Now())
	s.recordAdmin(ctx, audit.AccountDelete, t, Account{}, user, err)
	return err
}

// recordAdmin is record for an operator, whose request has no origin.
func (s *Service) recordAdmin(
	ctx context.Context, action audit.Action, t *tenant.Tenant, a Account, user string, err error,
) {
	a.User = user
	s.record(ctx, action, t, a, Origin{}, err)
}
