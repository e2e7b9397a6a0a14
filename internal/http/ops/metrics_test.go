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

func exposed(t *testing.T, s *Site) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("status %d, %v", w.Code, w.Header())
	}
	return w.Body.String()
}

func TestReadingsAreExposed(t *testing.T) {
	var broken error
	r := NewRegistry()
	r.MustRegister(Readings([]Metric{
		{Name: "x_queue_messages", Help: "Messages.", Label: "state"}, {Name: "x_tries_total", Help: "Tries.", Counts: true}, {Name: "x_age_seconds", Help: "Age."},
	}, func(_ context.Context, set func(int, string, float64)) error {
		set(0, "waiting", 3)
		set(0, "deferred", 0)
		set(1, "", 17)
		if broken == nil {
			set(2, "", 1.5)
		}
		return broken
	}))
	s := New(nil, r, time.Now)
	text := exposed(t, s)
	for _, line := range []string{
		"# TYPE x_queue_messages gauge", "# TYPE x_tries_total counter", `x_queue_messages{state="waiting"} 3`, `x_queue_messages{state="deferred"} 0`,
		"x_tries_total 17", "x_age_seconds 1.5", "# TYPE go_goroutines gauge", "# TYPE process_start_time_seconds gauge",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("there is no line %s", line)
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
	broken = errors.New("the store is gone")
	if text := exposed(t, s); !strings.Contains(text, "x_tries_total 17") || strings.Contains(text, "x_age_seconds 1") || !strings.Contains(text, "go_goroutines") {
		t.Errorf("what can be read is not told:\n%s", text)
	}
}
