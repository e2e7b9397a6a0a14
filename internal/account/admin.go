package account

import (
	"context"

	"dialtone/internal/tenant"
)

// The methods in this file are for operators. They fail with fault.NotFound. What they change is
// added to the audit trail, with the cause in the context.

// Enable ends a hold: the account is active, or waits again if it was disabled while it waited. It
// fails with ErrWaiting for a waiting account.
func (s *Service) Enable(ctx context.Context, t *tenant.Tenant, user string) (Account, error) {
	return s.deps.Store.Enable(ctx, t.ID, user, s.deps.Now())
}

// EnableNow is like Enable, and also activates an account that was never active.
func (s *Service) EnableNow(ctx context.Context, t *tenant.Tenant, user string) (Account, error) {
	return s.deps.Store.EnableNow(ctx, t.ID, user, s.deps.Now())
}

// Disable holds an account and ends its sessions.
func (s *Service) Disable(ctx context.Context, t *tenant.Tenant, user string) (Account, error) {
	return s.deps.Store.Disable(ctx, t.ID, user, s.deps.Now())
}

// ReplaceEmail sets the address of an account, for an owner who has lost the account to somebody else. All
// links, sessions and remembered browsers of the account end. Its password and its second factors stay. It
// sends no message. It also fails with fault.Invalid for an address.
func (s *Service) ReplaceEmail(ctx context.Context, t *tenant.Tenant, user, raw string) (Account, error) {
	email, err := CleanEmail(raw)
	if err != nil {
		return Account{}, err
	}
	return s.deps.Store.ReplaceEmail(ctx, t.ID, user, email, s.deps.Now())
}

// SetRole changes the role of an account.
func (s *Service) SetRole(ctx context.Context, t *tenant.Tenant, user string, role Role) (Account, error) {
	return s.deps.Store.SetRole(ctx, t.ID, user, role, s.deps.Now())
}

// Delete removes an account. The name of one that was active stays taken.
func (s *Service) Delete(ctx context.Context, t *tenant.Tenant, user string) error {
	return s.deps.Store.Delete(ctx, t.ID, user, s.deps.Now())
}

// FreeName gives up the name of a deleted account, so that anybody can sign up with it.
func (s *Service) FreeName(ctx context.Context, t *tenant.Tenant, user string) error {
	return s.deps.Store.FreeName(ctx, t.ID, user, s.deps.Now())
}
