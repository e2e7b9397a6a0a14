package store

import (
	"context"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/hook"
	"dialtone/internal/store/engine"
)

// isLeaving is the condition that a live account is in the state account.Leaving.
const isLeaving = `held AND leaving IS NOT NULL AND set_state <> 'disabled'`

// inState maps each state to the condition that a live account is in it.
var inState = map[account.State]string{
	account.Waiting:  `activated IS NULL AND NOT held`,
	account.Active:   `activated IS NOT NULL AND NOT held`,
	account.Disabled: `held AND NOT (` + isLeaving + `)`,
	account.Leaving:  isLeaving,
}

func stateOf(a account.Account) string { return string(a.State()) }

// setState returns an update that moves an account into another state. more is the rest of its SET
// clause.
func setState(e *trailEntry, state account.State, more string) update {
	return update{
		`set_state = $2, set_at = $3, set_by = $4, set_why = $5, ` + more,
		[]any{string(state), engine.Micros(e.At), e.Actor.String(), e.Reason},
	}
}

// free ends a hold, whether by an operator or because the owner has left.
const free = `held = FALSE, leaving = NULL`

// Enable implements account.Store.
func (s *Store) Enable(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.change(ctx, audit.AccountEnable, "", tenant, user, now, stateOf, enable)
}

func enable(tx engine.Tx, e *trailEntry, a account.Account) (update, error) {
	switch {
	case a.Held && a.Pending():
		return setState(e, account.Waiting, free), nil
	case a.Held:
		return setState(e, account.Active, free), nil
	case a.Pending() && !tx.Repeated(): // otherwise an earlier run may have enabled it
		return update{}, account.ErrWaiting
	}
	return update{}, nil
}

// EnableNow implements account.Store.
func (s *Store) EnableNow(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.change(ctx, audit.AccountEnable, "", tenant, user, now, stateOf,
		func(_ engine.Tx, e *trailEntry, a account.Account) (update, error) {
			if a.State() == account.Active {
				return update{}, nil
			}
			return setState(e, account.Active, free+`, activated = COALESCE(activated, $3)`), nil
		})
}

// Disable implements account.Store.
func (s *Store) Disable(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.change(ctx, audit.AccountDisable, hook.AccountDisabled, tenant, user, now, stateOf, disable)
}

func disable(tx engine.Tx, e *trailEntry, a account.Account) (update, error) {
	// An earlier version that ended a hold may have left behind the time at which the account would
	// be erased.
	const more = `held = TRUE, epoch = epoch + 1, leaving = CASE WHEN held THEN leaving END`
	// Links in messages about changes, and reset links, do not outlive it.
	const statement = `DELETE FROM link WHERE account = $1 AND kind <> $2`
	if _, err := tx.Exec(statement, a.UID[:], olderLink); err != nil {
		return update{}, err
	}
	// Time, operator and reason change together, so that no operator is shown with another one's
	// reason. An account that is leaving is still erased, and its owner can no longer stay.
	if a.State() != account.Disabled || e.Reason != "" {
		return setState(e, account.Disabled, more), nil
	}
	return update{more, nil}, nil
}
