package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/hook"
	"dialtone/internal/store/engine"
)

// Facts describes a store for its backup.
type Facts struct {
	Schema            int64
	Tenants, Accounts int64
	// LastChange is the ID of the newest change in the audit trail, or 0, and LastChangeAt its time.
	LastChange   int64
	LastChangeAt time.Time
	// NewestAccount is when the newest account was created, or zero.
	NewestAccount time.Time
}

// Facts returns the facts of the store.
func (s *Store) Facts(ctx context.Context) (Facts, error) { return FactsOf(s.engine.Reads(ctx)) }

// FactsOf returns the facts of a database, which may be a copy.
func FactsOf(q engine.Querier) (f Facts, err error) {
	var at, newest int64
	err = q.Row(`SELECT (SELECT max(version) FROM schema_version), (SELECT count(*) FROM tenant),
		(SELECT count(*) FROM account WHERE closed IS NULL),
		COALESCE((SELECT id FROM audit ORDER BY id DESC LIMIT 1), 0),
		COALESCE((SELECT at FROM audit ORDER BY id DESC LIMIT 1), 0),
		COALESCE((SELECT max(created) FROM account), 0)`).
		Scan(&f.Schema, &f.Tenants, &f.Accounts, &f.LastChange, &at, &newest)
	if at != 0 {
		f.LastChangeAt = engine.FromMicros(at)
	}
	if newest != 0 {
		f.NewestAccount = engine.FromMicros(newest)
	}
	return f, err
}

// EpochStep is how much BeginEpoch adds to the epoch of each account. No account ends its sessions
// that often after a backup, so nothing that was issued after the backup belongs to the new epoch.
const EpochStep = 1 << 20

// tenantGap is the gap that BeginEpoch leaves in the IDs of tenants. The IDs after the backup were
// assigned before, and the ID of a tenant is never assigned twice. The IDs of changes continue
// without a gap, which would look as if changes had been removed.
const tenantGap = 1_000

// withdrawn is the answer of a message whose link ended with a restore.
const withdrawn = "not sent: the platform was restored from a backup, which ended the link in the message"

// NewEpoch reports what Store.BeginEpoch did.
type NewEpoch struct {
	// Waiting is how many accounts wait for their activation, and Withdrawn how many messages will
	// not be sent.
	Waiting, Withdrawn int64
	// Notifications is how many notifications hooks get.
	Notifications int64
}

// BeginEpoch invalidates everything that was issued before the database was restored: sessions,
// tickets with an epoch, and links. It withdraws the messages that were not sent, since the links
// in them have ended. A waiting account gets a hash that no link has. Phone servers are notified of
// every account and tenant, and the next server fills exported tables in a file again. subject,
// before and after are those of the change in the audit trail. BeginEpoch can be called again, for
// example after a crash. No server may run during the call.
func (s *Store) BeginEpoch(ctx context.Context, subject, before, after string, now time.Time) (n NewEpoch, err error) {
	e := entry(ctx, audit.Restore, now).about(subject).values(before, after)
	event := account.NewUID(now)
	exportID := make([]byte, 16)
	rand.Read(exportID)
	err = s.engine.Write(func(tx engine.Tx) error {
		n = NewEpoch{}
		if err := endLinks(tx, &n); err != nil {
			return err
		}
		if err := withdrawMessages(tx, &n, now); err != nil {
			return err
		}
		for _, statement := range []string{
			`DELETE FROM session`, `DELETE FROM link`, `DELETE FROM replaced`, `DELETE FROM forgotten`,
			`UPDATE revision SET n = n + 1 WHERE subject IN ('tenant', 'phone')`,
		} {
			if _, err := tx.Exec(statement); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`UPDATE account SET epoch = epoch + $1`, EpochStep); err != nil {
			return err
		}
		// Exported tables in a file have the id of their enabling; with another id they are filled
		// again. On PostgreSQL they are in the database.
		if _, file := s.engine.(engine.Backuper); file {
			if _, err := tx.Exec(`UPDATE export SET id = $1`, exportID); err != nil {
				return err
			}
		}
		if err := notifyAll(tx, event, now); err != nil {
			return err
		}
		if err := s.skipIDs(tx); err != nil {
			return err
		}
		n.Notifications, err = engine.Count(tx, `SELECT count(*) FROM notice WHERE event = $1`, event[:])
		if err != nil {
			return err
		}
		return e.add(tx)
	})
	s.signalAdded()
	return n, err
}

// skipIDs leaves a gap in the IDs of tenants.
func (s *Store) skipIDs(tx engine.Tx) error {
	c, ok := s.engine.(engine.Copier)
	if !ok {
		return nil
	}
	last, err := c.LastID(tx, "tenant")
	if err != nil {
		return err
	}
	return c.SetLastID(tx, "tenant", last+tenantGap)
}

// endLinks ends the activation links.
func endLinks(tx engine.Tx, n *NewEpoch) error {
	_, err := tx.Exec(`UPDATE account SET token = NULL WHERE token IS NOT NULL AND activated IS NOT NULL`)
	if err != nil {
		return err
	}
	var waiting [][]byte
	err = tx.Each(func(row engine.Scanner) error {
		var uid []byte
		err := row.Scan(&uid)
		waiting = append(waiting, uid)
		return err
	}, `SELECT uid FROM account WHERE activated IS NULL AND closed IS NULL ORDER BY uid`)
	for _, uid := range waiting {
		if err != nil {
			return err
		}
		var secret [32]byte
		rand.Read(secret[:])
		hash := sha256.Sum256(secret[:])
		_, err = tx.Exec(`UPDATE account SET token = $2 WHERE uid = $1`, uid, hash[:])
	}
	n.Waiting = int64(len(waiting))
	return err
}

// withdrawMessages discards the messages that were not sent. Those that have failed stay failed.
func withdrawMessages(tx engine.Tx, n *NewEpoch, now time.Time) error {
	count := func(changed int64, err error) error {
		n.Withdrawn += changed
		return err
	}
	err := count(tx.Exec(`UPDATE delivery SET state = $1, due = NULL, answer = $2 WHERE state IN ($3, $4)`,
		string(delivery.Discarded), withdrawn, string(delivery.Waiting), string(delivery.Deferred)))
	if err != nil {
		return err
	}
	err = count(tx.Exec(`INSERT INTO delivery (message, account, node, state, since, expires, due, attempts, answer,
			email)
		SELECT o.message, o.account, o.node, CAST($1 AS TEXT), CAST($2 AS BIGINT),
			COALESCE(NULLIF(o.until, 0), a.expires), NULL, 0, CAST($3 AS TEXT), COALESCE(NULLIF(o.address, ''), a.email)
		FROM outbox o JOIN account a ON a.uid = o.account WHERE true
		ON CONFLICT (message) DO NOTHING`, string(delivery.Discarded), engine.Micros(now), withdrawn))
	if err != nil {
		return err
	}
	_, err = tx.Exec(`DELETE FROM outbox`)
	return err
}

// notifyAll notifies hooks of all accounts and tenants that phone servers may hold.
func notifyAll(tx engine.Tx, event account.UID, now time.Time) error {
	_, err := tx.Exec(`INSERT INTO notice (`+notificationColumns+`)
		SELECT h.id, $1, $2, $3, t.id, t.host, t.realm, '', $4, 0, 0
		FROM hook h JOIN tenant t ON `+wants(hook.TenantChanged)+` AND`+ofTenantHooks+` WHERE true
		ON CONFLICT DO NOTHING`,
		event[:], []byte{}, string(hook.TenantChanged), engine.Micros(now))
	// A phone server that holds an active account drops its credential, and keeps the phone registered.
	const any = ` AND a.tenant <> $4`
	for condition, what := range map[string]hook.EventType{
		`a.closed IS NULL AND NOT a.held` + any: hook.AccountRole,
		`a.closed IS NULL AND a.held` + any:     hook.AccountDisabled,
		`a.closed IS NOT NULL` + any:            hook.AccountDeleted,
	} {
		if err == nil {
			err = insertNotifications(tx, condition, what, event, now, int64(0))
		}
	}
	return err
}

// AccountsAfter returns how many accounts were created after a time, in a database like that of ChangesAfter.
func AccountsAfter(q engine.Querier, after time.Time) (n int64, err error) {
	created := int64(0)
	if !after.IsZero() {
		created = engine.Micros(after)
	}
	err = q.Row(`SELECT count(*) FROM account WHERE closed IS NULL AND created > $1`, created).Scan(&n)
	return n, err
}

// ChangesAfter calls f for each change with an ID greater than after. The database may be a copy,
// of an earlier version, or damaged. ChangesAfter fails at the first change that it cannot read.
func ChangesAfter(q engine.Querier, after int64, f func(audit.Change) error) error {
	return q.Each(func(row engine.Scanner) error {
		var c audit.Change
		var at int64
		var action, kind string
		if err := row.Scan(&c.ID, &at, &action, &c.Outcome, &c.Tenant, &c.Account, &c.User, &c.Subject, &c.Before,
			&c.After, &kind, &c.Actor.Name, &c.Reason); err != nil {
			return err
		}
		c.At, c.Action, c.Actor.Kind = engine.FromMicros(at), audit.Action(action), audit.ActorKind(kind)
		return f(c)
	}, `SELECT id, at, action, outcome, tenant, account, username, subject, before, after, actor_kind, actor, reason
		FROM audit WHERE id > $1 ORDER BY id`, after)
}
