package operator

import (
	"context"
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
	// Sessions are the listed sessions, the last used one first.
	Sessions []session.Record
	// Factors are the authenticator app, the number of recovery codes, and the passkeys.
	Factors account.DataFactors
	// Lookups are when phone servers last asked for the account.
	Lookups []sipserver.Lookup
	// Messages are the newest messages, to any address, newest first. Their states are "writing" until they are in
	// the pickup directory, and then those of their deliveries.
	Messages []account.DataMessage
	// Changes are the newest changes of accounts with the user name in the trail, newest first.
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
	// NewestChanges returns up to limit changes of accounts that have had a user name, the newest first.
	NewestChanges(ctx context.Context, host, user string, limit int) ([]audit.Change, error)
	// ClosedName returns the name of a deleted account. It fails with fault.NotFound.
	ClosedName(ctx context.Context, tenant int64, user string) (account.ClosedName, error)
}

// Show returns what is known of an account, or of the deleted account that keeps a name. It fails with
// fault.NotFound. The trail says that the caller has looked, at most once an hour for one account.
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
			return d, err
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
	d.Changes, err = store.NewestChanges(ctx, t.Host, user, MaxChanges)
	return d, err
}
