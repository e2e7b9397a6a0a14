package digest

import (
	"testing"
	"time"
)

// The bits that represent nonces are reused.
func TestNonceBitsAreReused(t *testing.T) {
	now := time.Unix(0, 0)
	n := NewNonces(func() time.Time { return now })
	spent, open, later := n.Issue("r"), n.Issue("r"), n.Issue("r")
	if !n.Spend(spent, "r") {
		t.Fatal("a fresh nonce is refused")
	}
	n.serial.Add(outstanding/2 - 3) // as if that many had been issued
	if n.Spend(spent, "r") {
		t.Error("a spent nonce is accepted again after half a round")
	}
	if !n.Spend(later, "r") {
		t.Error("a nonce is refused before half a round")
	}
	n.serial.Add(2)
	if n.Spend(open, "r") {
		t.Error("a nonce is accepted after half a round")
	}
	// After a full round, the bit of the first nonce is issued again as unspent.
	n.serial.Store(outstanding)
	next := n.Issue("r")
	if n.Spend(spent, "r") {
		t.Error("a spent nonce is accepted after a round")
	}
	if !n.Spend(next, "r") || n.Spend(next, "r") {
		t.Error("the nonce with the same bit is not accepted exactly once")
	}
}

func BenchmarkNonce(b *testing.B) {
	n := NewNonces(time.Now)
	b.ReportAllocs()
	for b.Loop() {
		if !n.Spend(n.Issue("phone.example.org"), "phone.example.org") {
			b.Fatal("refused")
		}
	}
}
