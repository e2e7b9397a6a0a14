package lookup

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/sipserver"
	"dialtone/internal/throttle"
)

// Root is where all addresses of this package begin.
const Root = "/v1/"

// Site answers phone servers.
type Site struct {
	phones *sipserver.Registry
	log    *slog.Logger
	table  map[string]route
	// away is how often it is logged that the store could not be asked.
	away *throttle.Rate
}

// New makes a Site.
func New(phones *sipserver.Registry, log *slog.Logger) *Site {
	s := &Site{phones: phones, log: log, away: throttle.NewRate(1)}
	s.table = map[string]route{
		"/v1/sip/credential":       {method: http.MethodGet, serve: s.credential, fail: failJSON},
		"/v1/freeswitch/directory": {method: http.MethodPost, serve: s.freeswitch, fail: failJSON},
	}
	s.asterisk(s.table)
	return s
}

// route is what one address does.
type route struct {
	method string
	// serve appends the answer to b, or fails.
	serve func(b []byte, ask *ask) ([]byte, error)
	// fail appends what a failure is told as.
	fail func(b []byte, h http.Header, k kind, err error) []byte
}

// ask is a request that came with a right token.
type ask struct {
	*http.Request
	caller *sipserver.Caller
	header http.Header // of the answer
}

// buffers hold answers. One grows to some hundred bytes.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// ServeHTTP answers.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = nosniff
	buffer := buffers.Get().(*[]byte)
	status, b := s.answer((*buffer)[:0], h, r)
	w.WriteHeader(status)
	w.Write(b)
	*buffer = b
	buffers.Put(buffer)
}

// One slice each, shared by all answers: headers are set anew and never appended to.
var (
	noStore  = []string{"no-store"}
	nosniff  = []string{"nosniff"}
	jsonType = []string{"application/json; charset=utf-8"}
	textType = []string{"text/plain; charset=utf-8"}
	xmlType  = []string{"text/xml; charset=utf-8"}
	bearer   = []string{`Bearer realm="dialtone"`, `Basic realm="dialtone", charset="UTF-8"`}
)

// answer appends the answer to b and gives its status.
func (s *Site) answer(b []byte, h http.Header, r *http.Request) (status int, out []byte) {
	rt, ok := s.table[r.URL.Path]
	if !ok {
		rt.fail = failJSON
	}
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(context.WithoutCancel(r.Context()), "panic", "path", r.URL.Path, "stack", fmt.Sprintf("%v\n%s", p, debug.Stack()))
			status, out = kinds[fault.Internal].status, rt.fail(b, h, kinds[fault.Internal], errPanic)
		}
	}()
	out, err := s.serve(b, h, r, rt)
	if err == nil {
		return http.StatusOK, out
	}
	k := kinds[fault.KindOf(err)]
	s.note(r, err)
	if wait := retryAfter(err); wait > 0 {
		h["Retry-After"] = []string{strconv.Itoa(int(wait / time.Second))}
	}
	if k.status == http.StatusUnauthorized {
		h["Www-Authenticate"] = bearer
	}
	return k.status, rt.fail(b, h, k, err)
}

func (s *Site) serve(b []byte, h http.Header, r *http.Request, rt route) ([]byte, error) {
	if rt.serve == nil {
		return nil, errNoPath
	}
	if r.Method != rt.method {
		h["Allow"] = []string{rt.method}
		return nil, fault.New(fault.Method, "this address takes %s", rt.method)
	}
	token, ok := tokenOf(r.Header)
	if !ok {
		return nil, errNoToken
	}
	c, err := s.phones.Authenticate(r.Context(), token, account.Origin{Addr: peer(r)})
	if err != nil {
		return nil, err
	}
	if len(r.URL.RawQuery) > maxQuery {
		return nil, fault.New(fault.Invalid, "the query is longer than %d bytes", maxQuery)
	}
	return rt.serve(b, &ask{r, c, h})
}

var (
	errNoPath  = fault.New(fault.NotFound, "there is nothing at this address; check it for a slip")
	errNoToken = fault.New(fault.Unauthorized, "send the phone server's token: Authorization: Bearer TOKEN, or Basic with it as password")
	errPanic   = errors.New("panic")
)

// maxQuery bounds a query; the longest honest one has some 700 bytes.
const maxQuery = 2 << 10

// tokenOf is the token in the Authorization header. There may be one such header only.
func tokenOf(h http.Header) (string, bool) {
	lines := h["Authorization"]
	if len(lines) != 1 {
		return "", false
	}
	scheme, rest, _ := strings.Cut(lines[0], " ")
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

// peer is where a request comes from. No proxy is believed to say otherwise: this listener is not for the public.
func peer(r *http.Request) netip.Addr {
	p, _ := netip.ParseAddrPort(r.RemoteAddr)
	return p.Addr().Unmap().WithZone("")
}

// form is the body of a POST.
func (a *ask) form(most int64) (string, error) {
	media, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || media != "application/x-www-form-urlencoded" || charset != "" && !strings.EqualFold(charset, "utf-8") || a.Header.Get("Content-Encoding") != "" {
		return "", fault.New(fault.Invalid, "send the form as application/x-www-form-urlencoded in UTF-8")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, a.Body, most))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return "", fault.New(fault.Invalid, "the form is longer than %d bytes", most)
	} else if err != nil {
		return "", fault.New(fault.Invalid, "the form did not arrive whole; send it again")
	}
	return string(body), nil
}

// kind is how a kind of error is told.
type kind struct {
	status int
	code   string
}

var kinds = map[fault.Kind]kind{
	fault.Internal:     {http.StatusInternalServerError, "server_error"},
	fault.NotFound:     {http.StatusNotFound, "not_found"},
	fault.Method:       {http.StatusMethodNotAllowed, "method_not_allowed"},
	fault.Invalid:      {http.StatusBadRequest, "invalid_request"},
	fault.Limited:      {http.StatusTooManyRequests, "rate_limited"},
	fault.Unauthorized: {http.StatusUnauthorized, "unauthorized"},
	fault.Overloaded:   {http.StatusServiceUnavailable, "overloaded"},
}

func retryAfter(err error) time.Duration {
	if fe, ok := errors.AsType[*fault.Error](err); ok {
		return fe.RetryAfter
	}
	return 0
}

// note logs what an operator has to know. The path has no secret in it; the query and the body, which name people, are left out.
func (s *Site) note(r *http.Request, err error) {
	switch fault.KindOf(err) {
	case fault.Internal:
		s.log.ErrorContext(r.Context(), "a look-up failed", "path", r.URL.Path, "err", err)
	case fault.Overloaded:
		if s.away.Take(time.Now()) == 0 {
			s.log.WarnContext(r.Context(), "look-ups are not answered", "path", r.URL.Path, "err", err)
		}
	}
}

// failJSON tells a failure in JSON.
func failJSON(b []byte, h http.Header, k kind, err error) []byte {
	h["Content-Type"] = jsonType
	text := "something failed on our side; ask again in a while, and tell the operator if it stays"
	if fe, ok := errors.AsType[*fault.Error](err); ok {
		if text = fe.Message; fe.Field != "" {
			text = fe.Field + ": " + text
		}
	}
	b = append(append(b, `{"error":"`...), k.code...)
	// The texts are this program's own, and none quotes what came in.
	b = append(append(b, `","error_description":"`...), text...)
	return append(b, "\"}\n"...)
}
