package recorder

import (
	"encoding/binary"
	"testing"
	"time"
)

// TestRecent checks how many keys are remembered, and for how long.
func TestRecent(t *testing.T) {
	r := NewRecent(time.Hour)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	key := func(i int) uint64 {
		var id [16]byte
		binary.BigEndian.PutUint64(id[:], uint64(i))
		return r.Key(id, "sbc", "credential")
	}
	forgotten := func(n int) (count int) {
		for i := range n {
			if !r.Has(key(i), now) {
				count++
			}
		}
		return count
	}
	if forgotten(1000) < 1000 {
		t.Error("a key that was not added is remembered")
	}
	for i := range 16384 {
		r.Add(key(i), now)
	}
	if n := forgotten(16384); n > 50 {
		t.Errorf("%d of 16384 keys are forgotten", n)
	}
	for i := range 65536 {
		r.Add(key(i), now)
	}
	if n := forgotten(65536); n > 65536/5 {
		t.Errorf("%d of 65536 keys are forgotten", n)
	}
	first := key(1 << 20)
	r.Add(first, now)
	for _, c := range []struct {
		after time.Duration
		want  bool
	}{{time.Hour - time.Minute, true}, {time.Hour, false}, {-time.Minute, false}} {
		if got := r.Has(first, now.Add(c.after)); got != c.want {
			t.Errorf("after %v it is remembered: %t", c.after, got)
		}
	}
	now = now.Add(time.Hour)
	for i := range 4 {
		r.Add(key(i), now)
	}
	if n := forgotten(4); n > 0 {
		t.Errorf("%d of the newest keys are forgotten", n)
	}
	for _, texts := range [][]string{{"s", "bc"}, {"sb", "c"}, {"sbc"}} {
		if r.Key([16]byte{}, texts...) == r.Key([16]byte{}, "sbc", "") {
			t.Errorf("%q is mistaken for another key", texts)
		}
	}
}
