package digest

import (
	"testing"
	"time"
)

func TestRingGoesRound(t *testing.T) {
	now := time.Unix(0, 0)
	n := NewNonces(func() time.Time { return now })
	spent, open, later := n.Issue("r"), n.Issue("r"), n.Issue("r")
	if !n.Spend(spent, "r") {
		t.Fatal("a fresh nonce is not taken")
	}
	n.serial.Add(outstanding/2 - 3) // as if so many had been given out
	if n.Spend(spent, "r") {
		t.Error("a spent nonce is taken again after half a round")
	}
	if !n.Spend(later, "r") {
		t.Error("a nonce is lost before half a round")
	}
	n.serial.Add(2)
	if n.Spend(open, "r") {
		t.Error("a nonce is taken after half a round")
	}
	// One whole round on, the bit of the first is given out again, unspent.
	n.serial.Store(outstanding)
	next := n.Issue("r")
	if n.Spend(spent, "r") {
		t.Error("a spent nonce is taken after a round")
	}
	if !n.Spend(next, "r") || n.Spend(next, "r") {
		t.Error("the nonce that has the same bit is not taken once")
	}
}
