package web_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
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
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/turn"
)

// These tests attack through forms, headers and addresses.

func TestDuplicateFields(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, field := range signupFields {
		for name, more := range map[string]func(f form) string{
			field + " twice, same value": func(f form) string {
				for _, pair := range f {
					if pair[0] == field {
						return "&" + field + "=" + pair[1]
					}
				}
				return "&" + field + "=" + strings.Repeat("a", 32) + "&" + field + "=" + strings.Repeat("a", 32)
			},
			field + " twice, other value": func(form) string { return "&" + field + "=b&" + field + "=b" },
			field + " twice, empty":       func(form) string { return "&" + field + "&" + field + "=" },
			field + " twice, encoded name": func(form) string {
				return fmt.Sprintf("&%%%02x%s=b&%s=", field[0], field[1:], field)
			},
		} {
			t.Run(name, func(t *testing.T) {
				who := s.newPerson("a.test")
				f := s.form(t, who)
				s.changesNothing(t, "a.test", who.user, func() {
					got := s.visitor("a.test").postBody(t, f.String()+more(f)).wantError(t, 400, "invalid_request")
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
	s := startServer(t)
	who := s.newPerson("a.test")
	good := s.form(t, who)
	body := good.String()
	multipart := "--x\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\n" + who.user +
		"\r\n--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n" +
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
		{"a file", "", multipart, ct("multipart/form-data; boundary=x"), "contains a file"},
		{"JSON", "", `{"user":"x"}`, ct("application/json"), "not as application/json"},
		{"JSON as text", "", `{"user":"x"}`, ct("text/plain"), media},
		{"a form as text", "", body, ct("text/plain;charset=UTF-8"), media},
		{"no media type", "", body, nil, media},
		{"an empty media type", "", body, ct(""), media},
		{"a media type with the right prefix", "", body, ct(formType + "x"), media},
		{"a malformed media type", "", body, ct(";;;"), media},
		{"two media types in one", "", body, ct(formType + ", text/plain"), media},
		{"two Content-Type headers", "", body, ct(formType, "text/plain"), media},
		{"another charset", "", body, ct(formType + "; charset=utf-16"), media},
		{"UTF-7", "", body, ct(formType + "; charset=utf-7"), media},
		{"Latin 1", "", body, ct(formType + `; charset="iso-8859-1"`), media},
		{"two charsets", "", body, ct(formType + "; charset=utf-8; charset=utf-16"), media},
		{"an encoded charset", "", body, ct(formType + "; charset*=us-ascii''utf-16"), media},
		{"a gzip body", "", body, append(ct(formType), "Content-Encoding", "gzip"), media},
		{"an identity body", "", body, append(ct(formType), "Content-Encoding", "identity"), media},

		{"a query string", "?user=q", body, ct(formType), "question mark"},
		{"a query string with an unknown field", "?x", body, ct(formType), "question mark"},
		{"an empty query string", "?", body, ct(formType), "question mark"},
		{"all fields in the query string", "?" + body, "", ct(formType), "question mark"},

		{"a percent sign alone", "", body + "&x=%", ct(formType), "well-formed"},
		{"a bad escape", "", body + "&x=%zz", ct(formType), "well-formed"},
		{"a bad escape in a name", "", body + "&%zz=x", ct(formType), "well-formed"},
		{"a bad escape in a field", "", good.with("user=%zz").String(), ct(formType), "well-formed"},
		{"semicolons", "", strings.ReplaceAll(body, "&", ";"), ct(formType), "well-formed"},
		{"one semicolon", "", strings.Replace(body, "&", ";", 1), ct(formType), "well-formed"},
		{"ten thousand fields", "", strings.Repeat("a&", 4000) + body[:100], ct(formType), ""},
		{
			"8 KiB and one byte", "",
			body + "&pad=" + strings.Repeat("x", 8<<10-len(body)-len("&pad=")+1), ct(formType),
			"8 KiB",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := s.state(t)
			got := s.visitor("a.test").do(t, "POST", "/signup.ashx"+row.target, row.body, row.headers...).
				wantError(t, 400, "invalid_request")
			if !strings.Contains(got, row.says) {
				t.Errorf("the description is %q, want %q in it", got, row.says)
			}
			if after := s.state(t); after != before {
				t.Errorf("the state changed: %s, was %s", after, before)
			}
		})
	}
	s.visitor("a.test").postBody(t, body).wantStatus(t, 200)
	for name, media := range map[string]string{
		"the charset may be named": formType + "; charset=UTF-8",
		"in any case":              "Application/X-WWW-Form-URLEncoded",
		"and quoted":               formType + `; charset="utf-8"`,
	} {
		t.Run(name, func(t *testing.T) {
			s.visitor("a.test").
				do(t, "POST", "/signup.ashx", s.form(t, s.newPerson("a.test")).String(), "Content-Type", media).
				wantStatus(t, 200)
		})
	}
	t.Run("8 KiB accepted", func(t *testing.T) {
		body := s.form(t, s.newPerson("a.test")).String() + "&pad="
		s.visitor("a.test").postBody(t, body+strings.Repeat("x", 8<<10-len(body))).wantStatus(t, 200)
	})
}

func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		if x.Host == "b.test" {
			x.Origins = []string{"https://shop.test"}
		}
	}})
	who := s.active(t, "a.test")
	_, port, _ := strings.Cut(s.addr, ":")
	for _, row := range []struct {
		name, host string
		headers    []string
		ok         bool
	}{
		{"a program without headers", "a.test", nil, true},
		{
			"the platform's own page", "a.test",
			[]string{"Origin", "https://a.test", "Sec-Fetch-Site", "same-origin"}, true,
		},
		{"an old browser on the platform's own page", "a.test", []string{"Origin", "https://a.test"}, true},
		{"a navigation by the user", "a.test", []string{"Sec-Fetch-Site", "none"}, true},
		{"a page on a forwarded port", "localhost:9999", []string{"Origin", "http://localhost:9999"}, true},
		{"a page on this machine", "localhost", []string{"Origin", "http://localhost:" + port}, true},
		{"a listed site", "b.test", []string{"Origin", "https://shop.test", "Sec-Fetch-Site", "cross-site"}, true},
		{"another site", "a.test", []string{"Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site"}, false},
		{"another site by an old browser", "a.test", []string{"Origin", "https://evil.test"}, false},
		{"another site with a null origin", "a.test", []string{"Origin", "null"}, false},
		{"another site without Origin", "a.test", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"a sibling site", "a.test", []string{"Sec-Fetch-Site", "same-site"}, false},
		{"an unknown Sec-Fetch-Site", "a.test", []string{"Sec-Fetch-Site", "x"}, false},
		{"another tenant", "a.test", []string{"Origin", "https://b.test"}, false},
		{"a site listed by another tenant", "a.test", []string{"Origin", "https://shop.test"}, false},
		{"a site with our name as prefix", "a.test", []string{"Origin", "https://a.test.evil.test"}, false},
		{"a site with our name as suffix", "a.test", []string{"Origin", "https://evil-a.test"}, false},
		{"our name on another port", "a.test", []string{"Origin", "https://a.test:8443"}, false},
		{"our name without TLS", "a.test", []string{"Origin", "http://a.test"}, false},
		{"a listed site without TLS", "b.test", []string{"Origin", "http://shop.test"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			v, x := s.visitor(row.host), s.newPerson(strings.Split(row.host, ":")[0])
			f := s.form(t, x)
			signup := func() answer { return v.post(t, f, row.headers...) }
			if row.ok {
				signup().wantStatus(t, 200)
				return
			}
			s.changesNothing(t, x.host, x.user, func() { signup().wantError(t, 400, "invalid_request") })
			a := v.signIn(t, who.user, who.password, row.headers...)
			if a.wantError(t, 400, "invalid_request"); a.header.Get("WWW-Authenticate") != "" {
				t.Error("another site's page opens the password dialog")
			}
		})
	}
}

// TestCookieAcrossOrigins checks that requests which rely on the session cookie work only for the
// platform's own pages, not for those of a listed site. A sibling of the host, such as shop.a.test,
// is the same site: its requests carry the cookie.
func TestCookieAcrossOrigins(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) { x.Origins = []string{"https://shop.a.test"} }})
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	cookies := v.signIn(t, who.user, who.password).cookies()
	ring := secret.NewRing(s.Now())
	s.hide(turn.Secrets(ring)[0].Text())
	s.turn.Store(ring)
	for _, row := range []struct {
		method, path, body string
		own                int // the status for the platform's own page
	}{
		{"GET", "/sessions.ashx", "", 200},
		{"GET", "/phones.ashx", "", 200},
		{"GET", "/turn", "", 404},
		{"GET", "/provision?format=linphone", "", 200},
		{"POST", "/provision", "format=linphone", 200},
		{"POST", "/sessions.ashx", "end=" + strings.Repeat("0", 32), 404},
		{"POST", "/sessions.ashx", "end=others", 200},
		{"POST", "/signout.ashx", "", 303},
	} {
		t.Run(row.method+" "+row.path+" "+row.body, func(t *testing.T) {
			headers := []string{"Cookie", cookies}
			if row.body != "" {
				headers = append(headers, "Content-Type", formType)
			}
			for _, site := range []string{"", "same-site", "cross-site"} {
				from := append(slices.Clone(headers), "Origin", "https://shop.a.test")
				if site != "" { // an old browser does not send it
					from = append(from, "Sec-Fetch-Site", site)
				}
				a := v.do(t, row.method, row.path, row.body, from...)
				a.wantError(t, 400, "invalid_request")
				// The listed origin may read that an endpoint for proofs refuses the cookie.
				takesProofs := row.path == "/sessions.ashx" || row.path == "/phones.ashx"
				if (a.header.Get("Access-Control-Allow-Origin") != "") != takesProofs ||
					a.header.Get("Access-Control-Allow-Credentials") != "" || a.header.Get("Set-Cookie") != "" {
					t.Errorf("headers %v", a.header)
				}
			}
			own := v.do(t, row.method, row.path, row.body,
				append(headers, "Origin", "https://a.test", "Sec-Fetch-Site", "same-origin")...)
			own.wantStatus(t, row.own)
			if row.body == "end=others" {
				cookies = own.cookies()
			}
		})
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		if x.Host == "b.test" {
			x.Origins = []string{"https://shop.test"}
		}
	}})
	v := s.visitor("b.test")
	a := v.do(t, "OPTIONS", "/signup.ashx", "", "Origin", "https://shop.test",
		"Access-Control-Request-Method", "POST")
	a.wantStatus(t, 204)
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin":  "https://shop.test",
		"Access-Control-Allow-Methods": "GET, POST", "Vary": "Origin", "Allow": "POST",
		"Access-Control-Allow-Credentials": "", "Cross-Origin-Resource-Policy": "cross-origin",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	pending := s.pending(t, "b.test")
	_, token, _ := strings.Cut(s.link(t, pending.email), "?")
	a = v.do(t, "POST", "/decline.ashx", token, "Content-Type", formType, "Origin", "https://shop.test",
		"Sec-Fetch-Site", "cross-site")
	if a.wantJSON(t, 200); a.header.Get("Access-Control-Allow-Origin") != "https://shop.test" {
		t.Errorf("headers %v", a.header)
	}
	a = v.get(t, "/captcha.ashx", "Origin", "https://shop.test")
	if a.wantJSON(t, 200); a.header.Get("Access-Control-Allow-Origin") != "https://shop.test" {
		t.Errorf("headers %v", a.header)
	}
	for _, origin := range []string{
		"https://evil.test", "null", "https://shop.test.evil.test", "http://shop.test",
		"https://shop.test:8443", "*",
	} {
		a := v.get(t, "/captcha.ashx", "Origin", origin)
		if got := a.header.Get("Access-Control-Allow-Origin"); got != "" || a.header.Get("Vary") != "Origin" {
			t.Errorf("%s gets %q", origin, got)
		}
	}
	a = v.get(t, "/account.html", "Origin", "https://shop.test")
	if got := a.header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("a page is shared with %q", got)
	}
	a = s.visitor("a.test").get(t, "/captcha.ashx", "Origin", "https://shop.test")
	if got := a.header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("another tenant shares with %q", got)
	}
}

// TestResponseHeaders checks that every response has the security headers, and no headers that are
// not listed here.
func TestResponseHeaders(t *testing.T) {
	t.Parallel()
	var panics atomic.Bool
	s := startServerWith(t, options{captcha: func(i *captcha.Issuer) *captcha.Issuer {
		if panics.Load() {
			panic("on purpose")
		}
		return i
	}})
	who, pending := s.active(t, "a.test"), s.pending(t, "a.test")
	full := s.visitor("a.test")
	for range 3 {
		full.post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
	}
	v := s.visitor("a.test")
	signedIn := v.signIn(t, who.user, who.password)
	link := s.link(t, pending.email)
	taken := s.newPerson("a.test")
	taken.user = who.user
	html := []string{"Accept", "text/html,*/*;q=0.8"}

	const json, page = "application/json; charset=utf-8", "text/html; charset=utf-8"
	type headerRow struct {
		name   string
		answer answer
		status int
		media  string
		more   string // other headers that it has, or lacks (-)
	}
	rows := []headerRow{
		{"a captcha", v.get(t, "/captcha.ashx"), 200, json, ""},
		{"a signup", v.post(t, s.form(t, s.newPerson("a.test"))), 200, json, "Set-Cookie"},
		{"a bad signup", v.postBody(t, ""), 400, json, ""},
		{"a bad signup by a browser", v.postBody(t, "", html...), 400, json, ""},
		{"a wrong captcha", v.post(t, s.form(t, s.newPerson("a.test")).with("captcha_answer=99")), 400, json, ""},
		{"a taken name", s.visitor("a.test").post(t, s.form(t, taken)), 409, json, ""},
		{
			"a signup over the limit", full.post(t, s.form(t, s.newPerson("a.test"))), 429, json,
			"Retry-After Dialtone-Rule",
		},
		{"a wrong method", v.get(t, "/signup.ashx"), 405, json, "Allow"},
		{"a wrong method by a browser", v.get(t, "/signup.ashx", html...), 405, json, "Allow"},
		{"a preflight", v.do(t, "OPTIONS", "/signup.ashx", ""), 204, "", "Allow"},
		{"a challenge", v.get(t, "/signin.ashx"), 401, json, "Www-Authenticate"},
		{"a sign-in", signedIn, 200, json, "Set-Cookie"},
		{"a sign-in before activation", v.signIn(t, pending.user, pending.password), 403, json, ""},
		{"a sign-out", v.do(t, "POST", "/signout.ashx", ""), 303, "", "Location Set-Cookie"},
		{"an activation", v.get(t, link), 200, page, "X-Robots-Tag Referrer-Policy"},
		{"an activation again", v.get(t, link), 400, page, "X-Robots-Tag Referrer-Policy"},
		{"an unknown link", v.get(t, "/activate.ashx?token=x"), 400, page, "X-Robots-Tag Referrer-Policy"},
		{"HEAD of a link", v.do(t, "HEAD", "/activate.ashx?token=x", ""), 200, page, "X-Robots-Tag Referrer-Policy"},
		{
			"a confirmation without a proof",
			v.do(t, "POST", "/activate.ashx?token=x", "", html...), 401, json, "Www-Authenticate",
		},
		{"an unknown path", v.get(t, "/nothing"), 404, json, ""},
		{"an unknown path for a browser", v.get(t, "/nothing", html...), 404, page, ""},
		{"an unknown endpoint", v.get(t, "/nothing.ashx", html...), 404, json, ""},
		{"an endpoint in capitals", v.get(t, "/SIGNUP.ASHX", html...), 404, json, ""},
		{"an endpoint with two slashes", v.postEmpty(t, "//signup.ashx"), 404, json, ""},
		{"an endpoint with a trailing slash", v.postEmpty(t, "/signup.ashx/"), 404, json, ""},
		{"an endpoint behind dot segments", v.postEmpty(t, "/x/../signup.ashx"), 404, json, ""},
		{"an unknown static file", v.get(t, "/static/../../etc/passwd"), 404, json, ""},
		{"a page by a wrong method", v.do(t, "DELETE", "/login.html", "", html...), 405, page, "Allow"},
		{"an account when signed out", v.get(t, "/account.html"), 303, page, "Location"},
		{"sessions when signed out", v.get(t, "/sessions.ashx", html...), 401, json, "Www-Authenticate"},
		{"sessions", v.get(t, "/sessions.ashx", "Cookie", signedIn.cookies()), 200, json, ""},
		{"phones when signed out", v.get(t, "/phones.ashx", html...), 401, json, "Www-Authenticate"},
		{"phones", v.get(t, "/phones.ashx", "Cookie", signedIn.cookies()), 200, json, ""},
		{"passkeys when signed out", v.get(t, "/passkeys.ashx"), 401, json, "Www-Authenticate"},
		{"passkeys", v.get(t, "/passkeys.ashx", "Cookie", signedIn.cookies()), 200, json, ""},
		{"passkey options", v.get(t, "/passkey-options.ashx"), 200, json, ""},
		{"a page of passkeys", v.get(t, "/passkeys.html", "Cookie", signedIn.cookies()), 200, page, ""},
		{"a page of sessions when signed out", v.get(t, "/sessions.html"), 303, page, "Location"},
		{"a page of sessions", v.get(t, "/sessions.html", "Cookie", signedIn.cookies()), 200, page, ""},
		{"a TURN credential when signed out", v.get(t, "/turn"), 401, json, "Www-Authenticate"},
		{"a TURN credential without servers", v.get(t, "/turn", "Cookie", signedIn.cookies()), 404, json, ""},
		{
			"settings",
			v.do(t, "POST", "/provision", "format=baresip", "Content-Type", formType, "Cookie", signedIn.cookies()),
			200, page, "",
		},
		{
			"settings when signed out",
			v.do(t, "POST", "/provision", "format=baresip", "Content-Type", formType), 303, "",
			"Location",
		},
		{
			"a file", v.get(t, s.provision(t, v, signedIn.cookies(), "linphone")), 200,
			"application/xml; charset=utf-8", "Content-Disposition",
		},
		{"a file by an invalid link", v.get(t, "/provision/linphone.xml?token=x"), 404, json, ""},
		{
			"a file by an invalid link for a browser",
			v.get(t, "/provision/linphone.xml?token=x", html...), 404, page, "",
		},
		{"an account", v.get(t, "/account.html", "Cookie", signedIn.cookies()), 200, page, ""},
		{"an unknown host", s.visitor("evil.test").get(t, "/", html...), 421, page, "-Strict-Transport-Security"},
		{
			"a tenant without TLS", s.visitor("localhost").get(t, "/captcha.ashx"), 200, json,
			"-Strict-Transport-Security",
		},
	}
	failing := s.form(t, s.newPerson("a.test"))
	repair := s.breakStore(t)
	rows = append(rows, headerRow{"a store failure", s.visitor("a.test").post(t, failing), 500, json, ""})
	repair()
	panics.Store(true)
	rows = append(rows, headerRow{"a panic", v.get(t, "/captcha.ashx"), 500, json, ""})
	panics.Store(false)

	always := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
			"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; " +
			"require-trusted-types-for 'script'; trusted-types 'none'",
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "same-origin",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cache-Control":                "no-store",
		"Strict-Transport-Security":    "max-age=31536000",
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			row.answer.wantStatus(t, row.status)
			h := row.answer.header
			want := maps.Clone(always)
			if row.media != "" {
				want["Content-Type"] = row.media
			}
			if row.media == page && row.status != 303 {
				want["Permissions-Policy"] =
					"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"
			}
			for _, name := range strings.Fields(row.more) {
				if off, ok := strings.CutPrefix(name, "-"); ok {
					delete(want, off)
				} else {
					want[name] = h.Get(name)
				}
			}
			for name, value := range want {
				if got := h.Values(name); len(got) == 0 || len(got) != 1 && name != "Set-Cookie" ||
					got[0] != value {
					t.Errorf("%s is %q, want %q", name, got, value)
				}
			}
			for name := range h {
				if _, ok := want[name]; !ok &&
					!slices.Contains([]string{"Date", "Content-Length", "Connection"}, name) {
					t.Errorf("there is %s: %q", name, h[name])
				}
			}
		})
	}
	// Browsers may cache the public pages and revalidate them.
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
			if !strings.HasPrefix(a.header.Get("Permissions-Policy"), "camera=(), ") {
				t.Errorf("Permissions-Policy is %q", a.header.Get("Permissions-Policy"))
			}
			if a.header.Get("Content-Type") != page || len(a.header["Set-Cookie"]) != 0 {
				t.Errorf("headers %v", a.header)
			}
			asset := regexp.MustCompile(`/static/app\.[0-9a-f]+\.css`).FindString(a.body)
			a = v.get(t, asset)
			if a.wantStatus(t, 200); a.header.Get("X-Content-Type-Options") != "nosniff" ||
				a.header.Get("Content-Security-Policy") != always["Content-Security-Policy"] {
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

// TestPanic checks that a panic in a handler is a 500 that shows no internals, and that the server
// continues.
func TestPanic(t *testing.T) {
	t.Parallel()
	cause := errors.New("pq: cause-of-the-panic at /srv/dialtone/x.go:17")
	var panics atomic.Bool
	s := startServerWith(t, options{
		captcha: func(i *captcha.Issuer) *captcha.Issuer {
			if panics.Load() {
				panic(cause)
			}
			return i
		},
		devMail: func() ([]web.DevMessage, error) {
			if panics.Load() {
				var m map[string]int
				//lint:ignore SA5000 a runtime panic is wanted
				m["a nil map"] = 1
			}
			return nil, nil
		},
	})
	who := s.newPerson("a.test")
	f := s.form(t, who)
	v := s.visitor("a.test")
	panics.Store(true)
	before := s.state(t)
	for _, a := range []answer{
		v.get(t, "/captcha.ashx"), v.post(t, f), v.post(t, f), v.get(t, "/captcha.ashx", "Accept", "text/html"),
		s.visitor("localhost").get(t, "/dev/mail"),
	} {
		if got := a.wantError(t, 500, "server_error"); strings.Contains(got, "cause") ||
			strings.ContainsAny(got, `/\`) {
			t.Errorf("the description shows the cause: %q", got)
		}
	}
	a := s.visitor("localhost").get(t, "/dev/mail", "Accept", "text/html")
	a.wantStatus(t, 500)
	if a.header.Get("Content-Type") != "text/html; charset=utf-8" ||
		strings.Contains(a.body, "nil map") || strings.Contains(a.body, ".go") {
		t.Errorf("the page is %q", a.body)
	}
	panics.Store(false)
	if after := s.state(t); after != before {
		t.Errorf("the state changed: %s, was %s", after, before)
	}
	v.post(t, f).wantStatus(t, 200)
	if text := s.Log.String(); strings.Count(text, `"msg":"panic"`) != 6 ||
		!strings.Contains(text, "cause-of-the-panic") {
		t.Error("the log does not have the cause of each panic")
	}
}

// TestDevRedirect checks that a development server redirects from the address of its listener, which
// a developer may open, to the platform of this machine.
func TestDevRedirect(t *testing.T) {
	s := startServerWith(t, options{devMail: func() ([]web.DevMessage, error) { return nil, nil }})
	_, port, _ := net.SplitHostPort(s.addr)
	base := "http://localhost:" + port
	for _, row := range []struct {
		host, method, path string
		want               string // empty for 421
	}{
		{"127.0.0.1:" + port, "GET", "/", base + "/"},
		{"127.0.0.1:" + port, "HEAD", "/signup.html?lang=de", base + "/signup.html?lang=de"},
		{"127.8.8.8", "GET", "/", base + "/"},
		{"[::1]:" + port, "GET", "//evil.test/", base + "//evil.test/"},
		{"127.0.0.1", "POST", "/signout.ashx", ""},
		{"127.0.0.1", "POST", "/provision", ""},
		{"127.0.0.1", "GET", "/captcha.ashx", ""},
		{"192.0.2.1", "GET", "/", ""},
		{"evil.test", "GET", "/", ""},
	} {
		a := s.visitor(row.host).do(t, row.method, row.path, "")
		status := 302
		if row.want == "" {
			status = 421
		}
		if got := a.header.Get("Location"); a.status != status || got != row.want {
			t.Errorf("%s %s of %s: status %d, to %q", row.method, row.path, row.host, a.status, got)
		}
	}
}

// TestDevMail checks that a development server shows its messages to this machine only, and that
// other servers have no such page.
func TestDevMail(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{devMail: func() ([]web.DevMessage, error) {
		return []web.DevMessage{
			{File: "plain.eml", Subject: "canary-subject"},
			{File: "a&b.eml", HTML: "<p>canary-html</p><script>alert(1)</script>"},
			{
				File: "stay.eml", Text: "https://a.test/stay.html?token=x",
				HTML: `<a href="https://a.test/stay.html?token=x" class="b">Keep &amp; stay</a>`,
			},
			{File: "own.eml", Text: "https://a.test/not-me.html?token=x"},
		}, nil
	}})
	v := s.visitor("localhost")
	const frame = `<iframe class="message" src="/dev/mail/html?file=a%26b.eml" ` +
		`sandbox="allow-popups allow-popups-to-escape-sandbox" `
	page := v.get(t, "/dev/mail")
	for _, want := range []string{
		`href="https://a.test/stay.html?token=x" dir="auto">Keep &amp; stay</a>`,
		`href="https://a.test/not-me.html?token=x" dir="auto">Open the link</a>`,
	} {
		if !strings.Contains(page.body, want) {
			t.Errorf("%s is missing: %s", want, page.body)
		}
	}
	if strings.Count(page.body, "<iframe") != 2 || !strings.Contains(page.body, frame) ||
		!strings.HasSuffix(page.header.Get("Content-Security-Policy"), "; frame-src 'self'") {
		t.Errorf("the page has no frame: %v\n%s", page.header, page.body)
	}
	html := v.get(t, "/dev/mail/html?file=a%26b.eml")
	html.wantStatus(t, 200)
	policy := html.header.Get("Content-Security-Policy")
	if !strings.Contains(html.body, "canary-html") ||
		!strings.HasPrefix(policy, "default-src 'none'; style-src 'unsafe-inline'; sandbox allow-popups ") {
		t.Errorf("%s\n%s", policy, html.body)
	}
	for _, file := range []string{"", "plain.eml", "nothing.eml"} {
		v.get(t, "/dev/mail/html?file="+file).wantError(t, 404, "not_found")
	}
	if a := v.get(t, "/dev/mail"); a.status != 200 || !strings.Contains(a.body, "canary-subject") {
		t.Errorf("status %d, body %q", a.status, a.body)
	}
	for _, header := range []string{"X-Forwarded-For", "Forwarded", "Via"} {
		v.get(t, "/dev/mail", header, "for=192.0.2.1").wantError(t, 404, "not_found")
		v.get(t, "/dev/mail/html?file=a%26b.eml", header, "for=192.0.2.1").wantError(t, 404, "not_found")
	}
	other := startServer(t).visitor("localhost")
	other.get(t, "/dev/mail").wantError(t, 404, "not_found")
	other.get(t, "/dev/mail/html").wantError(t, 404, "not_found")
}

// TestUnknownPaths checks that all other paths are answered with 404.
func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	cookies := s.visitor("a.test").signIn(t, who.user, who.password).cookies()
	for _, path := range []string{
		"/admin", "/metrics", "/debug/pprof/", "/debug/vars", "/healthz", "/livez",
		"/readyz", "/status", "/api", "/api/users",
		"/users", "/account.ashx", "/login.ashx", "/login", "/signin", "/signup", "/register",
		"/register.ashx", "/token", "/oauth/token",
		"/.env", "/.git/config", "/dialtone.db", "/keys/sign.key", "/pickup", "/pickup/", "/data",
		"/static", "/static/", "/static/app.css",
		"/static/..%2fdialtone.db", "/%2e%2e/dialtone.db", "/server-status", "/cgi-bin/",
		"/captcha.ashx/", "/captcha.ashx%00", "/captcha.ASHX",
		"/activate.ashx/x", "/signin.ashx;x", "/index.html", "/wp-login.php", "/captcha",
		"/signout", "/signout.html", "/*",
	} {
		t.Run(path, func(t *testing.T) {
			for _, method := range []string{"GET", "POST", "OPTIONS", "PUT"} {
				s.visitor("a.test").do(t, method, path, "", "Cookie", cookies, "Authorization", "Basic eDp4").
					wantError(t, 404, "not_found")
			}
		})
	}
}

// TestOpenRedirect checks that no parameter redirects a browser to another site.
func TestOpenRedirect(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	signedIn := v.signIn(t, who.user, who.password)
	var targets []string
	for _, name := range []string{
		"next", "return_to", "returnUrl", "redirect", "redirect_uri", "url", "continue", "goto",
		"dest", "target",
	} {
		for _, value := range []string{
			"https://evil.test", "//evil.test", `/\evil.test`, "https:evil.test",
			"%0d%0aLocation:%20https://evil.test", "https://a.test@evil.test",
			"javascript:alert(1)",
		} {
			targets = append(targets, "?"+name+"="+strings.ReplaceAll(value, " ", "%20"))
		}
	}
	for _, target := range targets {
		for _, a := range []answer{
			v.get(t, "/account.html"+target), v.do(t, "POST", "/signout.ashx"+target, ""),
			v.get(t, "/activate.ashx"+target), v.get(t, "/signin.ashx"+target),
			v.get(t, "/login.html"+target, "Cookie", signedIn.cookies()),
		} {
			got := a.header.Values("Location")
			if len(got) > 1 || len(got) == 1 && strings.TrimSuffix(got[0], "#signed-out") != "/login.html" {
				t.Errorf("%s: Location is %q", target, got)
			}
			if strings.Contains(a.body, "evil") || strings.Contains(fmt.Sprint(a.header), "evil") {
				t.Errorf("%s: the answer repeats the parameter: %v %s", target, a.header, a.body)
			}
		}
	}
	for _, path := range []string{
		"//evil.test", "//evil.test/..", "/%2fevil.test", "/\\evil.test",
		"/login.html/..//evil.test", "/.//evil.test",
	} {
		if a := v.get(t, path); a.status != 404 || len(a.header["Location"]) != 0 {
			t.Errorf("%s: status %d, Location %q", path, a.status, a.header["Location"])
		}
	}
}

// messageHeaders are the headers that a message may have.
var messageHeaders = []string{
	"Auto-Submitted", "Content-Language", "Content-Type", "Date", "From", "Message-Id",
	"Mime-Version", "Subject", "To", "X-Auto-Response-Suppress",
}

// TestMailInjection checks that a form is refused, or sends one message to one recipient that
// repeats nothing of the form.
func TestMailInjection(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) { x.Product = "Gräf & Co" }})
	var payloads []string
	for _, line := range []string{
		"Bcc: canary@evil.test", "X-Receiver: canary@evil.test", "X-Sender: canary@evil.test",
		"To: canary@evil.test", "Subject: canary", "Content-Type: text/html", "",
	} {
		for _, lineBreak := range []string{
			"\r\n", "\n", "\r", "\r\n ", "\n\t", "\u2028", "\u0085", "\x00", "\v", "\f", "%0d%0a",
			`\r\n`, "=0D=0A", "?=\r\n",
		} {
			payloads = append(payloads, lineBreak+line)
		}
	}
	payloads = append(payloads, "=?utf-8?q?a=0D=0ABcc:canary@evil.test?=",
		"=?utf-8?b?DQpCY2M6IGNhbmFyeUBldmlsLnRlc3Q=?=", ", canary@evil.test", ";canary@evil.test",
		"> canary@evil.test", `" canary@evil.test`, ".\r\nMAIL FROM:<canary@evil.test>", "\r\n.\r\nQUIT",
		"\r\n\r\ncanary body", "嘊嘍Bcc: canary@evil.test")
	for _, field := range []string{"email", "name", "user", "ha1", "captcha_answer", "lang", "x"} {
		t.Run("by "+field, func(t *testing.T) {
			for _, payload := range payloads {
				who := s.newPerson("a.test")
				f := s.form(t, who)
				value := map[string]string{
					"email": who.email, "name": who.name, "user": who.user, "ha1": who.ha1(),
					"captcha_answer": "1", "lang": "de-", "x": "x",
				}[field] + payload
				before, state := s.Files("pickup"), s.state(t)
				a := s.visitor("a.test").post(t, f.with(field+"="+url.QueryEscape(value)))
				if a.status != 200 {
					a.wantStatus(t, 400)
					if after := s.state(t); after != state {
						t.Errorf("%q: the state changed", value)
					}
					continue
				}
				if field == "email" || field == "user" || field == "ha1" || field == "captcha_answer" {
					if strings.TrimRight(payload, " ") != "" {
						t.Errorf("%s %q was accepted", field, value)
					}
				}
				list := s.messages(t, who.email)
				if len(list) != 1 || len(s.Files("pickup")) != len(before)+1 {
					t.Fatalf("%q: %d messages, %d files more", value, len(list), len(s.Files("pickup"))-len(before))
				}
				checkMessage(t, list[0])
			}
		})
	}
	t.Run("by links in names", func(t *testing.T) {
		who := s.newPerson("a.test")
		who.name, who.user = "WIN-A-PRIZE http://evil.test", "www.evil.com"
		s.signUp(t, who)
		m := s.messages(t, who.email)[0]
		checkMessage(t, m)
		for _, text := range []string{m.raw, m.text, m.html, mailmsg.Decode(m.header.Get("Subject"))} {
			for _, bad := range []string{"WIN-A-PRIZE", "evil", who.user} {
				if strings.Contains(text, bad) {
					t.Errorf("the message contains %q: %s", bad, text)
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
			t.Errorf("the message repeats the form: %s", form)
		}
	}
	for line := range strings.SplitSeq(m.raw, "\r\n") {
		if strings.ContainsAny(line, "\r\n\x00") || len(line) > 998 {
			t.Errorf("the message has the line %q", line)
		}
	}
}

// TestAssetOfOtherVersion requests a file for a page that another version of the program served.
func TestAssetOfOtherVersion(t *testing.T) {
	s := startServer(t)
	v := s.visitor("a.test")
	got := v.get(t, "/static/login.00000000.js")
	got.wantStatus(t, 200)
	if got.header.Get("Cache-Control") != "no-store" ||
		!strings.Contains(got.header.Get("Content-Type"), "javascript") || got.body == "" {
		t.Errorf("headers %v", got.header)
	}
	for _, wrong := range []string{
		"/static/absent.00000000.js", "/static/login.0000000.js", "/static/login.000000000.js",
		"/static/login.ABCDEF00.js", "/static/login.js", "/static/.00000000.js",
		"/static/..%2fassets.00000000.go", "/static/login.00000000.css",
	} {
		v.get(t, wrong).wantStatus(t, 404)
	}
}
