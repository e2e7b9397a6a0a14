// Package operator is what operators may see and do, for the command line, the pages and the API.
//
// # What it guarantees
//
// A Caller is a command on the host, a person with the role admin, or a program with a token. Each
// method checks first that the Caller may do it at the tenant, and fails with fault.Forbidden otherwise. What is
// changed is in the audit trail, in the transaction of the change, with the Caller as its actor. Looking at the data
// of one person is in the trail too.
//
// A stolen session of a person with the role admin does not become more than that session:
//
//   - A person changes the own account on the pages that everybody has, which ask for the password and the second
//     factor where that matters. Every change of it by the methods of this package fails with ErrOwnAccount, whatever
//     it is: so no later method can be forgotten.
//   - Changes need a sign-in that is less than session.FreshFor old, or FactorFor if it was with a second factor.
//   - What would give somebody else's account with the role admin away needs a sign-in that is less than
//     session.FreshFor old, with the second factor if the person has one: its address, a reset link, its factors, to
//     delete it, to give or take that role, and a bulk change of such accounts.
//
// These rules are for people. A token or a command can change every account of its tenant.
//
// # What it is not
//
// It has no rules about accounts and tenants: those are in their packages. It knows neither forms nor JSON.
package operator

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// Scope is a kind of thing that a Caller may do. Its values are stored and published.
type Scope string

// The scopes.
const (
	AccountsRead  Scope = "accounts:read"
	AccountsWrite Scope = "accounts:write" // also to create, change and delete them
	TenantRead    Scope = "tenant:read"    // settings
	TenantWrite   Scope = "tenant:write"   // settings, and to open and close signups
	AuditRead     Scope = "audit:read"
	StatsRead     Scope = "stats:read" // counts, backlogs, hooks
	TokensWrite   Scope = "tokens:write"
)

// Scopes are all scopes.
var Scopes = []Scope{AccountsRead, AccountsWrite, TenantRead, TenantWrite, AuditRead, StatsRead, TokensWrite}

// Caller is who acts.
type Caller struct {
	Actor audit.Actor
	// Tenant is the ID of the only tenant at which the caller may act. Zero means all tenants, and what belongs to
	// the whole installation.
	Tenant int64
	Scopes []Scope
	// Stale means that changes fail with ErrSignInAgain.
	Stale bool
	// Recent means that a person signed in less than session.FreshFor ago, and Factor that this was with a second
	// factor. They count for a person only.
	Recent, Factor bool
	// Addr and Request are those of the request. They are zero for a command.
	Addr    netip.Addr
	Request string
}

// Check fails with fault.Forbidden unless the caller may do what a scope is for, at a tenant, or for the whole
// installation if t is nil.
func (c Caller) Check(scope Scope, t *tenant.Tenant) error {
	switch {
	case !slices.Contains(c.Scopes, scope):
		return missingScope(scope)
	case c.Tenant != 0 && (t == nil || t.ID != c.Tenant):
		return fault.New(fault.Forbidden, "you may act at another tenant only")
	case c.Stale && scope.changes():
		return ErrSignInAgain
	}
	return nil
}

func missingScope(s Scope) error {
	return fault.New(fault.Forbidden, "this needs the scope %s, which you do not have", s)
}

// With returns a context for changes by the caller, for a reason that may be empty. It fails with fault.Invalid for
// the reason.
func (c Caller) With(ctx context.Context, reason string) (context.Context, error) {
	if err := audit.CheckReason(reason); err != nil {
		return nil, err
	}
	return audit.With(ctx, audit.Cause{
		Actor: c.Actor, Reason: reason, Net: audit.AddrText(ctx, c.Addr), Request: c.Request,
	}), nil
}

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
	// bulkTenant is the tenant of the bulk change that this process worked on last.
	bulkTenant atomic.Int64
}

// NewService returns a Service.
func NewService(d Deps) *Service {
	return &Service{deps: d, views: views{slots: make(chan struct{}, maxViewWriters)}}
}

// Now returns the present time.
func (s *Service) Now() time.Time { return s.deps.Now() }

// coverTrail writes checkpoints now.
func (s *Service) coverTrail(ctx context.Context) {
	if s.deps.CoverTrail != nil {
		s.deps.CoverTrail(context.WithoutCancel(ctx))
	}
}
