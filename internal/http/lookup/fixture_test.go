package lookup_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/http/lookup"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

// fixture is a handler with a store and a listener on loopback. The tenants are a.test, b.test, and
// c.test, which uses the realm "C & <Phones>" and SHA-256. The log must not contain the names that
// were looked up.
type fixture struct {
	*world.World
	url      string
	registry *sipserver.Registry
	handler  *lookup.Handler
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{World: world.New(t, world.Options{Tenants: []tenant.Tenant{
		{Host: "a.test"},
		{Host: "b.test"},
		{Host: "c.test", Realm: "C & <Phones>", Settings: tenant.Settings{Algorithm: digest.SHA256}},
	}})}
	f.registry = sipserver.NewRegistry(f.RegistryDeps())
	f.handler = lookup.New(lookup.Deps{Registry: f.registry, Log: f.Logger, Now: f.Now})
	server := httptest.NewUnstartedServer(f.handler)
	server.Config.ErrorLog = slog.NewLogLogger(f.Logger.Handler(), slog.LevelDebug)
	server.Start()
	f.url = server.URL
	t.Cleanup(server.Close)
	return f
}

// addPending adds an account that is not activated.
func (f *fixture) addPending(host, user string, options ...world.Option) world.Person {
	f.Helper()
	f.Log.Hide(user)
	return f.At(host).Join(user, options...)
}

// addActive adds an account and activates it.
func (f *fixture) addActive(host, user string, options ...world.Option) {
	f.Helper()
	f.Activate(f.addPending(host, user, options...))
}

// addInactive adds one account of each inactive kind to a.test, and returns their names and one
// unused name.
func (f *fixture) addInactive() []string {
	f.Helper()
	f.addPending("a.test", "pending")
	for _, user := range []string{"disabled", "deleted"} {
		f.addActive("a.test", user)
	}
	f.At("a.test").Disable("disabled")
	f.At("a.test").Delete("deleted")
	f.Advance(-account.PendingLife)
	f.addPending("a.test", "expired")
	f.Advance(account.PendingLife)
	return []string{"pending", "disabled", "deleted", "expired", "nobody"}
}

// addServer adds a phone server and returns its token.
func (f *fixture) addServer(name string, hosts ...string) (token string) {
	f.Helper()
	token = f.AddServer(name, hosts...)
	f.Must(f.registry.Refresh(f.Context()))
	return token
}

// response is what the handler responded.
type response struct {
	status int
	header http.Header
	body   string
}

// send makes a request over the network. headers are alternating names and values.
func (f *fixture) send(method, target, body string, headers ...string) response {
	f.Helper()
	r, err := http.NewRequest(method, f.url+target, strings.NewReader(body))
	f.Must(err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	f.Must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	f.Must(err)
	if got := resp.Header.Get("Cache-Control"); got != "no-store" {
		f.Errorf("%s %s: Cache-Control is %q", method, target, got)
	}
	if got := resp.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		f.Errorf("%s %s: X-Content-Type-Options is %q", method, target, got)
	}
	return response{resp.StatusCode, resp.Header, string(b)}
}

const formType = "application/x-www-form-urlencoded"

// post sends a form.
func (f *fixture) post(target, body, token string) response {
	f.Helper()
	return f.send("POST", target, body, "Authorization", "Bearer "+token, "Content-Type", formType)
}

// credential looks up a credential.
func (f *fixture) credential(query, token string) response {
	f.Helper()
	return f.send("GET", "/v1/sip/credential?"+query, "", "Authorization", "Bearer "+token)
}

// direct sends a form without the network. It advances the clock, so that many calls do not exceed
// the rate limit.
func (f *fixture) direct(method, target, body, token string) response {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", formType)
	f.Advance(time.Second)
	f.handler.ServeHTTP(w, r)
	return response{w.Code, w.Header(), w.Body.String()}
}

// wantError checks for an error in JSON.
func (r response) wantError(t testing.TB, name string, status int, code string) {
	t.Helper()
	var body map[string]string
	if err := json.Unmarshal([]byte(r.body), &body); err != nil {
		t.Errorf("%s: %v in %q", name, err, r.body)
	}
	if r.status != status || len(body) != 2 || body["error"] != code || body["error_description"] == "" ||
		r.header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("%s: %d %s", name, r.status, r.body)
	}
}
