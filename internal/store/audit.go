package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
)

var _ audit.CheckpointStore = (*Store)(nil)

// trailLock is the key of the lock under which changes are added to the trail. It ensures that they
// are committed in the order of their ids. A transaction takes it after its other locks, except
// that of the exported tables.
var trailLock = admission.Key("audit", 0, nil)

// trailEntry is a change that a transaction adds to the trail. It is created before the
// transaction, so that every run of the transaction adds the same row.
type trailEntry struct {
	audit.Change
	event  [16]byte
	tenant int64        // the tenant, if Tenant is empty
	mark   *atomic.Bool // audit.MarkOf
}

// entry returns an entry with the cause in a context.
func entry(ctx context.Context, action audit.Action, now time.Time) *trailEntry {
	e := &trailEntry{
		Change: audit.Change{At: now, Action: action, Outcome: audit.OK, Cause: audit.CauseOf(ctx)},
		mark:   audit.MarkOf(ctx),
	}
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
	return e.insert(tx)
}

// insert is add in a transaction that holds trailLock.
func (e *trailEntry) insert(tx engine.Tx) error {
	if e.Tenant == "" && e.tenant != 0 {
		if err := tx.Row(`SELECT host FROM tenant WHERE id = $1`, e.tenant).Scan(&e.Tenant); err != nil {
			return err
		}
	}
	e.Subject, e.Before, e.After = audit.Cut(e.Subject), audit.Cut(e.Before), audit.Cut(e.After)
	_, err := tx.Exec(`INSERT INTO audit (event, at, action, outcome, tenant, account, username, subject, before,
			after, actor_kind, actor, actor_id, sudo_user, reason, net, request)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
		ON CONFLICT (event) DO NOTHING`,
		e.event[:], engine.Micros(e.At), string(e.Action), e.Outcome, e.Tenant, e.Account, e.User, e.Subject,
		e.Before, e.After, string(e.Actor.Kind), e.Actor.Name, e.Actor.ID, e.Actor.Sudo, e.Reason, e.Net,
		e.Request)
	if err == nil && e.mark != nil {
		e.mark.Store(true)
	}
	return err
}

// clearPersonal removes personal data from the changes of all accounts that have had a user name,
// or of all accounts of a tenant if user is empty: the masked addresses of password.not-me, and the
// names that people gave their passkeys, which earlier versions stored as subjects. It reduces the
// full IP addresses of people's requests to their networks.
func clearPersonal(tx engine.Tx, tenant int64, user string) error {
	const of = ` WHERE tenant = (SELECT host FROM tenant WHERE id = $1) AND (username = $2 OR $2 = '')`
	if _, err := tx.Exec(`UPDATE audit SET before = '', after = ''`+of+` AND action = $3 AND before <> ''`,
		tenant, user, string(audit.PasswordNotMe)); err != nil {
		return err
	}
	_, err := tx.Exec(`UPDATE audit SET subject = ''`+of+` AND action IN ($3, $4, $5) AND subject <> ''`,
		tenant, user, string(audit.PasskeyAdd), string(audit.PasskeyRename), string(audit.PasskeyRemove))
	if err != nil {
		return err
	}
	type from struct {
		id  int64
		net string
	}
	var whole []from
	err = tx.Each(func(row engine.Scanner) error {
		var f from
		err := row.Scan(&f.id, &f.net)
		whole = append(whole, f)
		return err
	}, `SELECT id, net FROM audit`+of+` AND actor_kind = $3 AND net <> '' AND net NOT LIKE '%/%'`,
		tenant, user, string(audit.Person))
	for _, f := range whole {
		if err == nil {
			_, err = tx.Exec(`UPDATE audit SET net = $2 WHERE id = $1`, f.id, audit.NetworkOf(f.net))
		}
	}
	return err
}

// AddChange implements audit.Trail.
func (s *Store) AddChange(ctx context.Context, c audit.Change) error {
	e := entry(ctx, c.Action, c.At)
	c.Cause = e.Cause
	e.Change = c
	return s.engine.Write(e.add)
}

// The limits of ChangePage.
const (
	// changeScan is how many changes are examined for one page.
	changeScan = 5000
	// clockError is how far the times of changes may differ from their order.
	clockError = 24 * time.Hour
)

// Changes implements audit.Trail. It reads in pieces, so that no statement takes long.
func (s *Store) Changes(ctx context.Context, f audit.Filter, each func(audit.Change) error) error {
	const piece = 1000
	for next := ""; ; {
		p, err := s.ChangePage(ctx, f, next, piece)
		if err != nil {
			return err
		}
		for _, c := range p.Changes {
			if err := each(c); err != nil {
				return err
			}
		}
		if next = p.Next; next == "" {
			return nil
		}
	}
}

// ChangePage implements audit.Trail.
func (s *Store) ChangePage(ctx context.Context, f audit.Filter, next string, limit int) (p audit.Page, err error) {
	q := s.engine.Reads(ctx)
	after, before, err := changeBounds(q, f)
	if err != nil {
		return p, err
	}
	if next != "" {
		id, err := strconv.ParseInt(next, 10, 64)
		if err != nil || id < 0 {
			return p, fault.Field("cursor", "this is not a cursor of this list; begin with the first page")
		}
		if f.Newest {
			before = min(before, id)
		} else {
			after = max(after, id)
		}
	}
	scan := changeScan
	if f.Since.IsZero() && f.Before.IsZero() && f.Action == "" && f.ActorKind == "" && !f.Net.IsValid() && !f.NoBulk &&
		f.Bulk == "" &&
		(f.User == "" || f.Tenant != "") { // the statement selects what the filter does
		scan = min(scan, limit+1)
	}
	order, args := `ASC`, []any{after, before, scan}
	if f.Newest {
		order = `DESC`
	}
	where := ``
	also := func(condition, value string) {
		args = append(args, value)
		where += fmt.Sprintf(condition, len(args))
	}
	if f.Tenant != "" {
		also(` AND tenant = $%d`, f.Tenant)
		if f.User != "" {
			also(` AND username = $%d`, f.User)
		}
	}
	if f.Actor != "" {
		also(` AND actor <> '' AND actor = $%d`, f.Actor) // <> is the condition of the index
	}
	scanned, last := 0, int64(0)
	err = q.Each(func(row engine.Scanner) error {
		c, err := scanChange(row)
		if err != nil {
			return err
		}
		if scanned++; !f.Matches(c) {
			last = c.ID
			return nil
		}
		if len(p.Changes) == limit {
			return errPageFull
		}
		last = c.ID
		p.Changes = append(p.Changes, c)
		return nil
	}, `SELECT `+changeColumns+` FROM audit WHERE id > $1 AND id < $2`+where+` ORDER BY id `+order+` LIMIT $3`, args...)
	if errors.Is(err, errPageFull) || err == nil && scanned == scan {
		p.Next, err = strconv.FormatInt(last, 10), nil
	}
	return p, err
}

var errPageFull = errors.New("the page is full")

// changeBounds returns two IDs. All changes that a filter selects lie between them.
func changeBounds(q engine.Querier, f audit.Filter) (after, before int64, err error) {
	after, before = f.AfterID, math.MaxInt64
	if !f.Since.IsZero() {
		id, err := engine.Count(q, `SELECT COALESCE((SELECT id FROM audit WHERE at < $1 ORDER BY at DESC LIMIT 1), 0)`,
			engine.Micros(f.Since.Add(-clockError)))
		if err != nil {
			return 0, 0, err
		}
		after = max(after, id)
	}
	if !f.Before.IsZero() {
		id, err := engine.Count(q, `SELECT COALESCE((SELECT id FROM audit WHERE at >= $1 ORDER BY at LIMIT 1), 0)`,
			engine.Micros(f.Before.Add(clockError)))
		if err != nil {
			return 0, 0, err
		}
		if id > 0 {
			before = id
		}
	}
	return after, before, nil
}

const changeColumns = `id, at, action, outcome, tenant, account, username, subject, before, after, actor_kind, actor,
	actor_id, sudo_user, reason, net, request`

// scanChange scans a row with changeColumns.
func scanChange(row engine.Scanner) (c audit.Change, err error) {
	var at int64
	var action, kind string
	err = row.Scan(&c.ID, &at, &action, &c.Outcome, &c.Tenant, &c.Account, &c.User, &c.Subject, &c.Before, &c.After,
		&kind, &c.Actor.Name, &c.Actor.ID, &c.Actor.Sudo, &c.Reason, &c.Net, &c.Request)
	if err != nil {
		// SQLite accepts values of any type, so the row may hold one that does not fit.
		c = audit.Change{Action: audit.Unreadable}
		var rest [16]any
		targets := []any{&c.ID}
		for i := range rest {
			targets = append(targets, &rest[i])
		}
		return c, row.Scan(targets...)
	}
	c.At, c.Action, c.Actor.Kind = engine.FromMicros(at), audit.Action(action), audit.ActorKind(kind)
	return c, nil
}

// recentChanges is how many changes LastChange examines, since the trail may be long.
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

// stateName names the row of platform that holds the state of the checkpoints.
const stateName = "audit.state"

// checkpointLock is the key of the lock under which checkpoints are written.
var checkpointLock = admission.Key("audit checkpoint", 0, nil)

// CheckpointState implements audit.CheckpointStore.
func (s *Store) CheckpointState(ctx context.Context) (string, error) {
	return checkpointState(s.engine.Reads(ctx))
}

func checkpointState(q engine.Querier) (text string, err error) {
	err = q.Each(func(row engine.Scanner) error {
		if row.Scan(&text) != nil { // see scanChange; this is no state
			text = "unreadable"
		}
		return nil
	}, `SELECT value FROM platform WHERE name = $1`, stateName)
	return text, err
}

// gapsSubject names the row of revision that holds audit.Numbers.Gaps.
const gapsSubject = "audit gaps"

// Numbers returns what is known of the IDs of changes, or nil if the engine skips IDs, as
// PostgreSQL does when a transaction fails.
func (s *Store) Numbers(ctx context.Context) (*audit.Numbers, error) {
	e, ok := s.engine.(engine.Counter)
	if !ok {
		return nil, nil
	}
	q := s.engine.Reads(ctx)
	last, err := e.LastID(q, "audit")
	if err != nil {
		return nil, err
	}
	gaps, err := AuditGaps(q)
	return &audit.Numbers{Last: last, Gaps: gaps}, err
}

// AuditGaps returns the ID up to which the trail may have gaps, because it was copied from an
// engine that skips IDs.
func AuditGaps(q engine.Querier) (int64, error) {
	return engine.Count(q, `SELECT COALESCE(max(n), 0) FROM revision WHERE subject = $1`, gapsSubject)
}

// SetAuditGaps sets what AuditGaps returns.
func SetAuditGaps(tx engine.Tx, id int64) error {
	_, err := tx.Exec(`INSERT INTO revision (subject, n) VALUES ($1, $2)
		ON CONFLICT (subject) DO UPDATE SET n = EXCLUDED.n`, gapsSubject, id)
	return err
}

// Checkpoint implements audit.CheckpointStore.
func (s *Store) Checkpoint(ctx context.Context, id int64) (c audit.Checkpoint, err error) {
	var at int64
	found := false
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		found = true
		err := row.Scan(&c.ID, &at, &c.Node, &c.First, &c.Through, &c.Changes, &c.Tags, &c.Seal, &c.MAC)
		if err != nil { // see scanChange; no signature covers this
			c, at = audit.Checkpoint{ID: id}, 0
		}
		return nil
	}, `SELECT id, at, node, first, through, changes, tags, seal, mac FROM audit_checkpoint WHERE id = $1`, id)
	c.At = engine.FromMicros(at)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "there is no checkpoint %d", id)
	}
	return c, err
}

// CheckpointBounds implements audit.CheckpointStore.
func (s *Store) CheckpointBounds(ctx context.Context) (lowest, highest int64, err error) {
	err = s.engine.Reads(ctx).Row(`SELECT COALESCE((SELECT min(id) FROM audit_checkpoint), 0),
		COALESCE((SELECT max(id) FROM audit_checkpoint), 0)`).Scan(&lowest, &highest)
	return lowest, highest, err
}

// replaceState runs do and replaces the state of the checkpoints, if the state is still was. It
// reports whether it did.
func (s *Store) replaceState(was, state string, do func(engine.Tx) error) (done bool, err error) {
	err = s.engine.Write(func(tx engine.Tx) error {
		if err := tx.Lock(checkpointLock); err != nil {
			return err
		}
		now, err := checkpointState(tx)
		if err != nil {
			return err
		}
		if done = now == was; !done {
			done = tx.Repeated() && now == state
			return nil
		}
		if err := do(tx); err != nil {
			return err
		}
		return setTrailState(tx, state)
	})
	return done, err
}

func setTrailState(tx engine.Tx, state string) error {
	_, err := tx.Exec(`INSERT INTO platform (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value`, stateName, state)
	return err
}

// AddCheckpoint implements audit.CheckpointStore.
func (s *Store) AddCheckpoint(_ context.Context, was string, c *audit.Checkpoint, state string) (bool, error) {
	return s.replaceState(was, state, func(tx engine.Tx) error {
		if c == nil {
			return nil
		}
		// A row with this ID does not belong there.
		if _, err := tx.Exec(`DELETE FROM audit_checkpoint WHERE id = $1`, c.ID); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO audit_checkpoint (id, at, node, first, through, changes, tags, seal, mac)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			c.ID, engine.Micros(c.At), c.Node, c.First, c.Through, c.Changes, c.Tags, c.Seal, c.MAC)
		return err
	})
}

// RemoveChanges implements audit.CheckpointStore.
func (s *Store) RemoveChanges(_ context.Context, was string, through, checkpoint int64, state string) (bool, error) {
	return s.replaceState(was, state, func(tx engine.Tx) error {
		if _, err := tx.Exec(`DELETE FROM audit_checkpoint WHERE id <= $1`, checkpoint); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM audit WHERE id <= $1`, through)
		return err
	})
}

// RestartCheckpoints implements audit.CheckpointStore.
func (s *Store) RestartCheckpoints(ctx context.Context, c audit.Change, state string) error {
	e := entry(ctx, c.Action, c.At)
	return s.engine.Write(func(tx engine.Tx) error {
		if err := tx.Lock(checkpointLock); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM audit_checkpoint`); err != nil {
			return err
		}
		if err := setTrailState(tx, state); err != nil {
			return err
		}
		return e.add(tx)
	})
}
