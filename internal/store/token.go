package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/store/engine"
)

var _ operator.TokenStore = (*Store)(nil)

const tokenColumns = `id, name, hash, COALESCE(tenant, 0), scopes, made, made_by, COALESCE(expires, 0),
	COALESCE(used, 0)`

// orNull returns NULL instead of 0.
func orNull(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

// microsOrNull returns a time as the store represents it, or NULL for the zero time.
func microsOrNull(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return engine.Micros(at)
}

// AddToken implements operator.TokenStore.
func (s *Store) AddToken(ctx context.Context, t operator.Token) error {
	e := entry(ctx, audit.TokenAdd, t.Made).about(t.Name).values("", operator.Words(t.Scopes))
	e.tenant = t.Tenant
	return s.engine.Write(func(tx engine.Tx) error {
		n, err := tx.Exec(`INSERT INTO api_token (id, name, hash, tenant, scopes, made, made_by, expires)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO NOTHING`, t.ID, t.Name, t.Hash[:],
			orNull(t.Tenant), operator.Words(t.Scopes), engine.Micros(t.Made), t.MadeBy, microsOrNull(t.Expires))
		if err != nil {
			return err
		}
		if n > 0 {
			return e.add(tx)
		}
		if tx.Repeated() { // then an earlier run may have added it
			var hash []byte
			err := tx.Row(`SELECT hash FROM api_token WHERE name = $1`, t.Name).Scan(&hash)
			if err != nil && !errors.Is(err, sql.ErrNoRows) || bytes.Equal(hash, t.Hash[:]) {
				return err
			}
		}
		return fault.New(fault.Conflict, "there is a token %s already; choose another name, or remove it first", t.Name)
	})
}

// RemoveToken implements operator.TokenStore.
func (s *Store) RemoveToken(ctx context.Context, name string, tenant int64, now time.Time) error {
	e := entry(ctx, audit.TokenRemove, now).about(name)
	return s.engine.Write(func(tx engine.Tx) error {
		var scopes string
		err := tx.Row(`DELETE FROM api_token WHERE name = $1 AND (CAST($2 AS BIGINT) = 0 OR tenant = $2)
			RETURNING COALESCE(tenant, 0), scopes`, name, tenant).Scan(&e.tenant, &scopes)
		switch {
		case err == nil:
			return e.values(scopes, "").add(tx)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		case tx.Repeated():
			if added, err := e.added(tx); added || err != nil {
				return err
			}
		}
		return fault.New(fault.NotFound, "there is no token %s; see: dialtone token list", name)
	})
}

// Tokens implements operator.TokenStore.
func (s *Store) Tokens(ctx context.Context, tenant int64) (list []operator.Token, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		t, err := scanToken(row)
		list = append(list, t)
		return err
	}, `SELECT `+tokenColumns+` FROM api_token WHERE CAST($1 AS BIGINT) = 0 OR tenant = $1 ORDER BY name`, tenant)
	return list, err
}

// TokenByHash implements operator.TokenStore.
func (s *Store) TokenByHash(ctx context.Context, hash [32]byte, now time.Time) (operator.Token, error) {
	t, err := scanToken(s.engine.Reads(ctx).Row(`SELECT `+tokenColumns+` FROM api_token
		WHERE hash = $1 AND (expires IS NULL OR expires > $2)`, hash[:], engine.Micros(now)))
	if errors.Is(err, sql.ErrNoRows) {
		return operator.Token{}, fault.New(fault.NotFound, "there is no such token")
	}
	return t, err
}

func scanToken(row engine.Scanner) (t operator.Token, err error) {
	var hash []byte
	var scopes string
	var made, expires, used int64
	if err := row.Scan(&t.ID, &t.Name, &hash, &t.Tenant, &scopes, &made, &t.MadeBy, &expires, &used); err != nil {
		return t, err
	}
	copy(t.Hash[:], hash)
	for word := range strings.FieldsSeq(scopes) {
		t.Scopes = append(t.Scopes, operator.Scope(word))
	}
	t.Made = engine.FromMicros(made)
	if expires != 0 {
		t.Expires = engine.FromMicros(expires)
	}
	if used != 0 {
		t.Used = engine.FromMicros(used)
	}
	return t, nil
}

// RecordTokenUses implements operator.TokenStore.
func (s *Store) RecordTokenUses(_ context.Context, list []operator.TokenUse) error {
	return s.engine.Write(func(tx engine.Tx) error {
		for _, u := range list {
			_, err := tx.Exec(`UPDATE api_token SET used = $1 WHERE id = $2 AND (used IS NULL OR used < $1)`,
				engine.Micros(u.At), u.ID)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
