package throttle

import (
	"sync/atomic"
	"time"
)

// Rate limits an action to a number of times per second. After a pause, a burst of that many is
// permitted. It is safe for concurrent use and takes no lock.
type Rate struct {
	every int64        // nanoseconds per action
	due   atomic.Int64 // when the last taken place ends, in Unix nanoseconds
}

// NewRate returns a Rate of perSecond actions.
func NewRate(perSecond int) *Rate { return &Rate{every: int64(time.Second) / int64(perSecond)} }

// Take takes a place at the given time. If there is none, it takes nothing and returns how long to
// wait for one.
func (r *Rate) Take(now time.Time) (wait time.Duration) {
	const ahead = int64(time.Second)
	at := now.UnixNano()
	for {
		due := r.due.Load()
		start := max(due, at)
		if start-at > 2*ahead {
			start = at // the clock was set back
		}
		if over := start + r.every - at - ahead; over > 0 {
			return time.Duration(over)
		}
		if r.due.CompareAndSwap(due, start+r.every) {
			return 0
		}
	}
}
