package throttle_test

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/throttle"
)

// guesses makes guesses one after another.
type guesses struct {
	*throttle.Passwords
	t *testing.T
}

func newGuesses(t *testing.T) guesses {
	return guesses{throttle.NewPasswords(func() time.Time { return noon }), t}
}

// wrong makes a wrong guess. It returns false if the guess was refused.
func (g guesses) wrong(addr, name, owner string) bool {
	g.t.Helper()
	guess, wait, err := g.Begin(g.t.Context(), 1, netip.MustParseAddr(addr), name, owner)
	if err != nil {
		g.t.Fatal(err)
	}
	if wait > 0 {
		return false
	}
	guess.Wrong()
	return true
}

// allowed makes wrong guesses, numbered from zero, until one is refused or there are limit. It
// returns how many were allowed.
func (g guesses) allowed(limit int, do func(i int) bool) int {
	for i := range limit {
		if !do(i) {
			return i
		}
	}
	return limit
}

func address(i int) string {
	return netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}).String()
}

func name(i int) string {
	return "user" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) +
		string(rune('a'+i/676))
}

func TestPasswords(t *testing.T) {
	six := func(bits int) func(int) string {
		return func(i int) string {
			b := netip.MustParseAddr("2001:db8::").As16()
			b[bits/8-1], b[bits/8-2] = byte(i), byte(i>>8)
			return netip.AddrFrom16(b).String()
		}
	}
	for _, c := range []struct {
		name string
		do   func(g guesses, i int) bool
		want int
	}{
		{"one name from many addresses", func(g guesses, i int) bool {
			return g.wrong(address(i), "ann", "")
		}, 10},
		{"many names from one address", func(g guesses, i int) bool {
			return g.wrong("192.0.2.1", name(i), "")
		}, 100},
		{"many names from one /64", func(g guesses, i int) bool {
			return g.wrong(six(128)(i), name(i), "")
		}, 100},
		{"many names from one /48", func(g guesses, i int) bool {
			return g.wrong(six(64)(i), name(i), "")
		}, 300},
		{"many names from many /48", func(g guesses, i int) bool {
			return g.wrong(six(48)(i), name(i), "")
		}, 3000},
		{"a device", func(g guesses, i int) bool {
			return g.wrong(address(i), "ann", "device")
		}, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuesses(t)
			if got := g.allowed(3000, func(i int) bool { return c.do(g, i) }); got != c.want {
				t.Errorf("%d wrong guesses were allowed, want %d", got, c.want)
			}
		})
	}
}

func TestPasswordsOfAnOwner(t *testing.T) {
	g := newGuesses(t)
	g.allowed(20, func(int) bool { return g.wrong("192.0.2.1", "ann", "") })
	g.allowed(200, func(i int) bool { return g.wrong("192.0.2.1", name(i), "") })
	if g.wrong("192.0.2.1", "bob", "") {
		t.Fatal("the address is not at its limit")
	}
	if g.wrong("192.0.2.2", "ann", "") {
		t.Fatal("the name is not at its limit")
	}
	if !g.wrong("192.0.2.1", "ann", "device") {
		t.Error("the owner is refused because of the guesses of others")
	}
	g.allowed(20, func(int) bool { return g.wrong("192.0.2.9", "carl", "stolen") })
	if !g.wrong("192.0.2.9", "carl", "") {
		t.Error("guesses with a device also count for the name and the address")
	}
}

func TestPasswordsRight(t *testing.T) {
	g := newGuesses(t)
	begin := func() *throttle.Guess {
		t.Helper()
		guess, wait, err := g.Begin(t.Context(), 1, netip.MustParseAddr("192.0.2.1"), "ann", "")
		if err != nil || wait > 0 {
			t.Fatalf("wait %v, %v", wait, err)
		}
		return &guess
	}
	for range 9 {
		g.wrong("192.0.2.1", "ann", "")
	}
	for range 20 {
		begin().Cancel()
	}
	guess := begin()
	guess.Right()
	guess.Right() // has no effect now
	guess.Cancel()
	if got := g.allowed(20, func(int) bool { return g.wrong("192.0.2.2", "ann", "") }); got != 10 {
		t.Errorf("after the right password, %d wrong ones are allowed for the name", got)
	}
	if got := g.allowed(200, func(i int) bool { return g.wrong("192.0.2.1", name(i), "") }); got != 91 {
		t.Errorf("after the right password, %d wrong ones are allowed from the address", got)
	}
}

// TestConcurrentPasswords concurrently makes guesses for one name from many addresses, and for
// many names from one address.
func TestConcurrentPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := throttle.NewPasswords(time.Now)
		var byName, byAddress atomic.Int64
		var all sync.WaitGroup
		guess := func(addr, name string, evaluated *atomic.Int64) {
			all.Go(func() {
				g, wait, err := p.Begin(t.Context(), 1, netip.MustParseAddr(addr), name, "")
				if err != nil {
					t.Error(err)
				}
				if wait == 0 {
					evaluated.Add(1)
					time.Sleep(time.Second)
					g.Wrong()
				}
			})
		}
		for i := range 300 {
			guess(address(i), "ann", &byName)
			guess("198.51.100.1", name(i), &byAddress)
		}
		all.Wait()
		if byName.Load() != 10 || byAddress.Load() != 100 {
			t.Errorf("%d guesses were evaluated by name and %d by address, want 10 and 100",
				byName.Load(), byAddress.Load())
		}
	})
}
