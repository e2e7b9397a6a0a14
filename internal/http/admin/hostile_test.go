package admin_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/operator"
)

// hostileBodies are bodies that every operation refuses.
var hostileBodies = []string{
	"x", "{", "}", "[]", "null", "1", `"x"`, "true", "{}{}", "{} x", `{"reason"}`, `{"reason":}`, `{"reason":"x",}`,
	`{"reason":"a","reason":"b"}`, `{"Reason":"x"}`, `{"REASON":"x"}`, `{"re\u0061son":"x","reason":"y"}`, `{"x":1}`,
	`{"__proto__":{}}`, `{"":1}`, `{"reason":null}`, `{"reason":1}`, `{"reason":["x"]}`, `{"reason":{"x":1}}`,
	`{"reason":"a\u0000b"}`, `{"reason":"a\u001bb"}`, `{"reason":"a\u0085b"}`, "{\"reason\":\"a\x00b\"}",
	"{\"reason\":\"\xff\"}", "\xef\xbb\xbf{}", "\xff\xfe{\x00}\x00", `{"reason":"` + strings.Repeat("x", 501) + `"}`,
	`{"reason":"two\nlines"}`, strings.Repeat("[", 10000), strings.Repeat(`{"query":`, 1000), `{"reason":1e999}`,
	`{"reason":"x"`, `{'reason':'x'}`, `{reason:"x"}`, "{\"reason\":\"x\"}\x00", `{"reason":"x"}//`, `<reason/>`,
	"reason=x", "{" + strings.Repeat(" ", 140<<10) + "}", `{"reason":"` + strings.Repeat("y", 140<<10) + `"}`,
	`{"tenant":"b.test"}`, `{"scopes":["tokens:write"],"scopes":["accounts:read"]}`,
}

// hostileHeaders are headers that every operation refuses with the body {}.
var hostileHeaders = [][2]string{
	{"Content-Type", "text/plain"}, {"Content-Type", "application/x-www-form-urlencoded"},
	{"Content-Type", "text/json"},
	{"Content-Type", "application/json; charset=latin1"}, {"Content-Type", "application/json, text/html"},
	{"Content-Type", ";"}, {"Content-Encoding", "gzip"}, {"If-Match", `"` + strings.Repeat("0", 5000)},
	{"If-Match", "x"}, {"Idempotency-Key", " x y"}, {"Authorization", "Basic eDp5"}, {"Authorization", "Bearer"},
	{"Authorization", "Bearer dta_" + strings.Repeat("A", 49)},
	{"Authorization", "Bearer " + strings.Repeat("x", 5000)},
	{"Authorization", "Token x"}, {"Authorization", "Bearer dta_\u00e9"},
}

// hostilePaths are paths that do not exist.
var hostilePaths = []string{
	"/v1/admin/", "/v1/admin//tenants", "/v1/admin/tenants/", "/v1/admin/tenants//accounts",
	"/v1/admin/../admin/tenants",
	"/v1/admin/tenants/./a.test", "/v1/admin/tenants/%2e%2e/tokens", "/v1/admin/tenants/a.test%2faccounts",
	"/v1/admin/tenants/a.test/accounts/", "/v1/admin/tenants/a.test/accounts/ann/disable/", "/v1/admin/tenants/A.TEST",
	"/v1/admin/tenants/a.test./accounts", "/v1/admin/tenants/a.test:80/accounts", "/v1/admin/tenants/b.test",
	"/v1/admin/tenants/a.test%00", "/v1/admin/tenants/%ff", "/v1/admin/tenants/a.test/accounts/%00",
	"/v1/admin/tenants/a.test/accounts/ann%00", "/v1/admin/tenants/a.test/accounts/%ff",
	"/v1/admin/tenants/a.test/accounts/*",
	"/v1/admin/tenants/a.test/accounts/ann;x=1", "/v1/admin/tenants/a.test/accounts/ann'--", "/v1/admin/tenants/{host}",
	"/v1/admin/tenants/a.test/accounts/ANN", "/v1/admin/tenants/a.test/accounts/%61%6e%6e%20",
	"/v1/admin/tenants/a.test/accounts/" + strings.Repeat("a", 5000), "/v1/admin/tenants/" + strings.Repeat("a", 300),
	"/v1/admin/tenants/a.test/accounts/ann/Disable", "/v1/admin/tenants/a.test/bulk/0",
	"/v1/admin/tenants/a.test/bulk/" + strings.Repeat("0", 32),
	"/v1/admin/TENANTS", "/v1/admin/tokens/%2e", "/v1/admin/tokens/nobody", "/v1/admin/x",
}

// hostileQueries are queries that every list refuses.
var hostileQueries = []string{
	"limit=-1", "limit=0", "limit=9999999999999999999999", "limit=1e2", "limit=+1", "limit= 1", "limit=01",
	"limit=1&limit=1",
	"cursor=%00", "cursor=../..", "cursor=" + strings.Repeat("A", 3000), "x=y", "Limit=1", "limit[]=1", "limit=1;x=2",
	"%",
	"limit=%zz", "=1", "cursor=%ff", strings.Repeat("a=b&", 2000),
}

// TestHostile sends requests that must be refused to operations that change something: none may
// have an effect or cause a server error.
func TestHostile(t *testing.T) {
	f := newFixture(t)
	token := f.token("one", "a.test", operator.AccountsRead, operator.AccountsWrite, operator.TenantRead,
		operator.TenantWrite, operator.TokensWrite)
	f.At("a.test").Member("ann")
	f.At("b.test").Member("bob")
	cases := 0
	refused := func(what string, r response, before int) {
		t.Helper()
		cases++
		if r.status < 400 || r.status > 499 || !strings.HasPrefix(r.body, `{"error":"`) {
			t.Errorf("%s: %d %.200s", what, r.status, r.body)
		}
		if n := len(f.changes()); n != before {
			t.Errorf("%s: changed something", what)
		}
		if cases%20 == 0 {
			f.Advance(10 * time.Minute) // wrong tokens are limited
		}
	}
	before := len(f.changes())
	ops := []struct{ method, path string }{
		{"PATCH", atA}, {"PUT", atA + "/signups"}, {"POST", atA + "/accounts"}, {"PATCH", atA + "/accounts/ann"},
		{"POST", atA + "/accounts/ann/disable"}, {"POST", atA + "/accounts/ann/resend"}, {"POST", atA + "/bulk"},
		{"POST", "/v1/admin/tokens"},
	}
	for _, o := range ops {
		for _, body := range hostileBodies {
			r := f.send(o.method, o.path, body, token)
			refused(fmt.Sprintf("%s %s %.60q", o.method, o.path, body), r, before)
		}
		for _, h := range hostileHeaders {
			body := "{}"
			if h[0] == "If-Match" || h[0] == "Idempotency-Key" {
				body = `{"reason":"x"}`
			}
			if o.path == atA && strings.HasPrefix(h[0], "C") {
				body = `{"reason":"x"}`
			}
			r := f.send(o.method, o.path, body, token, h[0], h[1])
			refused(fmt.Sprintf("%s %s %s: %.60s", o.method, o.path, h[0], h[1]), r, before)
		}
	}
	for _, path := range hostilePaths {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			body := ""
			if method == "POST" {
				body = "{}"
			}
			refused(method+" "+path, f.raw(method, path, body, token), before)
		}
	}
	for _, query := range hostileQueries {
		for _, path := range []string{"/v1/admin/tenants", atA + "/accounts", "/v1/admin/tokens"} {
			refused(path+"?"+query, f.raw("GET", path+"?"+query, "", token), before)
		}
	}
	if cases < 300 {
		t.Errorf("%d cases", cases)
	}
	t.Logf("%d cases", cases)
}

// raw sends a request line unchanged, which net/http would not do.
func (f *fixture) raw(method, target, body, token string) response {
	f.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	f.Must(err)
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n", method, target,
		token)
	if body != "" {
		fmt.Fprintf(conn, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	fmt.Fprintf(conn, "\r\n%s", body)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	f.Must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	f.Must(err)
	if resp.Header.Get("X-Content-Type-Options") == "" && resp.StatusCode == 400 { // net/http itself refused it
		b = []byte(`{"error":"`)
	}
	return response{resp.StatusCode, resp.Header, string(b)}
}

// FuzzRequest checks that no request causes a server error.
func FuzzRequest(f *testing.F) {
	fx := newFixture(f)
	token := fx.token("one", "a.test", operator.Scopes...)
	fx.At("a.test").Member("ann")
	for _, body := range hostileBodies {
		f.Add("POST", "/accounts", "", body)
		f.Add("PATCH", "", "", body)
	}
	for _, query := range hostileQueries {
		f.Add("GET", "/accounts", query, "")
	}
	f.Add("PATCH", "/accounts/ann", "", `{"name":"\ud800","reason":"x"}`)
	f.Add("POST", "/bulk", "", `{"action":"disable","query":{"net":"192.0.2.0/24","since":"2026-01-01T00:00:00Z"}}`)
	f.Add("GET", "/changes", "net=::/0&since=2026-01-01T00:00:00Z&newest=true&action=account.", "")
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		if len(body) > 4<<10 || len(path) > 1<<10 || len(query) > 1<<10 || path != "" && path[0] != '/' {
			return
		}
		r, err := http.NewRequest(method, "http://x"+atA, strings.NewReader(body))
		if err != nil {
			return
		}
		if r.URL, err = r.URL.Parse("http://x" + atA + path); err != nil {
			return
		}
		r.URL.RawQuery, r.RemoteAddr = query, "127.0.0.1:1"
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		fx.handler.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s %q ?%q %q: %d %s", method, path, query, body, w.Code, w.Body)
		}
	})
}

// TestTokenRemovedDuringBody removes a token while the body of a request arrives slowly.
func TestTokenRemovedDuringBody(t *testing.T) {
	f := newFixture(t)
	f.At("a.test").Member("ann")
	token := f.token("leaked", "a.test", operator.AccountsWrite, operator.AccountsRead)
	const body = `{"role":"admin"}`
	read, write := io.Pipe()
	go func() {
		// The client sends the body only after 100 Continue, that is, when the server reads it.
		write.Write([]byte(body[:len(body)-1]))
		write.CloseWithError(func() error {
			if err := f.tokens.Remove(f.Context(), root, "leaked", ""); err != nil {
				return err
			}
			_, err := write.Write([]byte(body[len(body)-1:]))
			return err
		}())
	}()
	r, err := http.NewRequest("PATCH", f.url+"/v1/admin/tenants/a.test/accounts/ann", read)
	f.Must(err)
	r.ContentLength = int64(len(body))
	r.Header.Set("Expect", "100-continue")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	client := http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	f.Must(err)
	resp.Body.Close()
	a, err := f.Accounts.Find(f.Context(), f.At("a.test").Tenant.ID, "ann")
	f.Must(err)
	if resp.StatusCode != http.StatusUnauthorized || a.Role == account.Admin {
		t.Errorf("%d, and the role is %s", resp.StatusCode, a.Role)
	}
}
