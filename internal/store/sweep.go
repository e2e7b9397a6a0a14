package store

import (
	"context"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/store/engine"
	"dialtone/internal/throttle"
)

// Sweep implements account.Store.
func (s *Store) Sweep(_ context.Context, now, expired time.Time, limit int) (swept account.Swept, err error) {
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		swept, err = sweep(tx, now, expired, limit)
		return err
	})
	if err != nil {
		return swept, err
	}
	places, err := s.sweepPlaces(now, limit)
	swept.Others += places
	swept.More = swept.More || places == int64(limit)
	return swept, err
}

func sweep(tx engine.Tx, now, expired time.Time, limit int) (swept account.Swept, err error) {
	n, err := tx.Exec(`DELETE FROM account WHERE activated IS NULL AND uid IN
		(SELECT uid FROM account WHERE activated IS NULL AND expires <= $1 ORDER BY expires LIMIT $2)`,
		engine.Micros(expired), limit)
	if err != nil {
		return swept, err
	}
	swept.Accounts, swept.More = n, n == int64(limit)
	for _, query := range []string{
		`DELETE FROM spent WHERE (expires, nonce) IN
			(SELECT expires, nonce FROM spent WHERE expires <= $1 ORDER BY expires LIMIT $2)`,
		`DELETE FROM delivery WHERE message IN
			(SELECT message FROM delivery WHERE expires <= $1 ORDER BY expires LIMIT $2)`,
		`DELETE FROM replaced WHERE token IN (SELECT token FROM replaced WHERE until <= $1 ORDER BY until LIMIT $2)`,
		`DELETE FROM link WHERE token IN (SELECT token FROM link WHERE until <= $1 ORDER BY until LIMIT $2)`,
		`DELETE FROM session WHERE (account, id) IN
			(SELECT account, id FROM session WHERE until <= $1 ORDER BY until LIMIT $2)`,
		`DELETE FROM known_browser WHERE (account, net, browser) IN
			(SELECT account, net, browser FROM known_browser WHERE until <= $1 ORDER BY until LIMIT $2)`,
	} {
		n, err := tx.Exec(query, engine.Micros(now), limit)
		if err != nil {
			return swept, err
		}
		swept.Others += n
		swept.More = swept.More || n == int64(limit)
	}
	// An earlier version that enables an account does not clear the time at which a leaving account
	// is erased.
	if _, err := tx.Exec(`UPDATE account SET leaving = NULL WHERE leaving IS NOT NULL AND NOT held`); err != nil {
		return swept, err
	}
	// A request that could not be handled in a day is of no use any more.
	n, err = tx.Exec(`DELETE FROM forgotten WHERE id IN (SELECT id FROM forgotten WHERE at <= $1 ORDER BY at LIMIT $2)`,
		engine.Micros(now.Add(-throttle.Longest)), limit)
	swept.Others += n
	swept.More = swept.More || n == int64(limit)
	return swept, err
}
