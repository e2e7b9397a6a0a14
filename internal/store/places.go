package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"dialtone/internal/store/engine"
	"dialtone/internal/throttle"
)

// Places under limits are swept and corrected in the order of their buckets, some at a time. There
// is no index of the times when they end, because each signup would have to update several of its
// pages.
const (
	// placesPerRemoved is how many places a sweep examines for each place that it may remove. A
	// sweep continues while at least a tenth of them have expired. The next sweep begins where it
	// ended.
	placesPerRemoved = 10
	// placesOfFuture is how many places are searched at a time for those that were taken while a
	// clock was ahead. Buckets are in random order, so such a place is soon found in a larger
	// table, too.
	placesOfFuture = 50_000
)

// bucketCursor is the position in the buckets from which the next step continues. It is safe for
// concurrent use.
type bucketCursor struct {
	mu    sync.Mutex
	after []byte // the last bucket that was examined; empty at the start
}

// next returns the range of buckets with the next n places. It excludes after and includes last.
func (t *bucketCursor) next(q engine.Querier, n int) (after, last []byte, err error) {
	t.mu.Lock()
	after = append([]byte{}, t.after...)
	t.mu.Unlock()
	err = q.Row(`SELECT bucket FROM taken WHERE bucket > $1 ORDER BY bucket LIMIT 1 OFFSET $2`, after, n-1).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return after, lastBucket, nil
	}
	return after, last, err
}

// done records that all buckets up to last were examined.
func (t *bucketCursor) done(last []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.after = last; bytes.Equal(last, lastBucket) {
		t.after = nil
	}
}

// lastBucket sorts after, or is equal to, every bucket.
var lastBucket = bytes.Repeat([]byte{0xff}, len(throttle.Bucket{}))

// sweepPlaces removes up to limit of the next places that no longer count.
func (s *Store) sweepPlaces(now time.Time, limit int) (removed int64, err error) {
	var last []byte
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		var after []byte
		if after, last, err = s.sweeping.next(tx, placesPerRemoved*limit); err != nil {
			return err
		}
		removed, err = tx.Exec(`DELETE FROM taken WHERE (bucket, at, account) IN (SELECT bucket, at, account FROM taken
			WHERE bucket > $1 AND bucket <= $2 AND until <= $3 LIMIT $4)`, after, last, engine.Micros(now), limit)
		return err
	})
	if err == nil && removed < int64(limit) {
		s.sweeping.done(last)
	}
	return removed, err
}

// correctPlaces sets all places of the future to now, if there is one in the next range of buckets.
func (s *Store) correctPlaces(ctx context.Context, now time.Time) (corrected int64, err error) {
	q, limit := s.engine.Reads(ctx), engine.Micros(now.Add(maxSkew))
	after, last, err := s.correcting.next(q, placesOfFuture)
	if err != nil {
		return 0, err
	}
	found, err := engine.Count(q, `SELECT count(*) FROM (SELECT 1 FROM taken
		WHERE bucket > $1 AND bucket <= $2 AND at > $3 LIMIT 1) AS one`, after, last, limit)
	if err == nil && found > 0 {
		err = s.engine.Write(func(tx engine.Tx) (err error) {
			corrected, err = tx.Exec(`UPDATE taken SET at = CAST($2 AS BIGINT),
				until = CAST($2 AS BIGINT) + (until - at) WHERE at > $1`, limit, engine.Micros(now))
			return err
		})
	}
	if err == nil {
		s.correcting.done(last)
	}
	return corrected, err
}
