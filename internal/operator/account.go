package operator

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/tenant"
)

// Add is account.Service.Add.
func (s *Service) Add(ctx context.Context, c Caller, t *tenant.Tenant, n account.NewAccount,
	reason string) (account.Account, error) {
	return s.change(ctx, c, t, reason, func(ctx context.Context) (account.Account, error) {
		return account.Account{}, errors.ErrUnsupported
	})
}

// Resend sends a waiting account another message with a new link. If email is not empty, it becomes the address of
// the account. A server writes the message within seconds.
func (s *Service) Resend(ctx context.Context, c Caller, t *tenant.Tenant, user, reason,
	email string) (account.Account, error) {
	return s.change(ctx, c, t, reason, func(ctx context.Context) (account.Account, error) {
		return account.Account{}, errors.ErrUnsupported
	})
}

// SetEmail is account.Service.ReplaceEmail.
func (s *Service) SetEmail(ctx context.Context, c Caller, t *tenant.Tenant, user, reason,
	email string) (account.Account, error) {
	return s.change(ctx, c, t, reason, func(ctx context.Context) (account.Account, error) {
		return s.deps.Accounts.ReplaceEmail(ctx, t, user, email)
	})
}

// Rename sets the display name of an account.
func (s *Service) Rename(ctx context.Context, c Caller, t *tenant.Tenant, user, reason,
	name string) (account.Account, error) {
	return s.change(ctx, c, t, reason, func(ctx context.Context) (account.Account, error) {
		return account.Account{}, errors.ErrUnsupported
	})
}

// ResetLink is account.Service.MakeResetLink. The link is a secret.
func (s *Service) ResetLink(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string,
	life time.Duration) (link string, until time.Time, err error) {
	_, err = s.change(ctx, c, t, reason, func(ctx context.Context) (a account.Account, err error) {
		link, until, err = s.deps.Accounts.MakeResetLink(ctx, t, user, life)
		return a, err
	})
	return link, until, err
}

// MailResetLink sends a message with a reset link to the address of an account. A server writes it within seconds.
// MailResetLink returns the account and when the link expires.
func (s *Service) MailResetLink(ctx context.Context, c Caller, t *tenant.Tenant, user,
	reason string) (a account.Account, until time.Time, err error) {
	a, err = s.change(ctx, c, t, reason, func(ctx context.Context) (account.Account, error) {
		return account.Account{}, errors.ErrUnsupported
	})
	return a, until, err
}

// SignOut ends all sessions of an account.
func (s *Service) SignOut(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string) (account.Account,
	error) {
	return s.change(ctx, c, t, reason, func(ctx context.Context) (account.Account, error) {
		return account.Account{}, errors.ErrUnsupported
	})
}

// RemoveFactors is account.Service.RemoveFactors.
func (s *Service) RemoveFactors(ctx context.Context, c Caller, t *tenant.Tenant, user,
	reason string) (account.Account, error) {
	return s.change(ctx, c, t, reason, func(ctx context.Context) (account.Account, error) {
		return s.deps.Accounts.RemoveFactors(ctx, t, user)
	})
}

// FreeName is account.Service.FreeName.
func (s *Service) FreeName(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string) error {
	_, err := s.change(ctx, c, t, reason, func(ctx context.Context) (account.Account, error) {
		return account.Account{}, s.deps.Accounts.FreeName(ctx, t, user)
	})
	return err
}
