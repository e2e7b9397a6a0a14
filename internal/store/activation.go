package store

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/hook"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
)

// linked returns the account that a token belongs to. It fails with account.ErrReplaced for a link
// that a newer one has replaced. It runs a single statement, so that a link that is being restored
// at the same time is found in one table or the other.
func linked(q engine.Querier, tenant int64, token [32]byte) (account.Account, error) {
	var current bool // the link is the account's newest
	row := q.Row(`SELECT token = $1, `+accountColumns+` FROM account WHERE tenant = $2 AND closed IS NULL AND uid =
		COALESCE((SELECT uid FROM account WHERE token = $1), (SELECT account FROM replaced WHERE token = $1))`,
		token[:], tenant)
	a, err := scanAccount(row, &current)
	if err == nil && !current {
		return account.Account{}, account.ErrReplaced
	}
	return a, err
}

// refusal returns why the account's link does not activate it, or nil.
func refusal(a account.Account, now time.Time) error {
	switch {
	case a.Held:
		return account.ErrHeld
	case !a.Pending():
		return account.ErrActive
	case !now.Before(a.Expires):
		return account.ErrExpired
	default:
		return nil
	}
}

// Linked implements account.Store.
func (s *Store) Linked(ctx context.Context, tenant int64, token [32]byte, now time.Time) (account.Account, error) {
	a, err := linked(s.engine.Reads(ctx), tenant, token)
	if err == nil {
		err = refusal(a, now)
	}
	return a, err
}

// Activate implements account.Store.
func (s *Store) Activate(ctx context.Context, tenant int64, token [32]byte, now time.Time) (account.Account, error) {
	// A bad link is refused by a read, without a write.
	a, err := s.Linked(ctx, tenant, token, now)
	if err != nil {
		return a, err
	}
	event := account.NewUID(now)
	defer s.signalAdded()
	err = s.writeTables(ctx, func(tx engine.Tx) ([]phonetables.Subject, error) {
		for range changeAttempts {
			n, err := tx.Exec(`UPDATE account SET activated = $1 WHERE token = $2 AND tenant = $3 AND closed IS NULL
				AND activated IS NULL AND NOT held AND expires > $1`, engine.Micros(now), token[:], tenant)
			if err != nil {
				return nil, err
			}
			if a, err = linked(tx, tenant, token); err != nil {
				return nil, err
			}
			if n > 0 || tx.Repeated() && a.Activated.Equal(engine.FromMicros(engine.Micros(now))) {
				err := insertAccountNotifications(tx, event, a.UID[:], now, hook.AccountActivated)
				return []phonetables.Subject{phonetables.Account(a.UID)}, err
			}
			if err := refusal(a, now); err != nil {
				return nil, err
			}
		}
		return nil, errKeepsChanging
	})
	return a, err
}

// Confirm implements account.Store.
func (s *Store) Confirm(ctx context.Context, tenant int64, token [32]byte, uid account.UID,
	now time.Time) (account.Account, error) {
	a, err := s.Linked(ctx, tenant, token, now)
	switch {
	case a.UID == account.UID{}:
		return a, err
	case a.UID != uid:
		return account.Account{}, errNoAccount
	case err != nil && !errors.Is(err, account.ErrActive):
		return a, err
	case !a.Confirmed.IsZero():
		return a, nil
	}
	event := account.NewUID(now)
	defer s.signalAdded()
	err = s.writeTables(ctx, func(tx engine.Tx) ([]phonetables.Subject, error) {
		for range changeAttempts {
			// Since the read, the account may have been deleted or disabled, or received another
			// link. It may also have expired, which does not matter.
			n, err := tx.Exec(`UPDATE account SET activated = COALESCE(activated, $1),
				confirmed = COALESCE(confirmed, $1)
				WHERE token = $2 AND tenant = $3 AND closed IS NULL AND NOT held`,
				engine.Micros(now), token[:], tenant)
			if err != nil {
				return nil, err
			}
			if a, err = linked(tx, tenant, token); err != nil {
				return nil, err
			}
			if n > 0 {
				var changes []hook.EventType
				if at := engine.FromMicros(engine.Micros(now)); a.Confirmed.Equal(at) {
					if changes = append(changes, hook.AccountConfirmed); a.Activated.Equal(at) {
						changes = append(changes, hook.AccountActivated)
					}
				}
				err := insertAccountNotifications(tx, event, a.UID[:], now, changes...)
				return []phonetables.Subject{phonetables.Account(a.UID)}, err
			}
			if a.Held {
				return nil, account.ErrHeld
			}
		}
		return nil, errKeepsChanging
	})
	return a, err
}
