package session_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/session"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
	"dialtone/internal/throttle"
)

// BenchmarkUnknownName measures wrong passwords alternately for accounts in each state and for
// names that do not exist. For each it reports how far the median is from that of active
// accounts, and the Kolmogorov-Smirnov distance of the distributions. The unit of the distance
// is the value that is significant at 1 %, so equal distributions give values below 1. Run it
// with -benchtime=20000x.
func BenchmarkUnknownName(b *testing.B) {
	const each = 100
	h := newFixture(b)
	for i := range each {
		h.member(fmt.Sprintf("m%03d", i))
		h.join(fmt.Sprintf("w%03d", i))
		h.member(fmt.Sprintf("h%03d", i))
		h.Disable(fmt.Sprintf("h%03d", i))
	}
	measureNames(b, h, each)
}

// measureNames measures accounts that are active (m000 and so on), waiting (w000) and disabled
// (h000), and names without an account between and after them.
func measureNames(b *testing.B, h *fixture, each int) {
	b.Helper()
	names := []string{"m%03d", "m%03dx", "w%03d", "h%03d", "z%03d"}
	label := []string{"", "unknown", "waiting", "disabled", "after-all"}
	took := make([][]float64, len(names))
	for i := 0; b.Loop(); i++ {
		if i%each == 0 { // before a limit is reached
			h.deps.Passwords = throttle.NewPasswords(h.Now)
			h.restart()
		}
		from := world.NewOrigin()
		for _, k := range rand.Perm(len(names)) {
			header := h.answer(fmt.Sprintf(names[k], i%each), "a guess").header()
			start := time.Now()
			_, err := h.send(header, "", from)
			took[k] = append(took[k], float64(time.Since(start)))
			if !errors.Is(err, session.ErrDenied) {
				b.Fatal(err)
			}
		}
	}
	for _, list := range took {
		slices.Sort(list)
	}
	median := func(list []float64) float64 { return list[len(list)/2] }
	b.ReportMetric(median(took[0]), "ns-median")
	for k := 1; k < len(names); k++ {
		b.ReportMetric(median(took[k])-median(took[0]), "ns-"+label[k])
		b.ReportMetric(distance(took[0], took[k]), "KS-"+label[k])
	}
}

// distance returns the Kolmogorov-Smirnov distance of two sorted samples of one size, divided by the
// distance that equal distributions exceed in 1 % of all cases.
func distance(a, b []float64) float64 {
	largest := 0.0
	for i, x := range a {
		share := float64(sort.SearchFloat64s(b, x)) / float64(len(b))
		largest = max(largest, math.Abs(float64(i)/float64(len(a))-share))
	}
	return largest / (1.63 * math.Sqrt(2/float64(len(a))))
}

// BenchmarkCountedSignIn compares sign-ins with and without counting. The two alternate. The
// metric is the rate with counting divided by the rate without, as the median of all pairs.
func BenchmarkCountedSignIn(b *testing.B) {
	const batch = 50
	var sides [2]*fixture
	for i := range sides {
		h := newFixture(b)
		h.member("ann")
		h.deps.Audit = audit.Log{}
		if i == 1 {
			c := stats.NewCounter(h.Store, func(host string) (*tenant.Tenant, bool) {
				return h.Tenant, host == h.Tenant.Host
			}, h.Now)
			h.deps.Audit, h.deps.Counts = audit.Log{Observers: []func(audit.Event){c.Observe}}, c
		}
		h.restart()
		sides[i] = h
	}
	run := func(h *fixture) time.Duration {
		from := world.NewOrigin()
		var took time.Duration
		for range batch {
			header := h.answer("ann", password).header()
			start := time.Now()
			if _, err := h.send(header, "", from); err != nil {
				b.Fatal(err)
			}
			took += time.Since(start)
		}
		return took
	}
	world.ReportRatio(b, func(side int) time.Duration { return run(sides[side]) })
}
