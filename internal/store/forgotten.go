package store

import (
	"context"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/store/engine"
)

// AddForgotten implements account.ResetStore.
func (s *Store) AddForgotten(_ context.Context, f account.Forgotten, now time.Time) error {
	return s.engine.Write(func(tx engine.Tx) error {
		if err := tx.Lock(placeKeys(f.Allowances)...); err != nil {
			return err
		}
		if tx.Repeated() && len(f.Allowances) > 0 { // a server may have handled and removed the row
			n, err := engine.Count(tx, `SELECT count(*) FROM taken WHERE bucket = $1 AND at = $2 AND account = $3`,
				f.Allowances[0].Bucket[:], engine.Micros(now), f.ID[:])
			if err != nil || n > 0 {
				return err
			}
		}
		if err := checkAndTake(tx, f.Allowances, f.ID, now, account.ForgottenRefusal); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO forgotten (id, tenant, who, net, at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT DO NOTHING`,
			f.ID[:], f.Tenant, f.Sealed, f.Net, engine.Micros(now))
		return err
	})
}

// Forgotten implements account.ResetStore.
func (s *Store) Forgotten(ctx context.Context, skip, limit int) (list []account.Forgotten, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var f account.Forgotten
		var id []byte
		err := row.Scan(&id, &f.Tenant, &f.Sealed, &f.Net)
		copy(f.ID[:], id)
		list = append(list, f)
		return err
	}, `SELECT id, tenant, who, net FROM forgotten ORDER BY at, id LIMIT $1 OFFSET $2`,
		limit, skip)
	return list, err
}

// RemoveForgotten implements account.ResetStore.
func (s *Store) RemoveForgotten(_ context.Context, id account.ForgottenID) (removed bool, err error) {
	err = s.engine.Write(func(tx engine.Tx) error {
		n, err := tx.Exec(`DELETE FROM forgotten WHERE id = $1`, id[:])
		removed = n > 0 || tx.Repeated()
		return err
	})
	return removed, err
}

// removeForgotten removes a row, unless the id is zero. It fails with account.ErrHandled if the row
// no longer exists.
func removeForgotten(tx engine.Tx, id account.ForgottenID) error {
	if id == (account.ForgottenID{}) {
		return nil
	}
	n, err := tx.Exec(`DELETE FROM forgotten WHERE id = $1`, id[:])
	if err == nil && n == 0 {
		err = account.ErrHandled
	}
	return err
}
