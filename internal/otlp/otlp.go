// Package otlp sends spans to a collector of OpenTelemetry, by OTLP over HTTP in its JSON encoding (OTLP 1, sections
// "OTLP/HTTP" and "JSON Protobuf Encoding"), compressed by gzip.
//
// Add never blocks. Spans wait in a queue of a fixed size; when the collector is slow or
// unavailable, the queue fills up, and further spans are dropped and counted. An outage of the
// collector is logged when it begins and ends. No span survives a restart.
//
// A batch that the collector cannot accept now (429, 502, 503, 504, or no answer) is retried at the
// next interval, up to three attempts in all. A batch that it refuses is dropped, since it would
// refuse it again.
package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"dialtone/internal/outage"
	"dialtone/internal/trace"
)

const (
	// maxWaiting is how many spans may wait, at a few hundred bytes each.
	maxWaiting = 2048
	// maxBatch is the maximum number of spans in a request.
	maxBatch = 512
	// interval is how long a span waits for others.
	interval = 2 * time.Second
	// timeout limits a request, and lastTimeout the one when the server shuts down.
	timeout     = 10 * time.Second
	lastTimeout = 2 * time.Second
	// maxTries is how often a batch is sent at most.
	maxTries = 3
)

// Config says where spans are sent.
type Config struct {
	// Endpoint is the URL for traces. One without a path means /v1/traces.
	Endpoint string
	// Header returns the name and the value of a header for each request, such as Authorization. It may be nil.
	Header func() (name, value string, err error)
	// Resource contains the attributes of this server, such as service.name.
	Resource map[string]string
	Log      *slog.Logger
	Now      func() time.Time
}

// Exporter sends spans. Its methods are safe for concurrent use, except that Run runs once.
type Exporter struct {
	config   Config
	url      string
	client   *http.Client
	resource resource
	waiting  chan *trace.Span
	outage   *outage.Log

	sent, dropped, failed atomic.Int64
}

// New returns an Exporter.
func New(c Config) (*Exporter, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the endpoint is not a URL such as https://collector.example.org:4318")
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 1
	return &Exporter{
		config: c, url: u.String(), resource: resource{attributes(c.Resource)},
		client: &http.Client{
			Transport: transport,
			// The header must not go to another server.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		waiting: make(chan *trace.Span, maxWaiting),
		outage:  outage.New(c.Log, "traces not sent", "traces sent again", c.Now),
	}, nil
}

// Add queues a span that has ended, or drops it if the queue is full.
func (e *Exporter) Add(s *trace.Span) {
	select {
	case e.waiting <- s:
	default:
		e.dropped.Add(1)
	}
}

// Counts counts the spans since the start, by their outcome.
type Counts struct {
	// Sent were accepted by the collector, Dropped did not fit into the queue, and Failed were
	// refused or abandoned.
	Sent, Dropped, Failed int64
}

// Counts returns the current counts.
func (e *Exporter) Counts() Counts { return Counts{e.sent.Load(), e.dropped.Load(), e.failed.Load()} }

// Run sends spans until ctx ends, and then makes one attempt to send those that wait.
func (e *Exporter) Run(ctx context.Context) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var batch []*trace.Span
	tries := 0
	send := func(ctx context.Context, timeout time.Duration) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		again, err := e.send(ctx, batch)
		e.outage.Report(context.WithoutCancel(ctx), err, "retry_in", interval.String())
		tries++
		switch {
		case err == nil:
			e.sent.Add(int64(len(batch)))
		case again && tries < maxTries:
			return
		default:
			e.failed.Add(int64(len(batch)))
		}
		batch, tries = nil, 0
	}
	for {
		// While a batch is to be sent again, spans wait in the queue, which is bounded.
		take := e.waiting
		if tries > 0 {
			take = nil
		}
		select {
		case <-ctx.Done():
			for more := true; more && len(batch) < maxWaiting; {
				select {
				case s := <-e.waiting:
					batch = append(batch, s)
				default:
					more = false
				}
			}
			if len(batch) > 0 {
				tries = maxTries // no other attempt follows
				send(context.WithoutCancel(ctx), lastTimeout)
			}
			return
		case s := <-take:
			if batch = append(batch, s); len(batch) == maxBatch {
				send(ctx, timeout)
			}
		case <-ticker.C:
			if len(batch) > 0 {
				send(ctx, timeout)
			}
		}
	}
}

// errRefused is an unsuccessful answer.
type errRefused struct{ status int }

func (e errRefused) Error() string {
	return fmt.Sprintf("the collector answered %d %s", e.status, http.StatusText(e.status))
}

// send sends a batch. It reports whether another attempt may succeed. The error contains neither a
// header nor a body.
func (e *Exporter) send(ctx context.Context, batch []*trace.Span) (again bool, err error) {
	body, err := e.encode(batch)
	if err != nil {
		return false, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	r.Header.Set("User-Agent", "dialtone")
	if e.config.Header != nil {
		name, value, err := e.config.Header()
		if err != nil {
			return true, err
		}
		r.Header.Set(name, value)
	}
	resp, err := e.client.Do(r)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL
		}
		return true, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	switch resp.StatusCode {
	case http.StatusOK:
		return false, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true, errRefused{resp.StatusCode}
	default:
		return false, errRefused{resp.StatusCode}
	}
}

// The types of the JSON encoding. Numbers of 64 bits are strings, and IDs are hexadecimal.
type (
	request struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   resource     `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	resource struct {
		Attributes []attribute `json:"attributes"`
	}
	scopeSpans struct {
		Scope scope  `json:"scope"`
		Spans []span `json:"spans"`
	}
	scope struct {
		Name string `json:"name"`
	}
	span struct {
		TraceID      string      `json:"traceId"`
		SpanID       string      `json:"spanId"`
		ParentSpanID string      `json:"parentSpanId,omitempty"`
		Name         string      `json:"name"`
		Kind         int         `json:"kind"`
		Start        string      `json:"startTimeUnixNano"`
		End          string      `json:"endTimeUnixNano"`
		Attributes   []attribute `json:"attributes,omitempty"`
		Status       *status     `json:"status,omitempty"`
	}
	status struct {
		Code int `json:"code"`
	}
	attribute struct {
		Key   string `json:"key"`
		Value value  `json:"value"`
	}
	value struct {
		String *string `json:"stringValue,omitempty"`
		Int    string  `json:"intValue,omitempty"`
	}
)

// statusError is the code of a span that failed.
const statusError = 2

func attributes(texts map[string]string) (list []attribute) {
	for key, text := range texts {
		list = append(list, attribute{key, value{String: &text}})
	}
	return list
}

// encode returns the compressed body for a batch.
func (e *Exporter) encode(batch []*trace.Span) ([]byte, error) {
	spans := make([]span, len(batch))
	for i, s := range batch {
		spans[i] = encodeSpan(s)
	}
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	err := json.NewEncoder(zip).Encode(request{[]resourceSpans{{
		e.resource, []scopeSpans{{scope{"dialtone"}, spans}},
	}}})
	err = errors.Join(err, zip.Close())
	return b.Bytes(), err
}

func encodeSpan(s *trace.Span) span {
	out := span{
		TraceID: hex.EncodeToString(s.Trace[:]), SpanID: hex.EncodeToString(s.ID[:]), Name: s.Name, Kind: int(s.Kind),
		Start: strconv.FormatInt(s.Start.UnixNano(), 10), End: strconv.FormatInt(s.End.UnixNano(), 10),
	}
	if s.Parent != [8]byte{} {
		out.ParentSpanID = hex.EncodeToString(s.Parent[:])
	}
	if s.Failed {
		out.Status = &status{statusError}
	}
	for _, a := range s.Attrs {
		v := value{String: &a.Text}
		if a.IsInt {
			v = value{Int: strconv.FormatInt(a.Int, 10)}
		}
		out.Attributes = append(out.Attributes, attribute{a.Key, v})
	}
	return out
}
