package throttle

import (
	"sync/atomic"
	"time"
)

// Rate lets a thing be done so many times a second, and after a pause as many times at once. It is safe for concurrent use, and takes
// no lock.
type Rate struct {
	every int64        // nanoseconds that one takes
	due   atomic.Int64 // when all that was taken will have had its time, in Unix nanoseconds
}

// NewRate is a Rate of so many a second.
func NewRate(perSecond int) *Rate { return &Rate{every: int64(time.Second) / int64(perSecond)} }

// Take takes a place at a time. Where there is none, it takes nothing and says how long to wait for one.
func (r *Rate) Take(now time.Time) (wait time.Duration) {
	const ahead = int64(time.Second)
	at := now.UnixNano()
	for {
		due := r.due.Load()
		start := max(due, at)
		if start-at > 2*ahead {
			start = at // the clock was put back
		}
		if over := start + r.every - at - ahead; over > 0 {
			return time.Duration(over)
		}
		if r.due.CompareAndSwap(due, start+r.every) {
			return 0
		}
	}
}
