package throttle_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"dialtone/internal/throttle"
)

func TestSignups(t *testing.T) {
	for _, c := range []struct {
		name string
		addr func(i int) string
		want int // of 400 failures
	}{
		{"from one IPv4 address", func(int) string { return "192.0.2.1" }, 60},
		{"from one /64", func(i int) string { return fmt.Sprintf("2001:db8::%x", i) }, 60},
		{"from eight /64 of one /48", func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i%8) }, 180},
		{"from eight /48", func(i int) string { return fmt.Sprintf("2001:db8:%x::1", i%8) }, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			for way, fail := range map[string]func(*throttle.Signups, *throttle.Guess, netip.Addr){
				"Wrong": func(_ *throttle.Signups, g *throttle.Guess, _ netip.Addr) { g.Wrong() },
				"Add": func(s *throttle.Signups, g *throttle.Guess, addr netip.Addr) {
					g.Cancel()
					s.Add(1, addr)
				},
			} {
				s := throttle.NewSignups(func() time.Time { return noon })
				evaluated := 0
				for i := range 400 {
					addr := netip.MustParseAddr(c.addr(i))
					g, wait, err := s.Begin(t.Context(), 1, addr)
					if err != nil {
						t.Fatal(err)
					}
					if wait == 0 {
						evaluated++
						fail(s, &g, addr)
					}
				}
				if evaluated != c.want {
					t.Errorf("%s: %d failures are allowed, want %d", way, evaluated, c.want)
				}
			}
		})
	}
}
