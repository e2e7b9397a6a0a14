package secret

import (
	"testing"
	"time"
)

func TestRotation(t *testing.T) {
	const life = 24 * time.Hour
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	ring := NewRing(now)
	// Each row continues with the ring of the previous row.
	for _, c := range []struct {
		claim           string
		after           time.Duration
		delayed, revoke bool
		keys            int
	}{
		{"keeps the first key", 0, false, false, 2},
		{"keeps keys that signed something valid", time.Hour, false, false, 3},
		{"keeps them if the new key is delayed", time.Hour, true, false, 4},
		{"removes the first key, which was replaced before", life - time.Second, false, false, 4},
		{"removes all that were replaced long ago", life + 2*time.Hour, false, false, 2},
		{"keeps a key that signed until now, however old", 365 * 24 * time.Hour, false, false, 2},
		{"adds a delayed key to a new one", time.Second, true, false, 3},
		{"revokes all older keys", time.Second, false, true, 1},
		{"revokes immediately although the new key is delayed", time.Second, true, true, 1},
	} {
		now = now.Add(c.after)
		next := Rotation{Life: life, Delayed: c.delayed, Revoke: c.revoke}.Apply(ring, now)
		signer := ring.Signing(now).IDs()[0]
		if c.revoke {
			signer = next.IDs()[0]
		}
		if got := len(next.IDs()); got != c.keys {
			t.Errorf("%s: %d keys, want %d", c.claim, got, c.keys)
		}
		if next.Signing(now).IDs()[0] != signer {
			t.Errorf("%s: the wrong key signs", c.claim)
		}
		ring = next
	}
}

func TestDelayedRotation(t *testing.T) {
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	for delayed, delay := range map[bool]time.Duration{false: SigningDelay, true: RolloutTime + SigningDelay} {
		ring := Rotation{Life: time.Hour, Delayed: delayed}.Apply(NewRing(now), now)
		for age, want := range map[time.Duration]bool{0: false, delay - time.Second: false, delay: true} {
			if got := ring.Signing(now.Add(age)).IDs()[0] == ring.IDs()[0]; got != want {
				t.Errorf("delayed %v: after %v, the new key signs: %v", delayed, age, got)
			}
		}
	}
}

func TestNeeded(t *testing.T) {
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	o := Rotation{Life: 24 * time.Hour}
	ring := o.Apply(NewRing(now.Add(-time.Hour)), now)
	for age, want := range map[time.Duration]int{
		0: 2, 25*time.Hour - time.Second: 2, 25 * time.Hour: 1,
	} {
		if got := o.Needed(ring, now.Add(age)); got != want {
			t.Errorf("after %v: %d keys, want %d", age, got, want)
		}
	}
}
