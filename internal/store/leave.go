package store

import (
	"cmp"
	"context"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/hook"
	"dialtone/internal/mailmsg"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
)

var _ account.LeaveStore = (*Store)(nil)

// Leave implements account.LeaveStore.
func (s *Store) Leave(ctx context.Context, d account.Departure, now time.Time) (account.Account, error) {
	return s.change(ctx, audit.AccountLeave, hook.AccountDisabled, d.Account.Tenant, d.Account.User, now, stateOf,
		func(tx engine.Tx, e *trailEntry, a account.Account) (update, error) {
			if tx.Repeated() {
				if done, err := linkExists(tx, d.Token); err != nil || done {
					return update{}, err
				}
			}
			if err := cmp.Or(checkActive(a, d.Account), checkProved(a, d.Account)); err != nil {
				return update{}, err
			}
			if err := tx.Lock(placeKeys(d.Allowances)...); err != nil {
				return update{}, err
			}
			if err := checkAndTake(tx, d.Allowances, d.Message, now, account.LeaveRefusal); err != nil {
				return update{}, err
			}
			// Reset links, and the links of messages about changes, are kept: someone who knows the
			// password must not be able to take away the owner's means to end this.
			if _, err := tx.Exec(`DELETE FROM link WHERE account = $1 AND kind IN ($2, $3)`,
				a.UID[:], string(mailmsg.ConfirmEmail), string(mailmsg.Leaving)); err != nil {
				return update{}, err
			}
			if _, err := tx.Exec(`DELETE FROM session WHERE account = $1`, a.UID[:]); err != nil {
				return update{}, err
			}
			if err := s.addNotice(tx, a, d.Notice); err != nil {
				return update{}, err
			}
			u := setState(e, account.Leaving, `held = TRUE, epoch = epoch + 1, leaving = $6`)
			u.args = append(u.args, engine.Micros(d.Until))
			return u, nil
		})
}

// Stay implements account.LeaveStore.
func (s *Store) Stay(ctx context.Context, tenant int64, token [32]byte, now time.Time) (account.Account, error) {
	// A bad link is refused by a read, without a write.
	found, err := s.ofStayLink(ctx, tenant, token, now)
	if err != nil {
		return account.Account{}, err
	}
	return s.change(ctx, audit.AccountStay, "", tenant, found.User, now, stateOf,
		func(tx engine.Tx, e *trailEntry, a account.Account) (update, error) {
			n, err := tx.Exec(`DELETE FROM link WHERE token = $1 AND account = $2 AND kind = $3 AND until > $4`,
				token[:], a.UID[:], string(mailmsg.Leaving), engine.Micros(now))
			switch {
			case err != nil:
				return update{}, err
			case n == 0 && tx.Repeated() && a.State() == account.Active:
				return update{}, nil
			case a.State() == account.Disabled:
				return update{}, account.ErrHeld
			case n == 0, a.State() != account.Leaving:
				return update{}, account.ErrLinkUsed
			}
			return setState(e, account.Active, free), nil
		})
}

// StayLink implements account.LeaveStore.
func (s *Store) StayLink(ctx context.Context, tenant int64, token [32]byte, now time.Time) (account.Account, error) {
	a, err := s.ofStayLink(ctx, tenant, token, now)
	if err == nil && a.State() != account.Leaving {
		return account.Account{}, account.ErrLinkUsed
	}
	return a, err
}

// ofStayLink returns the account of a link to stay, in any state. It fails with account.ErrLinkUsed.
func (s *Store) ofStayLink(ctx context.Context, tenant int64, token [32]byte,
	now time.Time) (account.Account, error) {
	a, err := scanAccount(s.engine.Reads(ctx).Row(`SELECT `+accountColumns+` FROM account
		WHERE tenant = $2 AND closed IS NULL AND uid = (SELECT account FROM link
			WHERE token = $3 AND kind = $4 AND until > $1)`,
		engine.Micros(now), tenant, token[:], string(mailmsg.Leaving)))
	if errors.Is(err, errNoAccount) {
		err = account.ErrLinkUsed
	}
	return a, err
}

// stay reactivates an account whose owner has left, and removes the link that does the same.
func stay(tx engine.Tx, a account.Account, e *trailEntry) (account.Account, error) {
	if _, err := tx.Exec(`DELETE FROM link WHERE account = $1 AND kind = $2`,
		a.UID[:], string(mailmsg.Leaving)); err != nil {
		return a, err
	}
	u := setState(e, account.Active, free)
	return scanAccount(tx.Row(`UPDATE account SET `+u.set+` WHERE uid = $1 RETURNING `+accountColumns,
		append([]any{a.UID[:]}, u.args...)...))
}

// overdue is the condition that an account must be erased at $1 or before, because its owner has
// left.
const overdue = `leaving <= $1 AND held AND activated IS NOT NULL AND closed IS NULL`

// Overdue implements account.LeaveStore.
func (s *Store) Overdue(ctx context.Context, by time.Time, limit int) (list []account.Account, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		a, err := scanAccount(row)
		list = append(list, a)
		return err
	}, `SELECT `+accountColumns+` FROM account WHERE `+overdue+` ORDER BY leaving, uid LIMIT $2`,
		engine.Micros(by), limit)
	return list, err
}

// EraseOverdue implements account.LeaveStore.
func (s *Store) EraseOverdue(ctx context.Context, was account.Account, by, now time.Time) (erased bool, err error) {
	event, e := account.NewUID(now), entry(ctx, audit.AccountDelete, now)
	defer s.signalAdded()
	err = s.tables.Write(func(tx engine.Tx) ([]phonetables.Subject, error) {
		a, err := lockAccount(tx, was.Tenant, was.User, now)
		if errors.Is(err, errNoAccount) {
			erased = erased && tx.Repeated() // an earlier run has erased it
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if a.UID != was.UID || a.Pending() || a.Leaving.IsZero() || a.Leaving.After(by) {
			erased = false
			return nil, nil
		}
		erased = true
		subject, err := erase(tx, a, event, e, now)
		if err == nil {
			err = e.add(tx)
		}
		return subject, err
	})
	return erased && err == nil, err
}
