package store

import (
	"bytes"
	"context"
	"time"

	"dialtone/internal/operator"
	"dialtone/internal/store/engine"
)

var _ operator.AnswerStore = (*Store)(nil)

// ClaimAnswer implements operator.AnswerStore.
func (s *Store) ClaimAnswer(ctx context.Context, token, key string, a operator.StoredAnswer, now time.Time) (
	stored operator.StoredAnswer, claimed bool, err error) {
	err = s.engine.Write(func(tx engine.Tx) error {
		n, err := tx.Exec(`INSERT INTO idempotency (token, key, request, status, body, until)
			VALUES ($1, $2, $3, 0, $4, $5)
			ON CONFLICT (token, key) DO UPDATE SET request = $3, status = 0, body = $4, until = $5
			WHERE idempotency.until <= $6`,
			token, key, a.Request, []byte{}, engine.Micros(a.Until), engine.Micros(now))
		if err != nil {
			return err
		}
		var until int64
		err = tx.Row(`SELECT request, status, body, until FROM idempotency WHERE token = $1 AND key = $2`, token, key).
			Scan(&stored.Request, &stored.Status, &stored.Body, &until)
		stored.Until = engine.FromMicros(until)
		// An earlier run of this transaction may have made the claim.
		claimed = n > 0 || tx.Repeated() && stored.Status == 0 && stored.Until.Equal(a.Until) &&
			bytes.Equal(stored.Request, a.Request)
		return err
	})
	return stored, claimed, err
}

// SetAnswer implements operator.AnswerStore.
func (s *Store) SetAnswer(_ context.Context, token, key string, a operator.StoredAnswer) error {
	return s.engine.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`UPDATE idempotency SET status = $1, body = $2
			WHERE token = $3 AND key = $4 AND until = $5 AND status = 0`,
			a.Status, a.Body, token, key, engine.Micros(a.Until))
		return err
	})
}

// ReleaseAnswer implements operator.AnswerStore.
func (s *Store) ReleaseAnswer(_ context.Context, token, key string, a operator.StoredAnswer) error {
	return s.engine.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`DELETE FROM idempotency WHERE token = $1 AND key = $2 AND until = $3 AND status = 0`,
			token, key, engine.Micros(a.Until))
		return err
	})
}

// SweepAnswers implements operator.AnswerStore.
func (s *Store) SweepAnswers(_ context.Context, now time.Time, limit int) (n int64, err error) {
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		n, err = tx.Exec(`DELETE FROM idempotency WHERE (token, key) IN
			(SELECT token, key FROM idempotency WHERE until <= $1 ORDER BY until LIMIT $2)`, engine.Micros(now), limit)
		return err
	})
	return n, err
}
