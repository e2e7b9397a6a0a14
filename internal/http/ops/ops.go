// Package ops serves health checks and metrics for monitoring. Its listener must not be public.
//
//	GET /livez    200 while the process can answer
//	GET /readyz   200 if every check succeeds, otherwise 503; the body lists each check and its error,
//	              or a warning about something to repair that does not stop the server from working
//	GET /metrics  metrics in Prometheus text format
//
// RestrictHosts refuses requests for host names that are not this server's. Otherwise a web page
// could read the listener through the browser of somebody who can reach it, by pointing its own
// host name to the listener's address (DNS rebinding).
//
// A check does what requests do: it commits a transaction to the store, or creates and removes a
// file in the pickup directory. Run runs the checks continuously, and a change shows within five
// seconds. Results are cached for a second, so frequent requests cost nothing. A hanging check
// counts as failed, and is not started again while it runs.
package ops

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dialtone/internal/http/answer"
)

// Warning is the error of a probe that found something for an operator to repair which does not
// stop the server from working. The check succeeds, and its result contains the warning.
type Warning string

func (w Warning) Error() string { return string(w) }

// Check is one readiness check.
type Check struct {
	Name  string
	Probe func(context.Context) error
	// Report is called with the outcome of each run: nil, a Warning, or another error, such as a
	// timeout of the probe. It may be nil.
	Report func(error)
	// Vital means that the server makes no progress while the probe hangs.
	Vital bool
}

const (
	// cacheTime is how long the results of the checks are used.
	cacheTime = time.Second
	// runInterval is the time between two runs of the checks in the background. Together with
	// probeTimeout, it is less than the five seconds within which a change shows.
	runInterval = 1500 * time.Millisecond
	// probeTimeout limits a check or a scrape, and readTimeout reading the values of a metric.
	probeTimeout = 3 * time.Second
	// stallTime is how long a vital check may hang, or the checks may not run, before Progress
	// fails.
	stallTime   = 10 * time.Second
	readTimeout = 2 * time.Second
)

// Site is the handler of the listener.
type Site struct {
	// Server identifies this server in the answer of /readyz, so that it is not confused with
	// another one. It may be empty.
	Server string

	checks  []*check
	metrics http.Handler
	now     func() time.Time

	mu      sync.Mutex
	at      time.Time
	results []result
}

type result struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Error   string `json:"error,omitempty"`
	Warning string `json:"warning,omitempty"`
}

// check is a Check that runs at most once at a time, so that probes of a hanging disk do not pile up.
type check struct {
	Check
	running atomic.Bool
	began   atomic.Pointer[time.Time] // when the current or last probe began
}

// New returns a Site.
func New(checks []Check, metrics prometheus.Gatherer, now func() time.Time) *Site {
	s := &Site{now: now, metrics: exposition(metrics)}
	for _, c := range checks {
		s.checks = append(s.checks, &check{Check: c})
	}
	return s
}

var paths = []string{"/livez", "/readyz", "/metrics"}

// ServeHTTP implements http.Handler.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer.SetHeaders(w.Header())
	switch {
	case !slices.Contains(paths, r.URL.Path):
		answer.JSON(w, http.StatusNotFound, map[string]string{"error": "not_found"})
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		answer.JSON(w, http.StatusMethodNotAllowed, map[string]string{"error": "method_not_allowed"})
	case r.URL.Path == "/livez":
		answer.JSON(w, http.StatusOK, map[string]bool{"ok": true})
	case r.URL.Path == "/metrics":
		s.metrics.ServeHTTP(w, r)
	default:
		results, ok := s.probe()
		status := http.StatusOK
		if !ok {
			status = http.StatusServiceUnavailable
		}
		answer.JSON(w, status, struct {
			OK     bool     `json:"ok"`
			Server string   `json:"server,omitempty"`
			Checks []result `json:"checks"`
		}{ok, s.Server, results})
	}
}

// Run runs the checks regularly until ctx ends, so that a change is reported even if nobody
// requests /readyz.
func (s *Site) Run(ctx context.Context) {
	ticker := time.NewTicker(runInterval)
	defer ticker.Stop()
	for {
		s.probe()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Progress returns an error if the checks have not run recently although Run runs, or if a vital
// check hangs. A failing check is not such an error: the cause may be elsewhere, and a new process
// would not help.
func (s *Site) Progress() error {
	s.mu.Lock()
	at := s.at
	s.mu.Unlock()
	now := s.now()
	if idle := now.Sub(at); !at.IsZero() && idle > stallTime {
		return fmt.Errorf("the checks have not run for %v", idle.Round(time.Second))
	}
	for _, c := range s.checks {
		if !c.Vital || !c.running.Load() {
			continue
		}
		if began := c.began.Load(); began != nil && now.Sub(*began) > stallTime {
			return fmt.Errorf("the check %q has hung for %v", c.Name, now.Sub(*began).Round(time.Second))
		}
	}
	return nil
}

// RestrictHosts returns a handler that forwards requests for a host from the list, localhost, or an
// IP address, and those without a Host, which no browser sends. It refuses others with 421.
func RestrictHosts(hosts []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host := hostname(r.Host); host == "" || host == "localhost" || slices.Contains(hosts, host) {
			next.ServeHTTP(w, r)
		} else if _, err := netip.ParseAddr(host); err == nil {
			next.ServeHTTP(w, r)
		} else {
			answer.SetHeaders(w.Header())
			answer.JSON(w, http.StatusMisdirectedRequest, answer.Error{
				Code:        "misdirected_request",
				Description: "this listener has no such host name; use its address, or add the name to ops.hosts",
			})
		}
	})
}

// hostname returns the lower-case host of a Host header, without the port and the brackets.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// probe returns the results of the checks, at most cacheTime old, and whether all succeeded.
func (s *Site) probe() ([]result, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.results == nil || s.now().Sub(s.at) >= cacheTime {
		s.results = make([]result, len(s.checks))
		var all sync.WaitGroup
		for i, c := range s.checks {
			all.Go(func() { s.results[i] = c.run(s.now) })
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

var errHangs = errors.New("the previous check has not finished yet")

// run runs the probe, and reports the outcome.
func (c *check) run(now func() time.Time) result {
	err := c.try(now)
	if c.Report != nil {
		c.Report(err)
	}
	if warning, ok := errors.AsType[Warning](err); ok {
		return result{Name: c.Name, OK: true, Warning: string(warning)}
	}
	if err != nil {
		return result{Name: c.Name, Error: err.Error()}
	}
	return result{Name: c.Name, OK: true}
}

// try runs the probe. It returns after probeTimeout, even if the probe ignores its context.
func (c *check) try(now func() time.Time) error {
	if !c.running.CompareAndSwap(false, true) {
		return errHangs
	}
	began := now()
	c.began.Store(&began)
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := c.Probe(ctx)
		c.running.Store(false)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errHangs
	}
}
