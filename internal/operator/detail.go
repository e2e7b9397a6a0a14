package operator

import (
	"context"
	"slices"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/session"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
)

const (
	// MaxMessages is the maximum number of messages in a Detail.
	MaxMessages = 50
	// MaxChanges is the maximum number of changes in a Detail.
	MaxChanges = 50
)

// Detail is what an operator sees of one account.
type Detail struct {
	// User is the user name that was asked for.
	User string
	// Account is nil if there is no account with the name. Then Closed is set.
	Account *account.Account
	// Closed is the name, if a deleted account keeps it.
	Closed *account.ClosedName
	// Deletion is the change that deleted the account that keeps the name, or nil if it is not in Changes.
	Deletion *audit.Change
	// Sessions are the listed sessions, the most recently used first.
	Sessions []session.Record
	// Factors are the authenticator app, the number of recovery codes, and the passkeys.
	Factors account.DataFactors
	// Lookups are when phone servers last asked for the account.
	Lookups []sipserver.Lookup
	// Messages are the newest messages, to any address, newest first. Their states are
	// "writing" until they are in the pickup directory, and then the states of their
	// deliveries, or "written" without a relay. They are kept as long as their links would
	// work. If a waiting account got only one message, its ID may be unknown.
	Messages []account.DataMessage
	// Changes are the newest rows of the audit trail about accounts with the user name, newest
	// first. They exclude an earlier tenant with the same host.
	Changes []audit.Change
}

// DetailStore reads the parts of a Detail.
type DetailStore interface {
	// Sessions is session.Store.Sessions.
	Sessions(ctx context.Context, uid account.UID, epoch int64, now time.Time) ([]session.Record, error)
	// LastLookups returns when phone servers asked for an account.
	LastLookups(ctx context.Context, uid account.UID, now time.Time) ([]sipserver.Lookup, error)
	// FactorsOf returns the second factors of an account.
	FactorsOf(ctx context.Context, uid account.UID) (account.DataFactors, error)
	// MessagesOf returns up to limit messages of an account, newest first.
	MessagesOf(ctx context.Context, uid account.UID, limit int) ([]account.DataMessage, error)
	// NewestChanges returns up to limit changes, not before since, of accounts that have or had
	// a user name, newest first.
	NewestChanges(ctx context.Context, host, user string, since time.Time, limit int) ([]audit.Change, error)
	// ClosedName returns the name of a deleted account. It fails with fault.NotFound.
	ClosedName(ctx context.Context, tenant int64, user string) (account.ClosedName, error)
	// ClosedNamesAfter returns up to limit names of deleted accounts of a tenant, in order, starting after a name.
	ClosedNamesAfter(ctx context.Context, tenant int64, after string, limit int) ([]account.ClosedName, error)
	// AddView adds a row to the audit trail that somebody has viewed an account or listed accounts, with the
	// cause from the context, unless the actor's newest such row is not older than since. Exactly one of
	// several concurrent calls adds it.
	AddView(ctx context.Context, c audit.Change, since time.Time) error
}

// Show returns what is known about an account, or about the deleted account that keeps a name.
// It fails with fault.NotFound. It adds a row to the audit trail that the caller has viewed the
// account, at most once an hour for one account and in the background (Flush).
func (s *Service) Show(ctx context.Context, c Caller, t *tenant.Tenant, user string) (Detail, error) {
	d := Detail{User: user}
	if err := c.Check(AccountsRead, t); err != nil {
		return d, err
	}
	now, store := s.deps.Now(), s.deps.Store
	a, err := store.Find(ctx, t.ID, user, now)
	switch {
	case err == nil:
		d.Account = &a
	case !fault.Is(err, fault.NotFound):
		return d, err
	default:
		closed, closedErr := store.ClosedName(ctx, t.ID, user)
		if fault.Is(closedErr, fault.NotFound) {
			return d, noAccount(t, user)
		} else if closedErr != nil {
			return d, closedErr
		}
		d.Closed = &closed
	}
	if d.Account != nil {
		if d.Sessions, err = store.Sessions(ctx, a.UID, a.Epoch, now); err != nil {
			return d, err
		}
		if d.Factors, err = store.FactorsOf(ctx, a.UID); err != nil {
			return d, err
		}
		if d.Lookups, err = store.LastLookups(ctx, a.UID, now); err != nil {
			return d, err
		}
		if d.Messages, err = store.MessagesOf(ctx, a.UID, MaxMessages); err != nil {
			return d, err
		}
	}
	if d.Changes, err = store.NewestChanges(ctx, t.Host, user, t.Created, MaxChanges); err != nil {
		return d, err
	}
	if d.Closed != nil {
		i := slices.IndexFunc(d.Changes, func(c audit.Change) bool { return c.Action == audit.AccountDelete })
		if i >= 0 {
			d.Deletion = &d.Changes[i]
		}
	}
	if d.Account != nil {
		s.viewed(ctx, c, viewOf(t, a))
	}
	return d, nil
}

// StillThere reports whether the account with a user name exists. If id is not empty, the
// account must also have that ID.
func (s *Service) StillThere(ctx context.Context, t *tenant.Tenant, user, id string) (bool, error) {
	a, err := s.deps.Store.Find(ctx, t.ID, user, s.deps.Now())
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil && (id == "" || a.UID.String() == id), err
}

// viewOf returns the row of the audit trail about viewing an account.
func viewOf(t *tenant.Tenant, a account.Account) audit.Change {
	return audit.Change{Action: audit.AccountView, Tenant: t.Host, Account: a.UID.String(), User: a.User}
}

const (
	// viewEvery is how often the audit trail records that a caller views an account or lists accounts.
	viewEvery = time.Hour
	// maxViews is how many views are remembered, so that they need not be looked up in the audit trail again.
	maxViews = 10_000
	// maxViewWriters is how many views are written in the background at the same time.
	maxViewWriters = 8
)

// views are the views of accounts and lists that are in the audit trail, or are being added.
type views struct {
	writers sync.WaitGroup
	slots   chan struct{}

	mu     sync.Mutex
	since  time.Time
	known  map[view]bool
	failed error
}

// view is a caller's view of an account, or of the list of accounts of a tenant.
type view struct {
	actor           audit.Actor
	action          audit.Action
	tenant, account string
}

// Listed adds a row to the audit trail, in the background (Flush), that a caller has listed
// accounts of a tenant, at most once an hour. Methods that return such a list call it.
func (s *Service) Listed(ctx context.Context, c Caller, t *tenant.Tenant) {
	s.viewed(ctx, c, audit.Change{Action: audit.AccountList, Tenant: t.Host})
}

// viewed adds a row to the audit trail in the background about what a caller has viewed, at
// most once an hour. If too many are being written, it writes its own before it returns.
func (s *Service) viewed(ctx context.Context, c Caller, change audit.Change) {
	now := s.deps.Now()
	since, v := now.Truncate(viewEvery), view{c.Actor, change.Action, change.Tenant, change.Account}
	change.At, change.Outcome = now, audit.OK
	if !s.views.begin(v, since) {
		return
	}
	ctx, err := c.With(context.WithoutCancel(ctx), "")
	if err != nil { // an empty reason is allowed
		return
	}
	write := func() {
		if err := s.deps.Store.AddView(ctx, change, since); err != nil {
			s.views.fail(v, err)
		}
	}
	select {
	case s.views.slots <- struct{}{}:
		s.views.writers.Go(func() {
			defer func() { <-s.views.slots }()
			write()
		})
	default:
		write()
	}
}

// begin reports whether a view must be added to the audit trail, and marks it as known.
func (vs *views) begin(v view, since time.Time) bool {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if !vs.since.Equal(since) || len(vs.known) >= maxViews {
		vs.since, vs.known = since, make(map[view]bool)
	}
	if vs.known[v] {
		return false
	}
	vs.known[v] = true
	return true
}

// fail forgets a view that could not be added, so that the next call adds it.
func (vs *views) fail(v view, err error) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	delete(vs.known, v)
	vs.failed = err
}

// Flush waits until all views so far are in the audit trail, and returns the last failure since
// the previous Flush. It must be called before the store is closed.
func (s *Service) Flush() error {
	s.views.writers.Wait()
	s.views.mu.Lock()
	defer s.views.mu.Unlock()
	err := s.views.failed
	s.views.failed = nil
	return err
}
