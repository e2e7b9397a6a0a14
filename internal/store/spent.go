package store

import (
	"database/sql"
	"errors"
	"time"

	"dialtone/internal/store/engine"
)

// Answered captchas, nonces of sign-ins and ids of ended sessions are recorded until they would be
// refused because they have expired.

const insertSpent = `INSERT INTO spent (expires, nonce) VALUES ($1, $2) ON CONFLICT DO NOTHING`

// isSpent reports whether an id is recorded.
func isSpent(q engine.Querier, nonce [16]byte, expires time.Time) (bool, error) {
	var one int
	err := q.Row(`SELECT 1 FROM spent WHERE expires = $1 AND nonce = $2`, engine.Micros(expires), nonce[:]).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// markSpent records an id until it expires, and reports whether it was not recorded before.
func markSpent(tx engine.Tx, id [16]byte, expires time.Time) (first bool, err error) {
	n, err := tx.Exec(insertSpent, engine.Micros(expires), id[:])
	return n > 0, err
}
