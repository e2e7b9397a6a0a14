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

// placeKeys returns the lock keys of places under limits.
func placeKeys(list []throttle.Allowance) (keys []int64) {
	for _, al := range list {
		keys = append(keys, admission.Key("place", 0, al.Bucket[:]))
	}
	return keys
}

// takePlaces takes a place under each limit.
func takePlaces(tx engine.Tx, list []throttle.Allowance, id [16]byte, now time.Time) error {
	for _, al := range list {
		if _, err := tx.Exec(`INSERT INTO taken (bucket, at, account, until) VALUES ($1, $2, $3, $4)`,
			al.Bucket[:], engine.Micros(now), id[:], engine.Micros(now.Add(al.Rule.Per))); err != nil {
			return err
		}
	}
	return nil
}

// checkPlaces fails with the refusal unless all of the limits allow another use. The caller holds the locks of
// placeKeys.
func checkPlaces(
	tx engine.Tx, limits []throttle.Allowance, now time.Time, refusal func(throttle.Wait) error,
) error {
	wait, err := longestWait(tx, limits, now)
	if err == nil && wait.For > 0 {
		err = refusal(wait)
	}
	return err
}

// checkAndTake takes the places unless checkPlaces fails.
func checkAndTake(tx engine.Tx, limits []throttle.Allowance, id [16]byte, now time.Time,
	refusal func(throttle.Wait) error) error {
	if err := checkPlaces(tx, limits, now, refusal); err != nil {
		return err
	}
	return takePlaces(tx, limits, id, now)
}

// takeChange takes a place for a change of an account that sends no message. It fails with
// account.ChangeRefusal.
func takeChange(tx engine.Tx, limits []throttle.Allowance, now time.Time) error {
	if err := tx.Lock(placeKeys(limits)...); err != nil {
		return err
	}
	return checkAndTake(tx, limits, account.NewUID(now), now, account.ChangeRefusal)
}

// waitFor returns the wait until a limit allows another use: until the oldest of the last Limit
// uses no longer counts.
func waitFor(q engine.Querier, al throttle.Allowance, now time.Time) (throttle.Wait, error) {
	var at int64
	err := q.Row(`SELECT at FROM taken WHERE bucket = $1 AND at > $2 ORDER BY at DESC LIMIT 1 OFFSET $3`,
		al.Bucket[:], engine.Micros(now.Add(-al.Rule.Per)), al.Rule.Limit-1).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return throttle.Wait{}, nil
	}
	if err != nil {
		return throttle.Wait{}, err
	}
	return admission.WaitSince(engine.FromMicros(at), al, now), nil
}
