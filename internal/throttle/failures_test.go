package throttle_test

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/throttle"
)

// wait returns how long an attempt has to wait. It cancels the attempt.
func wait(t *testing.T, f *throttle.Failures, b throttle.Bucket) time.Duration {
	t.Helper()
	attempt, wait, err := f.Try(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if wait == 0 {
		attempt.End(false)
	}
	return wait
}

func TestFailures(t *testing.T) {
	now := noon
	f := throttle.NewFailures(throttle.Rule{Limit: 3, Per: 10 * time.Minute}, 100,
		func() time.Time { return now })
	check := func(n int, want time.Duration) {
		t.Helper()
		if got := wait(t, f, bucket(n)); got != want {
			t.Errorf("at %v the wait is %v, want %v", now.Sub(noon), got, want)
		}
	}
	for i := range 3 {
		check(1, 0)
		now = noon.Add(time.Duration(i) * time.Minute)
		f.Add(bucket(1))
	}
	check(1, 8*time.Minute)
	check(2, 0)
	now = noon.Add(10*time.Minute - 1)
	check(1, 1)
	now = noon.Add(10 * time.Minute)
	check(1, 0)
	attempt, _, err := f.Try(t.Context(), bucket(1))
	if err != nil {
		t.Fatal(err)
	}
	f.Add(bucket(1)) // the window slides: the oldest of the last three is now from 12:01
	check(1, time.Minute)
	for range 1000 {
		f.Add(bucket(1))
	}
	check(1, 10*time.Minute)
	attempt.EndAndForget()
	check(1, 0)
	for range 3 {
		if wait := f.Fail(bucket(1)); wait > 0 {
			t.Errorf("Fail asks to wait %v before the limit is reached", wait)
		}
	}
	check(1, 10*time.Minute)
	now = now.Add(time.Minute)
	if wait := f.Fail(bucket(1)); wait != 9*time.Minute {
		t.Errorf("Fail asks to wait %v", wait)
	}
	now = now.Add(9 * time.Minute)
	check(1, 0)
}

func TestFailuresCountFromTheNextSecond(t *testing.T) {
	now := noon
	f := throttle.NewFailures(throttle.Rule{Limit: 1, Per: time.Minute}, 100,
		func() time.Time { return now })
	now = now.Add(time.Millisecond)
	f.Add(bucket(1))
	if got, want := wait(t, f, bucket(1)), time.Minute+999*time.Millisecond; got != want {
		t.Errorf("the wait is %v, want %v", got, want)
	}
}

func TestFailuresClockSetBack(t *testing.T) {
	now := noon.Add(24 * time.Hour)
	f := throttle.NewFailures(throttle.Rule{Limit: 1, Per: time.Minute}, 100,
		func() time.Time { return now })
	now = now.Add(time.Hour)
	f.Add(bucket(1))
	now = noon
	if got, want := wait(t, f, bucket(1)), time.Minute+time.Second; got != want {
		t.Errorf("the wait is %v, want %v", got, want)
	}
}

// TestConcurrentFailures concurrently begins attempts that all fail.
func TestConcurrentFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := throttle.NewFailures(throttle.Rule{Limit: 10, Per: time.Hour}, 8, time.Now)
		var evaluated, refused atomic.Int64
		var all sync.WaitGroup
		for range 300 {
			all.Go(func() {
				attempt, wait, err := f.Try(t.Context(), bucket(1))
				if err != nil {
					t.Error(err)
				}
				if wait > 0 {
					refused.Add(1)
					return
				}
				evaluated.Add(1)
				time.Sleep(time.Second)
				attempt.End(true)
			})
		}
		all.Wait()
		if evaluated.Load() != 10 || refused.Load() != 290 {
			t.Errorf("%d attempts were evaluated and %d refused, want 10 and 290",
				evaluated.Load(), refused.Load())
		}
	})
}

// TestConcurrentSuccesses concurrently begins attempts that all succeed.
func TestConcurrentSuccesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := throttle.NewFailures(throttle.Rule{Limit: 10, Per: time.Hour}, 8, time.Now)
		f.Add(bucket(1))
		began := time.Now()
		var all sync.WaitGroup
		for range 90 {
			all.Go(func() {
				attempt, wait, err := f.Try(t.Context(), bucket(1))
				if err != nil || wait > 0 {
					t.Errorf("wait %v, %v", wait, err)
					return
				}
				time.Sleep(time.Second)
				attempt.End(false)
			})
		}
		all.Wait()
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("90 attempts of a second each took %v, want 10s with 9 at a time", took)
		}
		for range 8 {
			f.Add(bucket(1))
		}
		if got := wait(t, f, bucket(1)); got != 0 {
			t.Errorf("the wait is %v after 9 failures of 10", got)
		}
	})
}

func TestTryCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := throttle.NewFailures(throttle.Rule{Limit: 1, Per: time.Hour}, 8, time.Now)
		attempt, _, err := f.Try(t.Context(), bucket(1))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := f.Try(ctx, bucket(1)); err != context.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
		attempt.End(false)
		if got := wait(t, f, bucket(1)); got != 0 {
			t.Errorf("the wait is %v: the canceled attempt kept its place", got)
		}
	})
}

// TestAttemptTakesThePlaceThatIsFree begins an attempt at the moment when the oldest failure stops counting.
func TestAttemptTakesThePlaceThatIsFree(t *testing.T) {
	now := noon
	f := throttle.NewFailures(throttle.Rule{Limit: 2, Per: time.Minute}, 8, func() time.Time { return now })
	attempt, _, err := f.Try(t.Context(), bucket(1))
	if err != nil {
		t.Fatal(err)
	}
	f.Add(bucket(1))
	now = now.Add(30 * time.Second)
	f.Add(bucket(1))
	now = now.Add(30 * time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, wait, err := f.Try(ctx, bucket(1)); err != context.Canceled {
		t.Errorf("a failure and an attempt in progress left a place of two: wait %v, %v", wait, err)
	}
	attempt.End(false)
	if got := wait(t, f, bucket(1)); got != 0 {
		t.Errorf("the wait is %v after one failure of two", got)
	}
}

// TestSuccessKeepsOtherAttempts ends one of two attempts, then the other.
func TestSuccessKeepsOtherAttempts(t *testing.T) {
	f := throttle.NewFailures(throttle.Rule{Limit: 2, Per: time.Minute}, 8, func() time.Time { return noon })
	var attempts [2]throttle.Attempt
	for i := range attempts {
		var err error
		if attempts[i], _, err = f.Try(t.Context(), bucket(1)); err != nil {
			t.Fatal(err)
		}
	}
	attempts[0].End(false)
	attempts[1].End(true)
	f.Add(bucket(1))
	if got := wait(t, f, bucket(1)); got != time.Minute {
		t.Errorf("the wait is %v: a failure beside a success was not counted", got)
	}
	f.Try(t.Context(), bucket(2))
	attempt, _, err := f.Try(t.Context(), bucket(3))
	if err != nil {
		t.Fatal(err)
	}
	attempt.End(false)
	if got := f.Len(); got != 2 {
		t.Errorf("there are %d buckets, want those of two failures and of an attempt in progress", got)
	}
}

// TestFailureAtTheLimit counts failures as in a flood.
func TestFailureAtTheLimit(t *testing.T) {
	f := throttle.NewFailures(throttle.Rule{Limit: 10, Per: time.Minute}, 8, func() time.Time { return noon })
	for range 10 {
		f.Add(bucket(1))
	}
	if n := testing.AllocsPerRun(100, func() { f.Add(bucket(1)) }); n > 0 {
		t.Errorf("a failure at the limit allocates %v times", n)
	}
}

// TestFailuresBound checks that there are never more buckets than places, whether attempts are in progress or not.
func TestFailuresBound(t *testing.T) {
	for _, inProgress := range []int{0, 3} {
		f := throttle.NewFailures(throttle.Rule{Limit: 2, Per: time.Hour}, 8, func() time.Time { return noon })
		for i := range inProgress {
			if _, _, err := f.Try(t.Context(), bucket(i)); err != nil {
				t.Fatal(err)
			}
		}
		for i := inProgress; i < 8; i++ {
			f.Add(bucket(i))
		}
		if got := f.Len(); got != 8 {
			t.Errorf("%d of 8 buckets are kept in 8 places, %d of them in progress", got, inProgress)
		}
		f.Add(bucket(8))
		if got := f.Len(); got != 8 {
			t.Errorf("%d of 9 buckets are kept in 8 places, %d of them in progress", got, inProgress)
		}
	}
}

// TestFailuresExpire checks that expired buckets are dropped once in each period.
func TestFailuresExpire(t *testing.T) {
	now := noon
	f := throttle.NewFailures(throttle.Rule{Limit: 2, Per: time.Hour}, 8, func() time.Time { return now })
	for i, c := range []struct {
		at   time.Duration
		want int
	}{
		{0, 1},
		{30 * time.Minute, 2},
		{59 * time.Minute, 3},
		{60 * time.Minute, 3}, // without that of 0
		{100 * time.Minute, 4},
		{120 * time.Minute, 2}, // without those of 30, 59 and 60
	} {
		now = noon.Add(c.at)
		f.Add(bucket(i))
		if got := f.Len(); got != c.want {
			t.Errorf("after %v there are %d buckets, want %d", c.at, got, c.want)
		}
	}
}

// TestFailuresFull checks what is dropped when there are more buckets than places.
func TestFailuresFull(t *testing.T) {
	const size = 64
	now := noon
	f := throttle.NewFailures(throttle.Rule{Limit: 3, Per: time.Hour}, size,
		func() time.Time { return now })
	fail := func(n, times int) {
		for range times {
			f.Add(bucket(n))
		}
	}
	held := func(n int) bool { return wait(t, f, bucket(n)) > 0 }

	attempt, _, err := f.Try(t.Context(), bucket(9999))
	if err != nil {
		t.Fatal(err)
	}
	fail(0, 3)
	for i := range 10 * size { // one failure each
		fail(1000+i, 1)
	}
	if !held(0) {
		t.Error("the bucket with the most failures was dropped")
	}
	attempt.End(true)
	fail(9999, 2)
	if !held(9999) {
		t.Error("a bucket with an attempt in progress was dropped")
	}

	now = now.Add(30 * time.Minute)
	for i := range 10 * size {
		fail(2000+i, 3)
	}
	n := 0
	for i := range 10 * size {
		if held(2000 + i) {
			n++
		}
	}
	if n < size*3/4 || n > size {
		t.Errorf("%d buckets at their limit are kept in %d places", n, size)
	}
	if held(0) {
		t.Error("among buckets with equally many failures, the oldest was kept")
	}

	now = now.Add(time.Hour)
	fail(3000, 3)
	for i := range size/8*7 - 1 {
		fail(4000+i, 1)
	}
	for i := range size/8*7 - 1 {
		fail(4000+i, 2)
		if !held(4000 + i) {
			t.Fatal("a live bucket was dropped instead of an expired one")
		}
	}
	for i := range size {
		fail(5000+i, 1)
	}
	if !held(3000) {
		t.Error("a bucket with the most failures was dropped an hour later")
	}
}

// TestFailuresMemory fills every bucket of every limit, and then lets all of them expire.
func TestFailuresMemory(t *testing.T) {
	now := noon
	clock := func() time.Time { return now }
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	p := throttle.NewPasswords(clock)
	signups := throttle.NewSignups(clock)
	tokens := throttle.NewFailures(throttle.WrongTokens, throttle.WrongTokenBuckets, clock)
	p.Fill()
	signups.Fill()
	tokens.Fill()
	const limit = 64 << 20
	if used := heap() - before; used > limit || used < limit/4 {
		t.Errorf("the counters take %d MiB, and should take at most 64", used>>20)
	}
	now = now.Add(time.Hour)
	addr := netip.MustParseAddr("2001:db8::1")
	g, _, err := p.Begin(t.Context(), 1, addr, "ann", "")
	if err != nil {
		t.Fatal(err)
	}
	g.Wrong()
	signups.Add(1, addr)
	tokens.Add(bucket(1))
	if used := heap() - before; used > 1<<20 {
		t.Errorf("%d KiB are left after everything expired", used>>10)
	}
	runtime.KeepAlive(p)
	runtime.KeepAlive(signups)
	runtime.KeepAlive(tokens)
}
