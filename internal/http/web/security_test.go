package web_test

import (
	"errors"
	"fmt"
	"maps"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"dialtone/internal/captcha"
	"dialtone/internal/http/web"
	"dialtone/internal/mailmsg"
	"dialtone/internal/tenant"
)

// What a stranger tries with a form, a header or an address.

func TestDuplicateFields(t *testing.T) {
	t.Parallel()
	p := startServer(t)
	for _, field := range signupFields {
		for name, more := range map[string]func(f form) string{
			field + " comes again, alike": func(f form) string {
				for _, pair := range f {
					if pair[0] == field {
						return "&" + field + "=" + pair[1]
					}
				}
				return "&" + field + "=" + strings.Repeat("a", 32) + "&" + field + "=" + strings.Repeat("a", 32)
			},
			field + " comes again, otherwise": func(form) string { return "&" + field + "=b&" + field + "=b" },
			field + " comes again, empty":     func(form) string { return "&" + field + "&" + field + "=" },
			field + " comes again, encoded": func(form) string {
				return fmt.Sprintf("&%%%02x%s=b&%s=", field[0], field[1:], field)
			},
		} {
			t.Run(name, func(t *testing.T) {
				who := p.newPerson("a.test")
				f := p.form(t, who)
				p.changesNothing(t, "a.test", who.user, func() {
					got := p.visitor("a.test").postBody(t, f.String()+more(f)).wantError(t, 400, "invalid_request")
					if !strings.HasPrefix(got, field+": ") {
						t.Errorf("the description is %q", got)
					}
				})
			})
		}
	}
}

func TestRequestBody(t *testing.T) {
	t.Parallel()
	p := startServer(t)
	who := p.newPerson("a.test")
	good := p.form(t, who)
	body := good.String()
	multipart := "--x\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\n" + who.user + "\r\n--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n" +
		strings.Repeat("x", 4000) + "\r\n--x--\r\n"
	ct := func(types ...string) (headers []string) {
		for _, one := range types {
			headers = append(headers, "Content-Type", one)
		}
		return headers
	}
	media := "send the form as " + formType
	for _, row := range []struct {
		name, target, body string
		headers            []string
		says               string
	}{
		{"multipart", "", multipart, ct("multipart/form-data; boundary=x"), media},
		{"JSON", "", `{"user":"x"}`, ct("application/json"), media},
		{"JSON as text, which any page may send", "", `{"user":"x"}`, ct("text/plain"), media},
		{"a form as text", "", body, ct("text/plain;charset=UTF-8"), media},
		{"no media type", "", body, nil, media},
		{"an empty media type", "", body, ct(""), media},
		{"a media type that only begins right", "", body, ct(formType + "x"), media},
		{"a media type that is none", "", body, ct(";;;"), media},
		{"two media types in one", "", body, ct(formType + ", text/plain"), media},
		{"two headers of media type", "", body, ct(formType, "text/plain"), media},
		{"another charset", "", body, ct(formType + "; charset=utf-16"), media},
		{"UTF-7", "", body, ct(formType + "; charset=utf-7"), media},
		{"Latin 1", "", body, ct(formType + `; charset="iso-8859-1"`), media},
		{"two charsets", "", body, ct(formType + "; charset=utf-8; charset=utf-16"), media},
		{"an encoded charset", "", body, ct(formType + "; charset*=us-ascii''utf-16"), media},
		{"a packed body", "", body, append(ct(formType), "Content-Encoding", "gzip"), media},
		{"a body that says it is plain", "", body, append(ct(formType), "Content-Encoding", "identity"), media},

		{"a query string", "?user=q", body, ct(formType), "question mark"},
		{"a query string of a field that nobody knows", "?x", body, ct(formType), "question mark"},
		{"an empty query string", "?", body, ct(formType), "question mark"},
		{"all fields in the address", "?" + body, "", ct(formType), "question mark"},

		{"a percent sign alone", "", body + "&x=%", ct(formType), "well-formed"},
		{"a bad escape", "", body + "&x=%zz", ct(formType), "well-formed"},
		{"a bad escape in a name", "", body + "&%zz=x", ct(formType), "well-formed"},
		{"a bad escape in a field", "", good.with("user=%zz").String(), ct(formType), "well-formed"},
		{"semicolons", "", strings.ReplaceAll(body, "&", ";"), ct(formType), "well-formed"},
		{"one semicolon", "", strings.Replace(body, "&", ";", 1), ct(formType), "well-formed"},
		{"ten thousand fields", "", strings.Repeat("a&", 4000) + body[:100], ct(formType), ""},
		{"8 KiB and one byte", "", body + "&pad=" + strings.Repeat("x", 8<<10-len(body)-len("&pad=")+1), ct(formType), "8 KiB"},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := p.state(t)
			got := p.visitor("a.test").do(t, "POST", "/signup.ashx"+row.target, row.body, row.headers...).wantError(t, 400, "invalid_request")
			if !strings.Contains(got, row.says) {
				t.Errorf("the description is %q, want %q in it", got, row.says)
			}
			if after := p.state(t); after != before {
				t.Errorf("something was left behind: %s, was %s", after, before)
			}
		})
	}
	p.visitor("a.test").postBody(t, body).wantStatus(t, 200)
	for name, media := range map[string]string{
		"the charset may be named": formType + "; charset=UTF-8", "in any case": "Application/X-WWW-Form-URLEncoded", "and quoted": formType + `; charset="utf-8"`,
	} {
		t.Run(name, func(t *testing.T) {
			p.visitor("a.test").do(t, "POST", "/signup.ashx", p.form(t, p.newPerson("a.test")).String(), "Content-Type", media).wantStatus(t, 200)
		})
	}
	t.Run("8 KiB are enough", func(t *testing.T) {
		body := p.form(t, p.newPerson("a.test")).String() + "&pad="
		p.visitor("a.test").postBody(t, body+strings.Repeat("x", 8<<10-len(body))).wantStatus(t, 200)
	})
}

func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	p := startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		if x.Host == "b.test" {
			x.Origins = []string{"https://shop.test"}
		}
	}})
	who := p.active(t, "a.test")
	_, port, _ := strings.Cut(p.addr, ":")
	for _, row := range []struct {
		name, host string
		headers    []string
		ok         bool
	}{
		{"a program, which says nothing", "a.test", nil, true},
		{"the platform's own page", "a.test", []string{"Origin", "https://a.test", "Sec-Fetch-Site", "same-origin"}, true},
		{"an old browser on the platform's own page", "a.test", []string{"Origin", "https://a.test"}, true},
		{"a person's own doing", "a.test", []string{"Sec-Fetch-Site", "none"}, true},
		{"a page on a forwarded port", "localhost:9999", []string{"Origin", "http://localhost:9999"}, true},
		{"a page on this machine", "localhost", []string{"Origin", "http://localhost:" + port}, true},
		{"a listed site", "b.test", []string{"Origin", "https://shop.test", "Sec-Fetch-Site", "cross-site"}, true},
		{"another site", "a.test", []string{"Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site"}, false},
		{"another site by an old browser", "a.test", []string{"Origin", "https://evil.test"}, false},
		{"another site that hides", "a.test", []string{"Origin", "null"}, false},
		{"another site without Origin", "a.test", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"a sister site", "a.test", []string{"Sec-Fetch-Site", "same-site"}, false},
		{"a word that no browser says", "a.test", []string{"Sec-Fetch-Site", "x"}, false},
		{"another tenant", "a.test", []string{"Origin", "https://b.test"}, false},
		{"a site listed by another tenant", "a.test", []string{"Origin", "https://shop.test"}, false},
		{"a site that begins like ours", "a.test", []string{"Origin", "https://a.test.evil.test"}, false},
		{"a site that ends like ours", "a.test", []string{"Origin", "https://evil-a.test"}, false},
		{"our name on another port", "a.test", []string{"Origin", "https://a.test:8443"}, false},
		{"our name without TLS", "a.test", []string{"Origin", "http://a.test"}, false},
		{"a listed site without TLS", "b.test", []string{"Origin", "http://shop.test"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			v, x := p.visitor(row.host), p.newPerson(strings.Split(row.host, ":")[0])
			f := p.form(t, x)
			signup := func() answer { return v.post(t, f, row.headers...) }
			if row.ok {
				signup().wantStatus(t, 200)
				return
			}
			p.changesNothing(t, x.host, x.user, func() { signup().wantError(t, 400, "invalid_request") })
			a := v.signIn(t, who.user, who.password, row.headers...)
			if a.wantError(t, 400, "invalid_request"); a.header.Get("WWW-Authenticate") != "" {
				t.Error("another site's page makes the browser ask for a password")
			}
		})
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	p := startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		if x.Host == "b.test" {
			x.Origins = []string{"https://shop.test"}
		}
	}})
	v := p.visitor("b.test")
	a := v.do(t, "OPTIONS", "/signup.ashx", "", "Origin", "https://shop.test", "Access-Control-Request-Method", "POST")
	a.wantStatus(t, 204)
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": "https://shop.test", "Access-Control-Allow-Methods": "GET, POST", "Vary": "Origin", "Allow": "POST",
		"Access-Control-Allow-Credentials": "", "Cross-Origin-Resource-Policy": "cross-origin",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	a = v.get(t, "/captcha.ashx", "Origin", "https://shop.test")
	if a.wantJSON(t, 200); a.header.Get("Access-Control-Allow-Origin") != "https://shop.test" {
		t.Errorf("headers %v", a.header)
	}
	for _, origin := range []string{"https://evil.test", "null", "https://shop.test.evil.test", "http://shop.test", "https://shop.test:8443", "*"} {
		a := v.get(t, "/captcha.ashx", "Origin", origin)
		if got := a.header.Get("Access-Control-Allow-Origin"); got != "" || a.header.Get("Vary") != "Origin" {
			t.Errorf("%s gets %q", origin, got)
		}
	}
	if got := v.get(t, "/account.html", "Origin", "https://shop.test").header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("a page is shared with %q", got)
	}
	if got := p.visitor("a.test").get(t, "/captcha.ashx", "Origin", "https://shop.test").header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("another tenant shares with %q", got)
	}
}

// Every answer has the same headers of protection, and no more headers than stand here.
func TestResponseHeaders(t *testing.T) {
	t.Parallel()
	var panics atomic.Bool
	p := startServerWith(t, options{captcha: func(i *captcha.Issuer) *captcha.Issuer {
		if panics.Load() {
			panic("on purpose")
		}
		return i
	}})
	who, pending := p.active(t, "a.test"), p.pending(t, "a.test")
	full := p.visitor("a.test")
	for range 3 {
		full.post(t, p.form(t, p.newPerson("a.test"))).wantStatus(t, 200)
	}
	v := p.visitor("a.test")
	signedIn := v.signIn(t, who.user, who.password)
	link := p.link(t, pending.email)
	taken := p.newPerson("a.test")
	taken.user = who.user
	html := []string{"Accept", "text/html,*/*;q=0.8"}

	const json, page = "application/json; charset=utf-8", "text/html; charset=utf-8"
	type headerRow struct {
		name   string
		answer answer
		status int
		media  string
		more   string // further headers, by name
	}
	rows := []headerRow{
		{"a captcha", v.get(t, "/captcha.ashx"), 200, json, ""},
		{"a signup", v.post(t, p.form(t, p.newPerson("a.test"))), 200, json, ""},
		{"a bad signup", v.postBody(t, ""), 400, json, ""},
		{"a bad signup by a browser", v.postBody(t, "", html...), 400, json, ""},
		{"a wrong captcha", v.post(t, p.form(t, p.newPerson("a.test")).with("captcha_answer=99")), 400, json, ""},
		{"a taken name", p.visitor("a.test").post(t, p.form(t, taken)), 409, json, ""},
		{"a signup too many", full.post(t, p.form(t, p.newPerson("a.test"))), 429, json, "Retry-After"},
		{"a wrong method", v.get(t, "/signup.ashx"), 405, json, "Allow"},
		{"a wrong method by a browser", v.get(t, "/signup.ashx", html...), 405, json, "Allow"},
		{"a preflight", v.do(t, "OPTIONS", "/signup.ashx", ""), 204, "", "Allow"},
		{"a challenge", v.get(t, "/signin.ashx"), 401, json, "Www-Authenticate"},
		{"a sign-in", signedIn, 200, json, "Set-Cookie"},
		{"a sign-in too early", v.signIn(t, pending.user, pending.password), 403, json, ""},
		{"a sign-out", v.do(t, "POST", "/signout.ashx", ""), 303, "", "Location Set-Cookie"},
		{"an activation", v.get(t, link), 200, page, "X-Robots-Tag"},
		{"an activation again", v.get(t, link), 400, page, "X-Robots-Tag"},
		{"an unknown link", v.get(t, "/activate.ashx?token=x"), 400, page, "X-Robots-Tag"},
		{"a look at a link", v.do(t, "HEAD", "/activate.ashx?token=x", ""), 200, page, "X-Robots-Tag"},
		{"a confirmation without a proof", v.do(t, "POST", "/activate.ashx?token=x", "", html...), 401, json, "Www-Authenticate"},
		{"nothing", v.get(t, "/nothing"), 404, json, ""},
		{"nothing for a browser", v.get(t, "/nothing", html...), 404, page, ""},
		{"an endpoint that is none", v.get(t, "/nothing.ashx", html...), 404, json, ""},
		{"an endpoint in capitals", v.get(t, "/SIGNUP.ASHX", html...), 404, json, ""},
		{"an endpoint with two slashes", v.postEmpty(t, "//signup.ashx"), 404, json, ""},
		{"an endpoint with a slash behind it", v.postEmpty(t, "/signup.ashx/"), 404, json, ""},
		{"an endpoint by a detour", v.postEmpty(t, "/x/../signup.ashx"), 404, json, ""},
		{"a static file that is none", v.get(t, "/static/../../etc/passwd"), 404, json, ""},
		{"a page by a wrong method", v.do(t, "DELETE", "/login.html", "", html...), 405, page, "Allow"},
		{"the account of nobody", v.get(t, "/account.html"), 303, page, "Location"},
		{"a TURN credential for nobody", v.get(t, "/turn"), 401, json, "Www-Authenticate"},
		{"a TURN credential where there is no server", v.get(t, "/turn", "Cookie", signedIn.cookies()), 404, json, ""},
		{"settings for a phone", v.do(t, "POST", "/provision", "format=baresip", "Content-Type", formType, "Cookie", signedIn.cookies()), 200, page, ""},
		{"settings for nobody's phone", v.do(t, "POST", "/provision", "format=baresip", "Content-Type", formType), 303, "", "Location"},
		{"a file by a link", v.get(t, p.provision(t, v, signedIn.cookies(), "linphone")), 200, "application/xml; charset=utf-8", "Content-Disposition"},
		{"a file by a bad link", v.get(t, "/provision/linphone.xml?token=x"), 404, json, ""},
		{"a file by a bad link for a browser", v.get(t, "/provision/linphone.xml?token=x", html...), 404, page, ""},
		{"an account", v.get(t, "/account.html", "Cookie", signedIn.cookies()), 200, page, ""},
		{"an unknown host", p.visitor("evil.test").get(t, "/", html...), 421, json, "-Strict-Transport-Security"},
		{"a tenant without TLS", p.visitor("localhost").get(t, "/captcha.ashx"), 200, json, "-Strict-Transport-Security"},
	}
	trouble := p.form(t, p.newPerson("a.test"))
	repair := p.breakStore(t)
	rows = append(rows, headerRow{"a store in trouble", p.visitor("a.test").post(t, trouble), 500, json, ""})
	repair()
	panics.Store(true)
	rows = append(rows, headerRow{"a bug", v.get(t, "/captcha.ashx"), 500, json, ""})
	panics.Store(false)

	always := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
			"form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store", "Strict-Transport-Security": "max-age=31536000",
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			row.answer.wantStatus(t, row.status)
			h := row.answer.header
			want := maps.Clone(always)
			if row.media != "" {
				want["Content-Type"] = row.media
			}
			for _, name := range strings.Fields(row.more) {
				if off, ok := strings.CutPrefix(name, "-"); ok {
					delete(want, off)
				} else {
					want[name] = h.Get(name)
				}
			}
			for name, value := range want {
				if got := h.Values(name); len(got) == 0 || len(got) != 1 && name != "Set-Cookie" || got[0] != value {
					t.Errorf("%s is %q, want %q", name, got, value)
				}
			}
			for name := range h {
				if _, ok := want[name]; !ok && !slices.Contains([]string{"Date", "Content-Length", "Connection"}, name) {
					t.Errorf("there is %s: %q", name, h[name])
				}
			}
		})
	}
	// The pages that are the same for everybody may be kept by a browser that asks each time.
	for _, path := range []string{"/", "/signup.html", "/login.html"} {
		t.Run("the page "+path, func(t *testing.T) {
			a := v.get(t, path)
			a.wantStatus(t, 200)
			for name, value := range always {
				got := a.header.Get(name)
				if got != value && !(name == "Cache-Control" && got == "no-cache") {
					t.Errorf("%s is %q, want %q", name, got, value)
				}
			}
			if a.header.Get("Content-Type") != page || len(a.header["Set-Cookie"]) != 0 {
				t.Errorf("headers %v", a.header)
			}
			asset := regexp.MustCompile(`/static/app\.[0-9a-f]+\.css`).FindString(a.body)
			a = v.get(t, asset)
			if a.wantStatus(t, 200); a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Content-Security-Policy") != always["Content-Security-Policy"] {
				t.Errorf("headers of %s: %v", asset, a.header)
			}
		})
	}
}

// postEmpty posts an empty form to a path.
func (v *visitor) postEmpty(t *testing.T, path string) answer {
	t.Helper()
	return v.do(t, "POST", path, "", "Content-Type", formType)
}

// A bug in any handler is an answer of 500 that tells nothing, and the server lives.
func TestPanic(t *testing.T) {
	t.Parallel()
	cause := errors.New("pq: cause-of-the-panic at /srv/dialtone/x.go:17")
	var panics atomic.Bool
	p := startServerWith(t, options{
		captcha: func(i *captcha.Issuer) *captcha.Issuer {
			if panics.Load() {
				panic(cause)
			}
			return i
		},
		devMail: func() ([]web.DevMessage, error) {
			if panics.Load() {
				var m map[string]int
				//lint:ignore SA5000 a panic of the runtime itself is what this is for
				m["a nil map"] = 1
			}
			return nil, nil
		},
	})
	who := p.newPerson("a.test")
	f := p.form(t, who)
	v := p.visitor("a.test")
	panics.Store(true)
	before := p.state(t)
	for _, a := range []answer{
		v.get(t, "/captcha.ashx"), v.post(t, f), v.post(t, f), v.get(t, "/captcha.ashx", "Accept", "text/html"),
		p.visitor("localhost").get(t, "/dev/mail"),
	} {
		if got := a.wantError(t, 500, "server_error"); strings.Contains(got, "cause") || strings.ContainsAny(got, `/\`) {
			t.Errorf("the description tells the cause: %q", got)
		}
	}
	a := p.visitor("localhost").get(t, "/dev/mail", "Accept", "text/html")
	if a.wantStatus(t, 500); a.header.Get("Content-Type") != "text/html; charset=utf-8" || strings.Contains(a.body, "nil map") || strings.Contains(a.body, ".go") {
		t.Errorf("the page is %q", a.body)
	}
	panics.Store(false)
	if after := p.state(t); after != before {
		t.Errorf("something was left behind: %s, was %s", after, before)
	}
	v.post(t, f).wantStatus(t, 200)
	if text := p.log.String(); strings.Count(text, `"msg":"panic"`) != 6 || !strings.Contains(text, "cause-of-the-panic") {
		t.Error("the log does not tell the cause of each panic")
	}
}

// The messages of a development server are for this machine alone, and for nobody elsewhere there is such a page.
func TestDevMail(t *testing.T) {
	t.Parallel()
	p := startServerWith(t, options{devMail: func() ([]web.DevMessage, error) { return []web.DevMessage{{Subject: "canary-subject"}}, nil }})
	v := p.visitor("localhost")
	if a := v.get(t, "/dev/mail"); a.status != 200 || !strings.Contains(a.body, "canary-subject") {
		t.Errorf("status %d, body %q", a.status, a.body)
	}
	for _, header := range []string{"X-Forwarded-For", "Forwarded", "Via"} {
		v.get(t, "/dev/mail", header, "for=192.0.2.1").wantError(t, 404, "not_found")
	}
	startServer(t).visitor("localhost").get(t, "/dev/mail").wantError(t, 404, "not_found")
}

// Nothing is at any other address: no second way to sign in, no operator's page, no old interface.
func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	p := startServer(t)
	who := p.active(t, "a.test")
	cookies := p.visitor("a.test").signIn(t, who.user, who.password).cookies()
	for _, path := range []string{
		"/admin", "/admin/", "/metrics", "/debug/pprof/", "/debug/vars", "/healthz", "/livez", "/readyz", "/status", "/api", "/api/users",
		"/users", "/account.ashx", "/login.ashx", "/login", "/signin", "/signup", "/register", "/register.ashx", "/token", "/oauth/token",
		"/.env", "/.git/config", "/dialtone.db", "/keys/sign.key", "/pickup", "/pickup/", "/data", "/static", "/static/", "/static/app.css",
		"/static/..%2fdialtone.db", "/%2e%2e/dialtone.db", "/server-status", "/cgi-bin/", "/captcha.ashx/", "/captcha.ashx%00", "/captcha.ASHX",
		"/activate.ashx/x", "/signin.ashx;x", "/index.html", "/wp-login.php", "/captcha", "/signout", "/signout.html", "/*",
	} {
		t.Run(path, func(t *testing.T) {
			for _, method := range []string{"GET", "POST", "OPTIONS", "PUT"} {
				p.visitor("a.test").do(t, method, path, "", "Cookie", cookies, "Authorization", "Basic eDp4").wantError(t, 404, "not_found")
			}
		})
	}
}

// No parameter of any kind sends a browser anywhere.
func TestOpenRedirect(t *testing.T) {
	t.Parallel()
	p := startServer(t)
	who := p.active(t, "a.test")
	v := p.visitor("a.test")
	signedIn := v.signIn(t, who.user, who.password)
	var targets []string
	for _, name := range []string{"next", "return_to", "returnUrl", "redirect", "redirect_uri", "url", "continue", "goto", "dest", "target"} {
		for _, value := range []string{"https://evil.test", "//evil.test", `/\evil.test`, "https:evil.test", "%0d%0aLocation:%20https://evil.test", "https://a.test@evil.test", "javascript:alert(1)"} {
			targets = append(targets, "?"+name+"="+strings.ReplaceAll(value, " ", "%20"))
		}
	}
	for _, target := range targets {
		for _, a := range []answer{
			v.get(t, "/account.html"+target), v.do(t, "POST", "/signout.ashx"+target, ""), v.get(t, "/activate.ashx"+target), v.get(t, "/signin.ashx"+target),
			v.get(t, "/login.html"+target, "Cookie", signedIn.cookies()),
		} {
			if got := a.header.Values("Location"); len(got) > 1 || len(got) == 1 && got[0] != "/login.html" {
				t.Errorf("%s: Location is %q", target, got)
			}
			if strings.Contains(a.body, "evil") || strings.Contains(fmt.Sprint(a.header), "evil") {
				t.Errorf("%s: the answer speaks of evil: %v %s", target, a.header, a.body)
			}
		}
	}
	for _, path := range []string{"//evil.test", "//evil.test/..", "/%2fevil.test", "/\\evil.test", "/login.html/..//evil.test", "/.//evil.test"} {
		if a := v.get(t, path); a.status != 404 || len(a.header["Location"]) != 0 {
			t.Errorf("%s: status %d, Location %q", path, a.status, a.header["Location"])
		}
	}
}

// messageHeaders are all headers that a message may have.
var messageHeaders = []string{
	"Auto-Submitted", "Content-Language", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To", "X-Auto-Response-Suppress",
}

// Whatever stands in the fields, a form is refused or makes one message to one person, with nothing of the form in it.
func TestMailInjection(t *testing.T) {
	t.Parallel()
	p := startServerWith(t, options{tenants: func(x *tenant.Tenant) { x.Product = "Gräf & Co" }})
	var payloads []string
	for _, line := range []string{"Bcc: canary@evil.test", "X-Receiver: canary@evil.test", "X-Sender: canary@evil.test", "To: canary@evil.test", "Subject: canary", "Content-Type: text/html", ""} {
		for _, lineBreak := range []string{"\r\n", "\n", "\r", "\r\n ", "\n\t", "\u2028", "\u0085", "\x00", "\v", "\f", "%0d%0a", `\r\n`, "=0D=0A", "?=\r\n"} {
			payloads = append(payloads, lineBreak+line)
		}
	}
	payloads = append(payloads,
		"=?utf-8?q?a=0D=0ABcc:canary@evil.test?=", "=?utf-8?b?DQpCY2M6IGNhbmFyeUBldmlsLnRlc3Q=?=", ", canary@evil.test", ";canary@evil.test",
		"> canary@evil.test", `" canary@evil.test`, ".\r\nMAIL FROM:<canary@evil.test>", "\r\n.\r\nQUIT", "\r\n\r\ncanary body", "嘊嘍Bcc: canary@evil.test",
	)
	for _, field := range []string{"email", "name", "user", "ha1", "captcha_answer", "lang", "x"} {
		t.Run("by "+field, func(t *testing.T) {
			for _, payload := range payloads {
				who := p.newPerson("a.test")
				f := p.form(t, who)
				value := map[string]string{"email": who.email, "name": who.name, "user": who.user, "ha1": who.ha1(), "captcha_answer": "1", "lang": "de-", "x": "x"}[field] + payload
				before, state := p.files(t), p.state(t)
				a := p.visitor("a.test").post(t, f.with(field+"="+url.QueryEscape(value)))
				if a.status != 200 {
					a.wantStatus(t, 400)
					if after := p.state(t); after != state {
						t.Errorf("%q: something was left behind", value)
					}
					continue
				}
				if field == "email" || field == "user" || field == "ha1" || field == "captcha_answer" {
					if strings.TrimRight(payload, " ") != "" {
						t.Errorf("%s %q was taken", field, value)
					}
				}
				list := p.messages(t, who.email)
				if len(list) != 1 || len(p.files(t)) != len(before)+1 {
					t.Fatalf("%q: %d messages, %d files more", value, len(list), len(p.files(t))-len(before))
				}
				checkMessage(t, list[0])
			}
		})
	}
	t.Run("by names that look like links", func(t *testing.T) {
		who := p.newPerson("a.test")
		who.name, who.user = "WIN-A-PRIZE http://evil.test", "www.evil.com"
		p.signUp(t, who)
		m := p.messages(t, who.email)[0]
		checkMessage(t, m)
		for _, text := range []string{m.raw, m.text, m.html, mailmsg.Decode(m.header.Get("Subject"))} {
			for _, bad := range []string{"WIN-A-PRIZE", "evil", who.user} {
				if strings.Contains(text, bad) {
					t.Errorf("the message holds %q: %s", bad, text)
				}
			}
		}
	})
}

func checkMessage(t *testing.T, m message) {
	t.Helper()
	for name, values := range m.header {
		if !slices.Contains(messageHeaders, name) || len(values) != 1 {
			t.Errorf("the message has %s: %q", name, values)
		}
	}
	if to, err := mail.ParseAddressList(m.header.Get("To")); err != nil || len(to) != 1 || to[0].Name != "" {
		t.Errorf("the message goes to %q", m.header.Get("To"))
	}
	for _, form := range []string{m.raw, m.text, m.html} {
		if strings.Contains(form, "canary@") || strings.Contains(form, "evil.test") {
			t.Errorf("the message holds what a form said: %s", form)
		}
	}
	for line := range strings.SplitSeq(m.raw, "\r\n") {
		if strings.ContainsAny(line, "\r\n\x00") || len(line) > 998 {
			t.Errorf("the message has the line %q", line)
		}
	}
}
