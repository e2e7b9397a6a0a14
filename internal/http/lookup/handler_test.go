package lookup_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/http/lookup"
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
	"dialtone/internal/test/world"
	"dialtone/internal/throttle"
)

func TestCredential(t *testing.T) {
	f := newFixture(t)
	for _, host := range []string{"a.test", "b.test", "c.test"} {
		f.addActive(host, "alice")
	}
	f.addActive("a.test", "md5only", world.MD5Only)
	token := f.addServer("sbc", "a.test", "c.test")
	// The answer is compared byte by byte: scripts of SIP servers may read it without a JSON parser.
	answer := func(username, realm, algorithm, ha1 string) string {
		return `{"username":"` + username + `","realm":"` + realm + `","algorithm":"` + algorithm +
			`","ha1":"` + ha1 + `","role":"guest"}` + "\n"
	}
	atA, atC := world.Password("alice", "a.test"), world.Password("alice", "c.test")
	md5 := answer("alice", "a.test", "MD5", digest.Compute("alice", "a.test", atA).Hex())
	for _, c := range []struct{ name, query, want string }{
		{"MD5", "username=alice&realm=a.test&algorithm=MD5", md5},
		{"SHA-256", "username=alice&realm=a.test&algorithm=SHA-256",
			answer("alice", "a.test", "SHA-256", digest.ComputeSHA256("alice", "a.test", atA).Hex())},
		{"MD5 is the default", "username=alice&realm=a.test", md5},
		{"fields in any order, among others", "x=1&realm=a.test&&username=alice&y", md5},
		{"percent-encoded letters", "user%6eame=%61lice&realm=%41.test", md5},
		{"a name with its realm", "username=alice%40a.test&realm=a.test&algorithm=MD5",
			answer("alice@a.test", "a.test", "MD5", digest.ComputeB("alice", "a.test", atA).Hex())},
		{"a realm that is not a host name", "username=alice&realm=c+%26+%3Cphones%3E&algorithm=SHA-256",
			answer("alice", "C & <Phones>", "SHA-256",
				digest.ComputeSHA256("alice", "C & <Phones>", atC).Hex())},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := f.credential(c.query, token)
			if r.status != 200 || r.body != c.want ||
				r.header.Get("Content-Type") != "application/json; charset=utf-8" {
				t.Errorf("got  %d %s\nwant %s", r.status, r.body, c.want)
			}
		})
	}

	t.Run("every other case has the same answer", func(t *testing.T) {
		none := f.credential("username=nobody&realm=a.test&algorithm=MD5", token)
		none.wantError(t, "an unknown name", 404, "not_found")
		queries := []string{
			"username=alice&realm=b.test",
			"username=alice&realm=d.test",
			"username=md5only&realm=a.test&algorithm=SHA-256",
			"username=md5only%40a.test&realm=a.test",
			"username=alice%40a.test&realm=a.test&algorithm=SHA-256",
			"username=%C3%A9&realm=a.test",
			"username=" + strings.Repeat("x", 1000) + "&realm=a.test",
		}
		for _, user := range f.addInactive() {
			queries = append(queries,
				"username="+user+"&realm=a.test&algorithm=MD5",
				"username="+user+"&realm=a.test&algorithm=SHA-256",
				"username="+user+"%40a.test&realm=a.test")
		}
		for _, q := range queries {
			if r := f.credential(q, token); r.status != 404 || r.body != none.body {
				t.Errorf("%s: %d %s", q, r.status, r.body)
			}
		}
	})
}

func TestCredentialInvalidRequest(t *testing.T) {
	f := newFixture(t)
	f.addActive("a.test", "alice")
	token := f.addServer("sbc", "a.test")
	const valid = "username=alice&realm=a.test&algorithm=MD5"
	for name, q := range map[string]string{
		"no query":             "",
		"no realm":             "username=alice",
		"no username":          "realm=a.test",
		"empty username":       "username=&realm=a.test",
		"empty realm":          "username=alice&realm=",
		"repeated username":    valid + "&username=alice",
		"second username":      valid + "&username=bob",
		"second, encoded":      valid + "&%75sername=bob",
		"second, without =":    valid + "&username",
		"second realm":         valid + "&realm=b.test",
		"repeated algorithm":   valid + "&algorithm=MD5",
		"empty algorithm":      "username=alice&realm=a.test&algorithm=",
		"algorithm in lower":   "username=alice&realm=a.test&algorithm=md5",
		"session algorithm":    "username=alice&realm=a.test&algorithm=MD5-sess",
		"unknown algorithm":    "username=alice&realm=a.test&algorithm=SHA-512-256",
		"bad escape":           "username=al%zzice&realm=a.test",
		"incomplete escape":    "username=alice&realm=a.test%",
		"bad escape in a name": valid + "&%zz=1",
		"semicolon":            valid + ";x=1",
		"semicolon in another": valid + "&x=1;y",
		"semicolon separator":  "username=alice;realm=a.test",
		"NUL":                  "username=alice%00&realm=a.test",
		"newline":              "username=alice%0A&realm=a.test",
		"escape sequence":      "username=%1b[2J&realm=a.test",
		"not UTF-8":            "username=%ff%fe&realm=a.test",
		"overlong UTF-8":       "username=%c0%af&realm=a.test",
		"C1 control":           "username=alice&realm=%c2%85",
		"too long":             valid + "&x=" + strings.Repeat("y", 3000),
	} {
		f.credential(q, token).wantError(t, name, 400, "invalid_request")
	}
	for _, method := range []string{"POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "FOO"} {
		r := f.send(method, "/v1/sip/credential?"+valid, "", "Authorization", "Bearer "+token)
		if r.status != 405 || r.header.Get("Allow") != "GET" {
			t.Errorf("%s: %d, Allow: %s", method, r.status, r.header.Get("Allow"))
		}
	}
	for _, path := range []string{
		"/v1/", "/v1/sip", "/v1/sip/credential/", "/v1/SIP/credential", "/v1//sip/credential",
		"/v1/asterisk/ps_contacts/single", "/v1/asterisk/ps_auths",
	} {
		r := f.send("GET", path+"?"+valid, "", "Authorization", "Bearer "+token)
		r.wantError(t, path, 404, "not_found")
	}
}

func TestToken(t *testing.T) {
	f := newFixture(t)
	f.addActive("a.test", "alice")
	token := f.addServer("sbc", "a.test")
	basic := func(pair string) string {
		r, _ := http.NewRequest("GET", "http://x", nil)
		user, password, _ := strings.Cut(pair, ":")
		r.SetBasicAuth(user, password)
		return r.Header.Get("Authorization")
	}
	const target = "/v1/sip/credential?username=alice&realm=a.test"
	for name, value := range map[string]string{
		"Bearer":               "Bearer " + token,
		"Bearer in lower case": "bearer " + token,
		"Basic in upper case":  "BASIC" + strings.TrimPrefix(basic("x:"+token), "Basic"),
		"Basic with a name":    basic("freeswitch:" + token),
		"Basic without a name": basic(":" + token),
	} {
		if r := f.send("GET", target, "", "Authorization", value); r.status != 200 {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	for name, headers := range map[string][]string{
		"no header":             nil,
		"empty header":          {"Authorization", ""},
		"no token":              {"Authorization", "Bearer"},
		"empty token":           {"Authorization", "Bearer "},
		"another scheme":        {"Authorization", "Digest " + token},
		"the token alone":       {"Authorization", token},
		"unknown token":         {"Authorization", "Bearer " + secret.NewToken().Text()},
		"trailing text":         {"Authorization", "Bearer " + token + " x"},
		"two headers":           {"Authorization", "Bearer " + token, "Authorization", "Bearer " + token},
		"token as Basic name":   {"Authorization", basic(token + ":")},
		"Basic without Base64":  {"Authorization", "Basic " + token},
		"token in another name": {"X-Token", token},
	} {
		r := f.send("GET", target, "", headers...)
		r.wantError(t, name, 401, "unauthorized")
		if !strings.HasPrefix(r.header.Get("Www-Authenticate"), "Bearer ") {
			t.Errorf("%s: WWW-Authenticate is %q", name, r.header.Get("Www-Authenticate"))
		}
	}
	f.send("GET", target+"&access_token="+token, "").wantError(t, "in the URL", 401, "unauthorized")

	for range throttle.WrongTokens.Limit {
		f.send("GET", target, "", "Authorization", "Bearer wrong")
	}
	r := f.send("GET", target, "", "Authorization", "Bearer wrong")
	r.wantError(t, "above the limit of wrong tokens", 429, "rate_limited")
	if r.header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	if r := f.send("GET", target, "", "Authorization", "Bearer "+token); r.status != 200 {
		t.Errorf("the right token from the same address: %d", r.status)
	}
	// libcurl sends no token at first if it may choose the scheme.
	f.send("GET", target, "").wantError(t, "no token above the limit", 401, "unauthorized")

	f.Must(f.Store.RemoveServer(t.Context(), "sbc"))
	f.Must(f.registry.Refresh(t.Context()))
	r = f.send("GET", target, "", "Authorization", "Bearer "+token)
	if r.status != 429 && r.status != 401 {
		t.Errorf("a removed token: %d %s", r.status, r.body)
	}
}

func TestStoreUnavailable(t *testing.T) {
	f := newFixture(t)
	f.addActive("a.test", "alice")
	token := f.addServer("sbc", "a.test")
	f.Close()
	for range 3 {
		for _, user := range []string{"alice", "nobody"} {
			r := f.credential("username="+user+"&realm=a.test", token)
			r.wantError(t, user, 503, "overloaded")
			if r.header.Get("Retry-After") != "2" {
				t.Errorf("Retry-After is %q", r.header.Get("Retry-After"))
			}
			if r := f.post("/v1/freeswitch/directory", sipAuth(user, "a.test"), token); r.status != 503 {
				t.Errorf("FreeSWITCH: %d %s", r.status, r.body)
			}
			if r := f.post("/v1/asterisk/ps_auths/single", "id="+user, token); r.status != 503 || r.body != "" {
				t.Errorf("Asterisk: %d %q", r.status, r.body)
			}
		}
	}
	if n := f.Log.Count("lookup unavailable"); n == 0 || n > 2 {
		t.Errorf("logged %d times", n)
	}
}

// TestInternalError checks that an internal error is logged and is not reported as an unknown name.
func TestInternalError(t *testing.T) {
	f := newFixture(t)
	s := f.addPending("a.test", "alice")
	token := f.addServer("sbc", "a.test")
	_, err := f.Store.EnableNow(t.Context(), s.Account.Tenant, "alice", f.Now())
	f.Must(err)
	otherKeys := account.NewService(account.Deps{
		Store: f.Store, SealRing: secret.NewRing(world.Noon), Now: f.Now,
	})
	for name, c := range map[string]struct {
		broken func(*sipserver.Deps)
		logged string
	}{
		"a credential that does not open": {
			func(d *sipserver.Deps) { d.Accounts = otherKeys },
			"account alice of a.test: key ",
		},
		"a panic": {
			func(d *sipserver.Deps) { d.Tenants = nil }, `level=ERROR msg="lookup failed" path=/v1/`,
		},
	} {
		deps := f.RegistryDeps()
		c.broken(&deps)
		registry := sipserver.NewRegistry(deps)
		f.Must(registry.Refresh(t.Context()))
		f.Log.Reset()
		f.handler = lookup.New(lookup.Deps{
			Registry: registry, Log: slog.New(slog.NewTextHandler(f.Log, nil)), Now: f.Now,
		})
		r := f.direct("GET", "/v1/sip/credential?username=alice&realm=a.test", "", token)
		r.wantError(t, name, 500, "server_error")
		r = f.direct("POST", "/v1/freeswitch/directory", sipAuth("alice", "a.test"), token)
		r.wantError(t, name, 500, "server_error")
		r = f.direct("POST", "/v1/asterisk/ps_auths/single", "id=alice%40a.test", token)
		if r.status != 500 || r.body != "" {
			t.Errorf("%s: %d %q", name, r.status, r.body)
		}
		if n := f.Log.Count(c.logged); n < 3 {
			t.Errorf("%s: logged %d times: %s", name, n, f.Log.String())
		}
		f.Log.Reset() // it contains the name, for which the cleanup would fail the test
	}
}

// TestConcurrentLookups checks that reused buffers never mix answers.
func TestConcurrentLookups(t *testing.T) {
	f := newFixture(t)
	for i := range 16 {
		f.addActive("a.test", fmt.Sprint("user", i))
	}
	token := f.addServer("sbc", "a.test")
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			user := fmt.Sprint("user", i)
			want := digest.Compute(user, "a.test", world.Password(user, "a.test")).Hex()
			for range 50 {
				w := httptest.NewRecorder()
				r := httptest.NewRequest("GET", "/v1/sip/credential?username="+user+"&realm=a.test", nil)
				r.Header.Set("Authorization", "Bearer "+token)
				f.handler.ServeHTTP(w, r)
				if w.Code != 200 || !strings.Contains(w.Body.String(), `"ha1":"`+want+`"`) {
					t.Errorf("%s: %d %s", user, w.Code, w.Body)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkCredential measures the handler without the network.
func BenchmarkCredential(b *testing.B) {
	f := newFixture(b)
	f.addActive("a.test", "alice")
	token := f.addServer("sbc", "a.test")
	for name, user := range map[string]string{"active": "alice", "malformed name": "ALICE"} {
		b.Run(name, func(b *testing.B) {
			target := "/v1/sip/credential?username=" + user + "&realm=a.test&algorithm=MD5"
			r := httptest.NewRequest("GET", target, nil)
			r.Header.Set("Authorization", "Bearer "+token)
			w := &discard{header: make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				f.Advance(time.Millisecond)
				clear(w.header)
				f.handler.ServeHTTP(w, r)
			}
		})
	}
}

// discard is a http.ResponseWriter that discards the answer.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
