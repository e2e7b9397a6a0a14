package store

import (
	"context"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/sipserver"
	"dialtone/internal/store/engine"
)

const lookupColumns = `account, server, how, at`

// insertLookups returns the statement that adds n look-ups. CROSS JOIN is as in insertSessions.
func insertLookups(n int) string {
	return `INSERT INTO last_lookup (` + lookupColumns + `) SELECT r.account, r.server, r.how, r.at
		FROM ` + rowsFor("last_lookup", lookupColumns, 1, n) + ` r CROSS JOIN account a
		WHERE a.uid = r.account AND a.closed IS NULL AND NOT a.held
		ON CONFLICT (account, server, how) DO UPDATE SET at = excluded.at WHERE excluded.at > last_lookup.at`
}

// deleteOldLookups returns the statement that deletes the look-ups of n accounts that are no longer
// shown. These include look-ups by an earlier server of the same name.
func deleteOldLookups(n int) string {
	return `DELETE FROM last_lookup WHERE account IN (` + engine.Placeholders(2, n) + `) AND (at <= $1
		OR NOT EXISTS (SELECT 1 FROM phone_server p WHERE p.name = last_lookup.server AND p.created <= last_lookup.at))`
}

// lookupStatements holds the statements for different numbers of look-ups. There are only a few,
// since engines keep each one prepared.
var lookupStatements = []struct {
	n                 int
	insert, deleteOld string
}{
	{64, insertLookups(64), deleteOldLookups(64)},
	{8, insertLookups(8), deleteOldLookups(8)},
	{1, insertLookups(1), deleteOldLookups(1)},
}

// RecordLookups implements sipserver.Store. It deletes the accounts' look-ups that are no longer
// shown. This bounds the number of rows of an account, though no sweep deletes them.
func (s *Store) RecordLookups(_ context.Context, list []sipserver.Lookup) error {
	return s.engine.Write(func(tx engine.Tx) error {
		left := list
		for _, statement := range lookupStatements {
			for ; len(left) >= statement.n; left = left[statement.n:] {
				var rows []any
				newest := left[0].At
				accounts := make([]any, 1, 1+statement.n)
				for _, l := range left[:statement.n] {
					rows = append(rows, l.Account[:], l.Server, string(l.How), engine.Micros(l.At))
					accounts = append(accounts, l.Account[:])
					if l.At.After(newest) {
						newest = l.At
					}
				}
				if _, err := tx.Exec(statement.insert, rows...); err != nil {
					return err
				}
				accounts[0] = engine.Micros(newest.Add(-sipserver.LookupLife))
				if _, err := tx.Exec(statement.deleteOld, accounts...); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// LastLookups implements sipserver.Store.
func (s *Store) LastLookups(ctx context.Context, uid account.UID, now time.Time) (
	list []sipserver.Lookup, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		l := sipserver.Lookup{Account: uid}
		var at int64
		if err := row.Scan(&l.Server, &l.How, &at); err != nil {
			return err
		}
		l.At = engine.FromMicros(at)
		list = append(list, l)
		return nil
	}, `SELECT l.server, l.how, l.at FROM last_lookup l JOIN phone_server p ON p.name = l.server AND p.created <= l.at
		WHERE l.account = $1 AND l.at > $2 ORDER BY l.server, l.how`,
		uid[:], engine.Micros(now.Add(-sipserver.LookupLife)))
	return list, err
}
