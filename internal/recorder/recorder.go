// Package recorder writes values to a store in the background: for each key the newest value,
// or the result of Deps.Merge for it and the earlier ones.
//
// It is for values that can be delayed or lost, such as when something was last used. Adding a
// value does not block. Writing takes little processor time, even on a busy server: a
// transaction has at most MaxBatch values, and after a full one the next follows busyInterval
// later. At most Deps.Waiting values wait; more are dropped, with a log line. While the store
// fails, values wait. A crash loses the waiting values.
package recorder

import (
	"cmp"
	"context"
	"sync"
	"time"

	"dialtone/internal/outage"
)

const (
	// MaxBatch is the maximum number of values in one write.
	MaxBatch = 256
	// MaxWaiting is how many values can wait to be written.
	MaxWaiting = 8192

	// writeInterval is how long values are collected before they are written. If there are more than
	// MaxBatch, the rest follows after busyInterval.
	writeInterval = 250 * time.Millisecond
	busyInterval  = time.Second
	// retryInterval is the time between attempts while the store fails.
	retryInterval = 2 * time.Second
)

// Recorder collects values and writes them. It is safe for concurrent use.
type Recorder[K comparable, V any] struct {
	deps Deps[K, V]
	wake chan struct{} // with capacity 1; receives a value when values wait

	mu      sync.Mutex // guards the fields below
	waiting map[K]V
	order   []K // keys of the waiting values, oldest first
}

// Deps are the dependencies of a Recorder. All but Merge and Waiting are required.
type Deps[K comparable, V any] struct {
	Key func(V) K
	// Merge returns what to write instead of two values of one key. Nil means the later one.
	Merge func(earlier, later V) V
	// Write writes at most MaxBatch values, of different keys, in one transaction. It may sort list.
	Write func(ctx context.Context, list []V) error
	// Failed logs the failures of Write. Dropped logs that values are dropped, with TooMany.
	Failed, Dropped *outage.Log
	TooMany         error
	// Waiting is how many values can wait. Zero means MaxWaiting.
	Waiting int
}

// New returns a Recorder.
func New[K comparable, V any](d Deps[K, V]) *Recorder[K, V] {
	if d.Merge == nil {
		d.Merge = func(_, later V) V { return later }
	}
	d.Waiting = cmp.Or(d.Waiting, MaxWaiting)
	return &Recorder[K, V]{deps: d, wake: make(chan struct{}, 1), waiting: make(map[K]V)}
}

// Add queues a value to be written soon. It replaces a waiting value with the same key. It does
// not block. If too many values are waiting, it drops the value and returns false.
func (r *Recorder[K, V]) Add(ctx context.Context, value V) bool {
	if !r.put(value) {
		r.deps.Dropped.Report(ctx, r.deps.TooMany, "waiting", r.deps.Waiting)
		return false
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return true
}

func (r *Recorder[K, V]) put(value V) bool {
	key := r.deps.Key(value)
	r.mu.Lock()
	defer r.mu.Unlock()
	earlier, waits := r.waiting[key]
	switch {
	case waits:
		value = r.deps.Merge(earlier, value)
	case len(r.waiting) >= r.deps.Waiting:
		return false
	default:
		r.order = append(r.order, key)
	}
	r.waiting[key] = value
	return true
}

// Waiting returns the waiting value of a key. It does not return a value that is being written.
func (r *Recorder[K, V]) Waiting(key K) (value V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	value, ok = r.waiting[key]
	return value, ok
}

// take removes and returns up to MaxBatch waiting values, oldest first.
func (r *Recorder[K, V]) take() (list []V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.order), MaxBatch)
	for _, key := range r.order[:n] {
		list = append(list, r.waiting[key])
		delete(r.waiting, key)
	}
	if r.order = r.order[n:]; len(r.order) == 0 {
		r.order, r.waiting = nil, make(map[K]V) // maps never shrink
	}
	return list
}

// putBack makes values wait again, merged with newer waiting values.
func (r *Recorder[K, V]) putBack(list []V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, value := range list {
		key := r.deps.Key(value)
		if newer, waits := r.waiting[key]; waits {
			r.waiting[key] = r.deps.Merge(value, newer)
		} else if len(r.waiting) < r.deps.Waiting {
			r.waiting[key] = value
			r.order = append(r.order, key)
		}
	}
}

// flush writes up to MaxBatch waiting values, and returns how many it wrote. After a failure they keep waiting.
func (r *Recorder[K, V]) flush(ctx context.Context) (wrote int, err error) {
	list := r.take()
	if len(list) == 0 {
		return 0, nil
	}
	err = r.deps.Write(ctx, list)
	r.deps.Failed.Report(ctx, err, "waiting", len(list), "retry_in", retryInterval.String())
	if err != nil {
		r.putBack(list)
		return 0, err
	}
	r.deps.Dropped.Report(ctx, nil)
	return len(list), nil
}

// Run writes values until ctx is done, and then the remaining ones.
func (r *Recorder[K, V]) Run(ctx context.Context) {
	background := context.WithoutCancel(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	wait := r.wake // nil while the timer runs
	for {
		select {
		case <-ctx.Done():
			r.Flush(background)
			return
		case <-wait:
			wait = nil
			timer.Reset(writeInterval)
		case <-timer.C:
			switch wrote, err := r.flush(background); {
			case err != nil:
				timer.Reset(retryInterval)
			case wrote == MaxBatch:
				timer.Reset(busyInterval)
			case wrote > 0:
				timer.Reset(writeInterval)
			default:
				wait = r.wake
			}
		}
	}
}

// Flush writes all waiting values.
func (r *Recorder[K, V]) Flush(ctx context.Context) error {
	for {
		if wrote, err := r.flush(ctx); err != nil || wrote == 0 {
			return err
		}
	}
}
