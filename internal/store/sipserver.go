package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/sipserver"
	"dialtone/internal/store/engine"
)

var (
	_ sipserver.AdminStore = (*Store)(nil)
	_ sipserver.Store      = (*Store)(nil)
)

// AddServer implements sipserver.AdminStore.
func (s *Store) AddServer(ctx context.Context, p sipserver.Server) error {
	tenants, err := json.Marshal(p.Tenants)
	if err != nil {
		return err
	}
	e := entry(ctx, audit.DirectoryTokenAdd, p.Created).about(p.Name)
	return s.engine.Write(func(tx engine.Tx) error {
		n, err := tx.Exec(`INSERT INTO phone_server (name, token, tenants, created) VALUES ($1, $2, $3, $4)
			ON CONFLICT (name) DO NOTHING`, p.Name, p.Token[:], string(tenants), engine.Micros(p.Created))
		if err != nil {
			return err
		}
		if n > 0 {
			hosts, err := hostsOf(tx, p.Tenants)
			if err != nil {
				return err
			}
			return phonesChanged(tx, e.values("", hosts))
		}
		if tx.Repeated() { // then an earlier run may have added it
			var token []byte
			err := tx.Row(`SELECT token FROM phone_server WHERE name = $1`, p.Name).Scan(&token)
			if err != nil && !errors.Is(err, sql.ErrNoRows) || bytes.Equal(token, p.Token[:]) {
				return err
			}
		}
		return fault.New(fault.Conflict, "there is a phone server %s already; "+
			"choose another name, or remove it first with: dialtone directory token remove %s", p.Name, p.Name)
	})
}

// RemoveServer implements sipserver.AdminStore.
func (s *Store) RemoveServer(ctx context.Context, name string) error {
	e := entry(ctx, audit.DirectoryTokenRemove, time.Now()).about(name)
	return s.engine.Write(func(tx engine.Tx) error {
		var text string
		err := tx.Row(`SELECT tenants FROM phone_server WHERE name = $1`, name).Scan(&text)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		n, err := tx.Exec(`DELETE FROM phone_server WHERE name = $1`, name)
		switch {
		case err != nil:
			return err
		case n > 0:
			var tenants []int64
			if err := json.Unmarshal([]byte(text), &tenants); err != nil {
				return err
			}
			hosts, err := hostsOf(tx, tenants)
			if err != nil {
				return err
			}
			return phonesChanged(tx, e.values(hosts, ""))
		case tx.Repeated():
			return nil
		}
		return fault.New(fault.NotFound, "there is no phone server %s; see: dialtone directory token list", name)
	})
}

// phonesChanged increments the version that ServersVersion returns, and adds the change to the
// trail.
func phonesChanged(tx engine.Tx, e *trailEntry) error {
	if _, err := tx.Exec(`UPDATE revision SET n = n + 1 WHERE subject = 'phone'`); err != nil {
		return err
	}
	return e.add(tx)
}

// Servers implements sipserver.Store.
func (s *Store) Servers(ctx context.Context) ([]sipserver.Server, int64, error) {
	// The version is read first: a change between the two reads is then read again instead of
	// missed.
	version, err := s.ServersVersion(ctx)
	if err != nil {
		return nil, 0, err
	}
	var list []sipserver.Server
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var p sipserver.Server
		var token []byte
		var tenants string
		var created int64
		if err := row.Scan(&p.Name, &token, &tenants, &created); err != nil {
			return err
		}
		copy(p.Token[:], token)
		p.Created = engine.FromMicros(created)
		list = append(list, p)
		return json.Unmarshal([]byte(tenants), &list[len(list)-1].Tenants)
	}, `SELECT name, token, tenants, created FROM phone_server ORDER BY name`)
	return list, version, err
}

// ServersVersion implements sipserver.Store.
func (s *Store) ServersVersion(ctx context.Context) (int64, error) {
	return engine.Count(s.engine.Reads(ctx), `SELECT n FROM revision WHERE subject = 'phone'`)
}

// Sealed implements sipserver.Store.
func (s *Store) Sealed(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	// Only the columns that a look-up needs: it is the most frequent statement of all.
	a := account.Account{Tenant: tenant, User: user}
	var uid []byte
	var role string
	row := s.engine.Reads(ctx).Row(`SELECT uid, role, held OR activated IS NULL, credential FROM account
		WHERE tenant = $2 AND username = $3 AND `+live, engine.Micros(now), tenant, user)
	err := row.Scan(&uid, &role, &a.Disabled, &a.Sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return account.Account{}, errNoAccount
	}
	if err != nil {
		return account.Account{}, err
	}
	copy(a.UID[:], uid)
	a.Role = account.Role(role)
	return a, nil
}
