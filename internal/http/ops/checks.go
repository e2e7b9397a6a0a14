package ops

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// checkWait is how long a scrape waits for the checks. It is shorter than the time limit of a
// scrape, so that a hanging disk does not hide the other metrics.
const checkWait = time.Second

// Checks returns metrics with the outcome of each check. A check that does not finish in time
// counts as failed; the others then keep their previous values.
func (s *Site) Checks() prometheus.Collector {
	var last atomic.Pointer[[]result]
	last.Store(new([]result))
	return NewCollector([]Metric{{
		Name:   "dialtone_check_ok",
		Help:   "Whether a check of /readyz succeeds: 1 or 0.",
		Labels: []string{"check"},
	}, {
		Name:   "dialtone_check_warning",
		Help:   "Whether a check of /readyz found something to repair, though it succeeds: 1 or 0.",
		Labels: []string{"check"},
	}}, func(ctx context.Context, to *Values) error {
		done := make(chan []result, 1)
		go func() {
			results, _ := s.probe()
			done <- results
		}()
		ctx, cancel := context.WithTimeout(ctx, checkWait)
		defer cancel()
		select {
		case results := <-done:
			last.Store(&results)
			for _, r := range results {
				to.Set(0, truth(r.OK), r.Name)
				to.Set(1, truth(r.Warning != ""), r.Name)
			}
		case <-ctx.Done():
			before := *last.Load()
			for i, c := range s.checks {
				if c.running.Load() {
					to.Set(0, 0, c.Name)
				} else if i < len(before) {
					to.Set(0, truth(before[i].OK), c.Name)
				}
			}
		}
		return nil
	})
}

func truth(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}
