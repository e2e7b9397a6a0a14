package throttle

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Failures limits attempts by counting failed ones in memory. It is safe for concurrent use.
//
// An attempt takes a place before its outcome is known, and gives it back unless it fails. So
// even concurrent attempts cannot fail more often than the rule permits. If attempts in
// progress have taken all places, a new attempt waits for one of them to end: a client whose
// attempts all succeed is never refused.
//
// The memory is bounded: at most size buckets are kept, with 4 bytes for each failure within the
// rule. Buckets whose failures have expired are dropped first, then those with the fewest failures,
// so that many new buckets cannot reset the count of a bucket under attack. Failures are recorded
// in whole seconds, rounded up, so a place can be freed up to a second late.
type Failures struct {
	rule    Rule
	size    int
	now     func() time.Time
	started time.Time

	mu      sync.Mutex
	buckets map[Bucket]*failures
	swept   uint32
}

// failures are the attempts of one bucket.
type failures struct {
	times []uint32 // of the last rule.Limit failures, in seconds since Failures.started
	// trying is the number of attempts in progress.
	trying int
	// ended is closed when an attempt ends. It is nil while nobody waits for that.
	ended chan struct{}
}

// NewFailures returns Failures under one rule, for at most size buckets.
func NewFailures(rule Rule, size int, now func() time.Time) *Failures {
	return &Failures{
		rule: rule, size: size, now: now, started: now(), buckets: make(map[Bucket]*failures),
	}
}

// Attempt is an attempt in progress. It is a value, so that attempts do not allocate.
type Attempt struct {
	limit  *Failures
	bucket Bucket
	entry  *failures // of the bucket, in limit.buckets until the attempt ends
}

// End ends the attempt with its outcome.
func (a Attempt) End(failed bool) { a.end(failed, false) }

// EndAndForget ends an attempt that succeeded and resets the count.
func (a Attempt) EndAndForget() { a.end(false, true) }

func (a Attempt) end(failed, forget bool) {
	a.limit.mu.Lock()
	defer a.limit.mu.Unlock()
	p := a.entry
	p.trying--
	if p.ended != nil {
		close(p.ended)
		p.ended = nil
	}
	if forget {
		p.times = nil
	}
	if failed {
		a.limit.add(p)
	} else if p.trying == 0 && len(p.times) == 0 {
		delete(a.limit.buckets, a.bucket)
	}
}

// Try begins an attempt. If the limit is reached, it returns how long to wait before the next
// one. Otherwise the caller must end the Attempt exactly once. It fails only with the error of
// ctx.
func (f *Failures) Try(ctx context.Context, b Bucket) (a Attempt, wait time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		p := f.buckets[b]
		wait, busy := f.state(p)
		if wait > 0 {
			return Attempt{}, wait, nil
		}
		if busy == nil {
			if p == nil {
				p = f.insert(b)
			}
			p.trying++
			return Attempt{f, b, p}, 0, nil
		}
		f.mu.Unlock()
		select {
		case <-busy:
			f.mu.Lock()
		case <-ctx.Done():
			f.mu.Lock()
			return Attempt{}, 0, ctx.Err()
		}
	}
}

// state returns how long to wait if the limit is reached. If attempts in progress have taken the
// last places, it returns a channel that is closed when one of them ends. p is nil for a bucket
// without an entry.
func (f *Failures) state(p *failures) (wait time.Duration, busy <-chan struct{}) {
	if p == nil {
		return 0, nil
	}
	if n := len(p.times); n == f.rule.Limit {
		ends := time.Duration(p.times[0])*time.Second + f.rule.Per
		if wait := ends - f.elapsed(); wait > 0 {
			return min(wait, f.rule.Per+time.Second), nil // more only if the clock was set back
		}
	}
	if p.trying == 0 || len(f.live(p))+p.trying < f.rule.Limit {
		return 0, nil
	}
	if p.ended == nil {
		p.ended = make(chan struct{})
	}
	return 0, p.ended
}

// Fail counts a failure. If the limit is reached, it counts nothing and returns how long to wait.
func (f *Failures) Fail(b Bucket) (wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if wait, _ = f.state(f.buckets[b]); wait == 0 {
		f.add(f.at(b))
	}
	return wait
}

// Add counts a failure even if the limit is reached.
func (f *Failures) Add(b Bucket) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(f.at(b))
}

func (f *Failures) elapsed() time.Duration { return f.now().Sub(f.started) }

// second returns the current time, rounded up.
func (f *Failures) second() uint32 {
	return uint32(max(0, (f.elapsed()+time.Second-1)/time.Second))
}

// live returns the failures that have not expired.
func (f *Failures) live(p *failures) []uint32 {
	expired := f.elapsed() - f.rule.Per
	first := slices.IndexFunc(p.times, func(t uint32) bool {
		return time.Duration(t)*time.Second > expired
	})
	if first < 0 {
		return nil
	}
	return p.times[first:]
}

func (f *Failures) add(p *failures) {
	if len(p.times) == f.rule.Limit {
		p.times = slices.Delete(p.times, 0, 1)
	}
	if len(p.times) == cap(p.times) {
		// append could allocate more than the limit needs.
		grown := make([]uint32, len(p.times), min(max(4, 2*len(p.times)), f.rule.Limit))
		copy(grown, p.times)
		p.times = grown
	}
	p.times = append(p.times, f.second())
}

// at returns the entry of a bucket, and inserts one if there is none.
func (f *Failures) at(b Bucket) *failures {
	if p := f.buckets[b]; p != nil {
		return p
	}
	return f.insert(b)
}

// insert adds an entry for a bucket that has none.
func (f *Failures) insert(b Bucket) *failures {
	now := f.second()
	if len(f.buckets) >= f.size || time.Duration(now-f.swept)*time.Second >= f.rule.Per {
		f.sweep(now)
	}
	p := &failures{}
	f.buckets[b] = p
	return p
}

// sweep drops expired buckets. If seven eighths of the size remain, it also drops those with the
// fewest failures, and of these the ones that failed longest ago. Buckets with attempts in progress
// stay. The survivors move to a new map, since a map never shrinks.
func (f *Failures) sweep(now uint32) {
	f.swept = now
	type entry struct {
		bucket Bucket
		*failures
	}
	idle := make([]entry, 0, len(f.buckets))
	kept := make(map[Bucket]*failures)
	for b, p := range f.buckets {
		if p.trying > 0 {
			kept[b] = p
		} else if p.times = f.live(p); len(p.times) > 0 {
			idle = append(idle, entry{b, p})
		}
	}
	slices.SortFunc(idle, func(a, b entry) int {
		return cmp.Or(
			cmp.Compare(len(b.times), len(a.times)),
			cmp.Compare(b.times[len(b.times)-1], a.times[len(a.times)-1]),
		)
	})
	limit := max(0, f.size-f.size/8-len(kept))
	for _, e := range idle[:min(limit, len(idle))] {
		e.times = slices.Clone(e.times)
		kept[e.bucket] = e.failures
	}
	f.buckets = kept
}
