package store

import (
	"bytes"
	"context"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
)

var _ delivery.KeyStore = (*Store)(nil)

// AddSigningKey implements delivery.KeyStore.
func (s *Store) AddSigningKey(ctx context.Context, k delivery.SigningKey) error {
	e := entry(ctx, audit.DKIMAdd, k.Created).about(k.Selector)
	e.tenant = k.Tenant
	return s.engine.Write(func(tx engine.Tx) error {
		n, err := tx.Exec(`INSERT INTO dkim_key (tenant, selector, created, sealed) VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant, selector) DO NOTHING`,
			k.Tenant, k.Selector, engine.Micros(k.Created), k.Sealed)
		if err != nil {
			return err
		} else if n > 0 {
			return e.add(tx)
		}
		if tx.Repeated() {
			var stored []byte
			err := tx.Row(`SELECT sealed FROM dkim_key WHERE tenant = $1 AND selector = $2`,
				k.Tenant, k.Selector).Scan(&stored)
			if err != nil || bytes.Equal(stored, k.Sealed) {
				return err
			}
		}
		return fault.New(fault.Conflict, "there is a key with the selector %s already; choose another selector, and "+
			"remove the old key when no message needs it any more", k.Selector)
	})
}

// SigningKeys implements delivery.KeyStore.
func (s *Store) SigningKeys(ctx context.Context, tenant int64) (list []delivery.SigningKey, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		k := delivery.SigningKey{Tenant: tenant}
		var created int64
		err := row.Scan(&k.Selector, &created, &k.Sealed)
		k.Created = engine.FromMicros(created)
		list = append(list, k)
		return err
	}, `SELECT selector, created, sealed FROM dkim_key WHERE tenant = $1 ORDER BY selector`, tenant)
	return list, err
}

// RemoveSigningKey implements delivery.KeyStore.
func (s *Store) RemoveSigningKey(ctx context.Context, tenant int64, selector string) error {
	e := entry(ctx, audit.DKIMRemove, time.Now()).about(selector)
	e.tenant = tenant
	return s.engine.Write(func(tx engine.Tx) error {
		n, err := tx.Exec(`DELETE FROM dkim_key WHERE tenant = $1 AND selector = $2`, tenant, selector)
		switch {
		case err != nil:
			return err
		case n > 0:
			return e.add(tx)
		case tx.Repeated():
			return nil
		}
		return fault.New(fault.NotFound, "there is no key with the selector %s; see: dialtone mail dkim list", selector)
	})
}
