package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/phone"
)

var _ phone.Store = (*Store)(nil)

// AddServer implements phone.Store.
func (s *Store) AddServer(_ context.Context, p phone.Server) error {
	tenants, err := json.Marshal(p.Tenants)
	if err != nil {
		return err
	}
	return s.engine.write(func(tx transaction) error {
		n, err := tx.exec(`INSERT INTO phone_server (name, token, tenants, created) VALUES ($1, $2, $3, $4)
			ON CONFLICT (name) DO NOTHING`, p.Name, p.Token[:], string(tenants), micros(p.Created))
		if err != nil {
			return err
		}
		if n > 0 {
			return phonesChanged(tx)
		}
		if tx.repeated() { // then an earlier run may have added it
			var token []byte
			err := tx.row(`SELECT token FROM phone_server WHERE name = $1`, p.Name).Scan(&token)
			if err != nil && !errors.Is(err, sql.ErrNoRows) || bytes.Equal(token, p.Token[:]) {
				return err
			}
		}
		return fault.New(fault.Conflict, "there is a phone server %s already; "+
			"choose another name, or remove it first with: dialtone directory token remove %s", p.Name, p.Name)
	})
}

// RemoveServer implements phone.Store.
func (s *Store) RemoveServer(_ context.Context, name string) error {
	return s.engine.write(func(tx transaction) error {
		n, err := tx.exec(`DELETE FROM phone_server WHERE name = $1`, name)
		switch {
		case err != nil:
			return err
		case n > 0:
			return phonesChanged(tx)
		case tx.repeated():
			return nil
		}
		return fault.New(fault.NotFound, "there is no phone server %s; see: dialtone directory token list", name)
	})
}

// phonesChanged raises the number that ServersVersion returns.
func phonesChanged(tx transaction) error {
	_, err := tx.exec(`UPDATE revision SET n = n + 1 WHERE subject = 'phone'`)
	return err
}

// Servers implements phone.Store.
func (s *Store) Servers(ctx context.Context) ([]phone.Server, int64, error) {
	// The number is read before the servers: a change between the two reads is then read again
	// instead of missed.
	version, err := s.ServersVersion(ctx)
	if err != nil {
		return nil, 0, err
	}
	var list []phone.Server
	err = s.engine.reads(ctx).each(func(row scanner) error {
		var p phone.Server
		var token []byte
		var tenants string
		var created int64
		if err := row.Scan(&p.Name, &token, &tenants, &created); err != nil {
			return err
		}
		copy(p.Token[:], token)
		p.Created = fromMicros(created)
		list = append(list, p)
		return json.Unmarshal([]byte(tenants), &list[len(list)-1].Tenants)
	}, `SELECT name, token, tenants, created FROM phone_server ORDER BY name`)
	return list, version, err
}

// ServersVersion implements phone.Store.
func (s *Store) ServersVersion(ctx context.Context) (int64, error) {
	return count(s.engine.reads(ctx), `SELECT n FROM revision WHERE subject = 'phone'`)
}

// Sealed implements phone.Store.
func (s *Store) Sealed(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	// Only the columns that a look-up needs: it is the most frequent statement of all.
	a := account.Account{Tenant: tenant}
	var uid []byte
	var role string
	row := s.engine.reads(ctx).row(`SELECT uid, role, held OR activated IS NULL, credential FROM account
		WHERE tenant = $2 AND username = $3 AND `+live, micros(now), tenant, user)
	err := row.Scan(&uid, &role, &a.Disabled, &a.Sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return account.Account{}, errNoAccount
	} else if err != nil {
		return account.Account{}, err
	}
	copy(a.UID[:], uid)
	a.Role = account.Role(role)
	return a, nil
}
