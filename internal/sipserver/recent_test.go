package sipserver

import (
	"encoding/binary"
	"hash/maphash"
	"testing"
	"time"

	"dialtone/internal/account"
)

// TestRecent checks how much is remembered, and for how long.
func TestRecent(t *testing.T) {
	r := &recent{seed: maphash.MakeSeed()}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	key := func(i int) uint64 {
		var uid account.UID
		binary.BigEndian.PutUint64(uid[:], uint64(i))
		return r.key(uid, "sbc", HowCredential)
	}
	forgotten := func(n int) (count int) {
		for i := range n {
			if !r.has(key(i), now) {
				count++
			}
		}
		return count
	}
	if forgotten(1000) < 1000 {
		t.Error("a look-up that was not added is remembered")
	}
	for i := range 16384 {
		r.add(key(i), now)
	}
	if n := forgotten(16384); n > 50 {
		t.Errorf("%d of 16384 look-ups are forgotten", n)
	}
	for i := range 65536 {
		r.add(key(i), now)
	}
	if n := forgotten(65536); n > 65536/5 {
		t.Errorf("%d of 65536 look-ups are forgotten", n)
	}
	first := key(1 << 20)
	r.add(first, now)
	for _, c := range []struct {
		after time.Duration
		want  bool
	}{{LookupInterval - time.Minute, true}, {LookupInterval, false}, {-time.Minute, false}} {
		if got := r.has(first, now.Add(c.after)); got != c.want {
			t.Errorf("after %v it is remembered: %t", c.after, got)
		}
	}
	now = now.Add(LookupInterval)
	for i := range 4 {
		r.add(key(i), now)
	}
	if n := forgotten(4); n > 0 {
		t.Errorf("%d of the newest look-ups are forgotten", n)
	}
	for _, other := range []uint64{r.key(account.UID{}, "s", "bc"), r.key(account.UID{}, "sb", "c")} {
		if other == r.key(account.UID{}, "sbc", "") {
			t.Error("the name of a server and a form are mistaken for another")
		}
	}
}
