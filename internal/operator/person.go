package operator

import (
	"context"
	"encoding/hex"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
)

// ErrSignInAgain means that a person must sign in again before changing anything.
var ErrSignInAgain = fault.New(fault.Forbidden,
	"sign in again to change anything; signing in with a second factor lasts longer")

// ErrOwnAccount means that a person tried to change their own account as an operator.
var ErrOwnAccount = fault.New(fault.Conflict,
	"this is your own account; change it on the page /account, ask another operator, or use the command line")

// FactorFor is how long after a sign-in with a second factor a person may change anything without signing in again.
const FactorFor = 12 * time.Hour

// ofPeople are the scopes of a person. Only commands can manage tokens and the whole installation.
var ofPeople = []Scope{AccountsRead, AccountsWrite, TenantRead, TenantWrite, AuditRead, StatsRead}

// Admin returns the Caller for a person who is signed in. The Caller acts at the person's own tenant. If the
// session is not session.Current.Fresh, or older than FactorFor, changes fail with ErrSignInAgain. Admin
// fails with fault.NotFound for an account that is not active or does not have the role admin: for everybody
// else, the pages for operators do not exist.
func (s *Service) Admin(c session.Current, from account.Origin) (Caller, error) {
	if c.Owner.Role != account.Admin || c.Owner.State() != account.Active {
		return Caller{}, fault.New(fault.NotFound, "there is nothing at this address; check the spelling")
	}
	now := s.deps.Now()
	age := now.Sub(c.Began)
	return Caller{
		Actor:  audit.Actor{Kind: audit.Admin, Name: c.Owner.User, ID: c.Owner.UID.String()},
		Tenant: c.Owner.Tenant,
		Scopes: ofPeople,
		Stale:  !c.Fresh(now) || age >= FactorFor,
		Recent: age < session.FreshFor,
		Factor: c.How != session.ByPassword,
		Addr:   from.Addr, Request: from.Request,
	}, nil
}

// Others fails with ErrOwnAccount if the caller is a person and the account is the person's own.
func (c Caller) Others(user string) error {
	if c.Actor.Kind == audit.Admin && c.Actor.Name == user {
		return ErrOwnAccount
	}
	return nil
}

// others fails unless the caller may change the account of user. It fails as Others does, and
// for an account with the role admin with ErrSignInAgain unless signedInNow succeeds. That
// holds for every change of such an account, since even a link that activates it can be used to
// take it over.
func (s *Service) others(ctx context.Context, c Caller, t *tenant.Tenant, user string) error {
	if err := c.Check(AccountsWrite, t); err != nil {
		return err
	}
	if err := c.Others(user); err != nil || c.Actor.Kind != audit.Admin {
		return err
	}
	switch a, err := s.deps.Accounts.Find(ctx, t.ID, user); {
	case fault.Is(err, fault.NotFound):
		return nil // the change itself reports it
	case err != nil || a.Role != account.Admin:
		return err
	}
	return s.signedInNow(ctx, c)
}

// signedInNow fails with ErrSignInAgain for a person whose session is not Recent, or began
// without a second factor although the person has one.
func (s *Service) signedInNow(ctx context.Context, c Caller) error {
	switch {
	case c.Actor.Kind != audit.Admin:
		return nil
	case !c.Recent:
		return ErrSignInAgain
	case c.Factor:
		return nil
	}
	var uid account.UID
	if b, err := hex.DecodeString(c.Actor.ID); err != nil || copy(uid[:], b) != len(uid) {
		return ErrSignInAgain
	}
	f, err := s.deps.Store.FactorsOf(ctx, uid)
	if err == nil && (f.App != nil || len(f.Passkeys) > 0) {
		err = ErrSignInAgain
	}
	return err
}

// changes reports whether a scope permits changes.
func (s Scope) changes() bool {
	return slices.Contains([]Scope{AccountsWrite, TenantWrite, TokensWrite}, s)
}
