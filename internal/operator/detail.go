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
	// MaxMessages is how many messages a Detail has at most.
	MaxMessages = 50
	// MaxChanges is how many changes a Detail has at most.
	MaxChanges = 50
)

// Detail is what an operator sees of one account.
type Detail struct {
	// User is the user name that was asked for.
	User string
	// Account is nil if there is no account with the name. Then Closed is not.
	Account *account.Account
	// Closed is the name if a deleted account keeps it.
	Closed *account.ClosedName
	// Deletion is the change that deleted the account that keeps the name, or nil if Changes does not have it.
	Deletion *audit.Change
	// Sessions are the listed sessions, the last used one first.
	Sessions []session.Record
	// Factors are the authenticator app, the number of recovery codes, and the passkeys.
	Factors account.DataFactors
	// Lookups are when phone servers last asked for the account.
	Lookups []sipserver.Lookup
	// Messages are the newest messages, to any address, newest first. Their states are "writing" until they are in
	// the pickup directory, and then those of their deliveries, which without a relay are "written". They are kept as
	// long as their links would work. Of a waiting account that got one message, it may be known without its ID.
	Messages []account.DataMessage
	// Changes are the newest changes of accounts with the user name in the trail, newest first. Those of an earlier
	// tenant with the same host are not among them.
	Changes []audit.Change
}

// DetailStore reads what a Detail has.
type DetailStore interface {
	// Sessions returns the sessions of an account, as session.Store says.
	Sessions(ctx context.Context, uid account.UID, epoch int64, now time.Time) ([]session.Record, error)
	// LastLookups returns when phone servers asked for an account.
	LastLookups(ctx context.Context, uid account.UID, now time.Time) ([]sipserver.Lookup, error)
	// FactorsOf returns the second factors of an account.
	FactorsOf(ctx context.Context, uid account.UID) (account.DataFactors, error)
	// MessagesOf returns up to limit messages of an account, the newest first.
	MessagesOf(ctx context.Context, uid account.UID, limit int) ([]account.DataMessage, error)
	// NewestChanges returns up to limit changes, not before since, of accounts that have had a user name, the newest
	// first.
	NewestChanges(ctx context.Context, host, user string, since time.Time, limit int) ([]audit.Change, error)
	// ClosedName returns the name of a deleted account. It fails with fault.NotFound.
	ClosedName(ctx context.Context, tenant int64, user string) (account.ClosedName, error)
	// ClosedNamesAfter returns up to limit names of deleted accounts of a tenant, in their order, after a name.
	ClosedNamesAfter(ctx context.Context, tenant int64, after string, limit int) ([]account.ClosedName, error)
	// AddView adds a change to the trail that says who has looked at an account, or listed them, with the cause in the
	// context, unless the newest such one of the same actor is not older than since. Of concurrent calls one adds it.
	AddView(ctx context.Context, c audit.Change, since time.Time) error
}

// Show returns what is known of an account, or of the deleted account that keeps a name. It fails with
// fault.NotFound. The trail says that the caller has looked, at most once an hour for one account. That is added in
// the background (Flush).
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

// StillThere reports whether the account with a user name is there, and has an ID if one is given.
func (s *Service) StillThere(ctx context.Context, t *tenant.Tenant, user, id string) (bool, error) {
	a, err := s.deps.Store.Find(ctx, t.ID, user, s.deps.Now())
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil && (id == "" || a.UID.String() == id), err
}

// viewOf returns the change that says who has looked at an account.
func viewOf(t *tenant.Tenant, a account.Account) audit.Change {
	return audit.Change{Action: audit.AccountView, Tenant: t.Host, Account: a.UID.String(), User: a.User}
}

const (
	// viewEvery is how often the trail says that a caller has looked at an account, or at a list of them.
	viewEvery = time.Hour
	// maxViews is how many views are remembered, so that they are not looked up in the trail again.
	maxViews = 10_000
	// maxViewWriters is how many views are written in the background at the same time.
	maxViewWriters = 8
)

// views are the views of accounts and of lists that are in the trail, or that are being added.
type views struct {
	writers sync.WaitGroup
	slots   chan struct{}

	mu     sync.Mutex
	since  time.Time
	known  map[view]bool
	failed error
}

// view is a caller who has looked at an account, or has listed the accounts of a tenant.
type view struct {
	actor           audit.Actor
	action          audit.Action
	tenant, account string
}

// Listed adds to the trail in the background (Flush) that a caller has seen a list of the accounts of a tenant, at most
// once an hour. Methods that return such a list call it.
func (s *Service) Listed(ctx context.Context, c Caller, t *tenant.Tenant) {
	s.viewed(ctx, c, audit.Change{Action: audit.AccountList, Tenant: t.Host})
}

// viewed adds a change to the trail in the background that says what a caller has looked at, at most once an hour.
// While many such changes are being written, it waits for its own.
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

// begin reports whether a view is to be added to the trail.
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

// fail forgets a view that was not added, so that the next one is.
func (vs *views) fail(v view, err error) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	delete(vs.known, v)
	vs.failed = err
}

// Flush waits until the trail says which accounts were looked at or listed before, and returns the last failure since
// the last Flush. It is called before the store is closed.
func (s *Service) Flush() error {
	s.views.writers.Wait()
	s.views.mu.Lock()
	defer s.views.mu.Unlock()
	err := s.views.failed
	s.views.failed = nil
	return err
}
