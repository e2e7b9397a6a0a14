package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"dialtone/internal/delivery"
	"dialtone/internal/hook"
	"dialtone/internal/operator"
	"dialtone/internal/stats"
	"dialtone/internal/store/engine"
)

// maxSkew is how far the clocks of two servers of a database may differ. A time that lies further
// in the future than its rule allows, and this much more, was written while a clock was ahead.
const maxSkew = time.Minute

// Clock returns the database's current time, or the zero time if the database uses this machine's
// clock.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	if s.node == nil {
		return time.Time{}, nil
	}
	var us int64
	err := s.engine.Reads(ctx).Row(`SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)`).Scan(&us)
	return engine.FromMicros(us), err
}

// Programs returns the versions of the programs that are connected to the database, as far as this
// user may see them. It returns nil for an engine without such a list.
func (s *Store) Programs(ctx context.Context) ([]string, error) {
	if e, ok := s.engine.(engine.Peers); ok {
		return e.Programs(ctx)
	}
	return nil, nil
}

// CorrectFuture implements account.Sweeper.
//
// The current clock itself may be wrong, if it is behind. So times at which something is removed or
// abandoned are not corrected: when a pending account expires, with its links and deliveries; when a
// notification or a delivery began; until when captchas, nonces and sessions are remembered as
// spent. An age that is computed from a time in the future is negative, and is treated as zero. The
// leases of nodes do not compare wall clocks, and ClaimBulk corrects the leases of bulk changes.
func (s *Store) CorrectFuture(ctx context.Context, now time.Time) (corrected int64, err error) {
	// correct runs an UPDATE if a SELECT finds a row. For both, $1 is the latest time that a rule
	// allows, and args follow. The last argument of the UPDATE is the current time.
	correct := func(allows time.Duration, find, update string, args ...any) {
		if err != nil {
			return
		}
		limit := engine.Micros(now.Add(allows + maxSkew))
		var one int
		err = s.engine.Reads(ctx).Row(find, append([]any{limit}, args...)...).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
			return
		}
		if err != nil {
			return
		}
		err = s.engine.Write(func(tx engine.Tx) error {
			n, err := tx.Exec(update, append([]any{limit}, append(args, engine.Micros(now))...)...)
			corrected += n
			return err
		})
	}
	correct(hook.MaxWait, `SELECT 1 FROM notice WHERE due > $1 LIMIT 1`,
		`UPDATE notice SET due = $2 WHERE due > $1`)
	correct(delivery.MaxWait, `SELECT 1 FROM delivery WHERE due > $1 AND node = $2 LIMIT 1`,
		`UPDATE delivery SET due = $3 WHERE due > $1 AND node = $2`, s.nodeName())
	// The answer to a request that may be sent again is kept, so that the request is not handled twice.
	correct(operator.AnswerLife, `SELECT 1 FROM idempotency WHERE until > $1 LIMIT 1`,
		`UPDATE idempotency SET until = CAST($2 AS BIGINT) + `+micros(operator.AnswerLife)+` WHERE until > $1`)
	correct(0, `SELECT 1 FROM api_token WHERE used > $1 LIMIT 1`,
		`UPDATE api_token SET used = $2 WHERE used > $1`)
	if err == nil {
		err = s.correctCounts(ctx, now)
	}
	if err != nil {
		return corrected, err
	}
	places, err := s.correctPlaces(ctx, now)
	return corrected + places, err
}

// correctCounts moves the counts of future days to the current day.
func (s *Store) correctCounts(ctx context.Context, now time.Time) error {
	latest, today := int64(stats.DayOf(now.Add(maxSkew))), int64(stats.DayOf(now))
	var one int
	// This uses the primary key.
	err := s.engine.Reads(ctx).Row(`SELECT 1 FROM tenant t JOIN daily d ON d.tenant = t.id AND d.day > $1 LIMIT 1`,
		latest).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.engine.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`INSERT INTO daily (tenant, day, kind, n)
			SELECT tenant, CAST($2 AS BIGINT), kind, CAST(sum(n) AS BIGINT) FROM daily WHERE day > $1
			GROUP BY tenant, kind ON CONFLICT (tenant, day, kind) DO UPDATE SET n = daily.n + excluded.n`,
			latest, today)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM daily WHERE day > $1`, latest)
		return err
	})
}

// micros returns a duration in microseconds, for SQL.
func micros(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }
