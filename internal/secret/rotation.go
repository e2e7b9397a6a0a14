package secret

import "time"

// RolloutTime is how long an operator has to distribute a new key to all servers before the
// first of them signs with it.
const RolloutTime = time.Hour

// clockMargin is how far the clocks of servers may differ.
const clockMargin = time.Hour

// Rotation describes how the keys of a ring are replaced.
type Rotation struct {
	// Life is how long something that was signed remains valid. Older keys are kept that long after
	// they were replaced.
	Life time.Duration
	// Delayed means that an operator must distribute the new key to all servers. It signs only after RolloutTime.
	Delayed bool
	// Revoke removes the older keys at once. What they signed is no longer valid, so the new key
	// signs at once.
	Revoke bool
}

// Apply returns a ring with a new key in front, and the older keys that are still needed.
func (o Rotation) Apply(r *Ring, now time.Time) *Ring {
	if o.Revoke {
		return r.Rotated(now, 1)
	}
	keep := 1 + o.Needed(r, now)
	if o.Delayed {
		now = now.Add(RolloutTime)
	}
	return r.Rotated(now, keep)
}

// Needed returns how many keys of a ring are needed, newest first: those that may have signed
// something that is still valid.
func (o Rotation) Needed(r *Ring, now time.Time) int {
	return r.inUse(now.Add(-o.Life - clockMargin))
}
