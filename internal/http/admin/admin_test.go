package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
)

const atA = "/v1/admin/tenants/a.test"

// TestAccounts goes through the life of an account with the API.
func TestAccounts(t *testing.T) {
	f := newFixture(t)
	all := f.token("all", "", operator.Scopes...)
	created := f.send("POST", atA+"/accounts",
		`{"user":"ann","name":"Ann","email":"ann@mail.test","ha1":"0123456789abcdef0123456789abcdef","active":true}`,
		all)
	v := f.want(created, 201)
	if v["state"] != "active" || v["email"] != "ann@mail.test" || len(v["id"].(string)) != 32 ||
		created.header.Get("Location") != atA+"/accounts/ann" {
		t.Errorf("%v %v", v, created.header)
	}
	made := v
	shown := f.send("GET", atA+"/accounts/ann", "", all)
	if created.header.Get("Etag") == "" || created.header.Get("Etag") != shown.header.Get("Etag") {
		t.Errorf("made with %v, shown with %v", created.header, shown.header)
	}
	if v := f.want(shown, 200); v["state"] != "active" || v["user"] != "ann" || v["id"] != made["id"] {
		t.Errorf("%v", v)
	}
	in := func(d time.Duration) string { return f.Now().UTC().Add(d).Format(time.RFC3339Nano) }
	for _, c := range []struct {
		method, path, body string
		status             int
		member, value      string
	}{
		{"POST", "/disable", `{"reason":"spam"}`, 200, "state", "disabled"},
		{"POST", "/enable", ``, 200, "state", "active"},
		{"POST", "/sign-out", `{}`, 200, "state", "active"},
		{"POST", "/remove-second-factors", ``, 200, "state", "active"},
		{"PATCH", "", `{"role":"user","reason":"asked"}`, 200, "role", "user"},
		{"PATCH", "", `{"name":"Ann Other"}`, 200, "name", "Ann Other"},
		{"PATCH", "", `{"email":"ann2@mail.test"}`, 200, "email", "ann2@mail.test"},
		{"PATCH", "", `{"role":"user","name":"x"}`, 400, "error", "invalid_request"},
		{"PATCH", "", `{"role":"king"}`, 400, "field", "role"},
		{"PATCH", "", `{}`, 400, "error", "invalid_request"},
		{"POST", "/resend", ``, 409, "error", "conflict"},
		{"POST", "/mail-reset-link", ``, 200, "to", "ann2@mail.test"},
		{"POST", "/reset-link", ``, 201, "until", in(time.Hour)},
		{"POST", "/reset-link", `{"valid":"2d"}`, 201, "until", in(48 * time.Hour)},
		{"POST", "/reset-link", `{"valid":"8d"}`, 400, "field", "valid"},
		{"POST", "/reset-link", `{"valid":"long"}`, 400, "field", "valid"},
		{"GET", "/data?reason=by+letter", ``, 200, "", ""},
		{"DELETE", "?reason=asked", ``, 204, "", ""},
		{"DELETE", "", ``, 404, "error", "not_found"},
		{"POST", "/disable", ``, 404, "error", "not_found"},
	} {
		r := f.send(c.method, atA+"/accounts/ann"+c.path, c.body, all)
		v := f.want(r, c.status)
		if c.member != "" && v[c.member] != c.value {
			t.Errorf("%s %s: %s", c.method, c.path, r.body)
		}
	}
	if v := f.want(f.send("GET", atA+"/accounts/ann", "", all), 200); v["state"] != "closed" || v["role"] != nil ||
		v["state_since"] == nil {
		t.Errorf("%v", v)
	}
	if c := f.change(audit.AccountData); c.User != "ann" || c.Reason != "by letter" || c.Actor.Name != "all" {
		t.Errorf("%+v", c)
	}
	f.wantError(f.send("GET", atA+"/accounts/nobody", "", all), 404, "not_found")

	c := f.change(audit.AccountDisable)
	if c.Actor.Kind != audit.Token || c.Actor.Name != "all" || c.Reason != "spam" ||
		c.Net != "127.0.0.0/24" || c.Request == "" {
		t.Errorf("%+v", c)
	}
}

// TestList checks pages and filters.
func TestList(t *testing.T) {
	f := newFixture(t)
	token := f.token("read", "a.test", operator.AccountsRead)
	for i := range 7 {
		f.At("a.test").Join(fmt.Sprint("ann", i))
	}
	f.At("a.test").Member("ben")
	f.At("b.test").Member("other")
	list := func(query string) (users []string) {
		t.Helper()
		for next := ""; ; {
			v := f.want(f.send("GET", atA+"/accounts?limit=3"+query+next, "", token), 200)
			for _, a := range v["items"].([]any) {
				users = append(users, a.(map[string]any)["user"].(string))
			}
			cursor, more := v["next"].(string)
			if !more {
				slices.Sort(users)
				return users
			}
			next = "&cursor=" + cursor
		}
	}
	for query, want := range map[string]string{
		"":                             "ann0 ann1 ann2 ann3 ann4 ann5 ann6 ben",
		"&state=active":                "ben",
		"&state=active,waiting&text=a": "ann0 ann1 ann2 ann3 ann4 ann5 ann6",
		"&text=BEN":                    "ben",
		"&role=admin":                  "",
		"&confirmed=true":              "",
		"&since=2027-01-01T00:00:00Z":  "",
		"&before=2025-01-01T00:00:00Z": "",
		"&before=2025-01-01":           "",
		"&since=2h&text=be":            "ben",
		"&before=1h":                   "",
		"&since=2d&net=198.51.3.77":    "",
	} {
		if got := strings.Join(list(query), " "); got != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
	for _, query := range []string{
		"?limit=0", "?limit=501", "?limit=x", "?limit=1&limit=2", "?state=closed", "?state=", "?cursor=!",
		"?since=today",
		"?x=1", "?confirmed=1", "?net=192.0.2.1/32",
		"?net=192.0.2.256", "?since=-1h", "?net=::ffff:192.0.2.0/120", "?text=%00", "?text=%ff", "?text=%zz",
		"?since=0001-01-01T00:00:00Z",
	} {
		f.wantError(f.send("GET", atA+"/accounts"+query, "", token), 400, "invalid_request")
	}
}

// TestConditions checks If-Match: exactly one of several concurrent changes with the same condition
// succeeds.
func TestConditions(t *testing.T) {
	f := newFixture(t)
	all := f.token("all", "", operator.Scopes...)
	f.At("a.test").Member("ann")
	for _, c := range []struct{ name, path, method, body string }{
		{"account", atA + "/accounts/ann", "PATCH", `{"name":"name %d"}`},
		{"action", atA + "/accounts/ann", "POST", `{"reason":"%d"}`},
		{"tenant", atA, "PATCH", `{"product":"Product %d"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			tag := f.send("GET", c.path, "", all).header.Get("Etag")
			target := c.path
			if c.method == "POST" {
				target += "/disable"
			}
			var mu sync.Mutex
			count := make(map[int]int)
			var all20 sync.WaitGroup
			for i := range 20 {
				all20.Go(func() {
					r := f.send(c.method, target, fmt.Sprintf(c.body, i), all, "If-Match", tag)
					mu.Lock()
					count[r.status]++
					mu.Unlock()
				})
			}
			all20.Wait()
			if count[200] != 1 || count[412] != 19 {
				t.Errorf("%v", count)
			}
			f.wantError(f.send(c.method, target, fmt.Sprintf(c.body, 99), all, "If-Match", tag), 412, "changed")
			f.want(f.send(c.method, target, fmt.Sprintf(c.body, 99), all, "If-Match", "*"), 200)
		})
	}
	f.wantError(f.send("DELETE", atA+"/accounts/ann", "", all, "If-Match", `"00"`), 412, "changed")
	for _, bad := range []string{"x", `W/"00"`, `"a", "b"`, `"`} {
		f.wantError(f.send("DELETE", atA+"/accounts/ann", "", all, "If-Match", bad), 400, "invalid_request")
	}
	f.wantError(f.send("GET", atA+"/accounts/ann", "", all, "If-Match", "*"), 400, "invalid_request")
	tag := f.send("GET", atA+"/accounts/ann", "", all).header.Get("Etag")
	f.want(f.send("DELETE", atA+"/accounts/ann", "", all, "If-Match", tag), 204)
}

// TestTenantChangesMerge checks that concurrent changes of different settings all take effect.
func TestTenantChangesMerge(t *testing.T) {
	f := newFixture(t)
	all := f.token("all", "", operator.Scopes...)
	bodies := []string{`{"product":"P"}`, `{"about":"A"}`, `{"welcome":"W"}`, `{"support":"help@mail.test"}`}
	var done sync.WaitGroup
	for _, body := range bodies {
		done.Go(func() { f.want(f.send("PATCH", atA, body, all), 200) })
	}
	done.Wait()
	v := f.want(f.send("GET", atA, "", all), 200)
	if v["product"] != "P" || v["about"] != "A" || v["welcome"] != "W" || v["support"] != "help@mail.test" {
		t.Errorf("%v", v)
	}
	v = f.want(f.send("PATCH", atA, `{"product":null,"reserved":["boss"],"turn_seconds":60,"signups_per_hour":9}`, all),
		200)
	if v["product"] != "" || v["about"] != "A" || fmt.Sprint(v["reserved"]) != "[boss]" || v["turn_seconds"] != 60.0 {
		t.Errorf("%v", v)
	}
	for body, field := range map[string]string{
		`{"accent":"blue"}`: "accent", `{"public_url":"ftp://x"}`: "public_url", `{"origins":["x"]}`: "origins",
		`{"turn_uris":["x"]}`: "turn_uris", `{"algorithm":"SHA"}`: "algorithm", `{"realm":"a\"b"}`: "realm",
		`{"reserved":["A B"]}`: "reserved", `{"product":7}`: "product", `{"origins":"x"}`: "origins",
		`{"host":"x"}`: "host",
	} {
		if v := f.wantError(f.send("PATCH", atA, body, all), 400, "invalid_request"); v["field"] != field {
			t.Errorf("%s: %v", body, v)
		}
	}
}

// TestChangeDuringEdit checks that a change of a tenant that happens during another one is kept.
func TestChangeDuringEdit(t *testing.T) {
	f := newFixture(t)
	at := f.At("a.test").Tenant
	calls := 0
	set := func(edit func(tenant.Tenant) (tenant.Tenant, error)) tenant.Tenant {
		n, err := f.service.SetTenant(t.Context(), root, at, "", edit)
		f.Must(err)
		return n
	}
	got := set(func(n tenant.Tenant) (tenant.Tenant, error) {
		if calls++; calls == 1 {
			set(func(n tenant.Tenant) (tenant.Tenant, error) { n.About = "A"; return n, nil })
		}
		n.Product = "P"
		return n, nil
	})
	if calls != 2 || got.About != "A" || got.Product != "P" {
		t.Errorf("%d calls, %+v", calls, got.Settings)
	}
}

// TestIdempotency checks that a request with a key is carried out once.
func TestIdempotency(t *testing.T) {
	f := newFixture(t)
	all, other := f.token("all", "", operator.Scopes...), f.token("other", "", operator.Scopes...)
	body := func(user string) string {
		return fmt.Sprintf(`{"user":%q,"name":"X","email":"x@mail.test","active":true,`+
			`"ha1":"0123456789abcdef0123456789abcdef"}`, user)
	}
	create := func(user, token, key string) response {
		return f.send("POST", atA+"/accounts", body(user), token, "Idempotency-Key", key)
	}
	first := create("ann", all, "k1")
	f.want(first, 201)
	again := create("ann", all, "k1")
	if f.want(again, 201); again.body != first.body || again.header.Get("Idempotency-Replayed") != "true" ||
		first.header.Get("Idempotency-Replayed") != "" || again.header.Get("Location") != atA+"/accounts/ann" {
		t.Errorf("%s %v\n%s %v", first.body, first.header, again.body, again.header)
	}
	f.wantError(create("ben", all, "k1"), 422, "idempotency_mismatch")
	f.want(create("gone", all, "gone"), 201)
	f.want(f.send("DELETE", atA+"/accounts/gone", "", all), 204)
	if got := create("gone", all, "gone"); strings.Contains(got.body, "@") {
		t.Errorf("the answer of a deleted account: %s", got.body)
	} else {
		f.wantError(got, 409, "conflict")
	}
	f.wantError(create("ann", other, "k1"), 409, "conflict")
	f.wantError(create("ann", all, "k2"), 409, "conflict")
	f.want(create("bob", all, "k2"), 201) // a refusal does not use the key up
	for _, bad := range []string{"a b", strings.Repeat("x", 256), "ü"} {
		f.wantError(create("eve", all, bad), 400, "invalid_request")
	}
	f.wantError(f.send("POST", atA+"/accounts/ann/disable", "", all, "Idempotency-Key", "k"), 400, "invalid_request")

	var mu sync.Mutex
	count := make(map[int]int)
	var done sync.WaitGroup
	for range 20 {
		done.Go(func() {
			r := create("cat", all, "k3")
			mu.Lock()
			count[r.status]++
			mu.Unlock()
		})
	}
	done.Wait()
	if count[201] < 1 || count[201]+count[409] != 20 {
		t.Errorf("%v", count)
	}
	added := slices.DeleteFunc(f.changes(), func(c audit.Change) bool { return c.User != "cat" })
	if len(added) > 1 {
		t.Errorf("%v", added)
	}

	// The same token twice, and not in clear in the database.
	token := func(key string) response {
		return f.send("POST", "/v1/admin/tokens", `{"name":"new","scopes":["accounts:read"]}`, all, "Idempotency-Key",
			key)
	}
	made := f.want(token("t"), 201)
	f.Log.Hide(made["secret"].(string))
	if f.want(token("t"), 201)["secret"] != made["secret"] {
		t.Error("another token")
	}
	f.want(f.send("GET", atA+"/accounts", "", made["secret"].(string)), 200)

	f.Advance(operator.AnswerLife)
	f.wantError(create("ann", all, "k1"), 409, "conflict") // is carried out again
	f.Must(f.answers.Sweep(t.Context()))
}

// TestCrashBeforeAnswer checks that a request whose answer was not stored is not carried out again.
func TestCrashBeforeAnswer(t *testing.T) {
	f := newFixture(t)
	all := f.token("all", "", operator.Scopes...)
	list, err := f.tokens.List(t.Context(), root)
	f.Must(err)
	body := `{"user":"ann","name":"X","email":"x@mail.test","ha1":"0123456789abcdef0123456789abcdef","active":true}`
	asked := []byte("POST\n" + atA + "/accounts\n" + body)
	func() {
		defer func() { _ = recover() }()
		f.answers.Once(t.Context(), list[0].ID, "k", asked, func() (int, []byte, error) {
			f.want(f.send("POST", atA+"/accounts", body, all), 201)
			panic("the server ends")
		})
	}()
	create := func() response {
		return f.send("POST", atA+"/accounts", body, all, "Idempotency-Key", "k")
	}
	r := create()
	f.wantError(r, 409, "conflict")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After while the first request may still run")
	}
	f.Advance(time.Hour)
	r = create()
	f.wantError(r, 409, "outcome_unknown")
	if r.header.Get("Retry-After") != "" || !strings.Contains(r.body, "look whether it was carried out") {
		t.Errorf("%s %v", r.body, r.header)
	}
}

// TestTokens checks who can create which tokens.
func TestTokens(t *testing.T) {
	f := newFixture(t)
	all := f.token("all", "", operator.AccountsRead, operator.TokensWrite)
	atATest := f.token("a", "a.test", operator.AccountsRead, operator.TokensWrite)
	_, short, err := f.tokens.Add(t.Context(), root, time.Time{}, operator.NewToken{
		Name: "short", Scopes: []operator.Scope{operator.TokensWrite}, Expires: f.Now().Add(time.Hour)})
	f.Must(err)
	f.Log.Hide(short)
	post := func(token, body string) response {
		r := f.send("POST", "/v1/admin/tokens", body, token)
		var v struct{ Secret string }
		if json.Unmarshal([]byte(r.body), &v) == nil && v.Secret != "" {
			f.Log.Hide(v.Secret)
		}
		return r
	}
	for _, c := range []struct {
		claim, token, body string
		status             int
	}{
		{"the same scopes", all, `{"name":"t1","scopes":["accounts:read"]}`, 201},
		{"a tenant", all, `{"name":"t2","scopes":["accounts:read"],"tenant":"b.test"}`, 201},
		{"more scopes", all, `{"name":"t3","scopes":["accounts:write"]}`, 403},
		{"another tenant", atATest, `{"name":"t4","scopes":["accounts:read"],"tenant":"b.test"}`, 400},
		{"a tenant that is not there", atATest, `{"name":"t4","scopes":["accounts:read"],"tenant":"x.test"}`, 400},
		{"its own tenant", atATest, `{"name":"t5","scopes":["accounts:read"]}`, 201},
		{"a longer life", short, `{"name":"t6","scopes":["tokens:write"],"expires":"2099-01-01T00:00:00Z"}`, 403},
		{"the same life", short, `{"name":"t7","scopes":["tokens:write"]}`, 201},
		{"a name that is taken", all, `{"name":"t1","scopes":["accounts:read"]}`, 409},
		{"a time in the past", all, `{"name":"t8","scopes":["accounts:read"],"expires":"2020-01-01T00:00:00Z"}`, 400},
		{"a duration", all, `{"name":"t8","scopes":["accounts:read"],"expires":"90d"}`, 201},
		{"no time", all, `{"name":"t9","scopes":["accounts:read"],"expires":"soon"}`, 400},
		{"no scope", all, `{"name":"t9","scopes":[]}`, 400},
		{"an unknown scope", all, `{"name":"t9","scopes":["root"]}`, 400},
		{"a bad name", all, `{"name":"a b","scopes":["accounts:read"]}`, 400},
	} {
		if r := post(c.token, c.body); r.status != c.status {
			t.Errorf("%s: %d %s", c.claim, r.status, r.body)
		}
	}
	names := func(token string) (list []string) {
		for _, v := range f.want(f.send("GET", "/v1/admin/tokens", "", token), 200)["items"].([]any) {
			list = append(list, v.(map[string]any)["name"].(string))
		}
		return list
	}
	if got := strings.Join(names(atATest), " "); got != "a t5" {
		t.Errorf("a token of a tenant sees the tokens %s", got)
	}
	if got := strings.Join(names(all), " "); got != "a all short t1 t2 t5 t7 t8" {
		t.Errorf("%s", got)
	}
	f.wantError(f.send("DELETE", "/v1/admin/tokens/all", "", atATest), 404, "not_found")
	f.wantError(f.send("DELETE", "/v1/admin/tokens/t2", "", atATest), 404, "not_found")
	f.want(f.send("DELETE", "/v1/admin/tokens/t5", "", atATest), 204)
	f.want(f.send("DELETE", "/v1/admin/tokens/a", "", all), 204)
	f.wantError(f.send("GET", "/v1/admin/tokens", "", atATest), 401, "unauthorized")

	f.Advance(time.Hour)
	f.wantError(f.send("GET", "/v1/admin/tokens", "", short), 401, "unauthorized")
	names(all)
	f.Must(f.tokens.Flush(t.Context()))
	list, err := f.tokens.List(t.Context(), root)
	f.Must(err)
	if list[0].Name != "all" || !list[0].Used.Equal(f.Now()) {
		t.Errorf("%+v", list[0])
	}
}

// TestWrongTokens checks that wrong tokens are limited and valid ones are not.
func TestWrongTokens(t *testing.T) {
	f := newFixture(t)
	all := f.token("all", "", operator.Scopes...)
	for range 60 {
		r := f.send("GET", "/v1/admin/tenants", "", "dta_wrong")
		f.wantError(r, 401, "unauthorized")
		if r.header.Get("Www-Authenticate") != `Bearer realm="dialtone"` {
			t.Fatalf("%v", r.header)
		}
	}
	if r := f.send("GET", "/v1/admin/tenants", "", "dta_wrong"); r.status != 429 || r.header.Get("Retry-After") == "" {
		t.Errorf("%d %v", r.status, r.header)
	}
	f.want(f.send("GET", "/v1/admin/tenants", "", all), 200)
	f.wantError(f.send("GET", "/v1/admin/tenants", "", ""), 401, "unauthorized")
	f.wantError(f.send("GET", "/v1/admin/no-such-path", "", ""), 401, "unauthorized")
	f.wantError(f.send("GET", "/v1/admin/no-such-path", "", all), 404, "not_found")
	if r := f.send("PUT", "/v1/admin/tenants/a.test", "{}", all); r.status != 405 ||
		r.header.Get("Allow") != "GET, HEAD, PATCH" {
		t.Errorf("%d %v", r.status, r.header)
	}
}

// TestOthers calls the operations that no other test calls.
func TestOthers(t *testing.T) {
	f := newFixture(t)
	all := f.token("all", "", operator.Scopes...)
	f.At("a.test").Join("ann")
	for _, target := range []string{
		"/v1/admin/tenants", atA, atA + "/signups", "/v1/admin/freeze", atA + "/changes", "/v1/admin/changes", atA +
			"/stats",
		"/v1/admin/stats?days=3", atA + "/hooks", "/v1/admin/hooks", atA + "/messages",
		"/v1/admin/tokens", atA + "/bulk", atA + "/names", atA + "/changes?since=2h&net=192.0.2.1",
	} {
		f.want(f.send("GET", target, "", all), 200)
	}
	r := f.send("PUT", atA+"/signups", `{"signups":"closed","signups_note":"Soon."}`, all)
	if v := f.want(r, 200); v["signups"] != "closed" ||
		v["shown_note"] != "Soon." {
		t.Errorf("%v", v)
	}
	if v := f.want(f.send("PUT", "/v1/admin/freeze", `{"frozen":true,"note":"Later."}`, all),
		200); v["frozen"] != true {
		t.Errorf("%v", v)
	}
	if v := f.want(f.send("GET", atA+"/signups", "", all), 200); v["shown_note"] != "Later." || v["open"] != false {
		t.Errorf("%v", v)
	}
	if v := f.want(f.send("GET", atA+"/stats", "", all), 200); v["open"] != false || v["tenant"] != "a.test" {
		t.Errorf("%v", v)
	}
	f.want(f.send("PUT", "/v1/admin/freeze", `{"frozen":false}`, all), 200)
	if v := f.want(f.send("PUT", atA+"/signups", `{"signups":"open"}`, all), 200); v["signups_note"] != "" {
		t.Errorf("%v", v)
	}
	for path, body := range map[string]string{
		atA + "/signups": `{"signups":"open","signups_note":"x"}`, "/v1/admin/freeze": `{"frozen":true,"note":"\n` +
			strings.Repeat("x", 301) + `"}`,
	} {
		want := map[bool]string{true: "signups_note", false: "note"}[path == atA+"/signups"]
		if v := f.want(f.send("PUT", path, body, all), 400); v["field"] != want {
			t.Errorf("%v", v)
		}
	}
	for _, v := range []any{f.want(f.send("GET", atA, "", all), 200),
		f.want(f.send("GET", "/v1/admin/tenants", "", all), 200)["items"].([]any)[0]} {
		v := v.(map[string]any)
		if v["turn_seconds"] != 3600.0 || v["signups"] != "open" || v["algorithm"] != "MD5" {
			t.Errorf("%v", v)
		}
	}
	f.want(f.send("POST", atA+"/accounts/ann/resend", `{"email":"ann3@mail.test"}`, all), 200)
	f.wantError(f.send("POST", atA+"/bulk", `{"action":"disable","query":{}}`, all), 400, "invalid_request")
	v := f.want(f.send("POST", atA+"/bulk", `{"action":"disable","query":{"text":"ann"},"reason":"bots"}`, all), 201)
	bulk := atA + "/bulk/" + v["id"].(string)
	f.want(f.send("GET", bulk, "", all), 200)
	f.want(f.send("GET", bulk+"/accounts", "", all), 200)
	f.wantError(f.send("POST", bulk+"/run", `{"count":1}`, all), 409, "conflict")
	_, err := f.service.WorkBulk(t.Context())
	f.Must(err)
	f.want(f.send("POST", bulk+"/run", `{"count":1}`, all), 200)
	f.want(f.send("POST", bulk+"/cancel", "", all), 200)
	f.wantError(f.send("GET", atA+"/bulk/xyz", "", all), 404, "not_found")

	lines := f.send("GET", atA+"/changes?since=2020-01-01T00:00:00Z", "", all, "Accept", "application/jsonl")
	if lines.status != 200 || lines.header.Get("Content-Type") != "application/jsonl; charset=utf-8" {
		t.Fatalf("%d %s", lines.status, lines.body)
	}
	for line := range strings.Lines(lines.body) {
		var c map[string]any
		if err := json.Unmarshal([]byte(line), &c); err != nil || c["tenant"] != "a.test" {
			t.Errorf("%v: %s", err, line)
		}
	}
	if n := strings.Count(lines.body, "\n"); n < 3 {
		t.Errorf("%d lines: %s", n, lines.body)
	}
}

// TestExportLimits checks that an export that would be too large, or one of too many, is refused.
func TestExportLimits(t *testing.T) {
	f := newFixture(t)
	all := f.token("all", "", operator.Scopes...)
	for _, user := range []string{"ann", "ben", "cid"} {
		f.At("a.test").Member(user)
		f.want(f.send("POST", atA+"/accounts/"+user+"/disable", "", all), 200)
	}
	export := func() response {
		return f.send("GET", atA+"/changes?action=account.disable", "", all, "Accept", "application/jsonl")
	}
	whole := export()
	if n := strings.Count(whole.body, "\n"); whole.status != 200 || n != 3 {
		t.Fatalf("%d, %d lines: %s", whole.status, n, whole.body)
	}
	f.handler.LimitExport(3, len(whole.body))
	if again := export(); again.body != whole.body {
		t.Errorf("an export as large as it may be: %d %s", again.status, again.body)
	}
	f.handler.LimitExport(2, len(whole.body))
	f.wantError(export(), 400, "invalid_request")
	f.handler.LimitExport(3, len(whole.body)/3)
	f.wantError(export(), 400, "invalid_request")

	f.handler.LimitExport(3, len(whole.body))
	release := f.handler.HoldExports()
	f.wantError(export(), 429, "rate_limited")
	release()
	if again := export(); again.body != whole.body {
		t.Errorf("an export after others: %d %s", again.status, again.body)
	}
}

// TestNames checks the names of deleted accounts.
func TestNames(t *testing.T) {
	f := newFixture(t)
	all := f.token("all", "", operator.Scopes...)
	for _, user := range []string{"cid", "ann", "ben"} {
		f.At("a.test").Member(user)
		f.want(f.send("DELETE", atA+"/accounts/"+user, "", all), 204)
	}
	var names []string
	for next := ""; ; {
		v := f.want(f.send("GET", atA+"/names?limit=1"+next, "", all), 200)
		for _, n := range v["items"].([]any) {
			names = append(names, n.(map[string]any)["user"].(string))
		}
		cursor, more := v["next"].(string)
		if !more {
			break
		}
		next = "&cursor=" + cursor
	}
	if got := strings.Join(names, " "); got != "ann ben cid" {
		t.Errorf("the names are %s", got)
	}
	f.want(f.send("DELETE", atA+"/names/ben?reason=asked", "", all), 204)
	f.wantError(f.send("DELETE", atA+"/names/ben", "", all), 404, "not_found")
	f.wantError(f.send("GET", atA+"/accounts/ben", "", all), 404, "not_found")
	if c := f.change(audit.AccountFreeName); c.User != "ben" || c.Reason != "asked" {
		t.Errorf("%+v", c)
	}
}

// TestMessages retries and discards messages.
func TestMessages(t *testing.T) {
	f := newFixture(t)
	all := f.token("all", "", operator.Scopes...)
	id := f.failedMessage("a.test", "ann")
	other := f.failedMessage("b.test", "bob")
	list := f.want(f.send("GET", atA+"/messages", "", all), 200)["items"].([]any)
	if m := list[0].(map[string]any); len(list) != 1 || m["id"] != id || m["state"] != "failed" ||
		m["answer"] != "550 no such user" || m["tenant"] != "a.test" {
		t.Fatalf("%v", list)
	}
	if v := f.want(f.send("POST", atA+"/messages/"+id+"/retry", `{"reason":"asked"}`, all), 200); v["next"] == nil ||
		v["state"] == "failed" {
		t.Errorf("%v", v)
	}
	v := f.want(f.send("POST", atA+"/messages/"+id+"/discard", "", all), 200)
	if v["state"] != "discarded" || v["next"] != nil {
		t.Errorf("%v", v)
	}
	for _, wrong := range []string{other, "xyz", strings.Repeat("0", 32)} {
		f.wantError(f.send("POST", atA+"/messages/"+wrong+"/retry", "", all), 404, "not_found")
	}
	if c := f.change(audit.MessageRetry); c.Reason != "asked" || c.Actor.Name != "all" {
		t.Errorf("%+v", c)
	}
}

// TestPreviewPages reads the accounts of a bulk change one by one.
func TestPreviewPages(t *testing.T) {
	f := newFixture(t)
	all := f.token("all", "", operator.Scopes...)
	for i := range 5 {
		f.At("a.test").Member(fmt.Sprint("bot", i))
	}
	v := f.want(f.send("POST", atA+"/bulk", `{"action":"disable","query":{"since":"2h","text":"bot"}}`, all), 201)
	users := make(map[string]bool)
	for next := ""; ; {
		p := f.want(f.send("GET", atA+"/bulk/"+v["id"].(string)+"/accounts?limit=1"+next, "", all), 200)
		for _, a := range p["items"].([]any) {
			users[a.(map[string]any)["user"].(string)] = true
		}
		cursor, more := p["next"].(string)
		if !more {
			break
		}
		next = "&cursor=" + cursor
	}
	if len(users) != 5 {
		t.Errorf("%v", users)
	}
}

// TestHead requests only the headers.
func TestHead(t *testing.T) {
	f := newFixture(t)
	all := f.token("all", "", operator.Scopes...)
	f.At("a.test").Member("ann")
	for _, path := range []string{"/openapi.json", atA + "/accounts", atA + "/accounts/ann"} {
		r, err := http.NewRequest("HEAD", f.url+path, nil)
		f.Must(err)
		r.Header.Set("Authorization", "Bearer "+all)
		resp, err := http.DefaultClient.Do(r)
		f.Must(err)
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
	}
}
