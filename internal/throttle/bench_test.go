package throttle_test

import (
	"net/netip"
	"testing"
	"time"

	"dialtone/internal/throttle"
)

// BenchmarkPasswords measures the cost of a sign-in with the right password.
func BenchmarkPasswords(b *testing.B) {
	p := throttle.NewPasswords(time.Now)
	for name, c := range map[string]struct{ addr, known string }{
		"ipv4":   {"192.0.2.1", ""},
		"ipv6":   {"2001:db8::1", ""},
		"device": {"192.0.2.1", "a device token"},
	} {
		addr := netip.MustParseAddr(c.addr)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				guess, _, err := p.Begin(b.Context(), 1, addr, "ann", c.known)
				if err != nil {
					b.Fatal(err)
				}
				guess.Right()
			}
		})
	}
}
