package provision

import (
	"context"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// LinkLife is how long a link can be opened.
const LinkLife = 15 * time.Minute

// skew is how far the clocks of servers may differ.
const skew = time.Minute

// Store stores the IDs of used links.
type Store interface {
	// Spend stores an ID until it expires, and reports whether this was the first call for the
	// ID. Exactly one of several concurrent calls is the first.
	Spend(ctx context.Context, tenant int64, id [16]byte, expires time.Time) (first bool, err error)
}

// Accounts finds the account of a link.
type Accounts interface {
	// FindUID fails with fault.NotFound if there is no such account.
	FindUID(ctx context.Context, tenant int64, uid account.UID) (account.Account, error)
	// Credential opens the sealed credential of an account.
	Credential(account.Account) (digest.Credential, error)
}

// Tickets makes and reads the tokens of links under one state of the signing keys.
type Tickets struct {
	tickets *secret.Tickets
	now     func() time.Time
}

// NewTickets returns Tickets under the keys of the ring.
func NewTickets(r *secret.Ring, now func() time.Time) *Tickets {
	return &Tickets{secret.NewTickets(r, secret.TicketFormat{
		Purpose: "provisioning link", Version: 1, Account: true, Unit: time.Second,
		CodeSize: 16, BoundFirst: true,
	}), now}
}

func (t *Tickets) issue(a account.Account, f Format) string {
	k := secret.NewTicket(t.now())
	k.Account, k.Epoch = a.UID, a.Epoch
	return t.tickets.Issue(a.Tenant, k, string(f))
}

// read returns the ticket of a token that was issued for this tenant and format, however old.
func (t *Tickets) read(tenant int64, f Format, token string) (secret.Ticket, bool) {
	return t.tickets.Read(tenant, token, string(f))
}

// ErrGone is the error for every link that does not work, regardless of the reason.
var ErrGone = fault.New(fault.NotFound,
	"this link works once, for 15 minutes; make a new one on your account page")

// Links makes and opens links. It is safe for concurrent use.
type Links struct{ deps Deps }

// Deps are the dependencies of Links.
type Deps struct {
	Accounts Accounts
	Store    Store
	// Tickets returns the Tickets under the current signing keys.
	Tickets func() *Tickets
	Audit   audit.Log
	Now     func() time.Time
}

// NewLinks returns Links.
func NewLinks(d Deps) *Links { return &Links{d} }

// Make returns the token of a new link for a person who is signed in.
func (l *Links) Make(
	ctx context.Context, t *tenant.Tenant, a account.Account, f Format, from account.Origin,
) (token string) {
	l.record(ctx, audit.ProvisionLink, t, a.User, from, "ok")
	return l.deps.Tickets().issue(a, f)
}

// Open spends a link and returns the file. Exactly one of several concurrent calls succeeds.
// The others fail with ErrGone, and so does every link that does not work.
func (l *Links) Open(
	ctx context.Context, t *tenant.Tenant, f Format, token string, from account.Origin,
) (File, error) {
	file, user, outcome, err := l.open(ctx, t, f, token)
	l.record(ctx, audit.ProvisionFile, t, user, from, outcome)
	return file, err
}

func (l *Links) open(
	ctx context.Context, t *tenant.Tenant, f Format, token string,
) (file File, user, outcome string, err error) {
	k, ok := l.deps.Tickets().read(t.ID, f, token)
	if !ok {
		return File{}, "", "not_found", ErrGone
	}
	if !k.Fresh(l.deps.Now(), LinkLife, skew) {
		return File{}, "", "expired", ErrGone
	}
	a, err := l.deps.Accounts.FindUID(ctx, t.ID, k.Account)
	if fault.Is(err, fault.NotFound) || err == nil && (a.Disabled || a.Epoch != k.Epoch) {
		return File{}, a.User, "not_found", ErrGone
	}
	if err != nil {
		return File{}, "", "server_error", err
	}
	// The credential is bound to the UID and the user name: it opens only if the account's row
	// has not been given another name.
	if _, err := l.deps.Accounts.Credential(a); err != nil {
		return File{}, "", "server_error", err
	}
	if file, err = New(t, a).In(f); err != nil {
		return File{}, a.User, "refused", err
	}
	// The ID is kept longer than the link is valid, because the clocks of servers differ.
	first, err := l.deps.Store.Spend(ctx, t.ID, k.ID, k.Issued.Add(LinkLife+skew))
	switch {
	case err != nil:
		return File{}, a.User, "server_error", err
	case !first:
		return File{}, a.User, "used", ErrGone
	}
	return file, a.User, "ok", nil
}

func (l *Links) record(
	ctx context.Context, action audit.Action, t *tenant.Tenant, user string, from account.Origin,
	outcome string,
) {
	l.deps.Audit.Record(ctx, audit.Event{
		Action: action, Outcome: outcome, Tenant: t.Host, User: user,
		Peer: from.Addr, Request: from.Request,
	})
}
