// Package ops is what machines that look after the server ask it: whether it lives, whether it can
// do its work, and how much of it there is.
//
// Its listener is not for the public. It answers
//
//	GET /livez   200 as long as the process answers at all
//	GET /readyz  200 when every check holds, otherwise 503; the body names each check and, where one fails, why
//	GET /metrics what is counted and measured, in the text form of Prometheus
//
// The checks do what the work does: the store commits something, a file comes and goes in the pickup directory. Their
// results are kept for a moment, so that being asked often costs nothing.
package ops

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Check is one thing that has to work.
type Check struct {
	Name  string
	Probe func(context.Context) error
}

const (
	// fresh is how long a result stands.
	fresh = time.Second
	// patience is how long a probe may take; a disk that hangs is not ready.
	patience = 3 * time.Second
)

// Site answers the questions.
type Site struct {
	checks  []*check
	metrics http.Handler
	now     func() time.Time

	mu      sync.Mutex
	at      time.Time
	results []result
}

type result struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// check is a Check that runs once at a time: behind a disk that hangs, probes do not pile up.
type check struct {
	Check
	running atomic.Bool
}

// New makes a Site. What is asked for at /metrics is gathered from metrics.
func New(checks []Check, metrics prometheus.Gatherer, now func() time.Time) *Site {
	s := &Site{now: now, metrics: exposition(metrics)}
	for _, c := range checks {
		s.checks = append(s.checks, &check{Check: c})
	}
	return s
}

var paths = []string{"/livez", "/readyz", "/metrics"}

// ServeHTTP answers.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	switch {
	case !slices.Contains(paths, r.URL.Path):
		answer(w, http.StatusNotFound, map[string]string{"error": "not_found"})
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		answer(w, http.StatusMethodNotAllowed, map[string]string{"error": "method_not_allowed"})
	case r.URL.Path == "/livez":
		answer(w, http.StatusOK, map[string]bool{"ok": true})
	case r.URL.Path == "/metrics":
		s.metrics.ServeHTTP(w, r)
	default:
		results, ok := s.probe()
		status := http.StatusOK
		if !ok {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, struct {
			OK     bool     `json:"ok"`
			Checks []result `json:"checks"`
		}{ok, results})
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// probe runs every check, one caller at a time.
func (s *Site) probe() ([]result, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.results == nil || s.now().Sub(s.at) >= fresh {
		s.results = make([]result, len(s.checks))
		var all sync.WaitGroup
		for i, c := range s.checks {
			all.Go(func() { s.results[i] = c.run() })
		}
		all.Wait()
		s.at = s.now()
	}
	ok := true
	for _, r := range s.results {
		ok = ok && r.OK
	}
	return s.results, ok
}

var errHangs = errors.New("the last probe has not come back yet")

// run waits for a probe no longer than patience, even for one that cannot be interrupted.
func (c *check) run() result {
	if !c.running.CompareAndSwap(false, true) {
		return result{Name: c.Name, Error: errHangs.Error()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := c.Probe(ctx)
		c.running.Store(false)
		done <- err
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = errHangs
	}
	if err != nil {
		return result{Name: c.Name, Error: err.Error()}
	}
	return result{Name: c.Name, OK: true}
}
