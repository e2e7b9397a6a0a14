package ops

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// scrape returns the body of /metrics.
func scrape(t *testing.T, s *Site) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	h := w.Header()
	if w.Code != 200 || !strings.HasPrefix(h.Get("Content-Type"), "text/plain") ||
		h.Get("Cache-Control") != "no-store" {
		t.Fatalf("status %d, %v", w.Code, h)
	}
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	var readErr error
	r := NewRegistry()
	r.MustRegister(NewCollector([]Metric{
		{Name: "x_queue_messages", Help: "Messages.", Labels: []string{"state"}},
		{Name: "x_tries_total", Help: "Tries.", Counter: true},
		{Name: "x_age_seconds", Help: "Age."},
	}, func(_ context.Context, to *Values) error {
		to.Set(0, 3, "waiting")
		to.Set(0, 0, "deferred")
		to.Set(1, 17)
		if readErr == nil {
			to.Set(2, 1.5)
		}
		return readErr
	}))
	s := New(nil, r, time.Now)
	text := scrape(t, s)
	for _, line := range []string{
		"# TYPE x_queue_messages gauge",
		"# TYPE x_tries_total counter",
		`x_queue_messages{state="waiting"} 3`,
		`x_queue_messages{state="deferred"} 0`,
		"x_tries_total 17",
		"x_age_seconds 1.5",
		"# TYPE go_goroutines gauge",
		"# TYPE process_start_time_seconds gauge",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("missing line %s", line)
		}
	}
	problems, err := promlint.New(bytes.NewReader([]byte(text))).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "x_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	readErr = errors.New("the store is gone")
	text = scrape(t, s)
	if !strings.Contains(text, "x_tries_total 17") || strings.Contains(text, "x_age_seconds 1") ||
		!strings.Contains(text, "go_goroutines") {
		t.Errorf("metrics after a failed read:\n%s", text)
	}
}
