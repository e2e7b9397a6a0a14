package store

import (
	"database/sql"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
	"dialtone/internal/throttle"
)

// longestWait returns the wait until all of the limits allow another use.
func longestWait(q engine.Querier, list []throttle.Allowance, now time.Time) (longest throttle.Wait, err error) {
	for _, al := range list {
		wait, err := waitFor(q, al, now)
		if err != nil {
			return throttle.Wait{}, err
		}
		longest = longest.Max(wait)
	}
	return longest, nil
}

// takeChange takes a place for a change of an account that sends no message. It fails with
// account.ChangeRefusal.
func takeChange(tx engine.Tx, limits []throttle.Allowance, now time.Time) error {
	if err := tx.Lock(placeKeys(limits)...); err != nil {
		return err
	}
	wait, err := longestWait(tx, limits, now)
	if err != nil {
		return err
	}
	if wait.For > 0 {
		return account.ChangeRefusal(wait)
	}
	return takePlaces(tx, limits, account.NewUID(now), now)
}

// waitFor returns the wait until a limit allows another use: until the oldest of the last Limit
// uses no longer counts.
func waitFor(q engine.Querier, al throttle.Allowance, now time.Time) (throttle.Wait, error) {
	var at int64
	err := q.Row(`SELECT at FROM taken WHERE bucket = $1 AND at > $2 ORDER BY at DESC LIMIT 1 OFFSET $3`,
		al.Bucket[:], engine.Micros(now.Add(-al.Rule.Per)), al.Rule.Limit-1).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return throttle.Wait{}, nil
	} else if err != nil {
		return throttle.Wait{}, err
	}
	return admission.WaitSince(engine.FromMicros(at), al, now), nil
}
