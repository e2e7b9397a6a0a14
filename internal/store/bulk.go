package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/operator"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
)

var _ operator.BulkStore = (*Store)(nil)

const bulkColumns = `id, tenant, action, query, through, state, position, found, done, made, changed, lease, actor_kind,
	actor, actor_id, sudo_user, reason, net, request, failure`

// scanBulk reads bulkColumns. It fails for a query that only a newer program understands.
func scanBulk(row engine.Scanner) (b operator.Bulk, err error) {
	var id, through, position []byte
	var query, action, state, kind string
	var made, changed, lease int64
	err = row.Scan(&id, &b.Tenant, &action, &query, &through, &state, &position, &b.Found, &b.Done, &made, &changed,
		&lease, &kind, &b.Cause.Actor.Name, &b.Cause.Actor.ID, &b.Cause.Actor.Sudo, &b.Cause.Reason,
		&b.Cause.Net, &b.Cause.Request, &b.Failure)
	if errors.Is(err, sql.ErrNoRows) {
		return b, operator.ErrNoBulk
	}
	if err != nil {
		return b, err
	}
	b.Action, b.State = operator.BulkAction(action), operator.BulkState(state)
	b.Cause.Actor.Kind = audit.ActorKind(kind)
	copy(b.ID[:], id)
	copy(b.Through[:], through)
	copy(b.Position[:], position)
	b.Made, b.Changed, b.Lease = engine.FromMicros(made), engine.FromMicros(changed), engine.FromMicros(lease)
	in := json.NewDecoder(bytes.NewReader([]byte(query)))
	in.DisallowUnknownFields() // without an unknown condition the query would select more accounts
	if err := in.Decode(&b.Query); err != nil {
		return b, fmt.Errorf("the query of bulk change %s: %w", b.ID, err)
	}
	return b, nil
}

// AddBulk implements operator.BulkStore.
func (s *Store) AddBulk(_ context.Context, b operator.Bulk) error {
	query, err := json.Marshal(b.Query)
	if err != nil {
		return err
	}
	actor := b.Cause.Actor
	return s.engine.Write(func(tx engine.Tx) error {
		day := b.Made.Add(-operator.BulkUnrunKept)
		// Each subquery reads few rows: the first one those of a day, the second one those in
		// progress, of all tenants. The + keeps the second one from reading every row that the
		// tenant has ever had.
		n, err := engine.Count(tx, `SELECT
			(SELECT count(*) FROM bulk WHERE tenant = $1 AND made > $2 AND id <> $3
				AND (state IN ('counting', 'running') OR state = 'ready' AND changed >= $4)) +
			(SELECT count(*) FROM bulk WHERE state IN ('counting', 'running') AND made <= $2 AND +tenant = $1)`,
			b.Tenant, engine.Micros(day), b.ID[:], engine.Micros(b.Made.Add(-operator.BulkMaxAge)))
		if err != nil {
			return err
		} else if n >= operator.MaxOpenBulks {
			return operator.ErrTooManyBulks
		}
		if actor.Kind != audit.Command {
			var oldest int64
			err := tx.Row(`SELECT count(*), COALESCE(min(made), 0) FROM bulk WHERE tenant = $1 AND made > $2
				AND made <= $3 AND id <> $4 AND actor_kind = $5 AND actor_id = $6`, b.Tenant, engine.Micros(day),
				engine.Micros(b.Made.Add(maxSkew)), b.ID[:], string(actor.Kind), actor.ID).Scan(&n, &oldest)
			if err != nil {
				return err
			} else if n >= operator.MaxNewBulks {
				return operator.TooManyNewBulks(engine.FromMicros(oldest).Sub(day))
			}
		}
		_, err = tx.Exec(`INSERT INTO bulk (`+bulkColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
			$12, $13, $14, $15, $16, $17, $18, $19, $20) ON CONFLICT (id) DO NOTHING`,
			b.ID[:], b.Tenant, string(b.Action), string(query), b.Through[:], string(b.State), b.Position[:], b.Found,
			b.Done, engine.Micros(b.Made), engine.Micros(b.Changed), 0, string(actor.Kind), actor.Name, actor.ID,
			actor.Sudo, b.Cause.Reason, b.Cause.Net, b.Cause.Request, b.Failure)
		return err
	})
}

// Bulk implements operator.BulkStore.
func (s *Store) Bulk(ctx context.Context, tenant int64, id operator.BulkID) (operator.Bulk, error) {
	return bulkOf(s.engine.Reads(ctx), tenant, id)
}

func bulkOf(q engine.Querier, tenant int64, id operator.BulkID) (operator.Bulk, error) {
	return scanBulk(q.Row(`SELECT `+bulkColumns+` FROM bulk WHERE tenant = $1 AND id = $2`, tenant, id[:]))
}

// Bulks implements operator.BulkStore.
func (s *Store) Bulks(ctx context.Context, tenant int64, limit int) ([]operator.Bulk, error) {
	return listOf(s.engine.Reads(ctx), func(row engine.Scanner, b *operator.Bulk) (err error) {
		*b, err = scanBulk(row)
		return err
	}, `SELECT `+bulkColumns+` FROM bulk WHERE tenant = $1 ORDER BY made DESC, id DESC LIMIT $2`, tenant, limit)
}

// RunBulk implements operator.BulkStore.
func (s *Store) RunBulk(ctx context.Context, tenant int64, id operator.BulkID, found int64,
	since, now time.Time) (b operator.Bulk, err error) {
	e := entry(ctx, audit.AccountBulk, now)
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		b, err = scanBulk(tx.Row(`UPDATE bulk SET state = 'running', position = $6, lease = 0, changed = $5
			WHERE tenant = $1 AND id = $2 AND state = 'ready' AND found = $3 AND changed >= $4 RETURNING `+bulkColumns,
			tenant, id[:], found, engine.Micros(since), engine.Micros(now), make([]byte, len(account.UID{}))))
		if !errors.Is(err, operator.ErrNoBulk) {
			if err == nil {
				e.tenant = tenant
				err = e.about(string(b.Action)+" "+id.String()).values("", strconv.FormatInt(found, 10)).add(tx)
			}
			return err
		}
		if b, err = bulkOf(tx, tenant, id); err != nil {
			return err
		}
		switch {
		case b.State == operator.BulkCounting:
			return fault.New(fault.Conflict, "the accounts are still being counted; wait until they are")
		case b.Found != found:
			return fault.New(fault.Conflict, "%d accounts were found, and not %d; nothing was changed", b.Found, found)
		case b.State == operator.BulkRunning || b.State == operator.BulkDone:
			return nil
		case b.State == operator.BulkReady:
			return fault.New(fault.Conflict, "the accounts were counted too long ago; start another bulk change")
		}
		return fault.New(fault.Conflict, "this bulk change has ended; start another one")
	})
	return b, err
}

// CancelBulk implements operator.BulkStore.
func (s *Store) CancelBulk(ctx context.Context, tenant int64, id operator.BulkID,
	now time.Time) (b operator.Bulk, err error) {
	e := entry(ctx, audit.AccountBulk, now)
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		const cancel = `UPDATE bulk SET state = $4, changed = $3 WHERE tenant = $1 AND id = $2 AND state `
		n, err := tx.Exec(cancel+`= 'running'`, tenant, id[:], engine.Micros(now), string(operator.BulkCancelled))
		if err == nil && n == 0 {
			_, err = tx.Exec(cancel+`IN ('counting', 'ready')`, tenant, id[:], engine.Micros(now),
				string(operator.BulkUnconfirmed))
		}
		if err != nil {
			return err
		}
		if b, err = bulkOf(tx, tenant, id); err != nil || n == 0 {
			return err
		}
		return e.stopped(b).add(tx)
	})
	return b, err
}

// stopped makes e record that a running bulk change ended before its last account.
func (e *trailEntry) stopped(b operator.Bulk) *trailEntry {
	e.tenant = b.Tenant
	return e.about(string(b.Action)+" "+b.ID.String()).values(strconv.FormatInt(b.Found, 10),
		fmt.Sprintf("%s after %d", b.State, b.Done))
}

// ClaimBulk implements operator.BulkStore.
func (s *Store) ClaimBulk(ctx context.Context, after int64, now, until time.Time) (b operator.Bulk, err error) {
	// A lease that ends later than a new one was claimed while a clock was ahead.
	const due = `state IN ('counting', 'running') AND (lease <= $1 OR lease > $2)`
	bounds := []any{engine.Micros(now), engine.Micros(until.Add(maxSkew))}
	const oldest = `SELECT id FROM bulk WHERE ` + due + `
		ORDER BY CASE WHEN tenant > $3 THEN 0 ELSE 1 END, tenant, made LIMIT 1`
	// Usually there is none, and no write is needed.
	var id []byte
	err = s.engine.Reads(ctx).Row(oldest, append(bounds, after)...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return b, operator.ErrNoBulk
	}
	if err != nil {
		return b, err
	}
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		b, err = scanBulk(tx.Row(`UPDATE bulk SET lease = $3 WHERE id = $4 AND `+due+` RETURNING `+bulkColumns,
			append(bounds, engine.Micros(until), id)...))
		return err
	})
	return b, err
}

// ReleaseBulk implements operator.BulkStore.
func (s *Store) ReleaseBulk(_ context.Context, b operator.Bulk) error {
	return s.engine.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`UPDATE bulk SET lease = 0 WHERE id = $1 AND lease = $2`, b.ID[:], engine.Micros(b.Lease))
		return err
	})
}

// EndBulk implements operator.BulkStore.
func (s *Store) EndBulk(_ context.Context, b operator.Bulk, now time.Time) error {
	return s.engine.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`UPDATE bulk SET state = 'done', changed = $2 WHERE id = $1 AND state = 'running'
			AND position = through`, b.ID[:], engine.Micros(now))
		return err
	})
}

// RemoveBulks implements operator.BulkStore.
func (s *Store) RemoveBulks(_ context.Context, before, unrun time.Time) error {
	const limit = 1000 // keeps a transaction short
	for {
		var n int64
		err := s.engine.Write(func(tx engine.Tx) (err error) {
			n, err = tx.Exec(`DELETE FROM bulk WHERE id IN (SELECT id FROM bulk
				WHERE changed < $1 AND state IN ('ready', 'done', 'cancelled', 'unconfirmed', 'failed')
				OR changed < $2 AND done = 0 AND state IN ('ready', 'cancelled', 'unconfirmed', 'failed') LIMIT $3)`,
				engine.Micros(before), engine.Micros(unrun), limit)
			return err
		})
		if err != nil || n < limit {
			return err
		}
	}
}

// WorkBulk implements operator.BulkStore.
func (s *Store) WorkBulk(ctx context.Context, b operator.Bulk, limit int, now, until time.Time) (operator.Bulk, error) {
	list, position, err := s.bulkPart(ctx, b, limit, now)
	if err != nil {
		return b, err
	}
	after := b
	work := func(tx engine.Tx) ([]phonetables.Subject, error) {
		// This also locks the row, so that only one of several concurrent calls works on this part.
		n, err := tx.Exec(`UPDATE bulk SET lease = $1 WHERE id = $2 AND state = $3 AND position = $4 AND lease = $5`,
			engine.Micros(until), b.ID[:], string(b.State), b.Position[:], engine.Micros(b.Lease))
		if err != nil {
			return nil, err
		}
		if n == 0 { // others have changed it, or an earlier run of this transaction has
			after, err = bulkOf(tx, b.Tenant, b.ID)
			return nil, err
		}
		after = b
		after.Position, after.Changed = position, now
		var subjects []phonetables.Subject
		allowed, err := mayContinue(tx, b, now)
		if err != nil {
			return nil, err
		}
		if !allowed {
			after.Position, after.State, after.Failure = b.Position, operator.BulkFailed, operator.BulkNotAllowed
			if b.State == operator.BulkRunning {
				err = entry(ctx, audit.AccountBulk, now).stopped(after).add(tx)
			}
			if err != nil {
				return nil, err
			}
		} else if b.State == operator.BulkCounting {
			after.Found += int64(len(list))
			if position == b.Through {
				after.State = operator.BulkReady
			}
		} else if subjects, err = changeBulk(audit.With(ctx, b.Cause), tx, &after, list, now); err != nil {
			return nil, err
		}
		after, err = scanBulk(tx.Row(`UPDATE bulk SET state = $2, position = $3, found = $4, done = $5, changed = $6,
			failure = $7 WHERE id = $1 RETURNING `+bulkColumns,
			b.ID[:], string(after.State), after.Position[:], after.Found, after.Done, engine.Micros(now),
			after.Failure))
		return subjects, err
	}
	if b.State == operator.BulkCounting {
		return after, s.engine.Write(func(tx engine.Tx) error {
			_, err := work(tx)
			return err
		})
	}
	defer s.signalAdded()
	return after, s.tables.Write(work)
}

// mayContinue reports whether the actor that started a bulk change may still change accounts: a
// token must be neither removed nor expired, and a person must still have the role admin. The
// scopes of a token never change. A command is always allowed.
func mayContinue(tx engine.Tx, b operator.Bulk, now time.Time) (bool, error) {
	actor := b.Cause.Actor
	switch actor.Kind {
	case audit.Token:
		n, err := engine.Count(tx, `SELECT count(*) FROM api_token WHERE id = $1
			AND (expires IS NULL OR expires > $2)`, actor.ID, engine.Micros(now))
		return n > 0, err
	case audit.Admin:
		uid, err := hex.DecodeString(actor.ID)
		if err != nil {
			return false, nil
		}
		a, err := scanAccount(tx.Row(`SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND uid = $3 AND `+live,
			engine.Micros(now), b.Tenant, uid))
		if errors.Is(err, sql.ErrNoRows) || fault.Is(err, fault.NotFound) {
			return false, nil
		}
		return a.State() == account.Active && a.Role == account.Admin, err
	}
	return true, nil
}

// changeBulk changes some accounts of a bulk change, and counts them in b. It skips accounts that
// no longer belong to the bulk change, and stops when more accounts belong to it than were counted.
func changeBulk(ctx context.Context, tx engine.Tx, b *operator.Bulk, list []account.Account,
	now time.Time) (subjects []phonetables.Subject, err error) {
	locked, err := lockAccounts(tx, list, now)
	if err != nil {
		return nil, err
	}
	var host string
	if err := tx.Row(`SELECT host FROM tenant WHERE id = $1`, b.Tenant).Scan(&host); err != nil {
		return nil, err
	}
	event := account.NewUID(now)
	var entries []*trailEntry
	for _, a := range locked {
		if !b.Includes(a) {
			continue
		}
		if b.Done == b.Found {
			b.State, b.Failure = operator.BulkFailed, operator.BulkMoreFound
			break
		}
		e := entry(ctx, bulkActions[b.Action], now).about(audit.BulkSubject + b.ID.String())
		subject := []phonetables.Subject{phonetables.Account(a.UID)}
		switch was := stateOf(a); b.Action {
		case operator.BulkDisable:
			a, _, err = changeLocked(tx, a, e, hook.AccountDisabled, event, now, disable)
			e.of(a).values(was, stateOf(a))
		case operator.BulkEnable:
			a, _, err = changeLocked(tx, a, e, "", event, now, enable)
			e.of(a).values(was, stateOf(a))
		case operator.BulkDelete:
			subject, err = erase(tx, a, event, e, now)
		}
		if err != nil {
			return nil, err
		}
		e.Tenant = host
		entries, subjects = append(entries, e), append(subjects, subject...)
		b.Done++
	}
	if len(entries) == 0 {
		return nil, nil
	}
	if err := tx.Lock(trailLock); err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := e.insert(tx); err != nil {
			return nil, err
		}
	}
	return subjects, nil
}

// bulkActions maps bulk actions to the actions in the audit trail.
var bulkActions = map[operator.BulkAction]audit.Action{
	operator.BulkDisable: audit.AccountDisable,
	operator.BulkEnable:  audit.AccountEnable,
	operator.BulkDelete:  audit.AccountDelete,
}

// lockAccounts locks those of the accounts that are still live until the transaction ends, and
// returns their current state, ordered by UID.
func lockAccounts(tx engine.Tx, list []account.Account, now time.Time) (locked []account.Account, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	args := []any{engine.Micros(now)}
	for _, a := range list {
		args = append(args, a.UID[:])
	}
	err = tx.Each(func(row engine.Scanner) error {
		a, err := scanAccount(row)
		locked = append(locked, a)
		return err
	}, `UPDATE account SET held = held WHERE uid IN (`+engine.Placeholders(2, len(list))+`) AND `+live+`
		RETURNING `+accountColumns, args...)
	slices.SortFunc(locked, func(a, b account.Account) int { return bytes.Compare(a.UID[:], b.UID[:]) })
	return locked, err
}

const (
	// bulkScan is how many accounts of all tenants one statement examines, and bulkScanTime about
	// how long finding a part may take.
	bulkScan     = 10_000
	bulkScanTime = 100 * time.Millisecond
)

// bulkPart returns up to limit accounts that belong to a bulk change, starting at its position, and
// the position after them. Finding accounts may take longer than changing them, so it is not part
// of the write.
func (s *Store) bulkPart(ctx context.Context, b operator.Bulk, limit int,
	now time.Time) (list []account.Account, position account.UID, err error) {
	began, q := time.Now(), s.engine.Reads(ctx)
	least, greatest := uidRange(b.Query)
	end := earlier(greatest, b.Through)
	if b.State == operator.BulkCounting {
		limit = bulkScan // these need no write
	}
	if position = b.Position; bytes.Compare(position[:], least[:]) < 0 {
		position = least
	}
	for len(list) < limit && time.Since(began) < bulkScanTime {
		var bound []byte
		err := q.Row(`SELECT uid FROM account WHERE uid > $1 AND uid <= $2 ORDER BY uid LIMIT 1 OFFSET `+
			strconv.Itoa(bulkScan-1), position[:], end).Scan(&bound)
		last := errors.Is(err, sql.ErrNoRows)
		if last {
			bound = end
		} else if err != nil {
			return nil, position, err
		}
		w := new(where)
		w.and(`uid > %s AND uid <= %s AND +tenant = %s`, position[:], bound, b.Tenant)
		w.matching(b.Query, now)
		want, n, full := limit-len(list), 0, false
		err = q.Each(func(row engine.Scanner) error {
			a, err := scanAccount(row)
			if err != nil {
				return err
			}
			if n++; n == want {
				full, position = true, a.UID
			}
			if b.Includes(a) {
				list = append(list, a)
			}
			return nil
		}, `SELECT `+accountColumns+` FROM account WHERE `+w.String()+` ORDER BY uid LIMIT `+w.arg(want), w.args...)
		switch {
		case err != nil:
			return nil, position, err
		case full:
		case last:
			return list, b.Through, nil
		default:
			copy(position[:], bound)
		}
	}
	return list, position, nil
}
