package lookup_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
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
	"dialtone/internal/phone"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
	"dialtone/internal/throttle"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// house is a store, a directory over it and a listener on loopback. The tenants are a.test, b.test, and c.test with the realm
// `C & <Phones>`, which has chosen SHA-256. Whatever a test does, the log must not hold a secret, nor what was asked for.
type house struct {
	testing.TB
	url     string
	ring    *secret.Ring
	store   *store.Store
	shut    func() // closes the store
	tenants *tenant.Table
	desk    *account.Service
	phones  *phone.Registry
	site    *lookup.Site

	mu      sync.Mutex
	now     time.Time
	log     bytes.Buffer
	secrets []string
}

func (h *house) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(p)
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func open(t testing.TB) *house {
	t.Helper()
	h := &house{TB: t, now: noon, ring: secret.NewRing(noon)}
	var err error
	h.store, err = teststore.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), h.ring)
	h.must(err)
	h.shut = sync.OnceFunc(func() { h.store.Close() })
	t.Cleanup(h.shut)
	for _, tn := range []tenant.Tenant{
		{Host: "a.test", Realm: "a.test"}, {Host: "b.test", Realm: "b.test"},
		{Host: "c.test", Realm: "C & <Phones>", Settings: tenant.Settings{Algorithm: digest.SHA256}},
	} {
		_, err := h.store.AddTenant(t.Context(), tn)
		h.must(err)
	}
	h.tenants = tenant.NewTable(h.store, func(host string) string { return "https://" + host })
	h.must(h.tenants.Refresh(t.Context()))
	log := slog.New(slog.NewTextHandler(h, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.desk = account.NewService(account.Deps{
		Store: h.store, Tenant: h.tenants.ByID, Captcha: func() *captcha.Issuer { return nil }, SealRing: h.ring,
		Audit: audit.Log{Logger: log}, Log: log, Now: h.clock,
	})
	h.phones = phone.NewRegistry(phone.Deps{
		Store: h.store, Tenants: h.tenants, Accounts: h.desk, SealRing: h.ring, Audit: audit.Log{Logger: log}, Now: h.clock,
	})
	h.site = lookup.New(h.phones, log)
	server := httptest.NewUnstartedServer(h.site)
	server.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	server.Start()
	h.url = server.URL
	t.Cleanup(func() {
		server.Close()
		for _, s := range h.secrets {
			if strings.Contains(h.log.String(), s) {
				t.Errorf("the log has %q in it:\n%s", s, h.log.String())
			}
		}
	})
	return h
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func fresh() (b [16]byte) {
	rand.Read(b[:])
	return b
}

func password(user, host string) string { return "the pass phrase of " + user + " at " + host }

// joins adds an account that waits for its link. What keep leaves of the credential is stored.
func (h *house) joins(host, user string, keep func(*digest.Credential)) account.Signup {
	h.Helper()
	t, ok := h.tenants.Lookup(host)
	if !ok {
		h.Fatalf("there is no tenant %s", host)
	}
	pw := password(user, host)
	b, sha := digest.ComputeB(user, t.Realm, pw), digest.ComputeSHA256(user, t.Realm, pw)
	c := digest.Credential{HA1: digest.Compute(user, t.Realm, pw), HA1B: &b, SHA256: &sha}
	h.secrets = append(h.secrets, c.HA1.Hex(), b.Hex(), sha.Hex(), user)
	if keep != nil {
		keep(&c)
	}
	a := account.Signup{
		Account: account.Account{
			UID: account.NewUID(h.now), Tenant: t.ID, User: user, Name: user, Email: user + "@mail.test", Role: account.Guest,
			Disabled: true, Created: h.now, Expires: h.now.Add(account.PendingLife), HasSHA256: c.SHA256 != nil,
		},
		Token: secret.NewToken().Hash(), SealedToken: []byte("sealed"), Message: fresh(),
		Captcha:   captcha.Proof{Ours: true, Right: true, Nonce: fresh(), Expires: h.now.Add(captcha.Life)},
		Recipient: throttle.Allowance{Bucket: fresh(), Rule: throttle.MessagesPerRecipient},
		Address:   []throttle.Allowance{{Bucket: fresh(), Rule: throttle.SignupsPerAddress}},
	}
	a.Account.Sealed = secret.NewVault(h.ring, "credential").Seal(t.ID, a.Account.UID[:], c.Marshal())
	h.must(h.store.Create(h.Context(), a, h.now))
	return a
}

// member adds an account and activates it.
func (h *house) member(host, user string, keep func(*digest.Credential)) {
	h.Helper()
	a := h.joins(host, user, keep)
	_, err := h.store.Activate(h.Context(), a.Account.Tenant, a.Token, h.now)
	h.must(err)
}

// inactive adds to a.test, and gives, one account of each kind that is not active, and a name that nobody has.
func (h *house) inactive() []string {
	h.Helper()
	ctx := h.Context()
	a, _ := h.tenants.Lookup("a.test")
	h.joins("a.test", "pending", nil)
	for _, user := range []string{"held", "gone"} {
		h.member("a.test", user, nil)
	}
	_, err := h.store.Disable(ctx, a.ID, "held", h.now)
	h.must(err)
	h.must(h.store.Delete(ctx, a.ID, "gone", h.now))
	h.now = h.now.Add(-account.PendingLife)
	h.joins("a.test", "late", nil)
	h.now = h.now.Add(account.PendingLife)
	return []string{"pending", "held", "gone", "late", "nobody"}
}

// server adds a phone server and gives its token.
func (h *house) server(name string, hosts ...string) (token string) {
	h.Helper()
	t := secret.NewToken()
	s := phone.Server{Name: name, Token: t.Hash(), Created: noon}
	for _, host := range hosts {
		tn, _ := h.tenants.Lookup(host)
		s.Tenants = append(s.Tenants, tn.ID)
	}
	h.must(h.store.AddServer(h.Context(), s))
	h.must(h.phones.Refresh(h.Context()))
	h.secrets = append(h.secrets, t.Text())
	return t.Text()
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// send makes a request. The headers are name, value, name, value.
func (h *house) send(method, target, body string, headers ...string) answer {
	h.Helper()
	r, err := http.NewRequest(method, h.url+target, strings.NewReader(body))
	h.must(err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	h.must(err)
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	h.must(err)
	if got := response.Header.Get("Cache-Control"); got != "no-store" {
		h.Errorf("%s %s: Cache-Control is %q", method, target, got)
	}
	if got := response.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		h.Errorf("%s %s: X-Content-Type-Options is %q", method, target, got)
	}
	return answer{response.StatusCode, response.Header, string(b)}
}

// direct is a form without the network.
func (h *house) direct(method, target, body, token string) answer {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	h.mu.Lock()
	h.now = h.now.Add(time.Second) // so that nobody asks too often
	h.mu.Unlock()
	h.site.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

func (h *house) form(target, body, token string) answer {
	h.Helper()
	return h.send("POST", target, body, "Authorization", "Bearer "+token, "Content-Type", "application/x-www-form-urlencoded")
}

func (h *house) credential(query, token string) answer {
	h.Helper()
	return h.send("GET", "/v1/sip/credential?"+query, "", "Authorization", "Bearer "+token)
}

// fails wants a refusal in JSON.
func (a answer) fails(t testing.TB, what string, status int, code string) {
	t.Helper()
	var told map[string]string
	if err := json.Unmarshal([]byte(a.body), &told); err != nil {
		t.Errorf("%s: %v in %q", what, err, a.body)
	}
	if a.status != status || len(told) != 2 || told["error"] != code || told["error_description"] == "" ||
		a.header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("%s: %d %s", what, a.status, a.body)
	}
}

func TestCredential(t *testing.T) {
	h := open(t)
	for _, host := range []string{"a.test", "b.test", "c.test"} {
		h.member(host, "alice", nil)
	}
	h.member("a.test", "plain", func(c *digest.Credential) { c.HA1B, c.SHA256 = nil, nil })
	token := h.server("sbc", "a.test", "c.test")
	told := func(username, realm, algorithm, ha1 string) string {
		b, err := json.Marshal(map[string]string{"username": username, "realm": realm, "algorithm": algorithm, "ha1": ha1, "role": "guest"})
		h.must(err)
		return string(b)
	}
	pa, pc := password("alice", "a.test"), password("alice", "c.test")
	for _, c := range []struct{ name, query, want string }{
		{"MD5", "username=alice&realm=a.test&algorithm=MD5", told("alice", "a.test", "MD5", digest.Compute("alice", "a.test", pa).Hex())},
		{"SHA-256", "username=alice&realm=a.test&algorithm=SHA-256", told("alice", "a.test", "SHA-256", digest.ComputeSHA256("alice", "a.test", pa).Hex())},
		{"MD5 where nothing is said", "username=alice&realm=a.test", told("alice", "a.test", "MD5", digest.Compute("alice", "a.test", pa).Hex())},
		{"fields in any order, and others beside them", "x=1&realm=a.test&&username=alice&y", told("alice", "a.test", "MD5", digest.Compute("alice", "a.test", pa).Hex())},
		{"encoded letters", "user%6eame=%61lice&realm=%41.test", told("alice", "a.test", "MD5", digest.Compute("alice", "a.test", pa).Hex())},
		{"a name with its realm", "username=alice%40a.test&realm=a.test&algorithm=MD5", told("alice@a.test", "a.test", "MD5", digest.ComputeB("alice", "a.test", pa).Hex())},
		{"a realm that is no host", "username=alice&realm=c+%26+%3Cphones%3E&algorithm=SHA-256",
			told("alice", "C & <Phones>", "SHA-256", digest.ComputeSHA256("alice", "C & <Phones>", pc).Hex())},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := h.credential(c.query, token)
			var got, want map[string]string
			json.Unmarshal([]byte(c.want), &want)
			if err := json.Unmarshal([]byte(a.body), &got); err != nil || fmt.Sprint(got) != fmt.Sprint(want) || a.status != 200 ||
				a.header.Get("Content-Type") != "application/json; charset=utf-8" {
				t.Errorf("%d %s\nwant %s", a.status, a.body, c.want)
			}
		})
	}
	// The bytes, once: a SIP server's script may read them with less than a JSON parser.
	want := `{"username":"alice","realm":"a.test","algorithm":"MD5","ha1":"` + digest.Compute("alice", "a.test", pa).Hex() + `","role":"guest"}` + "\n"
	if a := h.credential("username=alice&realm=a.test&algorithm=MD5", token); a.body != want {
		t.Errorf("got  %swant %s", a.body, want)
	}

	// Whatever is not an active account of a tenant of the server is told in the same bytes.
	none := h.credential("username=nobody&realm=a.test&algorithm=MD5", token)
	none.fails(t, "an unknown name", 404, "not_found")
	queries := []string{
		"username=alice&realm=b.test", "username=alice&realm=d.test", "username=plain&realm=a.test&algorithm=SHA-256",
		"username=plain%40a.test&realm=a.test", "username=alice%40a.test&realm=a.test&algorithm=SHA-256",
		"username=%C3%A9&realm=a.test", "username=" + strings.Repeat("x", 1000) + "&realm=a.test",
	}
	for _, user := range h.inactive() {
		queries = append(queries, "username="+user+"&realm=a.test&algorithm=MD5", "username="+user+"&realm=a.test&algorithm=SHA-256", "username="+user+"%40a.test&realm=a.test")
	}
	for _, q := range queries {
		if a := h.credential(q, token); a.status != 404 || a.body != none.body {
			t.Errorf("%s: %d %s", q, a.status, a.body)
		}
	}
}

func TestCredentialRefuses(t *testing.T) {
	h := open(t)
	h.member("a.test", "alice", nil)
	token := h.server("sbc", "a.test")
	const good = "username=alice&realm=a.test&algorithm=MD5"
	for _, q := range []string{
		"", "username=alice", "realm=a.test", "username=&realm=a.test", "username=alice&realm=",
		good + "&username=alice", good + "&username=bob", good + "&%75sername=bob", good + "&username", good + "&realm=b.test", good + "&algorithm=MD5",
		"username=alice&realm=a.test&algorithm=", "username=alice&realm=a.test&algorithm=md5", "username=alice&realm=a.test&algorithm=MD5-sess",
		"username=alice&realm=a.test&algorithm=SHA-512-256", "username=al%zzice&realm=a.test", "username=alice&realm=a.test%", good + "&%zz=1",
		good + ";x=1", good + "&x=1;y", "username=alice;realm=a.test", "username=alice%00&realm=a.test", "username=alice%0A&realm=a.test", "username=%1b[2J&realm=a.test",
		"username=%ff%fe&realm=a.test", "username=%c0%af&realm=a.test", "username=alice&realm=%c2%85", good + "&x=" + strings.Repeat("y", 3000),
	} {
		h.credential(q, token).fails(t, q, 400, "invalid_request")
	}
	for _, method := range []string{"POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "FOO"} {
		a := h.send(method, "/v1/sip/credential?"+good, "", "Authorization", "Bearer "+token)
		if a.status != 405 || a.header.Get("Allow") != "GET" {
			t.Errorf("%s: %d, Allow: %s", method, a.status, a.header.Get("Allow"))
		}
	}
	for _, path := range []string{"/v1/", "/v1/sip", "/v1/sip/credential/", "/v1/SIP/credential", "/v1//sip/credential", "/v1/asterisk/ps_contacts/single", "/v1/asterisk/ps_auths"} {
		h.send("GET", path+"?"+good, "", "Authorization", "Bearer "+token).fails(t, path, 404, "not_found")
	}
}

func TestToken(t *testing.T) {
	h := open(t)
	h.member("a.test", "alice", nil)
	token := h.server("sbc", "a.test")
	basic := func(pair string) string {
		r, _ := http.NewRequest("GET", "http://x", nil)
		user, password, _ := strings.Cut(pair, ":")
		r.SetBasicAuth(user, password)
		return r.Header.Get("Authorization")
	}
	const target = "/v1/sip/credential?username=alice&realm=a.test"
	for name, value := range map[string]string{
		"Bearer": "Bearer " + token, "bearer": "bearer " + token, "BASIC": "BASIC" + strings.TrimPrefix(basic("x:"+token), "Basic"),
		"Basic with a name": basic("freeswitch:" + token), "Basic without a name": basic(":" + token),
	} {
		if a := h.send("GET", target, "", "Authorization", value); a.status != 200 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	for name, headers := range map[string][]string{
		"no header": nil, "an empty one": {"Authorization", ""}, "no token": {"Authorization", "Bearer"}, "an empty token": {"Authorization", "Bearer "},
		"another scheme": {"Authorization", "Digest " + token}, "the token alone": {"Authorization", token},
		"another token": {"Authorization", "Bearer " + secret.NewToken().Text()}, "more behind it": {"Authorization", "Bearer " + token + " x"},
		"two headers": {"Authorization", "Bearer " + token, "Authorization", "Bearer " + token},
		"as the name": {"Authorization", basic(token + ":")}, "no Base64": {"Authorization", "Basic " + token},
	} {
		a := h.send("GET", target, "", headers...)
		a.fails(t, name, 401, "unauthorized")
		if !strings.HasPrefix(a.header.Get("Www-Authenticate"), "Bearer ") {
			t.Errorf("%s: WWW-Authenticate is %q", name, a.header.Get("Www-Authenticate"))
		}
	}
	h.send("GET", target+"&access_token="+token, "").fails(t, "in the address", 401, "unauthorized")

	for range throttle.WrongTokens.Limit {
		h.send("GET", target, "", "Authorization", "Bearer wrong")
	}
	a := h.send("GET", target, "", "Authorization", "Bearer wrong")
	a.fails(t, "one wrong token too many", 429, "rate_limited")
	if a.header.Get("Retry-After") == "" {
		t.Error("it does not say when to try again")
	}
	if a := h.send("GET", target, "", "Authorization", "Bearer "+token); a.status != 200 {
		t.Errorf("the right token, from the same address: %d", a.status)
	}
	h.send("GET", target, "").fails(t, "no token, as libcurl asks first where it may choose a scheme", 401, "unauthorized")

	h.must(h.store.RemoveServer(t.Context(), "sbc"))
	h.must(h.phones.Refresh(t.Context()))
	if a := h.send("GET", target, "", "Authorization", "Bearer "+token); a.status != 429 && a.status != 401 {
		t.Errorf("a token that was removed: %d %s", a.status, a.body)
	}
}

func TestStoreAway(t *testing.T) {
	h := open(t)
	h.member("a.test", "alice", nil)
	token := h.server("sbc", "a.test")
	h.shut()
	for range 3 {
		for _, user := range []string{"alice", "nobody"} {
			a := h.credential("username="+user+"&realm=a.test", token)
			a.fails(t, user, 503, "overloaded")
			if a.header.Get("Retry-After") != "2" {
				t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
			}
			if a := h.form("/v1/freeswitch/directory", sipAuth(user, "a.test"), token); a.status != 503 {
				t.Errorf("FreeSWITCH: %d %s", a.status, a.body)
			}
			if a := h.form("/v1/asterisk/ps_auths/single", "id="+user, token); a.status != 503 || a.body != "" {
				t.Errorf("Asterisk: %d %q", a.status, a.body)
			}
		}
	}
	if n := strings.Count(h.log.String(), "look-ups are not answered"); n == 0 || n > 2 {
		t.Errorf("it was logged %d times", n)
	}
}

// What is our own trouble is told as such and logged, and never taken for an unknown name.
func TestOwnTrouble(t *testing.T) {
	h := open(t)
	a := h.joins("a.test", "alice", nil)
	token := h.server("sbc", "a.test")
	_, err := h.store.Enable(t.Context(), a.Account.Tenant, "alice", h.now)
	h.must(err)
	wrong := account.NewService(account.Deps{Store: h.store, SealRing: secret.NewRing(noon), Now: h.clock})
	for name, c := range map[string]struct {
		broken func(*phone.Deps)
		logged string
	}{
		"a credential that does not open": {func(d *phone.Deps) { d.Accounts = wrong }, secret.ErrSeal.Error()},
		"a panic":                         {func(d *phone.Deps) { d.Tenants = nil }, "level=ERROR msg=panic path=/v1/"},
	} {
		deps := h.phones.Deps
		c.broken(&deps)
		broken := phone.NewRegistry(deps)
		h.must(broken.Refresh(t.Context()))
		h.site = lookup.New(broken, slog.New(slog.NewTextHandler(h, nil)))
		h.direct("GET", "/v1/sip/credential?username=alice&realm=a.test", "", token).fails(t, name, 500, "server_error")
		h.direct("POST", "/v1/freeswitch/directory", sipAuth("alice", "a.test"), token).fails(t, name, 500, "server_error")
		if a := h.direct("POST", "/v1/asterisk/ps_auths/single", "id=alice%40a.test", token); a.status != 500 || a.body != "" {
			t.Errorf("%s: %d %q", name, a.status, a.body)
		}
		if n := strings.Count(h.log.String(), c.logged); n < 3 {
			t.Errorf("%s: logged %d times: %s", name, n, h.log.String())
		}
	}
}

// Nobody sees another's answer, however many ask at once: the buffers are used again.
func TestManyAtOnce(t *testing.T) {
	h := open(t)
	for i := range 16 {
		h.member("a.test", fmt.Sprint("user", i), nil)
	}
	token := h.server("sbc", "a.test")
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			user := fmt.Sprint("user", i)
			want := digest.Compute(user, "a.test", password(user, "a.test")).Hex()
			for range 50 {
				w := httptest.NewRecorder()
				r := httptest.NewRequest("GET", "/v1/sip/credential?username="+user+"&realm=a.test", nil)
				r.Header.Set("Authorization", "Bearer "+token)
				h.site.ServeHTTP(w, r)
				if w.Code != 200 || !strings.Contains(w.Body.String(), `"ha1":"`+want+`"`) {
					t.Errorf("%s: %d %s", user, w.Code, w.Body)
				}
			}
		})
	}
	all.Wait()
}

// FuzzFields: what is taken for a field is what net/url takes for it, or nothing.
func FuzzFields(f *testing.F) {
	for _, s := range []string{"username=alice&realm=a.test", "username=a&username=b", "a=%zz", "user+name=%41;b", "username=%F0%9F%8E%BA&&=x&", "%75sername=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		username, realm, err := lookup.Fields(text)
		if err != nil {
			return
		}
		// It gives what it could read where it fails at a value that nobody looks for.
		values, _ := url.ParseQuery(text)
		if len(values["username"]) > 1 || len(values["realm"]) > 1 || username != values.Get("username") || realm != values.Get("realm") {
			t.Errorf("%q: %q %q, net/url says %q", text, username, realm, values)
		}
	})
}

// BenchmarkCredential is the handler without the network.
func BenchmarkCredential(b *testing.B) {
	h := open(b)
	h.now = time.Now()
	h.member("a.test", "alice", nil)
	token := h.server("sbc", "a.test")
	for name, user := range map[string]string{"active": "alice", "of no account's form": "ALICE"} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "/v1/sip/credential?username="+user+"&realm=a.test&algorithm=MD5", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			w := &discard{header: make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				h.now = h.now.Add(time.Millisecond)
				clear(w.header)
				h.site.ServeHTTP(w, r)
			}
		})
	}
}

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
