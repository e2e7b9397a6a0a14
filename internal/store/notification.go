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
	// If the transaction runs twice because the outcome of its commit was unknown, the notifications
	// that only the first run claimed are due again when that claim ends.
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

// claimIn claims notifications in a transaction. A concurrent claim waits for the first, and then
// finds that its notifications are due later.
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

// report deletes the notification if it was delivered. Otherwise it changes the notification only if
// the claim of the result still holds.
func report(tx engine.Tx, r hook.Result, now time.Time) error {
	const where = ` WHERE hook = $1 AND event = $2 AND account = $3`
	key := []any{r.Hook[:], r.EventID[:], accountKey(r.Account)}
	if r.Failure == "" && r.RetryAt.IsZero() {
		_, err := tx.Exec(`DELETE FROM notice`+where, key...)
		return err
	}
	var n, givenUp int64
	var err error
	if r.RetryAt.IsZero() {
		n, err = tx.Exec(`DELETE FROM notice`+where+` AND due = $4`, append(key, engine.Micros(r.ClaimEnds))...)
		givenUp = n
	} else {
		n, err = tx.Exec(`UPDATE notice SET due = $5`+where+` AND due = $4`,
			append(key, engine.Micros(r.ClaimEnds), engine.Micros(r.RetryAt))...)
	}
	if err != nil || n == 0 || r.Failure == "" {
		return err
	}
	_, err = tx.Exec(`UPDATE hook SET failed = $2, why = $3, given_up = given_up + $4 WHERE id = $1`,
		r.Hook[:], engine.Micros(now), truncated(r.Failure), givenUp)
	return err
}

// truncated returns the first 300 bytes of a server's answer, as valid UTF-8 without NUL, which
// PostgreSQL does not store.
func truncated(text string) string {
	const limit = 300
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}

// accountKey returns the value of the account column, which is empty for an event of a tenant.
func accountKey(u account.UID) []byte {
	if u == (account.UID{}) {
		return []byte{}
	}
	return u[:]
}

// NotificationsAdded implements hook.Queue.
func (s *Store) NotificationsAdded() <-chan struct{} { return s.added }

// signalAdded signals that this process may have inserted notifications.
func (s *Store) signalAdded() {
	select {
	case s.added <- struct{}{}:
	default:
	}
}

// A change of a tenant or of one of its accounts inserts a notification for each hook of the
// tenant. The id of the event is created before the transaction, so that a second run of the
// transaction inserts nothing new.
const (
	notificationColumns = `hook, event, account, what, tenant, host, realm, username, at, due, tries`
	ofTenantHooks       = ` (h.everyone OR EXISTS
		(SELECT 1 FROM hook_tenant ht WHERE ht.hook = h.id AND ht.tenant = t.id))`
)

// wants returns the condition that the hook h is notified of an event.
func wants(what hook.EventType) string {
	condition := `' ' || h.events || ' ' LIKE '% ` + string(what) + ` %'`
	if slices.Contains(hook.PhoneEvents, what) {
		condition = `(h.events = '' OR ` + condition + `)`
	}
	return condition
}

// insertTenantNotifications inserts the notifications of a change of a tenant.
func insertTenantNotifications(
	tx engine.Tx, what hook.EventType, event account.UID, tenant int64, now time.Time,
) error {
	_, err := tx.Exec(`INSERT INTO notice (`+notificationColumns+`)
		SELECT h.id, $1, $2, $3, t.id, t.host, t.realm, '', $4, 0, 0
		FROM hook h JOIN tenant t ON t.id = $5
		WHERE `+wants(what)+` AND`+ofTenantHooks+` ON CONFLICT DO NOTHING`,
		event[:], []byte{}, string(what), engine.Micros(now), tenant)
	return err
}

// insertAccountNotifications inserts the notifications of changes of an account. event is the id of the first one.
func insertAccountNotifications(
	tx engine.Tx, event account.UID, uid []byte, now time.Time, changes ...hook.EventType,
) error {
	for i, what := range changes {
		id := event
		id[len(id)-1] ^= byte(i)
		if err := insertNotifications(tx, `a.uid = $4`, what, id, now, uid); err != nil {
			return err
		}
	}
	return nil
}

// changesOf returns the events for the differences between two states of an account.
func changesOf(was, a account.Account) (list []hook.EventType) {
	if was.Pending() && !a.Pending() {
		list = append(list, hook.AccountActivated)
	}
	if was.Confirmed.IsZero() && !a.Confirmed.IsZero() {
		list = append(list, hook.AccountConfirmed)
	}
	if was.Held && !a.Held {
		list = append(list, hook.AccountEnabled)
	}
	if was.Email != a.Email {
		list = append(list, hook.AccountEmail)
	}
	if was.Name != a.Name || was.Lang != a.Lang {
		list = append(list, hook.AccountProfile)
	}
	return list
}

// insertRemovalNotifications inserts the notifications that the accounts of a tenant are deleted.
func insertRemovalNotifications(tx engine.Tx, event account.UID, tenant int64, now time.Time) error {
	return insertNotifications(tx, `a.tenant = $4 AND a.closed IS NULL`, hook.AccountDeleted, event, now,
		tenant)
}

// insertNotifications inserts the notifications of the accounts that meet a condition on the
// account a. $4 in the condition is arg. Phone servers do not know accounts that were not
// activated.
func insertNotifications(
	tx engine.Tx, condition string, what hook.EventType, event account.UID, now time.Time, arg any,
) error {
	_, err := tx.Exec(`INSERT INTO notice (`+notificationColumns+`)
		SELECT h.id, $1, a.uid, $2, t.id, t.host, t.realm, a.username, $3, 0, 0
		FROM account a JOIN tenant t ON t.id = a.tenant
		JOIN hook h ON (a.activated IS NOT NULL OR h.events <> '') AND `+wants(what)+` AND`+ofTenantHooks+`
		WHERE `+condition+` ON CONFLICT DO NOTHING`,
		event[:], string(what), engine.Micros(now), arg)
	return err
}

// hasCreatedHooks reports whether a hook is notified of new accounts.
func (s *Store) hasCreatedHooks(ctx context.Context) (bool, error) {
	n, err := engine.Count(s.engine.Reads(ctx),
		`SELECT count(*) FROM (SELECT 1 FROM hook h WHERE `+wants(hook.AccountCreated)+` LIMIT 1) x`)
	return n > 0, err
}

// insertCreated inserts the notifications that an account was created, if the condition selects the
// entry o of its first message. $1 in the condition is the UID, and args start at $2. The UID is
// also the id of the event, so that a second attempt inserts nothing new.
func insertCreated(tx engine.Tx, uid account.UID, condition string, args ...any) error {
	_, err := tx.Exec(`INSERT INTO notice (`+notificationColumns+`)
		SELECT h.id, a.uid, a.uid, '`+string(hook.AccountCreated)+`', t.id, t.host, t.realm, a.username, a.created, 0, 0
		FROM outbox o JOIN account a ON a.uid = o.account JOIN tenant t ON t.id = a.tenant
		JOIN hook h ON `+wants(hook.AccountCreated)+` AND`+ofTenantHooks+`
		WHERE o.account = $1 AND o.kind = '' AND o.made = 0`+condition+` ON CONFLICT DO NOTHING`,
		append([]any{uid[:]}, args...)...)
	return err
}
