package account

import (
	"cmp"
	"context"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// The methods in this file are for operators. They fail with fault.NotFound. Each change is
// added to the audit trail, with the cause from the context.

// Enable ends a hold: the account becomes active, or waits again if it was waiting when it was disabled. It
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

// Rename sets the display name of an account in any state. It also fails with fault.Invalid for the name.
func (s *Service) Rename(ctx context.Context, t *tenant.Tenant, user, name string) (Account, error) {
	name, err := CleanName(name)
	if err != nil {
		return Account{}, err
	}
	return s.deps.Store.Rename(ctx, t.ID, user, name, s.deps.Now())
}

// EndSessions ends all sessions of an account.
func (s *Service) EndSessions(ctx context.Context, t *tenant.Tenant, user string) (Account, error) {
	return s.deps.Store.EndSessions(ctx, t.ID, user, s.deps.Now())
}

// SendAgain sends the owner of a waiting account another message with a new link. If email is not empty, it becomes
// the address of the account. The limits of tokenPlaces apply. A server writes the message within seconds.
// SendAgain also fails with fault.Invalid for the address, fault.Limited, ErrActive and ErrHeld.
func (s *Service) SendAgain(ctx context.Context, t *tenant.Tenant, user, email string) (Account, error) {
	r := Resending{Tenant: t.ID, User: user}
	a, err := s.Find(ctx, t.ID, user)
	if err != nil {
		return a, err
	}
	if email != "" {
		if r.Email, err = CleanEmail(email); err != nil {
			return Account{}, err
		}
	}
	r.Allowances = s.tokenPlaces(ctx, t, cmp.Or(r.Email, a.Email))
	r.Activation = s.newNotice(Account{Tenant: t.ID}, mailmsg.Activation, PendingLife, "")
	r.SetPassword = s.newNotice(Account{Tenant: t.ID}, mailmsg.SetPassword, PendingLife, "")
	return s.deps.Store.SendAgain(ctx, r, s.deps.Now())
}

// MailResetLink sends a message with a reset link to the address of an account, and returns the account and when the
// link expires. The limits of tokenPlaces apply. A server writes the message within seconds. MailResetLink fails as
// MakeResetLink does, and with fault.Limited.
func (s *Service) MailResetLink(ctx context.Context, t *tenant.Tenant, user string) (Account, time.Time, error) {
	a, err := s.Find(ctx, t.ID, user)
	if err != nil {
		return a, time.Time{}, err
	}
	if a.Email == "" {
		return a, time.Time{}, fault.New(fault.Conflict, "the account %s has no e-mail address; "+
			"set one first, or print a link and give it to the person", user)
	}
	n := s.newNotice(Account{Tenant: t.ID}, mailmsg.Reset, ResetLife, "")
	a, err = s.deps.Store.AddResetLink(ctx, NewResetLink{
		Tenant: t.ID, User: user, Notice: n, TakenOver: true, Allowances: s.tokenPlaces(ctx, t, a.Email),
	}, s.deps.Now())
	return a, n.Until, err
}

// tokenPlaces returns the allowances that a message counts against when it is requested with an
// API token: those of a signup's message, so that a compromised API client cannot flood
// anybody. Messages that a person or a command requests have no limit.
func (s *Service) tokenPlaces(ctx context.Context, t *tenant.Tenant, email string) []throttle.Allowance {
	if audit.CauseOf(ctx).Actor.Kind != audit.Token {
		return nil
	}
	return s.recipient(t, email)
}

// Delete removes an account. The name of one that was active stays taken.
func (s *Service) Delete(ctx context.Context, t *tenant.Tenant, user string) error {
	return s.deps.Store.Delete(ctx, t.ID, user, s.deps.Now())
}

// FreeName releases the name of a deleted account, so that anybody can sign up with it.
func (s *Service) FreeName(ctx context.Context, t *tenant.Tenant, user string) error {
	return s.deps.Store.FreeName(ctx, t.ID, user, s.deps.Now())
}
