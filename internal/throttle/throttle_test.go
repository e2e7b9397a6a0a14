package throttle_test

import (
	"fmt"
	"net/netip"
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

func TestSignupAllowances(t *testing.T) {
	ring := secret.NewRing(noon)
	b := throttle.NewBuckets(ring)
	of := func(addr string) string { return fmt.Sprint(b.Signup(1, netip.MustParseAddr(addr))) }
	same := func(x, y string, want bool) {
		t.Helper()
		if got := of(x) == of(y); got != want {
			t.Errorf("%s and %s share their buckets: %v, want %v", x, y, got, want)
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
		t.Error("two /64 of one /48 do not share only the bucket of the /48")
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
