package sqlstore

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/phone"
)

var _ phone.HookStore = (*Store)(nil)

// The first database has the hooks. The others have copies of them, for the transactions of their own tenants (ShareHooks).

const hookColumns = `h.id, h.name, h.kind, h.url, h.plain, h.everyone, h.secret, h.created`

func scanHook(row scanner, more ...any) (h phone.Hook, err error) {
	var id []byte
	var kind string
	var created int64
	err = row.Scan(append([]any{&id, &h.Name, &kind, &h.URL, &h.Plain, &h.Everyone, &h.Sealed, &created}, more...)...)
	copy(h.ID[:], id)
	h.Kind, h.Created = phone.Kind(kind), fromMicros(created)
	return h, err
}

// AddHook implements phone.HookStore.
func (s *Store) AddHook(ctx context.Context, h phone.Hook) error {
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

func addHook(tx transaction, h phone.Hook) error {
	sealed := h.Sealed
	if sealed == nil {
		sealed = []byte{}
	}
	_, err := tx.exec(`INSERT INTO hook (id, name, kind, url, plain, everyone, secret, created, given_up, failed, why)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, '')`,
		h.ID[:], h.Name, string(h.Kind), h.URL, h.Plain, h.Everyone, sealed, micros(h.Created))
	for _, id := range h.Tenants {
		if err == nil {
			_, err = tx.exec(`INSERT INTO hook_tenant (hook, tenant) VALUES ($1, $2) ON CONFLICT DO NOTHING`, h.ID[:], id)
		}
	}
	return err
}

// RemoveHook implements phone.HookStore.
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

// ShareHooks implements phone.HookStore.
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
func share(ctx context.Context, home engine, first []phone.Hook) error {
	has, err := hooksOf(home.reads(ctx), ``)
	if err != nil {
		return err
	}
	in := func(list []phone.Hook, h phone.Hook) bool {
		return slices.ContainsFunc(list, func(other phone.Hook) bool { return other.ID == h.ID })
	}
	gone := slices.DeleteFunc(slices.Clone(has), func(h phone.Hook) bool { return in(first, h) })
	missing := slices.DeleteFunc(slices.Clone(first), func(h phone.Hook) bool { return in(has, h) })
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
func hooksOf(q querier, where string, args ...any) (list []phone.Hook, err error) {
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

// Hooks implements phone.HookStore.
func (s *Store) Hooks(ctx context.Context) ([]phone.HookState, error) {
	first, err := hooksOf(s.homes[0].reads(ctx), ``)
	if err != nil {
		return nil, err
	}
	var list []phone.HookState
	for _, h := range first {
		list = append(list, phone.HookState{Hook: h})
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
func add(s *phone.HookState, waiting, oldest, failed int64, why string, givenUp int64) {
	s.Waiting += waiting
	s.GivenUp += givenUp
	if at := fromMicros(oldest); oldest != 0 && (s.Oldest.IsZero() || at.Before(s.Oldest)) {
		s.Oldest = at
	}
	if at := fromMicros(failed); failed != 0 && at.After(s.Failed) {
		s.Failed, s.Why = at, why
	}
}

// Due implements phone.HookStore.
func (s *Store) Due(ctx context.Context, now time.Time) (list []phone.Hook, err error) {
	err = s.everywhere(func(e engine) error {
		due, err := hooksOf(e.reads(ctx), `WHERE EXISTS (SELECT 1 FROM notice WHERE hook = h.id AND due <= $1)`, micros(now))
		for _, h := range due {
			if !slices.ContainsFunc(list, func(other phone.Hook) bool { return other.ID == h.ID }) {
				list = append(list, h)
			}
		}
		return err
	})
	return list, err
}

// Claim implements phone.HookStore.
func (s *Store) Claim(ctx context.Context, hook phone.HookID, now, until time.Time, limit int) ([]phone.Notice, error) {
	var list []phone.Notice
	err := s.everywhere(func(e engine) error {
		if len(list) >= limit {
			return nil
		}
		more, err := claim(e, hook, now, until, limit-len(list))
		list = append(list, more...)
		return err
	})
	slices.SortFunc(list, func(a, b phone.Notice) int {
		return cmp.Or(a.At.Compare(b.At), bytes.Compare(a.Event[:], b.Event[:]), bytes.Compare(a.Account[:], b.Account[:]))
	})
	return list, err
}

func claim(home engine, hook phone.HookID, now, until time.Time, limit int) (list []phone.Notice, err error) {
	// What a first run claimed whose commit was in doubt is due again with the end of its claim.
	err = home.write(func(tx transaction) (err error) {
		list, err = claimIn(tx, hook, now, until, limit)
		return err
	})
	return list, err
}

// claimIn claims in a transaction. Of two that come at once, the second waits for the first, and then finds the notices due later.
func claimIn(tx transaction, hook phone.HookID, now, until time.Time, limit int) (list []phone.Notice, err error) {
	err = tx.each(func(row scanner) error {
		n := phone.Notice{Hook: hook, Due: until}
		var event, uid []byte
		var what string
		var at int64
		err := row.Scan(&event, &uid, &what, &n.Tenant, &n.Host, &n.Realm, &n.User, &at, &n.Tries)
		copy(n.Event[:], event)
		copy(n.Account[:], uid)
		n.What, n.At = phone.What(what), fromMicros(at)
		list = append(list, n)
		return err
	}, `UPDATE notice SET due = $3, tries = tries + 1 WHERE hook = $1 AND due <= $2 AND (event, account) IN
		(SELECT event, account FROM notice WHERE hook = $1 AND due <= $2 ORDER BY due, at, event LIMIT $4)
		RETURNING event, account, what, tenant, host, realm, username, at, tries`, hook[:], micros(now), micros(until), limit)
	return list, err
}

// Report implements phone.HookStore.
func (s *Store) Report(ctx context.Context, results []phone.Result, now time.Time) error {
	return s.everywhere(func(e engine) error {
		own := slices.DeleteFunc(slices.Clone(results), func(r phone.Result) bool { return s.of(r.Tenant) != e })
		if len(own) == 0 {
			return nil
		}
		return e.write(func(tx transaction) error {
			for _, r := range own {
				if err := report(tx, r, now); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func report(tx transaction, r phone.Result, now time.Time) error {
	const which = ` WHERE hook = $1 AND event = $2 AND account = $3`
	key := []any{r.Hook[:], r.Event[:], accountKey(r.Account)}
	if r.Why == "" && r.Next.IsZero() {
		_, err := tx.exec(`DELETE FROM notice`+which, key...)
		return err
	}
	var n, givenUp int64
	var err error
	if r.Next.IsZero() {
		n, err = tx.exec(`DELETE FROM notice`+which+` AND due = $4`, append(key, micros(r.Due))...)
		givenUp = n
	} else {
		n, err = tx.exec(`UPDATE notice SET due = $5`+which+` AND due = $4`, append(key, micros(r.Due), micros(r.Next))...)
	}
	if err != nil || n == 0 || r.Why == "" {
		return err
	}
	_, err = tx.exec(`UPDATE hook SET failed = $2, why = $3, given_up = given_up + $4 WHERE id = $1`, r.Hook[:], micros(now), shortened(r.Why), givenUp)
	return err
}

// shortened is a text that a list can show. What a server answered may be any bytes.
func shortened(text string) string {
	const most = 300
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// accountKey is the column of an account, which is empty for no account.
func accountKey(u account.UID) []byte {
	if u == (account.UID{}) {
		return []byte{}
	}
	return u[:]
}

// Noticed implements phone.HookStore.
func (s *Store) Noticed() <-chan struct{} { return s.noticed }

// notify tells of notices of this process.
func (s *Store) notify() {
	select {
	case s.noticed <- struct{}{}:
	default:
	}
}

// What a change of a tenant and one of its accounts writes: a notice for each hook that is for the tenant. The event is made before
// the transaction, so that a second run writes nothing new.
const (
	noticeColumns = `hook, event, account, what, tenant, host, realm, username, at, due, tries`
	concerned     = ` WHERE (h.everyone OR EXISTS (SELECT 1 FROM hook_tenant ht WHERE ht.hook = h.id AND ht.tenant = t.id))`
)

// noticeTenant writes the notices of a change of a tenant.
func noticeTenant(tx transaction, what phone.What, event account.UID, tenant int64, now time.Time) error {
	_, err := tx.exec(`INSERT INTO notice (`+noticeColumns+`)
		SELECT h.id, $1, $2, $3, t.id, t.host, t.realm, '', $4, 0, 0
		FROM hook h JOIN tenant t ON t.id = $5`+concerned+` ON CONFLICT DO NOTHING`,
		event[:], []byte{}, string(what), micros(now), tenant)
	return err
}

// noticeAccount writes those of a change of an account, if it was ever active: no phone server knows any other.
func noticeAccount(tx transaction, what phone.What, event account.UID, uid []byte, now time.Time) error {
	return noticeAccounts(tx, ` AND a.uid = $4`, what, event, now, uid)
}

// noticeTenantAccounts writes those of the end of a tenant's accounts.
func noticeTenantAccounts(tx transaction, event account.UID, tenant int64, now time.Time) error {
	return noticeAccounts(tx, ` AND a.tenant = $4 AND a.closed IS NULL`, phone.AccountDeleted, event, now, tenant)
}

func noticeAccounts(tx transaction, which string, what phone.What, event account.UID, now time.Time, of any) error {
	_, err := tx.exec(`INSERT INTO notice (`+noticeColumns+`)
		SELECT h.id, $1, a.uid, $2, t.id, t.host, t.realm, a.username, $3, 0, 0
		FROM hook h JOIN account a ON a.activated IS NOT NULL`+which+` JOIN tenant t ON t.id = a.tenant`+concerned+` ON CONFLICT DO NOTHING`,
		event[:], string(what), micros(now), of)
	return err
}
