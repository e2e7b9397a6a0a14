package operator

import (
	"context"
	"encoding/hex"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// A bulk change is a change of all accounts of a tenant that a query selects.
//
//	counting --all counted--> ready --RunBulk--> running --> done
//	     |                      |                   |
//	     +----CancelBulk--------+                   +--> cancelled, failed
//	                            |
//	                            v
//	                       unconfirmed
//
// It includes neither accounts that sign up after its start nor accounts that the action would
// not change. It never includes the caller's own account, and includes others with the role
// admin only if the query names that role. If an account no longer matches when its turn comes,
// it is not changed. A bulk change never changes more accounts than were counted.
//
// The number of accounts that a query selects reveals something about them. So if somebody
// starts or sees a bulk change, the audit trail records that they listed accounts (Listed).
//
// Servers count and change in the background (WorkBulk), in short transactions. Each
// transaction changes some accounts, with everything that belongs to the change of an account
// (audit trail, notifications of phone servers, exported tables), and records the progress. So
// a bulk change continues after a crash.

// BulkID is the ID of a bulk change. Later bulk changes have greater IDs.
type BulkID account.UID

func (id BulkID) String() string { return account.UID(id).String() }

// ParseBulkID parses what String returns. It fails with fault.NotFound.
func ParseBulkID(text string) (id BulkID, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, ErrNoBulk
	}
	return BulkID(b), nil
}

// BulkAction is what a bulk change does to each account. Its values are stored and published.
type BulkAction string

// The actions.
const (
	BulkDisable BulkAction = "disable"
	BulkEnable  BulkAction = "enable" // only accounts in the state account.Disabled
	BulkDelete  BulkAction = "delete"
)

// BulkActions are all actions.
var BulkActions = []BulkAction{BulkDisable, BulkEnable, BulkDelete}

// BulkState is the state of a bulk change. Its values are stored and published.
type BulkState string

// The states.
const (
	BulkCounting  BulkState = "counting" // accounts are being counted
	BulkReady     BulkState = "ready"    // they were counted, and RunBulk may start the change
	BulkRunning   BulkState = "running"
	BulkDone      BulkState = "done"
	BulkCancelled BulkState = "cancelled" // before all accounts were changed
	// BulkUnconfirmed is the state of a bulk change that was cancelled before RunBulk started
	// it. It has changed nothing.
	BulkUnconfirmed BulkState = "unconfirmed"
	BulkFailed      BulkState = "failed" // before all accounts were changed; see Bulk.Failure
)

// Ended reports whether a bulk change in this state changes no more accounts.
func (s BulkState) Ended() bool {
	return s == BulkDone || s == BulkCancelled || s == BulkUnconfirmed || s == BulkFailed
}

// BulkMaxAge is how long after counting a bulk change can be started.
const BulkMaxAge = time.Hour

// BulkMoreFound is the failure of a bulk change that found more accounts to change than were counted.
const BulkMoreFound = "more accounts match than were counted; those that were counted first are changed"

// BulkNotAllowed is the failure of a bulk change whose caller may no longer change accounts:
// the token was removed or has expired, or the person is no longer an active admin.
const BulkNotAllowed = "the person who started it may no longer change accounts; earlier changes were not undone"

// MaxOpenBulks is how many bulk changes of a tenant can be counting, ready or running.
const MaxOpenBulks = 20

// ErrTooManyBulks is returned for a tenant that has MaxOpenBulks.
var ErrTooManyBulks = fault.New(fault.Conflict,
	"there are %d open bulk changes already; wait until one of them ends, or cancel one", MaxOpenBulks)

// MaxNewBulks is how many bulk changes a caller can start at a tenant within BulkUnrunKept,
// even if none is run. Commands have no such limit.
const MaxNewBulks = 200

// BulkUnrunKept is how long bulk changes are kept that have changed nothing because they were cancelled or not run.
const BulkUnrunKept = 24 * time.Hour

// TooManyNewBulks returns the error for a caller who has started MaxNewBulks, with the time to wait.
func TooManyNewBulks(wait time.Duration) error {
	return fault.Limit(wait, "you have started %d bulk changes in the last 24 hours; wait, or use the command line",
		MaxNewBulks)
}

// ErrNoBulk is returned for a bulk change that does not exist, or is of another tenant.
var ErrNoBulk = fault.New(fault.NotFound, "there is no such bulk change; see the list of bulk changes")

// Bulk is a bulk change.
type Bulk struct {
	ID     BulkID
	Tenant int64
	Action BulkAction
	Query  account.Query
	// Through is the greatest UID of an account that it can include.
	Through account.UID
	State   BulkState
	// Position is the UID up to which accounts were counted or changed, in the state counting or running.
	Position account.UID
	// Found is how many accounts were counted, and Done how many were changed.
	Found, Done int64
	// Made is when it was started, and Changed when it last changed.
	Made, Changed time.Time
	// Cause is who started it and why, and is the cause of each change.
	Cause audit.Cause
	// Lease is when the claim of a server expires.
	Lease time.Time
	// Failure is why it failed, or empty.
	Failure string
}

// Includes reports whether the bulk change includes an account, which must not be expired or deleted.
func (b Bulk) Includes(a account.Account) bool {
	switch {
	case a.Tenant != b.Tenant, slices.Compare(a.UID[:], b.Through[:]) > 0, !b.Query.Matches(a):
		return false
	case a.Role == account.Admin && !slices.Contains(b.Query.Roles, account.Admin):
		return false
	case b.Cause.Actor.Kind == audit.Admin && b.Cause.Actor.ID == a.UID.String():
		return false
	}
	switch b.Action {
	case BulkDisable:
		return a.State() != account.Disabled
	case BulkEnable:
		return a.State() == account.Disabled
	case BulkDelete:
		return true
	}
	return false
}

// BulkStore stores bulk changes.
type BulkStore interface {
	// AddBulk adds a bulk change. It fails with ErrTooManyBulks and TooManyNewBulks.
	AddBulk(ctx context.Context, b Bulk) error
	// Bulk returns a bulk change of a tenant. It fails with ErrNoBulk.
	Bulk(ctx context.Context, tenant int64, id BulkID) (Bulk, error)
	// Bulks returns the newest bulk changes of a tenant, newest first.
	Bulks(ctx context.Context, tenant int64, limit int) ([]Bulk, error)
	// RunBulk sets a ready bulk change to running, and adds that to the audit trail, with the
	// cause that audit.CauseOf returns for ctx. It fails with ErrNoBulk, and with
	// fault.Conflict if the bulk change is not ready, if found is not its Found, or if it was
	// counted before since. It does not change one that is already running.
	RunBulk(ctx context.Context, tenant int64, id BulkID, found int64, since, now time.Time) (Bulk, error)
	// CancelBulk ends a bulk change. Accounts that it has changed stay changed. It does not change a bulk
	// change that has ended. If the bulk change was running, it adds that to the audit trail. It fails
	// with ErrNoBulk.
	CancelBulk(ctx context.Context, tenant int64, id BulkID, now time.Time) (Bulk, error)

	// ClaimBulk claims, until a time, a bulk change that is counting or running and not
	// claimed. It picks the oldest one of the next tenant after a tenant, in cyclic order of
	// their IDs. Exactly one of several concurrent calls gets it. It fails with ErrNoBulk if
	// there is none.
	ClaimBulk(ctx context.Context, after int64, now, until time.Time) (Bulk, error)
	// WorkBulk counts or changes up to limit more accounts of a bulk change that was claimed, in one transaction, and
	// extends the claim. It returns the updated bulk change. When all accounts are counted, the state becomes
	// ready. It becomes failed if there are more accounts to change than were counted, or with BulkNotAllowed if
	// the person or token that started it may no longer change accounts; the audit trail then records that it was
	// stopped. WorkBulk changes nothing if the stored bulk change differs from b.
	WorkBulk(ctx context.Context, b Bulk, limit int, now, until time.Time) (Bulk, error)
	// EndBulk marks a bulk change as done after WorkBulk has changed its last account.
	EndBulk(ctx context.Context, b Bulk, now time.Time) error
	// ReleaseBulk ends a claim, so that others need not wait until it expires.
	ReleaseBulk(ctx context.Context, b Bulk) error
	// RemoveBulks removes bulk changes that are neither counting nor running and have not
	// changed since before, or since unrun if they have changed no account.
	RemoveBulks(ctx context.Context, before, unrun time.Time) error
	// Erase overwrites the remains of deleted accounts in the database.
	Erase(ctx context.Context) error
}

// StartBulk starts counting the accounts for a bulk change. It fails with fault.Invalid for an
// invalid action, reason or query, and for a query that selects all accounts.
func (s *Service) StartBulk(ctx context.Context, c Caller, t *tenant.Tenant, action BulkAction, q account.Query,
	reason string) (Bulk, error) {
	if err := c.Check(AccountsWrite, t); err != nil {
		return Bulk{}, err
	}
	ctx, err := c.With(ctx, reason)
	if err != nil {
		return Bulk{}, err
	}
	if !slices.Contains(BulkActions, action) {
		return Bulk{}, fault.Field("action", "there is no bulk change %q; use disable, enable or delete", action)
	}
	if err := q.Check(); err != nil {
		return Bulk{}, err
	}
	if q.Empty() {
		return Bulk{}, fault.New(fault.Invalid, "this would change all accounts; choose some by at least one filter")
	}
	if slices.Contains(q.Roles, account.Admin) {
		if err := s.signedInNow(ctx, c); err != nil {
			return Bulk{}, err
		}
	}
	now := s.deps.Now().UTC().Truncate(time.Microsecond) // the precision of the store
	b := Bulk{
		ID: BulkID(account.NewUID(now)), Tenant: t.ID, Action: action, Query: q, Through: account.LastUID(now),
		State: BulkCounting, Made: now, Changed: now, Cause: audit.CauseOf(ctx),
	}
	if err := s.deps.Store.AddBulk(ctx, b); err != nil {
		return b, err
	}
	s.Listed(ctx, c, t)
	return b, nil
}

// Bulk returns a bulk change. It fails with ErrNoBulk.
func (s *Service) Bulk(ctx context.Context, c Caller, t *tenant.Tenant, id BulkID) (Bulk, error) {
	if err := c.Check(AccountsRead, t); err != nil {
		return Bulk{}, err
	}
	b, err := s.deps.Store.Bulk(ctx, t.ID, id)
	if err == nil {
		s.Listed(ctx, c, t)
	}
	return b, err
}

// Bulks returns the newest bulk changes of a tenant, newest first.
func (s *Service) Bulks(ctx context.Context, c Caller, t *tenant.Tenant, limit int) ([]Bulk, error) {
	if err := c.Check(AccountsRead, t); err != nil {
		return nil, err
	}
	list, err := s.deps.Store.Bulks(ctx, t.ID, limit)
	if err == nil && len(list) > 0 {
		s.Listed(ctx, c, t)
	}
	return list, err
}

// PreviewBulk returns a page of the accounts that a bulk change includes, in the order of List.
// It examines a limited number of accounts, so a page can have fewer than limit, or none, even
// if there is a next page. Like List, it is recorded in the audit trail. It fails with
// ErrNoBulk.
func (s *Service) PreviewBulk(ctx context.Context, c Caller, t *tenant.Tenant, id BulkID, next string,
	limit int) (page account.Page, err error) {
	b, err := s.Bulk(ctx, c, t, id)
	if err != nil {
		return account.Page{}, err
	}
	const pages = 20 // about 10 ms each
	page.Next = next
	for range pages {
		p, err := s.deps.Store.Page(ctx, t.ID, b.Query, page.Next, limit-len(page.Accounts), s.deps.Now())
		if err != nil {
			return account.Page{}, err
		}
		for _, a := range p.Accounts {
			if b.Includes(a) {
				page.Accounts = append(page.Accounts, a)
			}
		}
		if page.Next = p.Next; page.Next == "" || len(page.Accounts) >= limit {
			break
		}
	}
	s.Listed(ctx, c, t)
	return page, nil
}

// RunBulk starts changing the accounts that were counted. The caller confirms their number. It
// fails with ErrNoBulk, and with fault.Conflict if the number differs, if the bulk change is
// not ready or was counted more than BulkMaxAge ago, or if somebody else started it.
func (s *Service) RunBulk(ctx context.Context, c Caller, t *tenant.Tenant, id BulkID, count int64) (Bulk, error) {
	if err := c.Check(AccountsWrite, t); err != nil {
		return Bulk{}, err
	}
	b, err := s.deps.Store.Bulk(ctx, t.ID, id)
	if err != nil {
		return Bulk{}, err
	}
	if b.Cause.Actor != c.Actor {
		return Bulk{}, fault.New(fault.Conflict, "this bulk change was started by %s; start one of your own",
			b.Cause.Actor.Words())
	}
	if slices.Contains(b.Query.Roles, account.Admin) {
		if err := s.signedInNow(ctx, c); err != nil {
			return Bulk{}, err
		}
	}
	ctx, err = c.With(ctx, b.Cause.Reason)
	if err != nil {
		return Bulk{}, err
	}
	now := s.deps.Now()
	s.Listed(ctx, c, t) // a refusal reveals how many were found
	return s.deps.Store.RunBulk(ctx, t.ID, id, count, now.Add(-BulkMaxAge), now)
}

// CancelBulk ends a bulk change. Accounts that it has changed stay changed. It fails with
// ErrNoBulk, and does not change a bulk change that has ended.
func (s *Service) CancelBulk(ctx context.Context, c Caller, t *tenant.Tenant, id BulkID) (Bulk, error) {
	if err := c.Check(AccountsWrite, t); err != nil {
		return Bulk{}, err
	}
	ctx, err := c.With(ctx, "")
	if err != nil {
		return Bulk{}, err
	}
	b, err := s.deps.Store.CancelBulk(ctx, t.ID, id, s.deps.Now())
	if err == nil {
		s.Listed(ctx, c, t)
	}
	return b, err
}

const (
	// bulkLease is how long a claim lasts. Each transaction extends it. After a crash, others
	// continue when it expires.
	bulkLease = 5 * time.Second
	// A transaction changes at most bulkLimit accounts. Their number is adapted so that it
	// takes about bulkTime, since signups and other writes wait that long.
	bulkLimit = 500
	bulkTime  = 20 * time.Millisecond
	// bulkTurn is how long a process works on one bulk change before it continues with those of other tenants.
	bulkTurn = time.Second
	bulkKept = 30 * 24 * time.Hour
)

// WorkBulk counts or changes the accounts of one bulk change, until there are no more, ctx is
// done, somebody cancels it, or bulkTurn has passed. The next call works on a bulk change of
// another tenant, if there is one. It returns the updated bulk change. It fails with ErrNoBulk
// if there is nothing to do. Any number of processes can call it concurrently. After a failure,
// it can be called again. Once the bulk change is done, checkpoints cover its rows of the audit
// trail.
func (s *Service) WorkBulk(ctx context.Context) (Bulk, error) {
	now := s.deps.Now()
	b, err := s.deps.Store.ClaimBulk(ctx, s.bulkTenant.Load(), now, now.Add(bulkLease))
	if err != nil {
		return b, err
	}
	s.bulkTenant.Store(b.Tenant)
	defer func() { // even if ctx is done
		_ = s.deps.Store.ReleaseBulk(context.WithoutCancel(ctx), b) // otherwise the lease ends later
	}()
	limit, turn := 10, time.Now()
	for ctx.Err() == nil && time.Since(turn) < bulkTurn {
		if b.State == BulkRunning && b.Position == b.Through {
			return s.endBulk(ctx, b)
		}
		began, now := time.Now(), s.deps.Now()
		until := now.Add(bulkLease).Truncate(time.Microsecond)
		next, err := s.deps.Store.WorkBulk(ctx, b, limit, now, until)
		if err != nil {
			return b, err
		}
		if next.State != b.State || !next.Lease.Equal(until) { // it has ended, or another process works on it
			if next.State.Ended() {
				err = s.eraseBulk(ctx, next)
				s.coverTrail(ctx)
			}
			return next, err
		}
		took := time.Since(began)
		if b = next; b.State == BulkRunning {
			limit = min(max(int(float64(limit)*min(float64(bulkTime)/float64(took), 2)), 1), bulkLimit)
			if err := pause(ctx, took); err != nil { // other writers get the same amount of time
				return b, err
			}
		}
	}
	return b, ctx.Err()
}

// endBulk ends a bulk change after its last account has been changed.
func (s *Service) endBulk(ctx context.Context, b Bulk) (Bulk, error) {
	if err := s.eraseBulk(ctx, b); err != nil {
		return b, err
	}
	s.coverTrail(ctx)
	if err := s.deps.Store.EndBulk(ctx, b, s.deps.Now()); err != nil {
		return b, err
	}
	return s.deps.Store.Bulk(ctx, b.Tenant, b.ID)
}

// eraseBulk overwrites the remains of the accounts that a bulk change has deleted.
func (s *Service) eraseBulk(ctx context.Context, b Bulk) error {
	if b.Action != BulkDelete || b.Done == 0 {
		return nil
	}
	return s.deps.Store.Erase(ctx)
}

// pause waits for d, or until ctx is done, and then returns the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// RemoveOldBulks removes bulk changes that ended 30 days ago, and after BulkUnrunKept those
// that have changed nothing because they were cancelled or not run.
func (s *Service) RemoveOldBulks(ctx context.Context) error {
	now := s.deps.Now()
	return s.deps.Store.RemoveBulks(ctx, now.Add(-bulkKept), now.Add(-BulkUnrunKept))
}
