package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/session"
	"dialtone/internal/store/engine"
	"dialtone/internal/throttle"
)

var _ session.Store = (*Store)(nil)

// SignOut implements session.Store.
func (s *Store) SignOut(_ context.Context, r session.Record, now time.Time, limits ...throttle.Allowance) error {
	return s.engine.Write(func(tx engine.Tx) error { return signOut(tx, r, now, limits) })
}

func signOut(tx engine.Tx, r session.Record, now time.Time, limits []throttle.Allowance) error {
	if err := tx.Lock(placeKeys(limits)...); err != nil {
		return err
	}
	n, err := engine.Count(tx, `SELECT count(*) FROM account WHERE uid = $1 AND epoch = $2`, r.Account[:], r.Epoch)
	if err != nil || n == 0 {
		return err
	}
	until := session.RevokedUntil(r.Began)
	if done, err := isSpent(tx, r.ID, until[0]); err != nil || done {
		return err
	}
	wait, err := longestWait(tx, limits, now)
	if err != nil {
		return err
	}
	if wait.For > 0 {
		return endSessions(tx, account.Account{UID: r.Account})
	}
	if err := takePlaces(tx, limits, r.ID, now); err != nil {
		return err
	}
	for _, t := range until {
		if _, err := markSpent(tx, r.ID, t); err != nil {
			return err
		}
	}
	_, err = tx.Exec(`DELETE FROM session WHERE account = $1 AND id = $2`, r.Account[:], r.ID[:])
	return err
}

// Revoked implements session.Store.
func (s *Store) Revoked(ctx context.Context, uid account.UID, id [16]byte, until ...time.Time) (
	revoked bool, seen time.Time, err error) {
	var us sql.NullInt64
	first, last := engine.Micros(until[0]), engine.Micros(until[len(until)-1])
	err = s.engine.Reads(ctx).Row(`SELECT EXISTS (SELECT 1 FROM spent WHERE expires IN ($1, $2) AND nonce = $3),
		(SELECT seen FROM session WHERE account = $4 AND id = $3)`, first, last, id[:], uid[:]).Scan(&revoked, &us)
	if us.Valid {
		seen = engine.FromMicros(us.Int64)
	}
	return revoked, seen, err
}

const sessionColumns = `id, account, epoch, began, seen, until, net, browser, how`

// rowsFor returns a table expression with n rows for a table, whose values are placeholders
// starting with number first. Its first SELECT, which has no rows, gives the columns their types.
func rowsFor(table, columns string, first, n int) string {
	var rows strings.Builder
	count := strings.Count(columns, ",") + 1
	for i := range n {
		fmt.Fprintf(&rows, ` UNION ALL SELECT %s`, engine.Placeholders(first+i*count, count))
	}
	return `(SELECT ` + columns + ` FROM ` + table + ` WHERE 1 = 0` + rows.String() + `)`
}

// insertSessions returns the statement that adds n records. CROSS JOIN makes SQLite look up the
// account of each record; it would otherwise read all accounts.
func insertSessions(n int) string {
	return `INSERT INTO session (` + sessionColumns + `)
		SELECT r.id, r.account, r.epoch, r.began, r.seen, r.until, r.net, r.browser, r.how
		FROM ` + rowsFor("session", sessionColumns, 2, n) + ` r
		CROSS JOIN account a
		WHERE a.uid = r.account AND a.epoch = r.epoch AND a.closed IS NULL AND NOT a.held
			AND NOT EXISTS (SELECT 1 FROM spent WHERE expires = r.began + $1 AND nonce = r.id)
		ON CONFLICT (account, id) DO UPDATE SET seen = excluded.seen, until = excluded.until, net = excluded.net,
			browser = excluded.browser WHERE excluded.seen > session.seen`
}

// selectCrowded returns the query for those of n accounts that have more than MaxListed records.
func selectCrowded(n int) string {
	return `SELECT account FROM session WHERE account IN (` + engine.Placeholders(2, n) + `)
		GROUP BY account HAVING count(*) > $1`
}

// sessionStatements holds the statements for different numbers of records. There are only a few,
// since engines keep each one prepared.
var sessionStatements = []struct {
	n               int
	insert, crowded string
}{
	{64, insertSessions(64), selectCrowded(64)},
	{8, insertSessions(8), selectCrowded(8)},
	{1, insertSessions(1), selectCrowded(1)},
}

// recordFirst sets when people first signed in.
func recordFirst(tx engine.Tx, list []session.Record) error {
	for _, r := range list {
		if !r.First {
			continue
		}
		_, err := tx.Exec(`UPDATE account SET first_signin = $1 WHERE uid = $2 AND first_signin IS NULL
			AND closed IS NULL`, engine.Micros(r.Began), r.Account[:])
		if err != nil {
			return err
		}
	}
	return nil
}

// RecordSessions implements session.Store.
func (s *Store) RecordSessions(ctx context.Context, list []session.Record) (added []session.Noticed, err error) {
	err = s.write(ctx, func(tx engine.Tx) (err error) {
		// These lock accounts. Changes of an account lock it before its sessions, and the trail last.
		if err := recordFirst(tx, list); err != nil {
			return err
		}
		if added, err = s.addNewBrowsers(tx, list); err != nil {
			return err
		}
		left := list
		for _, statement := range sessionStatements {
			for ; len(left) >= statement.n; left = left[statement.n:] {
				records := []any{session.Life.Microseconds()}
				accounts := []any{session.MaxListed}
				for _, r := range left[:statement.n] {
					records = append(records, r.ID[:], r.Account[:], r.Epoch, engine.Micros(r.Began),
						engine.Micros(r.Seen), engine.Micros(r.Ends()), r.Net, r.Browser, string(r.How))
					accounts = append(accounts, r.Account[:])
				}
				if _, err := tx.Exec(statement.insert, records...); err != nil {
					return err
				}
				if err := removeOldest(tx, statement.crowded, accounts); err != nil {
					return err
				}
			}
		}
		for _, x := range added {
			by := audit.ByPerson(ctx, x.New.From.Addr, x.New.From.Request)
			if err := entry(by, audit.NewBrowser, x.New.Notice.Made).of(x.Owner).add(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err // the commit may have failed
	}
	return added, nil
}

// removeOldest removes the oldest records of accounts that have more than session.MaxListed.
func removeOldest(tx engine.Tx, crowded string, args []any) error {
	var accounts [][]byte
	err := tx.Each(func(row engine.Scanner) error {
		var uid []byte
		err := row.Scan(&uid)
		accounts = append(accounts, uid)
		return err
	}, crowded, args...)
	for _, uid := range accounts {
		if err != nil {
			break
		}
		_, err = tx.Exec(`DELETE FROM session WHERE account = $1 AND id IN
			(SELECT id FROM session WHERE account = $1 ORDER BY seen DESC, id LIMIT 100000 OFFSET $2)`,
			uid, session.MaxListed)
	}
	return err
}

// Sessions implements session.Store.
func (s *Store) Sessions(ctx context.Context, uid account.UID, epoch int64, now time.Time) (
	list []session.Record, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		r := session.Record{Account: uid, Epoch: epoch}
		var id []byte
		var began, seen int64
		if err := row.Scan(&id, &began, &seen, &r.Net, &r.Browser, &r.How); err != nil {
			return err
		}
		copy(r.ID[:], id)
		r.Began, r.Seen = engine.FromMicros(began), engine.FromMicros(seen)
		list = append(list, r)
		return nil
	}, `SELECT id, began, seen, net, browser, how FROM session WHERE account = $1 AND epoch = $2 AND until > $3
			AND NOT EXISTS (SELECT 1 FROM spent WHERE expires = began + $4 AND nonce = id)
		ORDER BY seen DESC, id LIMIT $5`,
		uid[:], epoch, engine.Micros(now), session.Life.Microseconds(), session.MaxListed)
	return list, err
}

// End implements session.Store.
func (s *Store) End(_ context.Context, uid account.UID, epoch int64, id [16]byte, now time.Time,
	limits ...throttle.Allowance) error {
	return s.engine.Write(func(tx engine.Tx) error {
		var began int64
		err := tx.Row(`SELECT began FROM session WHERE id = $1 AND account = $2 AND epoch = $3`,
			id[:], uid[:], epoch).Scan(&began)
		switch {
		case errors.Is(err, sql.ErrNoRows) && tx.Repeated(): // an earlier run may have ended it
			return nil
		case errors.Is(err, sql.ErrNoRows):
			return session.ErrNoSession
		case err != nil:
			return err
		}
		r := session.Record{ID: id, Account: uid, Epoch: epoch, Began: engine.FromMicros(began)}
		return signOut(tx, r, now, limits)
	})
}

// EndOthers implements session.Store.
func (s *Store) EndOthers(ctx context.Context, own session.Record, now time.Time,
	limits ...throttle.Allowance) error {
	e, place := entry(ctx, audit.SessionsEnd, now), account.NewUID(now)
	return s.write(ctx, func(tx engine.Tx) error {
		if err := tx.Lock(placeKeys(limits)...); err != nil {
			return err
		}
		if tx.Repeated() {
			if done, err := e.added(tx); err != nil || done {
				return err // an earlier run was committed
			}
		}
		if err := checkPlaces(tx, limits, now, account.SessionEndRefusal); err != nil {
			return err
		}
		a, err := scanAccount(tx.Row(`UPDATE account SET epoch = epoch + 1 WHERE uid = $1 AND epoch = $2
			AND closed IS NULL AND NOT held RETURNING `+accountColumns, own.Account[:], own.Epoch-1))
		if errors.Is(err, errNoAccount) {
			return session.ErrDenied
		}
		if err != nil {
			return err
		}
		if err := takePlaces(tx, limits, place, now); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM session WHERE account = $1`, own.Account[:]); err != nil {
			return err
		}
		if err := e.of(a).add(tx); err != nil || own.ID == [16]byte{} {
			return err
		}
		_, err = tx.Exec(`INSERT INTO session (`+sessionColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			own.ID[:], own.Account[:], own.Epoch, engine.Micros(own.Began), engine.Micros(own.Seen),
			engine.Micros(own.Ends()), own.Net, own.Browser, string(own.How))
		return err
	})
}

// Spend implements session.Store.
func (s *Store) Spend(ctx context.Context, _ int64, id [16]byte, expires time.Time) (first bool, err error) {
	n, err := s.engine.ExecSoon(ctx, insertSpent, engine.Micros(expires), id[:])
	return n > 0, err
}
