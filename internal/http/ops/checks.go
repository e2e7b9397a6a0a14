package ops

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// checkWait is how long a scrape waits for the checks. It is shorter than the time limit of a scrape, so that a disk
// that hangs does not hide the other metrics.
const checkWait = time.Second

// Checks returns a metric with the outcome of each check. A check that has not finished in time has failed.
func (s *Site) Checks() prometheus.Collector {
	return NewCollector([]Metric{{
		Name:   "dialtone_check_ok",
		Help:   "Whether a check of /readyz succeeds: 1 or 0.",
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
			for _, r := range results {
				to.Set(0, truth(r.OK), r.Name)
			}
		case <-ctx.Done():
			for _, c := range s.checks {
				to.Set(0, truth(!c.running.Load()), c.Name)
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
