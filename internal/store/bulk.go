package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/store/engine"
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
	} else if err != nil {
		return b, err
	}
	b.Action, b.State = operator.BulkAction(action), operator.BulkState(state)
	b.Cause.Actor.Kind = audit.ActorKind(kind)
	copy(b.ID[:], id)
	copy(b.Through[:], through)
	copy(b.Position[:], position)
	b.Made, b.Changed, b.Lease = engine.FromMicros(made), engine.FromMicros(changed), engine.FromMicros(lease)
	in := json.NewDecoder(bytes.NewReader([]byte(query)))
	in.DisallowUnknownFields() // it would select accounts that it must not
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
		_, err := tx.Exec(`INSERT INTO bulk (`+bulkColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
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
func (s *Store) CancelBulk(_ context.Context, tenant int64, id operator.BulkID,
	now time.Time) (b operator.Bulk, err error) {
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		if _, err = tx.Exec(`UPDATE bulk SET state = 'cancelled', changed = $3 WHERE tenant = $1 AND id = $2
			AND state IN ('counting', 'ready', 'running')`, tenant, id[:], engine.Micros(now)); err != nil {
			return err
		}
		b, err = bulkOf(tx, tenant, id)
		return err
	})
	return b, err
}

// ClaimBulk implements operator.BulkStore.
func (s *Store) ClaimBulk(ctx context.Context, now, until time.Time) (b operator.Bulk, err error) {
	const due = `state IN ('counting', 'running') AND lease <= $1`
	const oldest = `SELECT id FROM bulk WHERE ` + due + ` ORDER BY made LIMIT 1`
	// Mostly there is none, which takes no write.
	var id []byte
	if err := s.engine.Reads(ctx).Row(oldest, engine.Micros(now)).Scan(&id); errors.Is(err, sql.ErrNoRows) {
		return b, operator.ErrNoBulk
	} else if err != nil {
		return b, err
	}
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		b, err = scanBulk(tx.Row(`UPDATE bulk SET lease = $2 WHERE id = $3 AND `+due+` RETURNING `+bulkColumns,
			engine.Micros(now), engine.Micros(until), id))
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
func (s *Store) RemoveBulks(_ context.Context, before time.Time) error {
	return s.engine.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`DELETE FROM bulk WHERE changed < $1 AND state NOT IN ('counting', 'running')`,
			engine.Micros(before))
		return err
	})
}

// WorkBulk implements operator.BulkStore.
func (s *Store) WorkBulk(ctx context.Context, b operator.Bulk, limit int, now, until time.Time) (operator.Bulk, error) {
	return b, errors.New("not implemented yet")
}
