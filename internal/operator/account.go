package operator

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// List returns a page of accounts, as account.PageStore does. It adds a row to the audit trail
// that the caller has listed accounts of the tenant, at most once an hour and in the background
// (Flush).
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

// change makes a change of an account. If the caller may not, it fails as others does. It
// returns the account's data. So if nothing was changed and the audit trail has no row about a
// change, it gets one that the caller has viewed the account, as by Show.
func (s *Service) change(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string,
	do func(context.Context) (account.Account, error)) (account.Account, error) {
	if err := s.others(ctx, c, t, user); err != nil {
		return account.Account{}, err
	}
	ctx, err := c.With(ctx, reason)
	if err != nil {
		return account.Account{}, err
	}
	ctx, changed := audit.Marking(ctx)
	a, err := do(ctx)
	if err == nil && a.User != "" && !changed.Load() {
		s.viewed(ctx, c, viewOf(t, a))
	}
	return a, s.deleted(ctx, t, user, err)
}

// ErrDeleted means that an account was deleted, and its name is still reserved.
var ErrDeleted = fault.New(fault.NotFound, "the account was deleted, and its name is reserved; only the name can be "+
	"freed, and its changes be seen")

// deleted returns err, unless a deleted account keeps the user name. Then it returns ErrDeleted
// instead of fault.NotFound, and instead of account.ErrTaken an error that tells why the name
// is taken.
func (s *Service) deleted(ctx context.Context, t *tenant.Tenant, user string, err error) error {
	taken := errors.Is(err, account.ErrTaken)
	if !taken && !fault.Is(err, fault.NotFound) {
		return err
	}
	_, nameErr := s.deps.Store.ClosedName(ctx, t.ID, user)
	switch {
	case nameErr != nil && taken:
		return err
	case nameErr != nil:
		return noAccount(t, user)
	case taken:
		e := fault.New(fault.Conflict, "the user name is taken: a deleted account keeps it; free it first, or choose "+
			"another one")
		e.Cause = err
		return e
	}
	return ErrDeleted
}

// noAccount returns the error for a user name that neither an account nor a deleted account has.
func noAccount(t *tenant.Tenant, user string) error {
	return fault.New(fault.NotFound, "there is no account %s at %s; look for it in the list of accounts", user, t.Host)
}

// Find returns an account. It fails with fault.NotFound, which is ErrDeleted if a deleted account keeps the name.
func (s *Service) Find(ctx context.Context, c Caller, t *tenant.Tenant, user string) (account.Account, error) {
	if err := c.Check(AccountsRead, t); err != nil {
		return account.Account{}, err
	}
	a, err := s.deps.Store.Find(ctx, t.ID, user, s.deps.Now())
	return a, s.deleted(ctx, t, user, err)
}

// Enable is account.Service.Enable, or EnableNow with activate.
func (s *Service) Enable(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string,
	activate bool) (account.Account, error) {
	return s.change(ctx, c, t, user, reason, func(ctx context.Context) (account.Account, error) {
		if activate {
			return s.deps.Accounts.EnableNow(ctx, t, user)
		}
		return s.deps.Accounts.Enable(ctx, t, user)
	})
}

// Disable is account.Service.Disable.
func (s *Service) Disable(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string) (account.Account,
	error) {
	return s.change(ctx, c, t, user, reason, func(ctx context.Context) (account.Account, error) {
		return s.deps.Accounts.Disable(ctx, t, user)
	})
}

// SetRole is account.Service.SetRole.
func (s *Service) SetRole(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string,
	role account.Role) (account.Account, error) {
	if role == account.Admin {
		if err := s.signedInNow(ctx, c); err != nil {
			return account.Account{}, err
		}
	}
	return s.change(ctx, c, t, user, reason, func(ctx context.Context) (account.Account, error) {
		return s.deps.Accounts.SetRole(ctx, t, user, role)
	})
}

// Delete is account.Service.Delete. It returns the account as it was.
func (s *Service) Delete(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string) (account.Account,
	error) {
	return s.change(ctx, c, t, user, reason, func(ctx context.Context) (account.Account, error) {
		a, err := s.deps.Accounts.Find(ctx, t.ID, user)
		if err == nil {
			err = s.deps.Accounts.Delete(ctx, t, user)
		}
		return a, err
	})
}

// Add is account.Service.Add.
func (s *Service) Add(ctx context.Context, c Caller, t *tenant.Tenant, n account.NewAccount,
	reason string) (account.Account, error) {
	if err := c.Check(AccountsWrite, t); err != nil {
		return account.Account{}, err
	}
	if n.Role == account.Admin {
		if err := s.signedInNow(ctx, c); err != nil {
			return account.Account{}, err
		}
	}
	return s.change(ctx, c, t, n.User, reason, func(ctx context.Context) (account.Account, error) {
		return s.deps.Accounts.Add(ctx, t, n)
	})
}

// Resend is account.Service.SendAgain.
func (s *Service) Resend(ctx context.Context, c Caller, t *tenant.Tenant, user, reason,
	email string) (account.Account, error) {
	return s.change(ctx, c, t, user, reason, func(ctx context.Context) (account.Account, error) {
		return s.deps.Accounts.SendAgain(ctx, t, user, email)
	})
}

// SetEmail is account.Service.ReplaceEmail.
func (s *Service) SetEmail(ctx context.Context, c Caller, t *tenant.Tenant, user, reason,
	email string) (account.Account, error) {
	return s.change(ctx, c, t, user, reason, func(ctx context.Context) (account.Account, error) {
		return s.deps.Accounts.ReplaceEmail(ctx, t, user, email)
	})
}

// Rename is account.Service.Rename.
func (s *Service) Rename(ctx context.Context, c Caller, t *tenant.Tenant, user, reason,
	name string) (account.Account, error) {
	return s.change(ctx, c, t, user, reason, func(ctx context.Context) (account.Account, error) {
		return s.deps.Accounts.Rename(ctx, t, user, name)
	})
}

// ResetLink is account.Service.MakeResetLink. The link is a secret. It fails with fault.Conflict for an account that
// is not active, and with fault.Invalid for a life that is not between a minute and account.MaxResetLife.
func (s *Service) ResetLink(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string,
	life time.Duration) (link string, until time.Time, err error) {
	if life < time.Minute || life > account.MaxResetLife {
		return "", time.Time{}, fault.Field("valid", "a link can work for 1 minute to 7 days, not for %s",
			PeriodText(life))
	}
	_, err = s.change(ctx, c, t, user, reason, func(ctx context.Context) (account.Account, error) {
		a, err := s.findActive(ctx, t, user)
		if err == nil {
			link, until, err = s.deps.Accounts.MakeResetLink(ctx, t, user, life)
		}
		return a, err
	})
	return link, until, err
}

// MailResetLink is account.Service.MailResetLink. It fails with fault.Conflict for an account that is not active.
func (s *Service) MailResetLink(ctx context.Context, c Caller, t *tenant.Tenant, user,
	reason string) (a account.Account, until time.Time, err error) {
	a, err = s.change(ctx, c, t, user, reason, func(ctx context.Context) (a account.Account, err error) {
		if a, err = s.findActive(ctx, t, user); err == nil {
			a, until, err = s.deps.Accounts.MailResetLink(ctx, t, user)
		}
		return a, err
	})
	return a, until, err
}

// findActive returns an account, and fails with fault.Conflict if it is not active.
func (s *Service) findActive(ctx context.Context, t *tenant.Tenant, user string) (account.Account, error) {
	a, err := s.deps.Accounts.Find(ctx, t.ID, user)
	if err != nil {
		return a, err
	}
	switch a.State() {
	case account.Active:
		return a, nil
	case account.Waiting:
		return a, fault.New(fault.Conflict, "the account %s waits for its activation; activate it first", user)
	case account.Leaving:
		return a, fault.New(fault.Conflict, "the owner of the account %s has left; enable it first", user)
	}
	return a, fault.New(fault.Conflict, "the account %s is disabled; enable it first", user)
}

// SignOut is account.Service.EndSessions.
func (s *Service) SignOut(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string) (account.Account,
	error) {
	return s.change(ctx, c, t, user, reason, func(ctx context.Context) (account.Account, error) {
		return s.deps.Accounts.EndSessions(ctx, t, user)
	})
}

// RemoveFactors is account.Service.RemoveFactors.
func (s *Service) RemoveFactors(ctx context.Context, c Caller, t *tenant.Tenant, user,
	reason string) (account.Account, error) {
	return s.change(ctx, c, t, user, reason, func(ctx context.Context) (account.Account, error) {
		return s.deps.Accounts.RemoveFactors(ctx, t, user)
	})
}

// ClosedNames returns up to limit user names that deleted accounts keep, in order, starting after a name.
func (s *Service) ClosedNames(ctx context.Context, c Caller, t *tenant.Tenant, after string,
	limit int) ([]account.ClosedName, error) {
	if err := c.Check(AccountsRead, t); err != nil {
		return nil, err
	}
	list, err := s.deps.Store.ClosedNamesAfter(ctx, t.ID, after, limit)
	if err == nil {
		s.Listed(ctx, c, t)
	}
	return list, err
}

// FreeName is account.Service.FreeName.
func (s *Service) FreeName(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string) error {
	_, err := s.change(ctx, c, t, user, reason, func(ctx context.Context) (account.Account, error) {
		return account.Account{}, s.deps.Accounts.FreeName(ctx, t, user)
	})
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, "no deleted account at %s keeps the name %s; see the list of names",
			t.Host, user)
	}
	return err
}

// Data returns everything that is stored about the owner of an account, as
// account.Service.DataByLetter does. The audit trail records that the caller got it, and why.
// Data fails with ErrOwnAccount for the caller's own account: people get their own data on
// their own page, which sends them a message.
func (s *Service) Data(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string) (*account.DataFile,
	error) {
	if err := c.Check(AccountsRead, t); err != nil {
		return nil, err
	}
	if err := c.Others(user); err != nil {
		return nil, err
	}
	ctx, err := c.With(ctx, reason)
	if err != nil {
		return nil, err
	}
	d, err := s.deps.Accounts.DataByLetter(ctx, t, s.deps.Store, user)
	return d, s.deleted(ctx, t, user, err)
}
