package operator

import (
	"context"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/tenant"
)

// Store is what a Service reads and writes by itself.
type Store interface {
	account.PageStore
	account.Finder
	audit.Trail
	DetailStore
	SignupsStore
	StatsStore
	MessageStore
	BulkStore
	TenantStore
	// SetTenant replaces the settings of a tenant, as tenant.Store says.
	SetTenant(ctx context.Context, t tenant.Tenant, now time.Time) error
}

// Deps are the dependencies of a Service.
type Deps struct {
	Accounts *account.Service
	Store    Store
	Now      func() time.Time
	// CoverTrail writes checkpoints for what the trail has, so that later edits show. It may be nil.
	CoverTrail func(context.Context)
}

// Service is what operators do with accounts and tenants. It is safe for concurrent use.
type Service struct {
	deps  Deps
	views views
}

// NewService returns a Service.
func NewService(d Deps) *Service {
	return &Service{deps: d, views: views{slots: make(chan struct{}, maxViewWriters)}}
}

// Now returns the present time.
func (s *Service) Now() time.Time { return s.deps.Now() }

// List returns a page of accounts, as account.PageStore says. The trail says that the caller has listed accounts of the
// tenant, at most once an hour. That is added in the background (Flush).
func (s *Service) List(ctx context.Context, c Caller, t *tenant.Tenant, q account.Query, next string,
	limit int) (account.Page, error) {
	if err := c.Check(AccountsRead, t); err != nil {
		return account.Page{}, err
	}
	p, err := s.deps.Store.Page(ctx, t.ID, q, next, limit, s.deps.Now())
	if err == nil {
		s.Listed(ctx, c, t)
	}
	return p, err
}

// coverTrail writes checkpoints now.
func (s *Service) coverTrail(ctx context.Context) {
	if s.deps.CoverTrail != nil {
		s.deps.CoverTrail(context.WithoutCancel(ctx))
	}
}

// change makes a change of an account, if the caller may.
func (s *Service) change(ctx context.Context, c Caller, t *tenant.Tenant, reason string,
	do func(context.Context) (account.Account, error)) (account.Account, error) {
	if err := c.Check(AccountsWrite, t); err != nil {
		return account.Account{}, err
	}
	ctx, err := c.With(ctx, reason)
	if err != nil {
		return account.Account{}, err
	}
	return do(ctx)
}

// Enable is account.Service.Enable, or EnableNow with activate.
func (s *Service) Enable(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string,
	activate bool) (account.Account, error) {
	return s.change(ctx, c, t, reason, func(ctx context.Context) (account.Account, error) {
		if activate {
			return s.deps.Accounts.EnableNow(ctx, t, user)
		}
		return s.deps.Accounts.Enable(ctx, t, user)
	})
}

// Disable is account.Service.Disable. It fails with ErrOwnAccount for the account of the caller.
func (s *Service) Disable(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string) (account.Account,
	error) {
	if err := c.Others(user); err != nil {
		return account.Account{}, err
	}
	return s.change(ctx, c, t, reason, func(ctx context.Context) (account.Account, error) {
		return s.deps.Accounts.Disable(ctx, t, user)
	})
}

// SetRole is account.Service.SetRole. It fails with ErrOwnAccount for the account of the caller.
func (s *Service) SetRole(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string,
	role account.Role) (account.Account, error) {
	if err := c.Others(user); err != nil {
		return account.Account{}, err
	}
	return s.change(ctx, c, t, reason, func(ctx context.Context) (account.Account, error) {
		return s.deps.Accounts.SetRole(ctx, t, user, role)
	})
}

// Delete is account.Service.Delete. It returns the account as it was. It fails with ErrOwnAccount for the account of
// the caller.
func (s *Service) Delete(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string) (account.Account,
	error) {
	if err := c.Others(user); err != nil {
		return account.Account{}, err
	}
	return s.change(ctx, c, t, reason, func(ctx context.Context) (account.Account, error) {
		a, err := s.deps.Accounts.Find(ctx, t.ID, user)
		if err == nil {
			err = s.deps.Accounts.Delete(ctx, t, user)
		}
		return a, err
	})
}
