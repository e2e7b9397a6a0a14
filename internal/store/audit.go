package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
)

var _ audit.Trail = (*Store)(nil)

// trailLock is the key of the lock under which changes are added to the trail. With it, they are
// committed in the order of their ids. A transaction takes it after its other locks, except that of
// the exported tables.
var trailLock = admission.Key("audit", 0, nil)

// trailEntry is a change that a transaction adds to the trail. It is made before the transaction, so
// that all runs of it add the same row.
type trailEntry struct {
	audit.Change
	event  [16]byte
	tenant int64 // the tenant, if Tenant is empty
}

// entry returns an entry with the cause in a context.
func entry(ctx context.Context, action audit.Action, now time.Time) *trailEntry {
	e := &trailEntry{Change: audit.Change{At: now, Action: action, Outcome: audit.OK, Cause: audit.CauseOf(ctx)}}
	rand.Read(e.event[:])
	return e
}

// of sets the account that was changed.
func (e *trailEntry) of(a account.Account) *trailEntry {
	e.tenant, e.Account, e.User = a.Tenant, a.UID.String(), a.User
	return e
}

// added reports whether the entry is in the trail.
func (e *trailEntry) added(q engine.Querier) (bool, error) {
	n, err := engine.Count(q, `SELECT count(*) FROM audit WHERE event = $1`, e.event[:])
	return n > 0, err
}

// about sets what was changed.
func (e *trailEntry) about(subject string) *trailEntry {
	e.Subject = subject
	return e
}

// values sets the value before and after the change.
func (e *trailEntry) values(before, after string) *trailEntry {
	e.Before, e.After = before, after
	return e
}

// add adds the entry to the trail.
func (e *trailEntry) add(tx engine.Tx) error {
	if err := tx.Lock(trailLock); err != nil {
		return err
	}
	if e.Tenant == "" && e.tenant != 0 {
		if err := tx.Row(`SELECT host FROM tenant WHERE id = $1`, e.tenant).Scan(&e.Tenant); err != nil {
			return err
		}
	}
	_, err := tx.Exec(`INSERT INTO audit (event, at, action, outcome, tenant, account, username, subject, before,
			after, actor_kind, actor, actor_id, sudo_user, reason, net, request)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
		ON CONFLICT (event) DO NOTHING`,
		e.event[:], engine.Micros(e.At), string(e.Action), e.Outcome, e.Tenant, e.Account, e.User, e.Subject,
		e.Before, e.After, string(e.Actor.Kind), e.Actor.Name, e.Actor.ID, e.Actor.Sudo, e.Reason, e.Net,
		e.Request)
	return err
}

// clearPersonal clears what changes of the accounts that have had a user name say of the person, or of all accounts of
// a tenant if it is empty: the masked addresses of password.not-me, and the names that people gave their passkeys,
// which earlier versions stored as subjects.
func clearPersonal(tx engine.Tx, tenant int64, user string) error {
	const of = ` WHERE tenant = (SELECT host FROM tenant WHERE id = $1) AND (username = $2 OR $2 = '')`
	if _, err := tx.Exec(`UPDATE audit SET before = '', after = ''`+of+` AND action = $3 AND before <> ''`,
		tenant, user, string(audit.PasswordNotMe)); err != nil {
		return err
	}
	_, err := tx.Exec(`UPDATE audit SET subject = ''`+of+` AND action IN ($3, $4, $5) AND subject <> ''`,
		tenant, user, string(audit.PasskeyAdd), string(audit.PasskeyRename), string(audit.PasskeyRemove))
	return err
}

// AddChange implements audit.Trail.
func (s *Store) AddChange(ctx context.Context, c audit.Change) error {
	e := entry(ctx, c.Action, c.At)
	c.Cause = e.Cause
	e.Change = c
	return s.engine.Write(e.add)
}

// Changes implements audit.Trail.
func (s *Store) Changes(ctx context.Context, f audit.Filter, each func(audit.Change) error) error {
	where, args := []string{`id > $1`}, []any{f.AfterID}
	also := func(condition string, value any) {
		args = append(args, value)
		where = append(where, fmt.Sprintf(condition, len(args)))
	}
	if !f.Since.IsZero() {
		also(`at >= $%d`, engine.Micros(f.Since))
	}
	if f.Tenant != "" {
		also(`tenant = $%d`, f.Tenant)
	}
	if f.User != "" {
		also(`username = $%d`, f.User)
	}
	return s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		c, err := scanChange(row)
		if err != nil {
			return err
		}
		return each(c)
	}, `SELECT `+changeColumns+` FROM audit WHERE `+strings.Join(where, ` AND `)+` ORDER BY id`, args...)
}

const changeColumns = `id, at, action, outcome, tenant, account, username, subject, before, after, actor_kind, actor,
	actor_id, sudo_user, reason, net, request`

// scanChange reads changeColumns.
func scanChange(row engine.Scanner) (c audit.Change, err error) {
	var at int64
	var action, kind string
	err = row.Scan(&c.ID, &at, &action, &c.Outcome, &c.Tenant, &c.Account, &c.User, &c.Subject, &c.Before,
		&c.After, &kind, &c.Actor.Name, &c.Actor.ID, &c.Actor.Sudo, &c.Reason, &c.Net, &c.Request)
	c.At, c.Action, c.Actor.Kind = engine.FromMicros(at), audit.Action(action), audit.ActorKind(kind)
	return c, err
}

// recentChanges is how many changes LastChange looks at: all may be many.
const recentChanges = 100_000

// LastChange implements audit.Trail.
func (s *Store) LastChange(ctx context.Context, actions ...audit.Action) (id int64, found bool, err error) {
	args := []any{recentChanges}
	for _, action := range actions {
		args = append(args, string(action))
	}
	err = s.engine.Reads(ctx).Row(`SELECT COALESCE((SELECT max(id) FROM audit), 0), EXISTS (SELECT 1 FROM
		(SELECT action FROM audit ORDER BY id DESC LIMIT $1) recent
		WHERE action IN (`+engine.Placeholders(2, len(actions))+`))`, args...).Scan(&id, &found)
	return id, found, err
}

// RemoveChanges implements audit.Trail.
func (s *Store) RemoveChanges(_ context.Context, before time.Time, limit int) (n int64, err error) {
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		n, err = tx.Exec(`DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)`,
			engine.Micros(before), limit)
		return err
	})
	return n, err
}
