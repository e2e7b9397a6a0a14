package throttle_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/throttle"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func bucket(n int) (b throttle.Bucket) {
	b[0], b[1], b[2] = byte(n), byte(n>>8), byte(n>>16)
	return b
}

func TestFailures(t *testing.T) {
	now := noon
	f := throttle.NewFailures(throttle.Rule{Limit: 3, Per: 10 * time.Minute}, 100,
		func() time.Time { return now })
	wait := func(n int, want time.Duration) {
		t.Helper()
		if got := f.Wait(bucket(n)); got != want {
			t.Errorf("at %v the wait is %v, want %v", now.Sub(noon), got, want)
		}
	}
	for i := range 3 {
		wait(1, 0)
		now = noon.Add(time.Duration(i) * time.Minute)
		f.Add(bucket(1))
	}
	wait(1, 8*time.Minute)
	wait(2, 0)
	now = noon.Add(10*time.Minute - 1)
	wait(1, 1)
	now = noon.Add(10 * time.Minute)
	wait(1, 0)
	f.Add(bucket(1)) // the window slides: the oldest of the last three is now that of 12:01
	wait(1, time.Minute)
	for range 1000 {
		f.Add(bucket(1))
	}
	wait(1, 10*time.Minute)
	f.Forget(bucket(1))
	wait(1, 0)
	f.Forget(bucket(7))
	for range 3 {
		f.Add(bucket(1))
	}
	wait(1, 10*time.Minute)
}

func TestFailuresSize(t *testing.T) {
	const size = 64
	f := throttle.NewFailures(throttle.Rule{Limit: 1, Per: time.Hour}, size,
		func() time.Time { return noon })
	remembered := func(from, to int) (n int) {
		for i := from; i < to; i++ {
			if f.Wait(bucket(i)) > 0 {
				n++
			}
		}
		return n
	}
	for i := range 10 * size {
		f.Add(bucket(i))
	}
	if got := remembered(0, 10*size); got != size {
		t.Errorf("%d buckets are remembered, want %d", got, size)
	}
	if got := remembered(9*size, 10*size); got != size {
		t.Errorf("of the last %d, %d are remembered", size, got)
	}
	for range 10 * size { // a known bucket takes no further place
		f.Add(bucket(10*size - 1))
	}
	if got := remembered(0, 10*size); got != size {
		t.Errorf("%d buckets are remembered, want %d", got, size)
	}
}

func TestFailuresConcurrent(t *testing.T) {
	f := throttle.NewFailures(throttle.Rule{Limit: 50, Per: time.Hour}, 8,
		func() time.Time { return noon })
	var all sync.WaitGroup
	for range 49 {
		all.Go(func() { f.Add(bucket(1)); f.Wait(bucket(1)) })
	}
	all.Wait()
	if f.Wait(bucket(1)) != 0 {
		t.Error("there is a wait after 49 of 50")
	}
	f.Add(bucket(1))
	if f.Wait(bucket(1)) != time.Hour {
		t.Error("a failure was lost")
	}
}

func TestSignupAllowances(t *testing.T) {
	ring := secret.NewRing(noon)
	b := throttle.NewBuckets(ring)
	of := func(addr string) string { return fmt.Sprint(b.Signup(1, netip.MustParseAddr(addr))) }
	same := func(x, y string, want bool) {
		t.Helper()
		if got := of(x) == of(y); got != want {
			t.Errorf("%s and %s count as one: %v, want %v", x, y, got, want)
		}
	}
	same("192.0.2.1", "192.0.2.1", true)
	same("192.0.2.1", "::ffff:192.0.2.1", true)
	same("192.0.2.1", "192.0.2.2", false)
	same("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true)
	same("2001:db8:1:2::1", "2001:db8:1:3::1", false)
	same("fe80::1%eth0", "fe80::1%eth1", true)
	same("127.0.0.1", "::1", false)

	four := b.Signup(1, netip.MustParseAddr("127.0.0.1"))
	if len(four) != 1 || four[0].Rule != (throttle.Rule{Limit: 3, Per: time.Hour}) {
		t.Errorf("IPv4, loopback included: %v", four)
	}
	six, neighbour := b.Signup(1, netip.MustParseAddr("2001:db8:1:2::1")),
		b.Signup(1, netip.MustParseAddr("2001:db8:1:ffff::1"))
	if len(six) != 2 || six[0].Rule != (throttle.Rule{Limit: 3, Per: time.Hour}) ||
		six[1].Rule != (throttle.Rule{Limit: 30, Per: time.Hour}) {
		t.Errorf("IPv6: %v", six)
	}
	if six[1].Bucket != neighbour[1].Bucket || six[0].Bucket == neighbour[0].Bucket {
		t.Error("two /64 of one /48 do not share the /48 alone")
	}
	if far := b.Signup(1, netip.MustParseAddr("2001:db8:2:2::1")); far[1].Bucket == six[1].Bucket {
		t.Error("two /48 share a bucket")
	}
	if throttle.Party(netip.MustParseAddr("::ffff:192.0.2.1")) != "192.0.2.1" ||
		throttle.Party(netip.Addr{}) == "" {
		t.Error("Party does not unmap an IPv4 address, or is empty for the zero address")
	}
	b.Signup(1, netip.Addr{}) // does not panic
}

func TestBuckets(t *testing.T) {
	ring := secret.NewRing(noon)
	b := throttle.NewBuckets(ring)
	seen := make(map[throttle.Bucket]string)
	for _, kind := range []string{"signup", "message"} {
		for _, tenant := range []int64{0, 1, 2, 256, 1 << 40, -1} {
			for _, thing := range []string{"", "a", "ab", "192.0.2.1"} {
				name := fmt.Sprintf("%s %d %s", kind, tenant, thing)
				got := b.Of(kind, tenant, thing)
				if other, there := seen[got]; there {
					t.Errorf("%q and %q share a bucket", name, other)
				}
				seen[got] = name
				if throttle.NewBuckets(ring).Of(kind, tenant, thing) != got ||
					throttle.NewBuckets(ring.Rotated(noon, 5)).Of(kind, tenant, thing) != got {
					t.Errorf("%q has another bucket after a restart or with a new key", name)
				}
				if throttle.NewBuckets(secret.NewRing(noon)).Of(kind, tenant, thing) == got {
					t.Errorf("%q has the same bucket at another installation", name)
				}
			}
		}
	}
}
