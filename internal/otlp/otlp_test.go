package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/trace"
)

// collector is a receiver of OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu        sync.Mutex
	status    int
	elsewhere string // where redirects lead
	spans     []span
	requests  int
	header    http.Header
	resource  []attribute
}

func newCollector(t *testing.T) *collector {
	c := &collector{status: http.StatusOK}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.requests++
		if c.status != http.StatusOK {
			w.Header().Set("Location", c.elsewhere)
			w.WriteHeader(c.status)
			return
		}
		zip, err := gzip.NewReader(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" ||
			r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %v, %v", r.Method, r.URL, err, r.Header)
			return
		}
		var body request
		d := json.NewDecoder(zip)
		d.DisallowUnknownFields()
		if err := d.Decode(&body); err != nil {
			t.Error(err)
			return
		}
		c.header, c.resource = r.Header, body.ResourceSpans[0].Resource.Attributes
		c.spans = append(c.spans, body.ResourceSpans[0].ScopeSpans[0].Spans...)
		io.WriteString(w, "{}")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) set(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// run runs an exporter for a collector, until stop is called.
func run(t *testing.T, c Config, log io.Writer) (e *Exporter, stop func()) {
	t.Helper()
	c.Log, c.Now = slog.New(slog.NewTextHandler(log, nil)), time.Now
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { e.Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return e, stop
}

// record records a trace with one part.
func record(e *Exporter) {
	ctx, root := trace.New(1, e.Add).Begin(context.Background(), "/signup.ashx", trace.Server, trace.Parent{})
	_, part := trace.Start(ctx, "store.write")
	part.Finish(true)
	root.SetInt("http.response.status_code", 200)
	root.Set("dialtone.tenant", "phone.test")
	root.Finish(false)
}

func TestExport(t *testing.T) {
	c := newCollector(t)
	e, stop := run(t, Config{
		Endpoint: c.URL, Resource: map[string]string{"service.name": "dialtone"},
		Header: func() (string, string, error) { return "Authorization", "Bearer secret", nil },
	}, io.Discard)
	record(e)
	stop() // which sends what waits
	if len(c.spans) != 2 || e.Counts() != (Counts{Sent: 2}) {
		t.Fatalf("%+v, %+v", c.spans, e.Counts())
	}
	part, root := c.spans[0], c.spans[1]
	if len(root.TraceID) != 32 || len(root.SpanID) != 16 || root.ParentSpanID != "" || root.Kind != 2 ||
		root.Name != "/signup.ashx" || root.Status != nil || root.Attributes[0].Value.Int != "200" ||
		*root.Attributes[1].Value.String != "phone.test" || len(root.Start) != 19 || root.End < root.Start {
		t.Errorf("%+v", root)
	}
	if part.TraceID != root.TraceID || part.ParentSpanID != root.SpanID || part.Kind != 1 || part.Status.Code != 2 {
		t.Errorf("%+v", part)
	}
	if c.header.Get("Authorization") != "Bearer secret" || c.resource[0].Key != "service.name" {
		t.Errorf("%v, %+v", c.header, c.resource)
	}
}

// A batch is retried while the collector is unavailable, and the outage is logged once.
func TestRetry(t *testing.T) {
	c := newCollector(t)
	c.set(http.StatusServiceUnavailable)
	var log safeBuffer
	e, _ := run(t, Config{Endpoint: c.URL + "/"}, &log)
	record(e)
	until(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.requests == 1 })
	c.set(http.StatusOK)
	until(t, func() bool { return e.Counts().Sent == 2 })
	if text := log.String(); strings.Count(text, "traces not sent") != 1 ||
		strings.Count(text, "traces sent again") != 1 || !strings.Contains(text, "503") {
		t.Errorf("the log: %s", text)
	}
}

// Spans that the collector refuses are dropped immediately.
func TestRefused(t *testing.T) {
	c := newCollector(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a redirect was followed")
	}))
	defer elsewhere.Close()
	c.elsewhere = elsewhere.URL
	for _, status := range []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusFound} {
		c.set(status)
		e, err := New(Config{Endpoint: c.URL, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		record(e)
		if again, err := e.send(t.Context(), []*trace.Span{<-e.waiting}); again || err == nil {
			t.Errorf("%d: again %v, %v", status, again, err)
		}
	}
}

// Add never blocks: without a collector, spans that do not fit into the queue are dropped.
func TestQueueIsBounded(t *testing.T) {
	e, err := New(Config{Endpoint: "http://127.0.0.1:1", Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for range maxWaiting {
		record(e)
	}
	if e.Counts().Dropped != maxWaiting {
		t.Errorf("%d spans were dropped, want %d", e.Counts().Dropped, maxWaiting)
	}
	again, err := e.send(t.Context(), []*trace.Span{<-e.waiting})
	if !again || err == nil || strings.Contains(err.Error(), "http://") {
		t.Errorf("again %v, %v", again, err)
	}
}

func TestHeaderThatCannotBeRead(t *testing.T) {
	e, err := New(Config{
		Endpoint: "http://127.0.0.1:1", Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Header: func() (string, string, error) { return "", "", errors.New("no file") },
	})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := e.send(t.Context(), nil); !again || err == nil || err.Error() != "no file" {
		t.Errorf("again %v, %v", again, err)
	}
}

func TestEndpoints(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://h:4318": "http://h:4318/v1/traces", "https://h/": "https://h/v1/traces",
		"https://h/otlp/v1/traces": "https://h/otlp/v1/traces", "h:4318": "", "ftp://h": "", "": "",
	} {
		e, err := New(Config{Endpoint: endpoint, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		if (err == nil) != (want != "") || err == nil && e.url != want {
			t.Errorf("%q: %v, %v", endpoint, e, err)
		}
	}
}

func until(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * interval); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}

// safeBuffer is a buffer that a test may read while it is written to.
type safeBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
