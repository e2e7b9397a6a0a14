package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// ask requests a path and returns the status and the body.
func ask(t *testing.T, s *Site, method, path string) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%s: %v: %s", path, err, w.Body)
	}
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("%s: Cache-Control is %q", path, got)
	}
	return w.Code, body
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var probeErr error
		probes := 0
		s := New([]Check{
			{Name: "store", Probe: func(context.Context) error { probes++; return probeErr }},
			{Name: "pickup", Probe: func(context.Context) error { return nil }},
		}, NewRegistry(), time.Now)
		want := func(status int) {
			t.Helper()
			got, body := ask(t, s, "GET", "/readyz")
			if got != status || body["ok"] != (status == http.StatusOK) {
				t.Errorf("status %d, want %d: %v", got, status, body)
			}
		}
		want(200)
		want(200)
		if probes != 1 {
			t.Errorf("%d probes within a second, want 1", probes)
		}
		probeErr = errors.New("the disk is full")
		want(200) // results are cached for a second
		time.Sleep(cacheTime)
		want(503)
		_, body := ask(t, s, "GET", "/readyz")
		if body["checks"].([]any)[0].(map[string]any)["error"] != "the disk is full" {
			t.Errorf("the error is missing: %v", body)
		}
		probeErr = fmt.Errorf("store: %w", Warning("an account is damaged"))
		time.Sleep(cacheTime)
		want(200)
		_, body = ask(t, s, "GET", "/readyz")
		if first := body["checks"].([]any)[0].(map[string]any); first["ok"] != true ||
			first["warning"] != "an account is damaged" || first["error"] != nil {
			t.Errorf("the check with a warning is %v", first)
		}
		probeErr = nil
		time.Sleep(cacheTime)
		want(200)
	})
}

func TestHosts(t *testing.T) {
	site := RestrictHosts([]string{"ops.example.org"}, New(nil, NewRegistry(), time.Now))
	for _, row := range []struct {
		host string
		want int
	}{
		{"127.0.0.1:8081", 200},
		{"[::1]:8081", 200},
		{"[::1]", 200},
		{"10.0.0.5", 200},
		{"localhost:8081", 200},
		{"LocalHost", 200},
		{"ops.example.org", 200},
		{"OPS.example.org.:8081", 200},
		{"", 200},
		{"evil.test", 421},
		{"evil.test:8081", 421},
		{"localhost.evil.test", 421},
		{"127.0.0.1.evil.test", 421},
		{"ops.example.org.evil.test:8081", 421},
	} {
		for _, path := range []string{"/livez", "/metrics", "/v1/sip/credential"} {
			r, w := httptest.NewRequest("GET", path, nil), httptest.NewRecorder()
			r.Host = row.host
			site.ServeHTTP(w, r)
			if refused := w.Code == 421; refused != (row.want == 421) {
				t.Errorf("%s of host %q: status %d", path, row.host, w.Code)
			}
		}
	}
}

func TestReadinessWithHangingProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var started atomic.Int32
		probe := func(context.Context) error { started.Add(1); <-release; return nil }
		s := New([]Check{{Name: "disk", Probe: probe}}, NewRegistry(), time.Now)
		for range 5 {
			if status, _ := ask(t, s, "GET", "/readyz"); status != 503 {
				t.Errorf("status %d while the disk hangs", status)
			}
			time.Sleep(cacheTime)
		}
		if n := started.Load(); n != 1 {
			t.Errorf("%d probes were started, want 1", n)
		}
		if status, _ := ask(t, s, "GET", "/livez"); status != 200 {
			t.Errorf("/livez: status %d", status)
		}
		close(release)
		synctest.Wait()
		if status, _ := ask(t, s, "GET", "/readyz"); status != 200 {
			t.Errorf("status %d after the probe has returned", status)
		}
	})
}

func TestOtherPathsAndMethods(t *testing.T) {
	s := New(nil, NewRegistry(), time.Now)
	for _, path := range []string{"/", "/metrics/", "/debug/pprof/", "/signup.ashx"} {
		if status, _ := ask(t, s, "GET", path); status != 404 {
			t.Errorf("%s: status %d", path, status)
		}
	}
	for _, path := range []string{"/readyz", "/metrics"} {
		if status, _ := ask(t, s, "POST", path); status != 405 {
			t.Errorf("POST %s: status %d", path, status)
		}
	}
}

// Changes are reported within five seconds even if nobody requests /readyz. A probe that begins to
// hang is a change.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const within = 5 * time.Second
		var probeErr atomic.Pointer[error]
		release := make(chan struct{})
		var hangs atomic.Bool
		reported := make(chan error, 1000)
		probe := func(context.Context) error {
			if hangs.Load() {
				<-release
			}
			if err := probeErr.Load(); err != nil {
				return *err
			}
			return nil
		}
		last := error(nil)
		s := New([]Check{{Name: "disk", Probe: probe, Report: func(err error) { reported <- err }}}, NewRegistry(),
			time.Now)
		ctx, end := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		// changed waits for a report of another kind, and returns how long it took.
		changed := func(ok bool) time.Duration {
			t.Helper()
			start := time.Now()
			for {
				select {
				case last = <-reported:
					if (last == nil) == ok {
						return time.Since(start)
					}
				case <-time.After(within):
					t.Fatalf("no change within %v; the last report is %v", within, last)
				}
			}
		}
		changed(true)
		full := errors.New("the disk is full")
		for range 3 {
			probeErr.Store(&full)
			if took := changed(false); took > within || last != full {
				t.Errorf("%v after %v", last, took)
			}
			probeErr.Store(nil)
			if took := changed(true); took > within {
				t.Errorf("succeeds after %v", took)
			}
		}
		hangs.Store(true)
		if took := changed(false); took > within || !errors.Is(last, errHangs) {
			t.Errorf("%v after %v", last, took)
		}
		hangs.Store(false)
		close(release)
		if took := changed(true); took > within {
			t.Errorf("succeeds after %v", took)
		}
		end()
		<-done
	})
}

func TestDisk(t *testing.T) {
	const gib = 1024 * mib
	for _, c := range []struct {
		claim                          string
		size, free, inodes, freeInodes uint64
		warns                          bool
	}{
		{"a large disk with 2 GiB left", 10_000 * gib, 2 * gib, 1e6, 1e6, false},
		{"a large disk with 900 MiB left", 10_000 * gib, 900 * mib, 1e6, 1e6, true},
		{"10 GiB with 600 MiB left", 10 * gib, 600 * mib, 1e6, 1e6, false},
		{"10 GiB with 500 MiB left", 10 * gib, 500 * mib, 1e6, 1e6, true},
		{"1 GiB with 101 MiB left", gib, 101 * mib, 1e6, 1e6, false},
		{"1 GiB with 99 MiB left", gib, 99 * mib, 1e6, 1e6, true},
		{"few inodes", 10 * gib, 5 * gib, 1e6, 999, true},
		{"no number of inodes", 10 * gib, 5 * gib, 0, 0, false},
	} {
		err := diskWarning("/data", c.size, c.free, c.inodes, c.freeInodes)
		if _, warning := errors.AsType[Warning](err); warning != c.warns {
			t.Errorf("%s: %v", c.claim, err)
		}
	}
	for free, want := range map[uint64]string{
		912 << 10: "912 KiB left", mib: "1.0 MiB left", 9*mib + mib/2: "9.5 MiB left", 12*mib + 7: "12 MiB left",
	} {
		if err := diskWarning("/data", gib, free, 1e6, 1e6); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v, want %s", free, err, want)
		}
	}
	if _, warning := errors.AsType[Warning](Disk("/nonexistent")(t.Context())); !warning {
		t.Error("a directory that is missing does not warn")
	}
}
