package store

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/hook"
	"dialtone/internal/store/engine"
)

// Claim implements hook.Queue.
func (s *Store) Claim(_ context.Context, id hook.ID, now, until time.Time,
	limit int) (list []hook.Notification, err error) {
	// Notifications claimed by a first run whose commit was in doubt are due again when that claim
	// ends.
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		list, err = claimIn(tx, id, now, until, limit)
		return err
	})
	slices.SortFunc(list, func(a, b hook.Notification) int {
		return cmp.Or(a.At.Compare(b.At), bytes.Compare(a.EventID[:], b.EventID[:]),
			bytes.Compare(a.Account[:], b.Account[:]))
	})
	return list, err
}

// claimIn claims notifications in a transaction. A second claim at the same time waits for the
// first, and then finds that its notifications are due later.
func claimIn(tx engine.Tx, id hook.ID, now, until time.Time,
	limit int) (list []hook.Notification, err error) {
	err = tx.Each(func(row engine.Scanner) error {
		n := hook.Notification{Hook: id, ClaimEnds: until}
		var event, uid []byte
		var what string
		var at int64
		err := row.Scan(&event, &uid, &what, &n.Tenant, &n.Host, &n.Realm, &n.User, &at, &n.Attempts)
		copy(n.EventID[:], event)
		copy(n.Account[:], uid)
		n.Type, n.At = hook.EventType(what), engine.FromMicros(at)
		list = append(list, n)
		return err
	}, `UPDATE notice SET due = $3, tries = tries + 1 WHERE hook = $1 AND due <= $2 AND (event, account) IN
		(SELECT event, account FROM notice WHERE hook = $1 AND due <= $2 ORDER BY due, at, event LIMIT $4)
		RETURNING event, account, what, tenant, host, realm, username, at, tries`,
		id[:], engine.Micros(now), engine.Micros(until), limit)
	return list, err
}

// Report implements hook.Queue.
func (s *Store) Report(_ context.Context, results []hook.Result, now time.Time) error {
	if len(results) == 0 {
		return nil
	}
	return s.engine.Write(func(tx engine.Tx) error {
		for _, r := range results {
			if err := report(tx, r, now); err != nil {
				return err
			}
		}
		return nil
	})
}

func report(tx engine.Tx, r hook.Result, now time.Time) error {
	const which = ` WHERE hook = $1 AND event = $2 AND account = $3`
	key := []any{r.Hook[:], r.EventID[:], accountKey(r.Account)}
	if r.Failure == "" && r.RetryAt.IsZero() {
		_, err := tx.Exec(`DELETE FROM notice`+which, key...)
		return err
	}
	var n, givenUp int64
	var err error
	if r.RetryAt.IsZero() {
		n, err = tx.Exec(`DELETE FROM notice`+which+` AND due = $4`, append(key, engine.Micros(r.ClaimEnds))...)
		givenUp = n
	} else {
		n, err = tx.Exec(`UPDATE notice SET due = $5`+which+` AND due = $4`,
			append(key, engine.Micros(r.ClaimEnds), engine.Micros(r.RetryAt))...)
	}
	if err != nil || n == 0 || r.Failure == "" {
		return err
	}
	_, err = tx.Exec(`UPDATE hook SET failed = $2, why = $3, given_up = given_up + $4 WHERE id = $1`,
		r.Hook[:], engine.Micros(now), truncate(r.Failure), givenUp)
	return err
}

// truncate returns valid UTF-8 of at most 300 bytes for a list. The text is a server's answer,
// which may be any bytes.
func truncate(text string) string {
	const most = 300
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// accountKey returns the value of the account column, which is empty for a change of a tenant.
func accountKey(u account.UID) []byte {
	if u == (account.UID{}) {
		return []byte{}
	}
	return u[:]
}

// NotificationsAdded implements hook.Queue.
func (s *Store) NotificationsAdded() <-chan struct{} { return s.added }

// notify signals that this process may have added notifications.
func (s *Store) notify() {
	select {
	case s.added <- struct{}{}:
	default:
	}
}

// A change of a tenant or of one of its accounts adds a notification, a row of the table notice,
// for each hook of the tenant. The id of the event is made before the transaction, so that a second
// run of the transaction adds nothing.
const (
	noticeColumns = `hook, event, account, what, tenant, host, realm, username, at, due, tries`
	concerned     = ` WHERE (h.everyone OR EXISTS
		(SELECT 1 FROM hook_tenant ht WHERE ht.hook = h.id AND ht.tenant = t.id))`
)

// addTenantNotifications adds the notifications of a change of a tenant.
func addTenantNotifications(tx engine.Tx, what hook.EventType, event account.UID, tenant int64, now time.Time) error {
	_, err := tx.Exec(`INSERT INTO notice (`+noticeColumns+`)
		SELECT h.id, $1, $2, $3, t.id, t.host, t.realm, '', $4, 0, 0
		FROM hook h JOIN tenant t ON t.id = $5`+concerned+` ON CONFLICT DO NOTHING`,
		event[:], []byte{}, string(what), engine.Micros(now), tenant)
	return err
}

// addAccountNotifications adds the notifications of a change of an account. It adds none for an
// account that was never activated: phone servers do not know it.
func addAccountNotifications(tx engine.Tx, what hook.EventType, event account.UID, uid []byte, now time.Time) error {
	return addNotifications(tx, ` AND a.uid = $4`, what, event, now, uid)
}

// addTenantAccountNotifications adds the notifications that a tenant's accounts are deleted.
func addTenantAccountNotifications(tx engine.Tx, event account.UID, tenant int64, now time.Time) error {
	return addNotifications(tx, ` AND a.tenant = $4 AND a.closed IS NULL`, hook.AccountDeleted, event, now, tenant)
}

// addNotifications adds the notifications of the accounts that a condition selects. In the
// condition, $4 is the argument of.
func addNotifications(tx engine.Tx, which string, what hook.EventType, event account.UID, now time.Time, of any) error {
	_, err := tx.Exec(`INSERT INTO notice (`+noticeColumns+`)
		SELECT h.id, $1, a.uid, $2, t.id, t.host, t.realm, a.username, $3, 0, 0
		FROM hook h JOIN account a ON a.activated IS NOT NULL`+which+`
		JOIN tenant t ON t.id = a.tenant`+concerned+` ON CONFLICT DO NOTHING`,
		event[:], string(what), engine.Micros(now), of)
	return err
}
