package server

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestRequests(t *testing.T) {
	q := NewRequests("/b", "/a", "/a")
	for _, r := range []struct {
		route, method string
		status        int
	}{
		{"/a", "GET", 200}, {"/a", "HEAD", 204}, {"/a", "POST", 404}, {"/b", "PURGE", 501}, {"/a", "GET", 0},
		{"/unknown", "DELETE", 302}, {"/unknown", "GET", 999},
	} {
		w := q.Begin(httptest.NewRecorder())
		if r.status >= 200 && r.status < 600 {
			w.WriteHeader(r.status)
		} else if r.status != 0 {
			w.status = r.status
		}
		if q.InFlight() != 1 {
			t.Errorf("%d requests are in progress, want 1", q.InFlight())
		}
		q.End(w, q.Route(r.route), r.method)
	}
	got := make(map[[3]string]uint64)
	for _, l := range q.Latencies() {
		got[[3]string{l.Route, l.Method, l.Status}] = l.Count
	}
	want := map[[3]string]uint64{
		{"/a", "read", "2xx"}: 2, {"/a", "write", "4xx"}: 1, {"/b", "other", "5xx"}: 1, {"/a", "read", "5xx"}: 1,
		{"other", "write", "3xx"}: 1, {"other", "read", "5xx"}: 1,
	}
	if len(got) != len(want) || q.InFlight() != 0 {
		t.Errorf("%v, %d in progress", got, q.InFlight())
	}
	for key, n := range want {
		if got[key] != n {
			t.Errorf("%v: %d, want %d", key, got[key], n)
		}
	}
}

func TestRecorder(t *testing.T) {
	q := NewRequests("/a")
	w := q.Begin(httptest.NewRecorder())
	w.WriteHeader(http.StatusEarlyHints) // which another status follows
	w.Write([]byte("x"))
	w.WriteHeader(http.StatusTeapot) // too late
	if w.Status() != http.StatusOK {
		t.Errorf("status %d", w.Status())
	}
}

type nothing struct{}

func (nothing) Header() http.Header         { return nil }
func (nothing) Write(p []byte) (int, error) { return len(p), nil }
func (nothing) WriteHeader(int)             {}

func TestMeasuringAllocatesNothing(t *testing.T) {
	q := NewRequests("/a")
	if n := testing.AllocsPerRun(100, func() {
		w := q.Begin(nothing{})
		w.WriteHeader(200)
		q.End(w, 0, "GET")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkRequests measures the cost of the metrics for one request.
func BenchmarkRequests(b *testing.B) {
	q := NewRequests("/a", "/b", "/c")
	b.ReportAllocs()
	for b.Loop() {
		w := q.Begin(nothing{})
		w.WriteHeader(200)
		q.End(w, 1, "GET")
	}
}
