package throttle_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/throttle"
)

func TestRate(t *testing.T) {
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	r := throttle.NewRate(1000)
	take := func(want int) {
		t.Helper()
		n := 0
		for r.Take(now) == 0 && n < 5000 {
			n++
		}
		if n != want {
			t.Errorf("%d places, want %d", n, want)
		}
	}
	take(1000)
	if wait := r.Take(now); wait != time.Millisecond {
		t.Errorf("the next place comes in %s", wait)
	}
	now = now.Add(time.Millisecond)
	take(1)
	now = now.Add(250 * time.Millisecond)
	take(250)
	now = now.Add(time.Hour)
	take(1000)
	now = now.Add(-time.Hour) // a clock that was set back makes nobody wait
	take(1000)
}

func TestRateClockSetBack(t *testing.T) {
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	r := throttle.NewRate(1000)
	for range 1000 {
		r.Take(now)
	}
	if wait := r.Take(now.Add(-time.Second)); wait != time.Second+time.Millisecond {
		t.Errorf("by a second: the wait is %v", wait)
	}
	if wait := r.Take(now.Add(-time.Second - 1)); wait != 0 {
		t.Errorf("by more than a second: the wait is %v", wait)
	}
}

func TestRateConcurrent(t *testing.T) {
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	r := throttle.NewRate(1_000_000)
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 250_000 {
				if r.Take(now) == 0 {
					taken.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := taken.Load(); n != 1_000_000 {
		t.Errorf("%d places of a million were taken", n)
	}
}
