package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/store/engine"
)

var (
	_ hook.Store = (*Store)(nil)
	_ hook.Queue = (*Store)(nil)
)

const hookColumns = `h.id, h.name, h.kind, h.url, h.plain, h.everyone, h.secret, h.created, h.events`

func scanHook(row engine.Scanner) (h hook.Hook, err error) {
	var id []byte
	var kind, events string
	var created int64
	err = row.Scan(&id, &h.Name, &kind, &h.URL, &h.PlainHTTP, &h.AllTenants, &h.Sealed, &created, &events)
	for _, word := range strings.Fields(events) {
		h.Events = append(h.Events, hook.EventType(word))
	}
	copy(h.ID[:], id)
	h.Kind, h.Created = hook.Kind(kind), engine.FromMicros(created)
	return h, err
}

// AddHook implements hook.Store.
func (s *Store) AddHook(ctx context.Context, h hook.Hook) error {
	e := entry(ctx, audit.HookAdd, h.Created).about(h.Name)
	return s.engine.Write(func(tx engine.Tx) error {
		var id []byte
		switch err := tx.Row(`SELECT id FROM hook WHERE name = $1`, h.Name).Scan(&id); {
		case err == nil && tx.Repeated() && bytes.Equal(id, h.ID[:]):
			return nil
		case err == nil:
			return fault.New(fault.Conflict, "there is a hook %s already; "+
				"remove it first, or choose another name", h.Name)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		if err := addHook(tx, h); err != nil {
			return err
		}
		after, err := describeHook(tx, h)
		if err != nil {
			return err
		}
		return e.values("", after).add(tx)
	})
}

func addHook(tx engine.Tx, h hook.Hook) error {
	sealed := h.Sealed
	if sealed == nil {
		sealed = []byte{}
	}
	_, err := tx.Exec(`INSERT INTO hook (id, name, kind, url, plain, everyone, secret, created, given_up, failed, why,
			events)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, '', $9)`,
		h.ID[:], h.Name, string(h.Kind), h.URL, h.PlainHTTP, h.AllTenants, sealed, engine.Micros(h.Created),
		hook.JoinEvents(h.Events, " "))
	for _, id := range h.Tenants {
		if err == nil {
			_, err = tx.Exec(`INSERT INTO hook_tenant (hook, tenant) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
				h.ID[:], id)
		}
	}
	return err
}

// describeHook returns the description of a hook for the trail. It leaves out the path of the URL,
// which may contain a secret.
func describeHook(q engine.Querier, h hook.Hook) (string, error) {
	at := "another address"
	if u, err := url.Parse(h.URL); err == nil {
		at = u.Scheme + "://" + u.Host
	}
	tenants := "all tenants"
	if !h.AllTenants {
		var err error
		if tenants, err = hostsOf(q, h.Tenants); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s %s, %s", h.Kind, at, tenants), nil
}

// hostsOf returns the hosts of tenants for the trail, or their number if there are many.
func hostsOf(q engine.Querier, ids []int64) (string, error) {
	const many = 20
	if len(ids) > many {
		return fmt.Sprintf("%d tenants", len(ids)), nil
	}
	hosts := make([]string, 0, len(ids))
	for _, id := range ids {
		var host string
		switch err := q.Row(`SELECT host FROM tenant WHERE id = $1`, id).Scan(&host); {
		case err == nil:
			hosts = append(hosts, host)
		case !errors.Is(err, sql.ErrNoRows): // it was removed
			return "", err
		}
	}
	slices.Sort(hosts)
	return strings.Join(hosts, " "), nil
}

// RemoveHook implements hook.Store.
func (s *Store) RemoveHook(ctx context.Context, name string) error {
	e := entry(ctx, audit.HookRemove, time.Now()).about(name)
	return s.engine.Write(func(tx engine.Tx) error {
		hooks, err := hooksOf(tx, `WHERE h.name = $1`, name)
		if err != nil {
			return err
		}
		n, err := tx.Exec(`DELETE FROM hook WHERE name = $1`, name)
		switch {
		case err != nil:
			return err
		case n > 0:
			before := ""
			if len(hooks) > 0 {
				if before, err = describeHook(tx, hooks[0]); err != nil {
					return err
				}
			}
			return e.values(before, "").add(tx)
		case tx.Repeated():
			return nil
		}
		return fault.New(fault.NotFound, "there is no hook %s; see: dialtone directory hook list", name)
	})
}

// hooksOf returns the hooks that meet a condition with their tenants, sorted by name.
func hooksOf(q engine.Querier, where string, args ...any) (list []hook.Hook, err error) {
	err = q.Each(func(row engine.Scanner) error {
		h, err := scanHook(row)
		list = append(list, h)
		return err
	}, `SELECT `+hookColumns+` FROM hook h `+where+` ORDER BY h.name`, args...)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list, q.Each(func(row engine.Scanner) error {
		var hook []byte
		var id int64
		if err := row.Scan(&hook, &id); err != nil {
			return err
		}
		for i := range list {
			if bytes.Equal(list[i].ID[:], hook) {
				list[i].Tenants = append(list[i].Tenants, id)
			}
		}
		return nil
	}, `SELECT hook, tenant FROM hook_tenant ORDER BY hook, tenant`)
}

// Hooks implements hook.Store.
func (s *Store) Hooks(ctx context.Context) ([]hook.State, error) {
	hooks, err := hooksOf(s.engine.Reads(ctx), ``)
	if err != nil {
		return nil, err
	}
	var list []hook.State
	for _, h := range hooks {
		list = append(list, hook.State{Hook: h})
	}
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var id []byte
		var waiting, oldest, failed, givenUp int64
		var why string
		if err := row.Scan(&id, &waiting, &oldest, &failed, &why, &givenUp); err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(h hook.State) bool { return bytes.Equal(h.ID[:], id) })
		if i < 0 {
			return nil // added since the hooks were read
		}
		h := &list[i]
		h.Waiting, h.GivenUp, h.LastError = waiting, givenUp, why
		if oldest != 0 {
			h.Oldest = engine.FromMicros(oldest)
		}
		if failed != 0 {
			h.LastFailure = engine.FromMicros(failed)
		}
		return nil
	}, `SELECT h.id, (SELECT count(*) FROM notice WHERE hook = h.id),
		COALESCE((SELECT min(at) FROM notice WHERE hook = h.id), 0), h.failed, h.why, h.given_up FROM hook h`)
	return list, err
}

// Due implements hook.Queue.
func (s *Store) Due(ctx context.Context, now time.Time) ([]hook.Hook, error) {
	return hooksOf(s.engine.Reads(ctx),
		`WHERE EXISTS (SELECT 1 FROM notice WHERE hook = h.id AND due <= $1)`, engine.Micros(now))
}
