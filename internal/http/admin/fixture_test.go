package admin_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/http/admin"
	"dialtone/internal/operator"
	"dialtone/internal/outbox"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

func init() {
	openapi3filter.RegisterBodyDecoder("application/jsonl", openapi3filter.FileBodyDecoder)
}

// fixture is the API on a store, and a listener on loopback. The tenants are a.test and b.test.
type fixture struct {
	*world.World
	url      string
	tokens   *operator.Tokens
	answers  *operator.Answers
	service  *operator.Service
	handler  *admin.Handler
	document *openapi3.T
	router   routers.Router
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{World: world.New(t, world.Options{Tenants: []tenant.Tenant{{Host: "a.test"}, {Host: "b.test"}}})}
	f.tokens = operator.NewTokens(operator.TokensDeps{
		Store: f.Store, SealRing: f.SealRing, Audit: f.Audit, Log: f.Logger, Now: f.Now,
	})
	f.answers = operator.NewAnswers(f.Store, f.SealRing, f.Now)
	f.service = operator.NewService(operator.Deps{Accounts: f.Accounts, Store: f.Store, Now: f.Now})
	f.handler = admin.New(admin.Deps{
		Operator: f.service, Tokens: f.tokens, Answers: f.answers, Tenants: f.Tenants, Log: f.Logger, Now: f.Now,
	})
	server := httptest.NewUnstartedServer(f.handler)
	server.Config.ErrorLog = slog.NewLogLogger(f.Logger.Handler(), slog.LevelDebug)
	server.Start()
	f.url = server.URL
	t.Cleanup(server.Close)
	f.loadDocument()
	return f
}

// loadDocument reads the document as a client does, and makes it strict: answers must not contain
// undocumented members.
func (f *fixture) loadDocument() {
	f.Helper()
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, httptest.NewRequest("GET", admin.DocumentPath, nil))
	loader := openapi3.NewLoader()
	var err error
	f.document, err = loader.LoadFromData(w.Body.Bytes())
	f.Must(err)
	f.Must(f.document.Validate(loader.Context))
	no := false
	for _, s := range f.document.Components.Schemas {
		s.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: &no}
	}
	f.router, err = gorillamux.NewRouter(f.document)
	f.Must(err)
}

// root is the actor that creates tokens in tests.
var root = operator.Caller{Actor: audit.Actor{Kind: audit.Command, Name: "root"}, Scopes: operator.Scopes}

// token creates a token. The host is empty for all tenants.
func (f *fixture) token(name, host string, scopes ...operator.Scope) string {
	f.Helper()
	n := operator.NewToken{Name: name, Scopes: scopes}
	if host != "" {
		n.Tenant = f.At(host).Tenant.ID
	}
	_, text, err := f.tokens.Add(f.Context(), root, time.Time{}, n)
	f.Must(err)
	f.Log.Hide(text)
	return text
}

// response is an answer of the API.
type response struct {
	status int
	header http.Header
	body   string
}

// send makes a request and checks that the answer conforms to the document. headers are alternating
// names and values.
func (f *fixture) send(method, target, body, token string, headers ...string) response {
	f.Helper()
	r, err := http.NewRequest(method, f.url+target, strings.NewReader(body))
	f.Must(err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	f.Must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	f.Must(err)
	got := response{resp.StatusCode, resp.Header, string(b)}
	f.conforms(r, got)
	return got
}

// conforms checks that an answer conforms to the document. Unknown paths, and methods that a path
// does not support, get errors that need not be in the document.
func (f *fixture) conforms(r *http.Request, got response) {
	f.Helper()
	if got.header.Get("Cache-Control") != "no-store" || got.header.Get("X-Content-Type-Options") != "nosniff" {
		f.Errorf("%s %s: headers %v", r.Method, r.URL, got.header)
	}
	asked := r.Clone(r.Context())
	asked.URL.Scheme, asked.URL.Host = "", ""
	route, args, err := f.router.FindRoute(asked)
	if err != nil {
		if got.status < 400 || got.status > 499 {
			f.Errorf("%s %s: %d for what the document does not have", r.Method, r.URL, got.status)
		}
		return
	}
	err = openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: asked, PathParams: args, Route: route},
		Status:                 got.status, Header: got.header, Body: io.NopCloser(bytes.NewBufferString(got.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
	if err != nil {
		f.Errorf("%s %s: %d %s\n%v", r.Method, r.URL, got.status, got.body, err)
	}
	if tagged := route.Operation.Responses.Status(got.status).Value.Headers["ETag"] != nil; got.status < 300 &&
		tagged != (got.header.Get("Etag") != "") && !strings.Contains(got.body, `"state":"closed"`) &&
		got.header.Get("Idempotency-Replayed") == "" {
		f.Errorf("%s %s: ETag %q", r.Method, r.URL, got.header.Get("Etag"))
	}
}

// want fails the test unless the response has the status, and decodes it.
func (f *fixture) want(r response, status int) (v map[string]any) {
	f.Helper()
	if r.status != status {
		f.Fatalf("%d %s, want %d", r.status, r.body, status)
	}
	if r.body != "" {
		f.Must(json.Unmarshal([]byte(r.body), &v))
	}
	return v
}

// wantError fails the test unless a response is an error.
func (f *fixture) wantError(r response, status int, code string) map[string]any {
	f.Helper()
	v := f.want(r, status)
	if v["error"] != code || v["error_description"] == "" {
		f.Fatalf("%s, want the error %s", r.body, code)
	}
	return v
}

// changes returns the actions in the audit trail.
func (f *fixture) changes() (list []audit.Change) {
	f.Helper()
	f.Must(f.service.Flush()) // views and lists are added in the background
	f.Must(f.Store.Changes(f.Context(), audit.Filter{}, func(c audit.Change) error {
		list = append(list, c)
		return nil
	}))
	return list
}

// change returns the first change with an action.
func (f *fixture) change(action audit.Action) audit.Change {
	f.Helper()
	list := f.changes()
	i := slices.IndexFunc(list, func(c audit.Change) bool { return c.Action == action })
	if i < 0 {
		f.Fatalf("no %s in the trail", action)
	}
	return list[i]
}

// failedMessage adds a waiting account whose message has failed, and returns the ID of the message.
func (f *fixture) failedMessage(host, user string) string {
	f.Helper()
	m := f.At(host).Join(user).Message
	var ref outbox.Ref
	for _, e := range f.Pending() {
		if e.Message == m {
			ref = e.Ref
		}
	}
	_, err := f.Store.Enqueue(f.Context(), []outbox.Ref{ref}, f.Now())
	f.Must(err)
	d, err := f.Store.Delivery(f.Context(), m)
	f.Must(err)
	d.State, d.Answer, d.Attempts, d.Due = delivery.Failed, "550 no such user", 1, time.Time{}
	f.Must(f.Store.Record(f.Context(), []delivery.Delivery{d}))
	return m.String()
}

// valueOf returns a member of an answer, or an empty string.
func (f *fixture) valueOf(r response, member string) string {
	var v map[string]any
	if json.Unmarshal([]byte(r.body), &v) != nil {
		return ""
	}
	text, _ := v[member].(string)
	return text
}
