package lookup

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/server"
	"dialtone/internal/sipserver"
	"dialtone/internal/throttle"
)

// Root is the prefix of all paths of this package.
const Root = "/v1/"

// Handler answers phone servers. It is safe for concurrent use.
type Handler struct {
	deps   Deps
	routes map[string]route // by path
	// requests collects the request metrics, and counts the look-ups.
	requests *server.Requests
	counts   counts
	// storeErrors limits how often an unavailable store is logged.
	storeErrors *throttle.Rate
}

// Deps are the dependencies of a Handler. All are required.
type Deps struct {
	Registry *sipserver.Registry
	Log      *slog.Logger
	Now      func() time.Time
}

// New returns a Handler.
func New(d Deps) *Handler {
	h := &Handler{deps: d, storeErrors: throttle.NewRate(1)}
	h.routes = map[string]route{
		"/v1/sip/credential": {
			method: http.MethodGet, serve: h.credential, fail: appendJSONError, format: credentialFormat,
		},
		"/v1/freeswitch/directory": {
			method: http.MethodPost, serve: h.freeswitch, fail: appendJSONError, format: freeswitchFormat,
		},
	}
	h.addAsterisk()
	h.requests = server.NewRequests(slices.Collect(maps.Keys(h.routes))...)
	for path, rt := range h.routes {
		rt.number = h.requests.Route(path)
		h.routes[path] = rt
	}
	return h
}

// Requests returns the request metrics.
func (h *Handler) Requests() *server.Requests { return h.requests }

// route describes one path.
type route struct {
	method string
	// serve appends the answer to b and sets its Content-Type.
	serve func(b []byte, r *request) ([]byte, error)
	// fail appends the answer for an error to b and sets its Content-Type.
	fail func(b []byte, header http.Header, err error) []byte
	// format is the format of the look-ups at the path, or noLookup.
	format format
	// number is the route's number in the metrics.
	number int
}

// request is an authenticated request.
type request struct {
	*http.Request
	w      http.ResponseWriter
	caller *sipserver.Caller
	// outcome is set by find.
	outcome outcome
}

// find looks up an account for the caller, and records the outcome.
func (h *Handler) find(r *request, realm, username string) (sipserver.Entry, error) {
	e, err := h.deps.Registry.Find(r.Context(), r.caller, realm, username)
	switch {
	case err != nil:
		r.outcome = outcomeOf(err)
	case e.Cached:
		r.outcome = foundCached
	default:
		r.outcome = found
	}
	return e, err
}

// setType sets the Content-Type of the answer. It takes a slice that all answers share, so it does not allocate.
func (r *request) setType(mediaType []string) { r.w.Header()["Content-Type"] = mediaType }

// buffers contains buffers for answers, which have a few hundred bytes.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(writer http.ResponseWriter, r *http.Request) {
	rt, ok := h.routes[r.URL.Path]
	if !ok {
		rt.fail, rt.number = appendJSONError, h.requests.Route(server.OtherRoute)
	}
	w := h.requests.Begin(writer)
	defer func() { h.requests.End(w, rt.number, r.Method) }()
	answer.SetHeaders(w.Header())
	buffer := buffers.Get().(*[]byte)
	status, b := h.answer((*buffer)[:0], w, r, rt)
	w.WriteHeader(status)
	w.Write(b)
	*buffer = b
	buffers.Put(buffer)
}

// answer appends the answer to b and returns it with its status.
func (h *Handler) answer(b []byte, w http.ResponseWriter, r *http.Request, rt route) (status int, out []byte) {
	defer func() {
		if p := recover(); p != nil {
			err := fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			status, out = h.fail(b, w, r, rt, err)
		}
	}()
	out, err := h.serve(b, w, r, rt)
	if err != nil {
		return h.fail(b, w, r, rt, err)
	}
	return http.StatusOK, out
}

// fail appends the answer for an error to b and returns it with its status. It is the only place
// where an error becomes an answer.
func (h *Handler) fail(b []byte, w http.ResponseWriter, r *http.Request, rt route, err error) (int, []byte) {
	h.log(r, err)
	if rt.format != noLookup {
		h.counts[rt.format][outcomeOf(err)].Add(1)
	}
	answer.SetRetryAfter(w.Header(), err)
	if fault.Is(err, fault.Unauthorized) {
		w.Header()["Www-Authenticate"] = challenges
	}
	return answer.KindOf(err).Status, rt.fail(b, w.Header(), err)
}

var challenges = []string{`Bearer realm="dialtone"`, `Basic realm="dialtone", charset="UTF-8"`}

func (h *Handler) serve(b []byte, w http.ResponseWriter, r *http.Request, rt route) ([]byte, error) {
	if rt.serve == nil {
		return nil, errNoPath
	}
	if r.Method != rt.method {
		w.Header()["Allow"] = []string{rt.method}
		return nil, fault.New(fault.Method, "use the method %s for this path", rt.method)
	}
	token, ok := tokenOf(r.Header)
	if !ok {
		return nil, errNoToken
	}
	// No header is trusted to name another address, because this listener is not public.
	c, err := h.deps.Registry.Authenticate(r.Context(), token, account.Origin{Addr: server.Peer(r)})
	if err != nil {
		return nil, err
	}
	if len(r.URL.RawQuery) > maxQuery {
		return nil, fault.New(fault.Invalid, "the query is longer than %d bytes; shorten it", maxQuery)
	}
	request := &request{Request: r, w: w, caller: c}
	b, err = rt.serve(b, request)
	if err == nil && rt.format != noLookup {
		h.counts[rt.format][request.outcome].Add(1)
	}
	return b, err
}

var (
	errNoPath  = fault.New(fault.NotFound, "there is nothing at this path; check its spelling")
	errNoToken = fault.New(fault.Unauthorized, "send the token of the phone server: "+
		"Authorization: Bearer TOKEN, or Basic with the token as the password")
)

// maxQuery is the maximum length of a query in bytes. The longest valid one has about 700.
const maxQuery = 2 << 10

// tokenOf returns the token in the Authorization header. More than one such header is refused.
func tokenOf(header http.Header) (string, bool) {
	values := header["Authorization"]
	if len(values) != 1 {
		return "", false
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return rest, rest != ""
	case strings.EqualFold(scheme, "Basic"):
		pair, err := base64.StdEncoding.DecodeString(rest)
		if err != nil {
			return "", false
		}
		_, token, ok := strings.Cut(string(pair), ":")
		return token, ok
	}
	return "", false
}

// log logs errors that an operator should know about. It leaves out the query and the body, which
// contain user names.
func (h *Handler) log(r *http.Request, err error) {
	switch fault.KindOf(err) {
	case fault.Internal:
		ctx := context.WithoutCancel(r.Context())
		h.deps.Log.ErrorContext(ctx, "lookup failed", "path", r.URL.Path, "err", err)
	case fault.Overloaded:
		if h.storeErrors.Take(h.deps.Now()) == 0 {
			h.deps.Log.WarnContext(r.Context(), "lookup unavailable", "path", r.URL.Path, "err", err)
		}
	}
}

// appendJSONError appends an error in JSON.
func appendJSONError(b []byte, header http.Header, err error) []byte {
	header["Content-Type"] = answer.JSONType
	body, err := json.Marshal(answer.ErrorOf(err, "something went wrong on the server; "+
		"ask again shortly, and contact the operator if it keeps happening"))
	if err != nil {
		return b // Two strings always marshal.
	}
	return append(append(b, body...), '\n')
}
