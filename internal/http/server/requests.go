package server

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dialtone/internal/metric"
)

// Requests collects metrics about the requests of one handler, by route, class of method and class
// of status. All three have fixed values, so that no client can add a time series. Begin and End do
// not allocate or take a lock.
type Requests struct {
	routes   []string // sorted; the last one is OtherRoute
	inFlight atomic.Int64
	// latencies holds a histogram for each combination of route, method and status that has
	// occurred.
	latencies []atomic.Pointer[metric.Histogram]
}

// OtherRoute is the route of all paths that a handler does not know.
const OtherRoute = "other"

// The classes of methods and statuses. A status below 200, or none, counts as 5xx: the handler
// returned without a final response.
var (
	methods  = []string{"read", "write", "other"} // GET and HEAD; POST, PUT, PATCH and DELETE
	statuses = []string{"2xx", "3xx", "4xx", "5xx"}
)

// NewRequests returns a Requests for a handler with the given routes, in addition to OtherRoute.
func NewRequests(routes ...string) *Requests {
	q := &Requests{routes: slices.Compact(slices.Sorted(slices.Values(routes)))}
	q.routes = append(q.routes, OtherRoute)
	q.latencies = make([]atomic.Pointer[metric.Histogram], len(q.routes)*len(methods)*len(statuses))
	return q
}

// Routes returns all routes.
func (q *Requests) Routes() []string { return q.routes }

// Route returns the number of a route, for End. An unknown route has the number of OtherRoute.
func (q *Requests) Route(name string) int {
	last := len(q.routes) - 1
	if i, ok := slices.BinarySearch(q.routes[:last], name); ok {
		return i
	}
	return last
}

// Recorder is a response that remembers its status.
type Recorder struct {
	http.ResponseWriter
	status int
	start  time.Duration // since epoch
}

// epoch is the reference for start times. time.Since(epoch) reads only the monotonic clock, which
// takes half as long as time.Now.
var epoch = time.Now()

// WriteHeader implements http.ResponseWriter.
func (r *Recorder) WriteHeader(status int) {
	if r.status < http.StatusOK {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *Recorder) Write(p []byte) (int, error) {
	if r.status < http.StatusOK {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap returns the inner ResponseWriter, for http.ResponseController and form.Body.
func (r *Recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Status returns the status that was written, or 0.
func (r *Recorder) Status() int { return r.status }

var recorders = sync.Pool{New: func() any { return new(Recorder) }}

// Begin begins a request. The handler must write to the Recorder, and must not use it after End.
func (q *Requests) Begin(w http.ResponseWriter) *Recorder {
	q.inFlight.Add(1)
	r := recorders.Get().(*Recorder)
	*r = Recorder{ResponseWriter: w, start: time.Since(epoch)}
	return r
}

// End ends a request with the number of its route and its method.
func (q *Requests) End(r *Recorder, route int, method string) {
	q.observe(route, method, r.status, r.start)
	q.inFlight.Add(-1)
	r.ResponseWriter = nil
	recorders.Put(r)
}

func (q *Requests) observe(route int, method string, status int, start time.Duration) {
	m, s := 2, 3
	switch method {
	case http.MethodGet, http.MethodHead:
		m = 0
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		m = 1
	}
	if 200 <= status && status < 500 {
		s = status/100 - 2
	}
	at := &q.latencies[(route*len(methods)+m)*len(statuses)+s]
	h := at.Load()
	if h == nil {
		at.CompareAndSwap(nil, metric.NewHistogram(metric.Latencies))
		h = at.Load()
	}
	h.Observe((time.Since(epoch) - start).Seconds())
}

// InFlight returns the number of requests in progress.
func (q *Requests) InFlight() int64 { return q.inFlight.Load() }

// Latency is how long requests of one kind took, in seconds.
type Latency struct {
	Route, Method, Status string
	metric.Snapshot
}

// Latencies returns the latencies of all kinds of requests that have occurred.
func (q *Requests) Latencies() (list []Latency) {
	for i := range q.latencies {
		if h := q.latencies[i].Load(); h != nil {
			list = append(list, Latency{
				Route:    q.routes[i/len(statuses)/len(methods)],
				Method:   methods[i/len(statuses)%len(methods)],
				Status:   statuses[i%len(statuses)],
				Snapshot: h.Snapshot(),
			})
		}
	}
	return list
}

// Connections counts the connections of a listener. The zero value is ready for use.
type Connections struct {
	open               atomic.Int64
	accepted           atomic.Int64
	refused, displaced atomic.Int64
}

// ConnectionCounts are the numbers of a Connections.
type ConnectionCounts struct {
	// Open is the number of open connections, Accepted the number accepted since the start.
	Open, Accepted int64
	// Refused and Displaced are connections that were closed because of the Limits.
	Refused, Displaced int64
}

// Counts returns the current numbers.
func (c *Connections) Counts() ConnectionCounts {
	return ConnectionCounts{c.open.Load(), c.accepted.Load(), c.refused.Load(), c.displaced.Load()}
}
