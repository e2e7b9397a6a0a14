package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/tenant"
)

// SetSignups implements operator.SignupsStore.
func (s *Store) SetSignups(ctx context.Context, id int64, mode tenant.Signups, note *string,
	now time.Time) (t tenant.Tenant, err error) {
	event, e := account.NewUID(now), entry(ctx, audit.TenantSet, now)
	defer s.signalAdded()
	err = s.tables.Write(func(tx engine.Tx) ([]phonetables.Subject, error) {
		if err := tx.Lock(tenantsLock); err != nil {
			return nil, err
		}
		var was string
		t = tenant.Tenant{ID: id}
		err := tx.Row(`SELECT host, settings FROM tenant WHERE id = $1`, id).Scan(&t.Host, &was)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, noTenant(t.Host)
		}
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(was), &t.Settings); err != nil {
			return nil, err
		}
		t.Signups = mode
		if note != nil {
			t.SignupsNote = *note
		}
		is, err := json.Marshal(t.Settings)
		if err != nil || string(is) == was {
			return nil, err
		}
		if _, err := tx.Exec(`UPDATE tenant SET settings = $2 WHERE id = $1`, id, string(is)); err != nil {
			return nil, err
		}
		return allTenants, tenantSet(tx, t, event, e,
			tenantValues{Settings: json.RawMessage(was)}, tenantValues{Settings: is})
	})
	return t, err
}

// freezeName names the row of the table platform that holds the tenant.Freeze as JSON. Without this
// row there is no freeze.
const freezeName = "signups.freeze"

// Freeze implements operator.SignupsStore.
func (s *Store) Freeze(ctx context.Context) (*tenant.Freeze, error) {
	f, _, err := readFreeze(s.engine.Reads(ctx))
	return f, err
}

// readFreeze returns the freeze and its JSON, or nil and an empty text if there is none.
func readFreeze(q engine.Querier) (*tenant.Freeze, string, error) {
	var text string
	err := q.Row(`SELECT value FROM platform WHERE name = $1`, freezeName).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	f := &tenant.Freeze{}
	return f, text, json.Unmarshal([]byte(text), f)
}

// SetFreeze implements operator.SignupsStore.
func (s *Store) SetFreeze(ctx context.Context, f *tenant.Freeze, now time.Time) error {
	action := audit.SignupsFreeze
	if f == nil {
		action = audit.SignupsUnfreeze
	}
	e := entry(ctx, action, now)
	return s.engine.Write(func(tx engine.Tx) error {
		if err := tx.Lock(tenantsLock); err != nil {
			return err
		}
		_, was, err := readFreeze(tx)
		if err != nil {
			return err
		}
		is := ""
		if f != nil {
			text, err := json.Marshal(f)
			if err != nil {
				return err
			}
			is = string(text)
		}
		switch {
		case is == was:
			return nil
		case f == nil:
			_, err = tx.Exec(`DELETE FROM platform WHERE name = $1`, freezeName)
		default:
			_, err = tx.Exec(`INSERT INTO platform (name, value) VALUES ($1, $2)
				ON CONFLICT (name) DO UPDATE SET value = excluded.value`, freezeName, is)
		}
		if err != nil {
			return err
		}
		if err := e.values(was, is).add(tx); err != nil {
			return err
		}
		return tenantsChanged(tx)
	})
}
