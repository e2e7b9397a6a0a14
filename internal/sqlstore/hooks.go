package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/hook"
)

var (
	_ hook.Store = (*Store)(nil)
	_ hook.Queue = (*Store)(nil)
)

// The first database has the hooks. The others have copies of them, for the transactions of their own tenants (ShareHooks).

const hookColumns = `h.id, h.name, h.kind, h.url, h.plain, h.everyone, h.secret, h.created`

func scanHook(row scanner) (h hook.Hook, err error) {
	var id []byte
	var kind string
	var created int64
	err = row.Scan(&id, &h.Name, &kind, &h.URL, &h.PlainHTTP, &h.AllTenants, &h.Sealed, &created)
	copy(h.ID[:], id)
	h.Kind, h.Created = hook.Kind(kind), fromMicros(created)
	return h, err
}

// AddHook implements hook.Store.
func (s *Store) AddHook(ctx context.Context, h hook.Hook) error {
	err := s.homes[0].write(func(tx transaction) error {
		var id []byte
		switch err := tx.row(`SELECT id FROM hook WHERE name = $1`, h.Name).Scan(&id); {
		case err == nil && tx.repeated() && bytes.Equal(id, h.ID[:]):
			return nil
		case err == nil:
			return fault.New(fault.Conflict, "there is a hook %s already; remove it first, or choose another name", h.Name)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		return addHook(tx, h)
	})
	if err == nil {
		s.ShareHooks(ctx) // a database that is away has it when it is back
	}
	return err
}

func addHook(tx transaction, h hook.Hook) error {
	sealed := h.Sealed
	if sealed == nil {
		sealed = []byte{}
	}
	_, err := tx.exec(`INSERT INTO hook (id, name, kind, url, plain, everyone, secret, created, given_up, failed, why)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, '')`,
		h.ID[:], h.Name, string(h.Kind), h.URL, h.PlainHTTP, h.AllTenants, sealed, micros(h.Created))
	for _, id := range h.Tenants {
		if err == nil {
			_, err = tx.exec(`INSERT INTO hook_tenant (hook, tenant) VALUES ($1, $2) ON CONFLICT DO NOTHING`, h.ID[:], id)
		}
	}
	return err
}

// RemoveHook implements hook.Store.
func (s *Store) RemoveHook(ctx context.Context, name string) error {
	err := s.homes[0].write(func(tx transaction) error {
		n, err := tx.exec(`DELETE FROM hook WHERE name = $1`, name)
		if err == nil && n == 0 && !tx.repeated() {
			return fault.New(fault.NotFound, "there is no hook %s; see: dialtone directory hook list", name)
		}
		return err
	})
	if err == nil {
		s.ShareHooks(ctx) // likewise
	}
	return err
}

// ShareHooks implements hook.Queue.
func (s *Store) ShareHooks(ctx context.Context) error {
	if len(s.homes) == 1 {
		return nil
	}
	first, err := hooksOf(s.homes[0].reads(ctx), ``)
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range s.homes[1:] {
		errs = append(errs, share(ctx, h, first))
	}
	return errors.Join(errs...)
}

// share gives a database the hooks that it lacks, and takes those that are gone.
func share(ctx context.Context, home engine, first []hook.Hook) error {
	has, err := hooksOf(home.reads(ctx), ``)
	if err != nil {
		return err
	}
	in := func(list []hook.Hook, h hook.Hook) bool {
		return slices.ContainsFunc(list, func(other hook.Hook) bool { return other.ID == h.ID })
	}
	gone := slices.DeleteFunc(slices.Clone(has), func(h hook.Hook) bool { return in(first, h) })
	missing := slices.DeleteFunc(slices.Clone(first), func(h hook.Hook) bool { return in(has, h) })
	if len(gone)+len(missing) == 0 {
		return nil
	}
	return home.write(func(tx transaction) error {
		for _, h := range gone {
			if _, err := tx.exec(`DELETE FROM hook WHERE id = $1`, h.ID[:]); err != nil {
				return err
			}
		}
		for _, h := range missing {
			// Another server may share at the same time.
			if n, err := count(tx, `SELECT count(*) FROM hook WHERE id = $1`, h.ID[:]); err != nil {
				return err
			} else if n > 0 {
				continue
			}
			if err := addHook(tx, h); err != nil {
				return err
			}
		}
		return nil
	})
}

// hooksOf are hooks with their tenants, by name.
func hooksOf(q querier, where string, args ...any) (list []hook.Hook, err error) {
	err = q.each(func(row scanner) error {
		h, err := scanHook(row)
		list = append(list, h)
		return err
	}, `SELECT `+hookColumns+` FROM hook h `+where+` ORDER BY h.name`, args...)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list, q.each(func(row scanner) error {
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
	first, err := hooksOf(s.homes[0].reads(ctx), ``)
	if err != nil {
		return nil, err
	}
	var list []hook.State
	for _, h := range first {
		list = append(list, hook.State{Hook: h})
	}
	err = s.everywhere(func(e engine) error {
		return e.reads(ctx).each(func(row scanner) error {
			var id []byte
			var waiting, oldest, failed, givenUp int64
			var why string
			if err := row.Scan(&id, &waiting, &oldest, &failed, &why, &givenUp); err != nil {
				return err
			}
			for i := range list {
				if bytes.Equal(list[i].ID[:], id) {
					add(&list[i], waiting, oldest, failed, why, givenUp)
				}
			}
			return nil
		}, `SELECT h.id, (SELECT count(*) FROM notice WHERE hook = h.id), COALESCE((SELECT min(at) FROM notice WHERE hook = h.id), 0),
			h.failed, h.why, h.given_up FROM hook h`)
	})
	return list, err
}

// add adds what one database knows of a hook.
func add(s *hook.State, waiting, oldest, failed int64, why string, givenUp int64) {
	s.Waiting += waiting
	s.GivenUp += givenUp
	if at := fromMicros(oldest); oldest != 0 && (s.Oldest.IsZero() || at.Before(s.Oldest)) {
		s.Oldest = at
	}
	if at := fromMicros(failed); failed != 0 && at.After(s.LastFailure) {
		s.LastFailure, s.LastError = at, why
	}
}

// Due implements hook.Queue.
func (s *Store) Due(ctx context.Context, now time.Time) (list []hook.Hook, err error) {
	err = s.everywhere(func(e engine) error {
		due, err := hooksOf(e.reads(ctx), `WHERE EXISTS (SELECT 1 FROM notice WHERE hook = h.id AND due <= $1)`, micros(now))
		for _, h := range due {
			if !slices.ContainsFunc(list, func(other hook.Hook) bool { return other.ID == h.ID }) {
				list = append(list, h)
			}
		}
		return err
	})
	return list, err
}
