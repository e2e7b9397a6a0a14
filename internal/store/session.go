package store

import (
	"context"
	"time"

	"dialtone/internal/session"
	"dialtone/internal/store/engine"
)

var _ session.Store = (*Store)(nil)

// Revoke implements session.Store.
func (s *Store) Revoke(ctx context.Context, tenant int64, id [16]byte, expires time.Time) error {
	return s.engine.Write(func(tx engine.Tx) error {
		_, err := markSpent(tx, id, expires)
		return err
	})
}

// Revoked implements session.Store.
func (s *Store) Revoked(ctx context.Context, tenant int64, id [16]byte, expires time.Time) (bool, error) {
	return isSpent(s.engine.Reads(ctx), id, expires)
}

// Spend implements session.Store.
func (s *Store) Spend(ctx context.Context, tenant int64, id [16]byte, expires time.Time) (first bool, err error) {
	n, err := s.engine.ExecSoon(ctx, insertSpent, engine.Micros(expires), id[:])
	return n > 0, err
}
