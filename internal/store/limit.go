package store

import (
	"database/sql"
	"errors"
	"time"

	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
	"dialtone/internal/throttle"
)

// longestWait returns the time until all of the limits allow another use, which is 0 if they do
// now.
func longestWait(q engine.Querier, list []throttle.Allowance, now time.Time) (longest time.Duration, err error) {
	for _, al := range list {
		wait, err := waitFor(q, al, now)
		if err != nil {
			return 0, err
		}
		longest = max(longest, wait)
	}
	return longest, nil
}

// waitFor returns the time until a limit allows another use: until the oldest of the last Limit
// uses no longer counts.
func waitFor(q engine.Querier, al throttle.Allowance, now time.Time) (time.Duration, error) {
	var at int64
	err := q.Row(`SELECT at FROM taken WHERE bucket = $1 AND at > $2 ORDER BY at DESC LIMIT 1 OFFSET $3`,
		al.Bucket[:], engine.Micros(now.Add(-al.Rule.Per)), al.Rule.Limit-1).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return admission.WaitSince(engine.FromMicros(at), al, now), nil
}
