// Package operator is what operators may see and do, for the command line, the pages and the API.
//
// # What it guarantees
//
// A Caller is a command on the host, a person with the role admin, or a program with a token. Each
// method checks first that the Caller may do it at the tenant, and fails with fault.Forbidden
// otherwise. The transaction of a change also adds it to the audit trail, with the Caller as its
// actor. Viewing the data of a person is in the audit trail too.
//
// A stolen session of a person with the role admin cannot be used to gain more than that session:
//
//   - A person changes their own account on the pages that everybody has, which ask for the
//     password and the second factor where that matters. Every method of this package that
//     would change it fails with ErrOwnAccount, without exceptions, so that no future method
//     can be forgotten.
//   - Changes need a sign-in that is less than session.FreshFor old, or less than FactorFor with a second factor.
//   - Every change of another account with the role admin needs a sign-in that is less than
//     session.FreshFor old, with the second factor if the person has one. So does giving that
//     role, and a bulk change of such accounts.
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

// Scope is a permission of a Caller. Its values are stored and published.
type Scope string

// The scopes.
const (
	AccountsRead  Scope = "accounts:read"
	AccountsWrite Scope = "accounts:write" // to create, change and delete accounts
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
	// Tenant is the ID of the only tenant at which the caller may act. Zero means all tenants
	// and the whole installation.
	Tenant int64
	Scopes []Scope
	// Stale means that changes fail with ErrSignInAgain.
	Stale bool
	// Recent means that a person signed in less than session.FreshFor ago, and Factor that it
	// was with a second factor. Both are used only for people.
	Recent, Factor bool
	// Addr and Request are those of the request. They are zero for a command.
	Addr    netip.Addr
	Request string
}

// Check fails with fault.Forbidden unless the caller has a scope at a tenant, or for the whole
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

// With returns a context for changes by the caller, with a reason that may be empty. It fails
// with fault.Invalid if the reason is not valid.
func (c Caller) With(ctx context.Context, reason string) (context.Context, error) {
	if err := audit.CheckReason(reason); err != nil {
		return nil, err
	}
	return audit.With(ctx, audit.Cause{
		Actor: c.Actor, Reason: reason, Net: audit.AddrText(ctx, c.Addr), Request: c.Request,
	}), nil
}

// Store is what a Service reads and writes directly.
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
	// SetTenant is tenant.Store.SetTenant.
	SetTenant(ctx context.Context, t tenant.Tenant, now time.Time) error
}

// Deps are the dependencies of a Service.
type Deps struct {
	Accounts *account.Service
	Store    Store
	Now      func() time.Time
	// CoverTrail writes checkpoints for the current audit trail, so that later edits are detected. It may be nil.
	CoverTrail func(context.Context)
}

// Service is what operators do with accounts and tenants. It is safe for concurrent use.
type Service struct {
	deps  Deps
	views views
	// bulkTenant is the tenant of the bulk change that this process last worked on.
	bulkTenant atomic.Int64
}

// NewService returns a Service.
func NewService(d Deps) *Service {
	return &Service{deps: d, views: views{slots: make(chan struct{}, maxViewWriters)}}
}

// Now returns the current time.
func (s *Service) Now() time.Time { return s.deps.Now() }

// coverTrail writes checkpoints now.
func (s *Service) coverTrail(ctx context.Context) {
	if s.deps.CoverTrail != nil {
		s.deps.CoverTrail(context.WithoutCancel(ctx))
	}
}
