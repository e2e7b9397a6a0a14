package admin

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/server"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

const (
	// Root is the prefix of all paths of the API.
	Root = "/v1/admin/"
	// DocumentPath is the path of the OpenAPI document, which needs no token.
	DocumentPath = "/openapi.json"
)

// Deps are the dependencies of a Handler. All are required.
type Deps struct {
	Operator *operator.Service
	Tokens   *operator.Tokens
	Answers  *operator.Answers
	Tenants  *tenant.Table
	Log      *slog.Logger
	Now      func() time.Time
}

// Handler answers the requests of the API. It is safe for concurrent use.
type Handler struct {
	deps       Deps
	operations []operation
	document   func() []byte // built at the first request, since most servers never need the memory for it
	requests   *server.Requests
	export     exportLimits
	exports    chan struct{} // holds an element for each export in progress
	// storeErrors limits how often an unavailable store is logged.
	storeErrors *throttle.Rate
}

// New returns a Handler.
func New(d Deps) *Handler {
	h := &Handler{
		deps: d, export: defaultExport, exports: make(chan struct{}, maxExports), storeErrors: throttle.NewRate(1),
	}
	h.operations = h.routes()
	h.document = sync.OnceValue(func() []byte { return document(h.operations) })
	paths := []string{DocumentPath}
	for _, op := range h.operations {
		paths = append(paths, op.path)
	}
	h.requests = server.NewRequests(paths...)
	return h
}

// Requests returns the request metrics.
func (h *Handler) Requests() *server.Requests { return h.requests }

// Serves reports whether a path belongs to the Handler.
func Serves(path string) bool { return path == DocumentPath || strings.HasPrefix(path, Root) }

// request is a request with a valid token.
type request struct {
	*http.Request
	ctx    context.Context
	header http.Header // of the answer
	op     *operation
	id     string
	caller operator.Caller
	token  operator.Token
	args   map[string]string // by the names in braces in the path
	tenant *tenant.Tenant    // the one in the path
	query  map[string]string // the parameters that were sent
	body   any               // a pointer to a value of the type operation.body
	reason string
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(writer http.ResponseWriter, r *http.Request) {
	w := h.requests.Begin(writer)
	answer.SetHeaders(w.Header())
	req := &request{
		Request: r, ctx: r.Context(), header: w.Header(), id: strconv.FormatUint(rand.Uint64()|1<<63, 36),
	}
	defer func() {
		route := server.OtherRoute
		if req.op != nil {
			route = req.op.path
		} else if r.URL.Path == DocumentPath {
			route = DocumentPath
		}
		h.requests.End(w, h.requests.Route(route), r.Method)
	}()
	defer func() {
		if p := recover(); p != nil {
			h.fail(w, req, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	if r.URL.Path == DocumentPath {
		h.serveDocument(w, req)
		return
	}
	status, body, err := h.serve(w, req)
	if err != nil {
		h.fail(w, req, err)
		return
	}
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	mediaType := answer.JSONType
	if req.wantsLines() {
		mediaType = linesType
	}
	answer.Bytes(w, status, mediaType, body)
}

func (h *Handler) serveDocument(w http.ResponseWriter, r *request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		const allowed = "GET, HEAD"
		r.header["Allow"] = []string{allowed}
		h.fail(w, r, errMethod(allowed))
		return
	}
	answer.Bytes(w, http.StatusOK, answer.JSONType, h.document())
}

var challenge = []string{`Bearer realm="dialtone"`}

// fail is the only place where an error becomes an answer.
func (h *Handler) fail(w http.ResponseWriter, r *request, err error) {
	h.log(r, err)
	answer.SetRetryAfter(w.Header(), err)
	if fault.Is(err, fault.Unauthorized) {
		w.Header()["Www-Authenticate"] = challenge
	}
	body := Error{Error: answer.ErrorOf(err, "something went wrong on the server; ask again shortly, and contact the "+
		"operator of the server if it keeps happening (request "+r.id+")")}
	if fe, ok := errors.AsType[*fault.Error](err); ok && fe.Kind != fault.Internal {
		body.Field, body.Description = fe.Field, fe.Message
		if errors.Is(err, account.ErrHeld) {
			body.Description += "; to enable it first, send POST to its /enable"
		}
	}
	if errors.Is(err, operator.ErrUnknownOutcome) {
		body.Code = "outcome_unknown"
	}
	if err := answer.JSON(w, answer.KindOf(err).Status, body); err != nil {
		h.deps.Log.ErrorContext(r.ctx, "admin request failed", "request", r.id, "err", err)
	}
}

// log logs errors that the operator of the server should know about. It omits path, query and body,
// which contain user names and other personal data.
func (h *Handler) log(r *request, err error) {
	ctx, operation := context.WithoutCancel(r.ctx), ""
	if r.op != nil {
		operation = r.op.id
	}
	switch fault.KindOf(err) {
	case fault.Internal:
		h.deps.Log.ErrorContext(ctx, "admin request failed", "request", r.id, "operation", operation, "err", err)
	case fault.Overloaded:
		if h.storeErrors.Take(h.deps.Now()) == 0 {
			h.deps.Log.WarnContext(ctx, "admin request unavailable", "request", r.id, "operation", operation, "err",
				err)
		}
	}
}

var (
	errNoPath  = fault.New(fault.NotFound, "there is nothing at this path; see %s", DocumentPath)
	errNoToken = fault.New(fault.Unauthorized, "send a token of the API for operators: Authorization: Bearer TOKEN")
	// errNoTenant is returned both for a tenant that does not exist and for one that the token is
	// not for.
	errNoTenant = fault.New(fault.NotFound, "there is no such tenant")
)

func errMethod(allowed string) error {
	return fault.New(fault.Method, "use the method %s for this path", allowed)
}

// serve carries out a request and returns the answer.
func (h *Handler) serve(w http.ResponseWriter, r *request) (status int, body []byte, err error) {
	// The caller is authenticated before any other error is reported, so that strangers learn
	// nothing.
	token, ok := bearer(r.Header)
	if !ok {
		return 0, nil, errNoToken
	}
	if err := h.authenticate(r, token); err != nil {
		return 0, nil, err
	}
	if err := h.route(r); err != nil {
		return 0, nil, err
	}
	if err := r.checkScope(); err != nil {
		return 0, nil, err
	}
	if host, ok := r.args["host"]; ok {
		t, ok := h.deps.Tenants.Lookup(host)
		if !ok || t.Host != host || r.caller.Tenant != 0 && r.caller.Tenant != t.ID {
			return 0, nil, errNoTenant
		}
		r.tenant = t
	}
	if r.query, err = readQuery(r.URL, r.op.query); err != nil {
		return 0, nil, err
	}
	raw, err := h.readBody(w, r)
	if err != nil {
		return 0, nil, err
	}
	if r.ContentLength != 0 {
		// The token may have been removed while the body arrived, since the sender controls how
		// long that takes. Its tenant and scopes never change.
		if err := h.authenticate(r, token); err != nil {
			return 0, nil, err
		}
	}
	if err := r.readCondition(); err != nil {
		return 0, nil, err
	}
	if status, body, err = h.carryOut(r, raw); err == nil && r.op.names != "" {
		r.setLocation(body)
	}
	return status, body, err
}

// setLocation sets the header Location to the created object, which a member of the answer names.
// The answer may be a replayed one.
func (r *request) setLocation(body []byte) {
	var made map[string]any
	if json.Unmarshal(body, &made) != nil {
		return
	}
	if name, ok := made[r.op.names].(string); ok {
		r.header["Location"] = []string{r.URL.EscapedPath() + "/" + url.PathEscape(name)}
	}
}

// authenticate sets the caller of a request with a token.
func (h *Handler) authenticate(r *request, token string) (err error) {
	r.caller, r.token, err = h.deps.Tokens.Authenticate(r.ctx, token, server.Peer(r.Request), r.id)
	return err
}

// carryOut calls the function of the operation, once for each idempotency key.
func (h *Handler) carryOut(r *request, raw []byte) (status int, body []byte, err error) {
	do := func() (int, []byte, error) {
		v, err := r.op.serve(r)
		if err != nil || r.op.answer == nil {
			return r.op.status, nil, err
		}
		if lines, ok := v.([]byte); ok {
			return r.op.status, lines, nil
		}
		b, err := json.Marshal(v)
		return r.op.status, append(b, '\n'), err
	}
	keys := r.Header["Idempotency-Key"]
	switch {
	case len(keys) == 0:
		return do()
	case !r.op.key:
		return 0, nil, fault.New(fault.Invalid, "this operation does not accept an Idempotency-Key")
	case len(keys) > 1:
		return 0, nil, fault.New(fault.Invalid, "send one Idempotency-Key")
	}
	content := bytes.Join([][]byte{[]byte(r.Method), []byte(r.URL.EscapedPath()), raw}, []byte{'\n'})
	carriedOut := false
	status, body, err = h.deps.Answers.Once(r.ctx, r.token.ID, keys[0], content, func() (int, []byte, error) {
		carriedOut = true
		return do()
	})
	if status != 0 && err != nil { // the request was carried out, and the client must know
		h.log(r, fmt.Errorf("answer for an Idempotency-Key not stored: %w", err))
		err = nil
	}
	if err == nil && !carriedOut {
		if err := h.stillThere(r, body); err != nil {
			return 0, nil, err
		}
		r.header["Idempotency-Replayed"] = []string{"true"}
	}
	return status, body, err
}

// stillThere fails with fault.Conflict if a stored answer is about an account that was deleted
// since: its data are no longer returned to anybody.
func (h *Handler) stillThere(r *request, answer []byte) error {
	var of struct{ ID, User string }
	if r.tenant == nil || json.Unmarshal(answer, &of) != nil || of.User == "" {
		return nil
	}
	there, err := h.deps.Operator.StillThere(r.ctx, r.tenant, of.User, of.ID)
	if err == nil && !there {
		err = fault.New(fault.Conflict, "the account of the first request with this Idempotency-Key was deleted "+
			"since; to carry the request out again, send it with a new key")
	}
	return err
}

// bearer returns the token in the Authorization header. More than one such header is refused.
func bearer(header http.Header) (string, bool) {
	values := header["Authorization"]
	if len(values) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// route finds the operation of a request.
func (h *Handler) route(r *request) error {
	if len(r.URL.EscapedPath()) > maxPath {
		return errNoPath
	}
	segments := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	for i, s := range segments {
		plain, err := url.PathUnescape(s)
		if err != nil || !printable(plain) {
			return errNoPath
		}
		segments[i] = plain
	}
	var allowed []string
	for i := range h.operations {
		op := &h.operations[i]
		args, ok := op.match(segments)
		switch {
		case !ok:
		case op.method == r.Method, op.method == http.MethodGet && r.Method == http.MethodHead:
			r.op, r.args = op, args
			return nil
		default:
			allowed = append(allowed, op.method)
			if op.method == http.MethodGet {
				allowed = append(allowed, http.MethodHead)
			}
		}
	}
	if allowed == nil {
		return errNoPath
	}
	text := strings.Join(allowed, ", ")
	r.header["Allow"] = []string{text}
	return errMethod(text)
}

const maxPath = 1 << 10

// match returns the arguments in a path, if it is one of the operation.
func (o *operation) match(segments []string) (map[string]string, bool) {
	if len(segments) != len(o.segments) {
		return nil, false
	}
	args := make(map[string]string)
	for i, want := range o.segments {
		if name, ok := strings.CutPrefix(want, "{"); ok {
			args[strings.TrimSuffix(name, "}")] = segments[i]
			if segments[i] == "" {
				return nil, false
			}
		} else if want != segments[i] {
			return nil, false
		}
	}
	return args, true
}

// checkScope fails unless the token has the scope of the operation and, for an operation on the
// whole installation, is for all tenants. It reports a missing scope before it is known whether the
// requested object exists.
func (r *request) checkScope() error {
	at := &tenant.Tenant{ID: r.caller.Tenant} // the tenant in the path is checked later, with another error
	if r.op.installation {
		at = nil
	}
	if err := r.caller.Check(r.op.scope, at); err != nil {
		if r.op.installation && r.caller.Check(r.op.scope, &tenant.Tenant{ID: r.caller.Tenant}) == nil {
			return fault.New(fault.Forbidden, "this is for tokens of all tenants; yours is for one")
		}
		return err
	}
	return nil
}

// readCondition reads If-Match, and sets the condition of the change.
func (r *request) readCondition() error {
	values := r.Header["If-Match"]
	switch {
	case len(values) == 0:
		return nil
	case !r.op.conditional:
		return fault.New(fault.Invalid, "this operation does not accept If-Match")
	case len(values) == 1 && values[0] == "*":
		return nil
	}
	tag, opened := strings.CutPrefix(values[0], `"`)
	tag, closed := strings.CutSuffix(tag, `"`)
	if len(values) > 1 || !opened || !closed || strings.Contains(tag, `"`) {
		return fault.New(fault.Invalid, `send one ETag in If-Match, with its quotes, or "*" without quotes`)
	}
	b, err := hex.DecodeString(tag)
	if err != nil || len(b) != len(account.Version{}) || hex.EncodeToString(b) != tag {
		b = make([]byte, len(account.Version{})) // matches no version
	}
	r.ctx = account.OnlyIf(tenant.OnlyIf(r.ctx, tenant.Version(b)), account.Version(b))
	return nil
}

// setTag sets the ETag of the answer.
func (r *request) setTag(version [16]byte) {
	r.header["Etag"] = []string{`"` + hex.EncodeToString(version[:]) + `"`}
}
