package recorder

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

// Recent remembers for an interval which keys were recorded, in half a MiB: nearly all of
// 16,384 keys, or six out of seven of 65,536. A forgotten key costs an additional record. The
// probability that a key is mistaken for another is 1 in 2^45. It is safe for concurrent use,
// takes no lock and does not allocate.
type Recent struct {
	seed    maphash.Seed
	minutes uint16
	// Each key belongs to one set of slots. A slot contains 48 bits of the key's hash, and in
	// the other 16 bits the minute in which it was recorded. An empty slot is 0.
	sets [1 << setBits][8]atomic.Uint64
}

const (
	setBits  = 13
	timeBits = 16
)

// NewRecent returns a Recent for an interval of whole minutes, less than 45 days.
func NewRecent(interval time.Duration) *Recent {
	return &Recent{seed: maphash.MakeSeed(), minutes: uint16(interval / time.Minute)}
}

// Key returns a hash of an ID and texts.
func (r *Recent) Key(id [16]byte, texts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	h.Write(id[:])
	for _, text := range texts {
		h.WriteString(text)
		h.WriteByte(0)
	}
	return h.Sum64()
}

// minute returns the number of a minute, which wraps around after 45 days.
func minute(at time.Time) uint16 { return uint16(at.Unix() / 60) }

// Has reports whether a key was added within the interval.
func (r *Recent) Has(key uint64, now time.Time) bool {
	set := &r.sets[key>>(64-setBits)]
	for i := range set {
		slot := set[i].Load()
		if (slot^key)>>timeBits == 0 && slot != 0 && age(slot, now) < r.minutes {
			return true
		}
	}
	return false
}

// age returns how many minutes ago a slot was set. The result is large if the clock was set back.
func age(slot uint64, now time.Time) uint16 { return minute(now) - uint16(slot) }

// Add remembers a key, and forgets the oldest one of its set.
func (r *Recent) Add(key uint64, now time.Time) {
	set := &r.sets[key>>(64-setBits)]
	oldest, oldestAge := 0, -1
	for i := range set {
		slot := set[i].Load()
		if slot == 0 || (slot^key)>>timeBits == 0 {
			oldest = i
			break
		}
		if a := int(age(slot, now)); a > oldestAge {
			oldest, oldestAge = i, a
		}
	}
	set[oldest].Store(key>>timeBits<<timeBits | uint64(minute(now)))
}
