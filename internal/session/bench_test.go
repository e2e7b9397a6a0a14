package session_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"dialtone/internal/session"
	"dialtone/internal/test/world"
	"dialtone/internal/throttle"
)

// BenchmarkUnknownName measures denied attempts for a known and an unknown name in turn, and reports
// the ratio of the medians. It is below 1, because reading a row takes longer than finding none.
func BenchmarkUnknownName(b *testing.B) {
	h := newFixture(b)
	h.member("known")
	from := world.NewOrigin()
	attempt := func(user string) time.Duration {
		header := h.answer(user, "a guess").header()
		start := time.Now()
		_, err := h.send(header, "", from)
		took := time.Since(start)
		if !errors.Is(err, session.ErrDenied) {
			b.Fatal(err)
		}
		return took
	}
	var known, unknown []time.Duration
	for i := 0; b.Loop(); i++ {
		if i%4 == 0 { // before the limit is reached
			h.deps.Passwords = throttle.NewPasswords(h.SealRing, h.Now)
			h.restart()
		}
		if i%2 == 0 {
			known = append(known, attempt("known"))
			unknown = append(unknown, attempt("other"))
		} else {
			unknown = append(unknown, attempt("other"))
			known = append(known, attempt("known"))
		}
	}
	slices.Sort(known)
	slices.Sort(unknown)
	k, u := known[len(known)/2], unknown[len(unknown)/2]
	b.ReportMetric(float64(u)/float64(k), "unknown/known")
	b.ReportMetric(float64((k - u).Nanoseconds()), "ns-difference")
}
