package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/sipserver"
)

var (
	_ sipserver.AdminStore = (*Store)(nil)
	_ sipserver.Store      = (*Store)(nil)
)

// Phone servers lie in the first database, whichever their tenants live in.

// AddServer implements sipserver.AdminStore.
func (s *Store) AddServer(_ context.Context, p sipserver.Server) error {
	tenants, err := json.Marshal(p.Tenants)
	if err != nil {
		return err
	}
	return s.homes[0].write(func(tx transaction) error {
		n, err := tx.exec(`INSERT INTO phone_server (name, token, tenants, created) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING`,
			p.Name, p.Token[:], string(tenants), micros(p.Created))
		if err != nil {
			return err
		}
		if n > 0 {
			return phonesChanged(tx)
		}
		if tx.repeated() {
			var token []byte
			err := tx.row(`SELECT token FROM phone_server WHERE name = $1`, p.Name).Scan(&token)
			if err != nil && !errors.Is(err, sql.ErrNoRows) || bytes.Equal(token, p.Token[:]) {
				return err
			}
		}
		return fault.New(fault.Conflict, "there is a phone server %s already; choose another name, or remove it first with: dialtone directory token remove %s", p.Name, p.Name)
	})
}

// RemoveServer implements sipserver.AdminStore.
func (s *Store) RemoveServer(_ context.Context, name string) error {
	return s.homes[0].write(func(tx transaction) error {
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

func phonesChanged(tx transaction) error {
	_, err := tx.exec(`UPDATE revision SET n = n + 1 WHERE subject = 'phone'`)
	return err
}

// Servers implements sipserver.Store.
func (s *Store) Servers(ctx context.Context) ([]sipserver.Server, int64, error) {
	// The number is read first: a change that comes in between is then seen again, and not missed.
	version, err := s.ServersVersion(ctx)
	if err != nil {
		return nil, 0, err
	}
	var list []sipserver.Server
	err = s.homes[0].reads(ctx).each(func(row scanner) error {
		var p sipserver.Server
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

// ServersVersion implements sipserver.Store.
func (s *Store) ServersVersion(ctx context.Context) (int64, error) {
	return count(s.homes[0].reads(ctx), `SELECT n FROM revision WHERE subject = 'phone'`)
}

// Sealed implements sipserver.Store.
func (s *Store) Sealed(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	found, err := s.of(tenant).sealed(ctx, tenant, user)
	if err == nil && found.until != 0 && found.until <= micros(now) {
		return account.Account{}, errNoAccount
	}
	return found.Account, err
}

// sealed is what Store.Sealed gives, whatever the time.
type sealed struct {
	account.Account
	until int64 // when it is gone if it is not activated; 0 where it is
}

func readSealed(q querier, tenant int64, user string) (s sealed, err error) {
	s.Tenant = tenant
	var uid []byte
	var role string
	err = q.row(`SELECT uid, role, held OR activated IS NULL, credential, CASE WHEN activated IS NULL THEN expires ELSE 0 END
		FROM account WHERE tenant = $1 AND username = $2 AND closed IS NULL`, tenant, user).Scan(&uid, &role, &s.Disabled, &s.Sealed, &s.until)
	if errors.Is(err, sql.ErrNoRows) {
		return sealed{}, errNoAccount
	} else if err != nil {
		return sealed{}, err
	}
	copy(s.UID[:], uid)
	s.Role = account.Role(role)
	return s, nil
}
