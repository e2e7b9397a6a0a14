package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/hook"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
)

// Delete implements account.Store.
func (s *Store) Delete(ctx context.Context, tenant int64, user string, now time.Time) error {
	event, e := account.NewUID(now), entry(ctx, audit.AccountDelete, now)
	defer s.signalAdded()
	return s.writeTables(ctx, func(tx engine.Tx) ([]phonetables.Subject, error) {
		a, err := lockAccount(tx, tenant, user, now)
		if errors.Is(err, errNoAccount) && tx.Repeated() {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if err := checkVersion(ctx, tx, e, a); err != nil {
			return nil, err
		}
		subject, err := erase(tx, a, event, e, now)
		if err == nil {
			err = e.add(tx)
		}
		return subject, err
	})
}

// erase removes all data about an account, but keeps the name of an account that was active. event
// is the id of the notifications for phone servers. erase fills in e, the entry for the trail,
// which the caller adds.
func erase(tx engine.Tx, a account.Account, event account.UID, e *trailEntry,
	now time.Time) ([]phonetables.Subject, error) {
	if a.Pending() {
		if err := insertAccountNotifications(tx, event, a.UID[:], now, hook.AccountDeleted); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(`DELETE FROM account WHERE uid = $1`, a.UID[:]); err != nil {
			return nil, err
		}
		e.of(a).values(stateOf(a), "")
		return nil, nil
	}
	if _, err := tx.Exec(`UPDATE account SET closed = $1, name = '', email = '', credential = $3,
		has_sha256 = FALSE, token = NULL, lang = 'en', confirmed = NULL, epoch = epoch + 1, set_state = '',
		set_at = 0, set_by = '', set_why = '', leaving = NULL, factors = 0, email_n = 0, signup_net = '',
		first_signin = 0 WHERE uid = $2`,
		engine.Micros(now), a.UID[:], []byte{}); err != nil {
		return nil, err
	}
	if err := insertAccountNotifications(tx, event, a.UID[:], now, hook.AccountDeleted); err != nil {
		return nil, err
	}
	for _, table := range []string{"outbox", "replaced", "delivery", "link", "session", "totp", "recovery_code",
		"passkey", "last_lookup", "known_browser"} {
		if _, err := tx.Exec(`DELETE FROM `+table+` WHERE account = $1`, a.UID[:]); err != nil {
			return nil, err
		}
	}
	if err := clearPersonal(tx, a.Tenant, a.User); err != nil {
		return nil, err
	}
	e.of(a).values(stateOf(a), string(account.Closed))
	return []phonetables.Subject{phonetables.Account(a.UID)}, nil
}

// ClosedNames implements account.Store.
func (s *Store) ClosedNames(ctx context.Context, tenant int64, each func(account.ClosedName) error) error {
	return s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var n account.ClosedName
		var closed int64
		if err := row.Scan(&n.User, &closed); err != nil {
			return err
		}
		n.Closed = engine.FromMicros(closed)
		return each(n)
	}, `SELECT username, closed FROM account WHERE tenant = $1 AND closed IS NOT NULL ORDER BY username`, tenant)
}

// ClosedNamesAfter implements operator.DetailStore.
func (s *Store) ClosedNamesAfter(ctx context.Context, tenant int64, after string,
	limit int) (list []account.ClosedName, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var n account.ClosedName
		var closed int64
		err := row.Scan(&n.User, &closed)
		n.Closed = engine.FromMicros(closed)
		list = append(list, n)
		return err
	}, `SELECT username, closed FROM account WHERE tenant = $1 AND closed IS NOT NULL AND username > $2
		ORDER BY username LIMIT $3`, tenant, after, limit)
	return list, err
}

// FreeName implements account.Store.
func (s *Store) FreeName(ctx context.Context, tenant int64, user string, now time.Time) error {
	e := entry(ctx, audit.AccountFreeName, now)
	return s.write(ctx, func(tx engine.Tx) error {
		var uid []byte
		err := tx.Row(`DELETE FROM account WHERE tenant = $1 AND username = $2 AND closed IS NOT NULL RETURNING uid`,
			tenant, user).Scan(&uid)
		if errors.Is(err, sql.ErrNoRows) {
			if tx.Repeated() {
				return nil
			}
			return errNoAccount
		}
		if err != nil {
			return err
		}
		return e.of(account.Account{UID: account.UID(uid), Tenant: tenant, User: user}).
			values(string(account.Closed), "").add(tx)
	})
}
