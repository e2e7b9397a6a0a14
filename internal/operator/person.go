package operator

import (
	"slices"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/session"
)

// ErrSignInAgain means that a person has to sign in again before anything is changed.
var ErrSignInAgain = fault.New(fault.Forbidden,
	"sign in again to change anything; signing in with a second factor lasts longer")

// ErrOwnAccount means that a person would lose the pages for operators by a change.
var ErrOwnAccount = fault.New(fault.Conflict,
	"this is your own account; ask another operator, or use the command line")

// ofPeople are the scopes of a person. Tokens and what belongs to the whole installation are for commands.
var ofPeople = []Scope{AccountsRead, AccountsWrite, TenantRead, TenantWrite, AuditRead, StatsRead}

// Admin returns the Caller for a person who is signed in. It acts at the person's own tenant. If the session is not
// session.Current.Fresh, changes fail with ErrSignInAgain. Admin fails with fault.NotFound for an account that is
// not active or that does not have the role admin: to everybody else, there are no pages for operators.
func (s *Service) Admin(c session.Current, from account.Origin) (Caller, error) {
	if c.Owner.Role != account.Admin || c.Owner.State() != account.Active {
		return Caller{}, fault.New(fault.NotFound, "there is nothing at this address; check the spelling")
	}
	return Caller{
		Actor:  audit.Actor{Kind: audit.Admin, Name: c.Owner.User, ID: c.Owner.UID.String()},
		Tenant: c.Owner.Tenant,
		Scopes: ofPeople,
		Stale:  !c.Fresh(s.deps.Now()),
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

// changes reports whether a scope is one for changes.
func (s Scope) changes() bool {
	return slices.Contains([]Scope{AccountsWrite, TenantWrite, TokensWrite}, s)
}
