package store

import (
	"context"
	"strconv"
	"time"

	"dialtone/internal/delivery"
	"dialtone/internal/hook"
	"dialtone/internal/operator"
	"dialtone/internal/stats"
	"dialtone/internal/store/engine"
)

var (
	_ stats.Store         = (*Store)(nil)
	_ operator.StatsStore = (*Store)(nil)
)

// AddCounts implements stats.Store.
func (s *Store) AddCounts(_ context.Context, list []stats.Count) error {
	return s.engine.Write(func(tx engine.Tx) error {
		for _, c := range list {
			_, err := tx.Exec(`INSERT INTO daily (tenant, day, kind, n)
				SELECT id, CAST($2 AS BIGINT), $3, CAST($4 AS BIGINT) FROM tenant WHERE id = $1
				ON CONFLICT (tenant, day, kind) DO UPDATE SET n = daily.n + excluded.n`,
				c.Tenant, int64(c.Day), string(c.Kind), c.N)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Counts implements stats.Store.
func (s *Store) Counts(ctx context.Context, tenant int64, from, to stats.Day) (list []stats.Count, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		c := stats.Count{Tenant: tenant}
		var day int64
		var kind string
		err := row.Scan(&day, &kind, &c.N)
		c.Day, c.Kind = stats.Day(day), stats.Kind(kind)
		list = append(list, c)
		return err
	}, `SELECT day, kind, CAST(sum(n) AS BIGINT) FROM daily
		WHERE day BETWEEN $1 AND $2 AND tenant IN (SELECT id FROM tenant WHERE $3 = 0 OR id = $3)
		GROUP BY day, kind ORDER BY day, kind`, int64(from), int64(to), tenant)
	return list, err
}

// RemoveCounts implements stats.Store.
func (s *Store) RemoveCounts(_ context.Context, before stats.Day, limit int) (n int64, err error) {
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		n, err = tx.Exec(`DELETE FROM daily WHERE (tenant, day, kind) IN (SELECT d.tenant, d.day, d.kind
			FROM tenant t JOIN daily d ON d.tenant = t.id AND d.day < $1 ORDER BY d.day, d.tenant, d.kind LIMIT $2)`,
			int64(before), limit)
		return err
	})
	return n, err
}

// unsent is the condition of the index delivery_unsent. The text must be the same, so that the
// index is used.
const unsent = `state IN ('waiting', 'deferred', 'failed')`

// maxOfTenants is how many messages of all tenants are examined to count those of one.
const maxOfTenants = 10_000

// MailBacklog implements operator.StatsStore.
func (s *Store) MailBacklog(ctx context.Context, tenant int64) (b operator.MailBacklog, err error) {
	from := `(SELECT since FROM delivery WHERE ` + unsent + ` AND state = $1 ORDER BY since LIMIT $2) d`
	if tenant != 0 {
		from = `(SELECT o.since FROM (SELECT account, since FROM delivery WHERE ` + unsent + ` AND state = $1
			ORDER BY since LIMIT ` + strconv.Itoa(maxOfTenants) + `) o
			JOIN account a ON a.uid = o.account AND a.tenant = $3 ORDER BY o.since LIMIT $2) d`
	}
	for _, c := range []struct {
		state delivery.State
		n     *stats.Bounded
	}{{delivery.Waiting, &b.Waiting}, {delivery.Deferred, &b.Deferred}, {delivery.Failed, &b.Failed}} {
		args := []any{string(c.state), stats.MaxCounted + 1}
		if tenant != 0 {
			args = append(args, tenant)
		}
		var n, oldest int64
		err := s.engine.Reads(ctx).Row(`SELECT count(*), COALESCE(min(since), 0) FROM `+from, args...).Scan(&n, &oldest)
		if err != nil {
			return b, err
		}
		*c.n = stats.Bounded(n)
		if at := engine.FromMicros(oldest); n > 0 && c.state.Open() && (b.Oldest.IsZero() || at.Before(b.Oldest)) {
			b.Oldest = at
		}
	}
	n, oldest, err := s.Unwritten(ctx, tenant)
	b.Waiting = min(b.Waiting+n, stats.MaxCounted+1)
	if n > 0 && (b.Oldest.IsZero() || oldest.Before(b.Oldest)) {
		b.Oldest = oldest
	}
	return b, err
}

// Unwritten returns how many messages of a tenant, or of all tenants for 0, are in the outbox, and
// when the oldest of them was added.
func (s *Store) Unwritten(ctx context.Context, tenant int64) (n stats.Bounded, oldest time.Time, err error) {
	args := []any{stats.MaxCounted + 1, maxOfTenants}
	of := ``
	if tenant != 0 {
		args = append(args, tenant)
		of = ` AND +a.tenant = $3` // without the index on tenant
	}
	var count, made int64
	err = s.engine.Reads(ctx).Row(`SELECT count(*), COALESCE(min(made), 0) FROM (
			SELECT COALESCE(NULLIF(o.made, 0), a.created) AS made
			FROM (SELECT account, made FROM outbox ORDER BY account LIMIT $2) o
			JOIN account a ON a.uid = o.account`+of+` LIMIT $1) w`, args...).Scan(&count, &made)
	if err != nil || count == 0 {
		return 0, oldest, err
	}
	return stats.Bounded(count), engine.FromMicros(made), nil
}

// HookBacklogs implements operator.StatsStore.
func (s *Store) HookBacklogs(ctx context.Context, tenant int64) (list []operator.HookBacklog, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var h operator.HookBacklog
		var kind string
		var waiting, oldest, failed int64
		err := row.Scan(&h.Name, &kind, &h.Shared, &waiting, &oldest, &failed, &h.LastError, &h.GivenUp)
		h.Kind, h.Waiting = hook.Kind(kind), stats.Bounded(waiting)
		if oldest != 0 {
			h.Oldest = engine.FromMicros(oldest)
		}
		if failed != 0 {
			h.LastFailure = engine.FromMicros(failed)
		}
		list = append(list, h)
		return err
	}, `SELECT h.name, h.kind,
			h.everyone OR EXISTS (SELECT 1 FROM hook_tenant ht WHERE ht.hook = h.id AND ht.tenant <> $1),
			(SELECT count(*) FROM (SELECT 1 FROM notice WHERE hook = h.id LIMIT $2) n),
			COALESCE((SELECT at FROM notice WHERE hook = h.id ORDER BY event, account LIMIT 1), 0),
			h.failed, h.why, h.given_up
		FROM hook h WHERE $1 = 0 OR h.everyone
			OR EXISTS (SELECT 1 FROM hook_tenant ht WHERE ht.hook = h.id AND ht.tenant = $1)
		ORDER BY h.name`, tenant, stats.MaxCounted+1)
	return list, err
}
