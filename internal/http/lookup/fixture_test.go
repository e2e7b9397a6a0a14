package lookup_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/http/lookup"
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
	"dialtone/internal/sqlstore"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// fixture is a handler on a store and a listener on loopback. The tenants are a.test, b.test, and
// c.test, which has the realm "C & <Phones>" and has chosen SHA-256. At the end of a test, the log
// must contain neither secrets nor the names that were looked up.
type fixture struct {
	testing.TB
	url        string
	ring       *secret.Ring
	store      *sqlstore.Store
	closeStore func()
	tenants    *tenant.Table
	accounts   *account.Service
	deps       sipserver.Deps // of the registry
	registry   *sipserver.Registry
	handler    *lookup.Handler

	mu      sync.Mutex
	now     time.Time
	log     bytes.Buffer
	secrets []string
}

// Write appends to the log.
func (f *fixture) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.Write(p)
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{TB: t, now: noon, ring: secret.NewRing(noon)}
	var err error
	f.store, err = sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), f.ring)
	f.must(err)
	f.closeStore = sync.OnceFunc(func() { f.store.Close() })
	t.Cleanup(f.closeStore)
	for _, tn := range []tenant.Tenant{
		{Host: "a.test", Realm: "a.test"},
		{Host: "b.test", Realm: "b.test"},
		{Host: "c.test", Realm: "C & <Phones>", Settings: tenant.Settings{Algorithm: digest.SHA256}},
	} {
		_, err := f.store.AddTenant(t.Context(), tn)
		f.must(err)
	}
	f.tenants = tenant.NewTable(f.store, func(host string) string { return "https://" + host })
	f.must(f.tenants.Refresh(t.Context()))
	log := slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug}))
	events := audit.Log{Logger: log}
	f.accounts = account.NewService(account.Deps{
		Store:    f.store,
		SealRing: f.ring, Audit: events, Log: log, Now: f.clock,
	})
	f.deps = sipserver.Deps{
		Store: f.store, Tenants: f.tenants, Accounts: f.accounts, SealRing: f.ring, Audit: events, Now: f.clock,
	}
	f.registry = sipserver.NewRegistry(f.deps)
	f.handler = lookup.New(lookup.Deps{Registry: f.registry, Log: log, Now: f.clock})
	server := httptest.NewUnstartedServer(f.handler)
	server.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	server.Start()
	f.url = server.URL
	t.Cleanup(func() {
		server.Close()
		for _, s := range f.secrets {
			if strings.Contains(f.log.String(), s) {
				t.Errorf("the log contains %q:\n%s", s, f.log.String())
			}
		}
	})
	return f
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) tenant(host string) *tenant.Tenant {
	f.Helper()
	t, ok := f.tenants.Lookup(host)
	if !ok {
		f.Fatalf("there is no tenant %s", host)
	}
	return t
}

func random16() (b [16]byte) {
	rand.Read(b[:])
	return b
}

func passwordOf(user, host string) string { return "the password of " + user + " at " + host }

// addPending adds an account that is not activated. edit, if not nil, changes its credential.
func (f *fixture) addPending(host, user string, edit func(*digest.Credential)) account.Signup {
	f.Helper()
	t := f.tenant(host)
	password := passwordOf(user, host)
	b, sha := digest.ComputeB(user, t.Realm, password), digest.ComputeSHA256(user, t.Realm, password)
	c := digest.Credential{HA1: digest.Compute(user, t.Realm, password), HA1B: &b, SHA256: &sha}
	f.secrets = append(f.secrets, c.HA1.Hex(), b.Hex(), sha.Hex(), user)
	if edit != nil {
		edit(&c)
	}
	s := account.Signup{
		Account: account.Account{
			UID: account.NewUID(f.now), Tenant: t.ID, User: user, Name: user, Email: user + "@mail.test",
			Role: account.Guest, Disabled: true, Created: f.now, Expires: f.now.Add(account.PendingLife),
			HasSHA256: c.SHA256 != nil,
		},
		Token: secret.NewToken().Hash(), SealedToken: []byte("sealed"), Message: random16(),
		Captcha: captcha.Proof{
			Ours: true, Right: true, Nonce: random16(), Expires: f.now.Add(captcha.Life),
		},
		Recipient: throttle.Allowance{Bucket: random16(), Rule: throttle.MessagesPerRecipient},
		Address:   []throttle.Allowance{{Bucket: random16(), Rule: throttle.SignupsPerAddress}},
	}
	s.Account.Sealed = secret.NewVault(f.ring, "credential").Seal(t.ID, s.Account.UID[:], c.Marshal())
	f.must(f.store.Create(f.Context(), s, f.now))
	return s
}

// addActive adds an account and activates it.
func (f *fixture) addActive(host, user string, edit func(*digest.Credential)) {
	f.Helper()
	s := f.addPending(host, user, edit)
	_, err := f.store.Activate(f.Context(), s.Account.Tenant, s.Token, f.now)
	f.must(err)
}

// addInactive adds to a.test one account of each kind that is not active, and returns their names
// and one of no account.
func (f *fixture) addInactive() []string {
	f.Helper()
	ctx, id := f.Context(), f.tenant("a.test").ID
	f.addPending("a.test", "pending", nil)
	for _, user := range []string{"disabled", "deleted"} {
		f.addActive("a.test", user, nil)
	}
	_, err := f.store.Disable(ctx, id, "disabled", f.now)
	f.must(err)
	f.must(f.store.Delete(ctx, id, "deleted", f.now))
	f.now = f.now.Add(-account.PendingLife)
	f.addPending("a.test", "expired", nil)
	f.now = f.now.Add(account.PendingLife)
	return []string{"pending", "disabled", "deleted", "expired", "nobody"}
}

// addServer adds a phone server and returns its token.
func (f *fixture) addServer(name string, hosts ...string) (token string) {
	f.Helper()
	t := secret.NewToken()
	s := sipserver.Server{Name: name, Token: t.Hash(), Created: noon}
	for _, host := range hosts {
		s.Tenants = append(s.Tenants, f.tenant(host).ID)
	}
	f.must(f.store.AddServer(f.Context(), s))
	f.must(f.registry.Refresh(f.Context()))
	f.secrets = append(f.secrets, t.Text())
	return t.Text()
}

// response is what the handler responded.
type response struct {
	status int
	header http.Header
	body   string
}

// send makes a request over the network. headers are name, value, name, value.
func (f *fixture) send(method, target, body string, headers ...string) response {
	f.Helper()
	r, err := http.NewRequest(method, f.url+target, strings.NewReader(body))
	f.must(err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	f.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	f.must(err)
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

// credential looks a credential up.
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
	f.mu.Lock()
	f.now = f.now.Add(time.Second)
	f.mu.Unlock()
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
