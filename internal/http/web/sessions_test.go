package web_test

import (
	"cmp"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"dialtone/internal/tenant"
)

// listedSession is a session in the answer of /sessions.ashx.
type listedSession struct {
	ID      string
	Began   time.Time
	Seen    time.Time
	Net     string
	Browser string
	How     string
	Current bool
}

const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"

// sessions returns the sessions that the endpoint lists. There must be n of them.
func (s *testServer) sessions(t *testing.T, v *visitor, cookies string, n int) (list []listedSession) {
	t.Helper()
	s.Must(s.authenticator.Flush(t.Context()))
	a := v.get(t, "/sessions.ashx", "Cookie", cookies)
	a.wantJSON(t, 200)
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || len(list) != n {
		t.Fatalf("listed are %s, %v, want %d sessions", a.body, err, n)
	}
	return list
}

// end posts the form that ends sessions.
func end(t *testing.T, v *visitor, cookies, what string, headers ...string) answer {
	t.Helper()
	return v.do(t, "POST", "/sessions.ashx", "end="+what,
		append([]string{"Content-Type", formType, "Cookie", cookies}, headers...)...)
}

func TestSessionList(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who, stranger := s.active(t, "a.test"), s.active(t, "a.test")
	first, second, other := s.visitor("a.test"), s.visitor("a.test"), s.visitor("a.test")
	c1 := first.signIn(t, who.user, who.password).cookies()
	s.Advance(time.Minute)
	c2 := second.signIn(t, who.user, who.password).cookies()
	c3 := other.signIn(t, stranger.user, stranger.password).cookies()

	list := s.sessions(t, second, c2, 2)
	if !list[0].Current || list[1].Current || !list[0].Began.Equal(s.Now()) ||
		!list[1].Seen.Equal(s.Now().Add(-time.Minute)) || list[0].ID == list[1].ID ||
		list[0].How != "password" ||
		!regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(list[0].ID) || !strings.HasSuffix(list[0].Net, "/24") {
		t.Errorf("listed are %+v", list)
	}
	theirs := s.sessions(t, other, c3, 1)

	t.Run("is for people who are signed in, on this site", func(t *testing.T) {
		for name, a := range map[string]answer{
			"with another cookie":  first.get(t, "/sessions.ashx", "Cookie", "__Host-dialtone-session=x"),
			"by a link":            first.get(t, "/sessions.ashx", "Sec-Fetch-Mode", "navigate"),
			"at another tenant":    s.visitor("b.test").get(t, "/sessions.ashx", "Cookie", c1),
			"ending at another":    end(t, s.visitor("b.test"), c1, "others"),
			"ending one elsewhere": end(t, s.visitor("b.test"), c1, list[0].ID),
		} {
			a.wantError(t, 401, "unauthorized")
			if a.header.Get("WWW-Authenticate") != "Cookie" {
				t.Errorf("%s: the challenge is %q", name, a.header.Get("WWW-Authenticate"))
			}
		}
		for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.test"}} {
			first.get(t, "/sessions.ashx", append(h, "Cookie", c1)...).wantError(t, 400, "invalid_request")
			end(t, first, c1, "others", h...).wantError(t, 400, "invalid_request")
			end(t, first, c1, list[0].ID, h...).wantError(t, 400, "invalid_request")
		}
		s.sessions(t, first, c1, 2)
	})
	t.Run("refuses values that are not a session", func(t *testing.T) {
		for _, what := range []string{"", "x", "OTHERS", list[0].ID + "00", list[0].ID[2:], "others&end=others"} {
			end(t, first, c1, what).wantError(t, 400, "invalid_request")
		}
		for _, c := range [][2]string{{"", formType}, {"x=1", formType}, {`{"end":"others"}`, "application/json"}} {
			first.do(t, "POST", "/sessions.ashx", c[0], "Content-Type", c[1], "Cookie", c1).
				wantError(t, 400, "invalid_request")
		}
		first.do(t, "POST", "/sessions.ashx?end=others", "end=others", "Content-Type", formType, "Cookie", c1).
			wantError(t, 400, "invalid_request")
		end(t, first, c1, theirs[0].ID).wantError(t, 404, "not_found")
		end(t, first, c1, strings.Repeat("0", 32)).wantError(t, 404, "not_found")
		s.sessions(t, first, c1, 2)
		s.sessions(t, other, c3, 1)
	})
	t.Run("ends one session", func(t *testing.T) {
		a := end(t, second, c2, list[1].ID)
		a.wantJSON(t, 200)
		if a.body != "{\"ok\":true}\n" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("got %q, %v", a.body, a.header)
		}
		first.get(t, "/account.html", "Cookie", c1).wantStatus(t, 303)
		first.get(t, "/sessions.ashx", "Cookie", c1).wantError(t, 401, "unauthorized")
		s.sessions(t, second, c2, 1)
		end(t, second, c2, list[1].ID).wantError(t, 404, "not_found")
	})
	t.Run("ends all others", func(t *testing.T) {
		c1 := first.signIn(t, who.user, who.password).cookies()
		a := end(t, second, c2, "others")
		a.wantJSON(t, 200)
		next := a.cookies()
		if !strings.HasPrefix(next, "__Host-dialtone-session=") || next == c2 {
			t.Fatalf("the new cookies are %q", next)
		}
		for _, cookies := range []string{c1, c2} {
			first.get(t, "/account.html", "Cookie", cookies).wantStatus(t, 303)
			end(t, first, cookies, "others").wantError(t, 401, "unauthorized")
		}
		s.sessions(t, second, next, 1)
		s.sessions(t, other, c3, 1)
	})
	t.Run("ends with the account", func(t *testing.T) {
		s.At("a.test").Disable(stranger.user)
		other.get(t, "/sessions.ashx", "Cookie", c3).wantError(t, 401, "unauthorized")
		end(t, other, c3, "others").wantError(t, 401, "unauthorized")
	})
}

// TestSessionsPage checks the page, with forms as a browser without scripts sends them.
func TestSessionsPage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	html := []string{"Accept", "text/html"}
	old := v.signIn(t, who.user, who.password).cookies()
	cookies := v.signIn(t, who.user, who.password).cookies()
	s.Advance(5 * time.Minute)
	v.get(t, "/account.html", "Cookie", old, "User-Agent", firefox).wantStatus(t, 200)
	list := s.sessions(t, v, cookies, 2)
	id := list[0].ID
	if list[0].Current {
		id = list[1].ID
	}
	page := v.get(t, "/sessions.html?lang=de", "Cookie", cookies)
	page.wantStatus(t, 200)
	for _, want := range []string{
		`name="end" value="` + id + `" aria-label="Sitzung von Firefox unter Linux im Netz ` + list[0].Net +
			` beenden"`,
		`id="others-ended">Alle anderen Sitzungen sind beendet.`, `action="/sessions.ashx?lang=de"`,
		"Diese Sitzung", `value="others"`, "12:05 Uhr (UTC)</time>",
	} {
		if strings.Count(page.body, want) < 1 {
			t.Errorf("the page has no %s:\n%s", want, page.body)
		}
	}
	if n := strings.Count(page.body, `name="end"`); n != 2 {
		t.Errorf("the page has %d buttons", n)
	}
	for how, text := range map[string]string{
		"passkey": "Angemeldet mit einem Passkey: ", "code": "Angemeldet mit Passwort und Code: ",
		"": "Angemeldet: ", "of a newer program": "Angemeldet: ",
	} {
		s.exec(t, `UPDATE session SET how = '`+how+`'`)
		if got := s.sessions(t, v, cookies, 2)[0].How; got != cmp.Or(how, "password") {
			t.Errorf("the session began by %q, want %q", got, how)
		}
		if page := v.get(t, "/sessions.html?lang=de", "Cookie", cookies).body; strings.Count(page, "<p>"+text) != 2 {
			t.Errorf("the page does not say %q:\n%s", text, page)
		}
	}
	for range 2 { // the second time, from a page that is out of date
		a := v.do(t, "POST", "/sessions.ashx?lang=de", "end="+id,
			append(html, "Content-Type", formType, "Cookie", cookies)...)
		a.wantStatus(t, 303)
		if a.header.Get("Location") != "/sessions.html?lang=de#ended" {
			t.Errorf("Location is %q", a.header.Get("Location"))
		}
	}
	page = v.get(t, "/sessions.html", "Cookie", cookies)
	if strings.Contains(page.body, `name="end"`) || !strings.Contains(page.body, "not signed in anywhere else") {
		t.Errorf("with one session the page is\n%s", page.body)
	}
	a := end(t, v, cookies, "others", html...)
	a.wantStatus(t, 303)
	if got := a.header.Get("Location"); got != "/sessions.html#others-ended" {
		t.Errorf("Location is %q", got)
	}
	v.get(t, "/sessions.html", "Cookie", a.cookies()).wantStatus(t, 200)
	if a = end(t, v, cookies, "others", html...); a.status != 303 || a.header.Get("Location") != "/login.html#ended" {
		t.Errorf("with an ended session: %d, %v", a.status, a.header)
	}
	if !strings.Contains(v.get(t, "/account.html", "Cookie", v.signIn(t, who.user, who.password).cookies()).body,
		`href="/sessions.html"`) {
		t.Error("the account page does not lead to the sessions")
	}
}

// TestSignInWithoutList checks that people sign in while the list cannot be written.
func TestSignInWithoutList(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	s.exec(t, `CREATE TRIGGER broken BEFORE INSERT ON session BEGIN SELECT RAISE(ABORT, 'broken'); END`)
	cookies := v.signIn(t, who.user, who.password).cookies()
	if err := s.authenticator.Flush(t.Context()); err == nil {
		t.Error("the list was written")
	}
	v.get(t, "/account.html", "Cookie", cookies).wantStatus(t, 200)
	v.get(t, "/sessions.html", "Cookie", cookies).wantStatus(t, 200)
	s.exec(t, `DROP TRIGGER broken`)
	s.sessions(t, v, cookies, 1)
}

// TestOwnerByProof checks endpoints that accept a proof of the password instead of the session of a
// page of this host.
func TestOwnerByProof(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) { x.Origins = []string{"https://shop.test"} }})
	who, stranger, waiting := s.active(t, "a.test"), s.active(t, "a.test"), s.pending(t, "a.test")
	v := s.visitor("a.test")
	shop := []string{"Origin", "https://shop.test", "Sec-Fetch-Site", "cross-site"}
	evil := []string{"Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site"}
	cookies := v.signIn(t, who.user, who.password).cookies()
	other := v.signIn(t, who.user, who.password).cookies()
	theirs := s.sessions(t, v, v.signIn(t, stranger.user, stranger.password).cookies(), 1)
	id := ""
	for _, x := range s.sessions(t, v, cookies, 2) {
		if !x.Current {
			id = x.ID
		}
	}

	for _, path := range []string{"/sessions.ashx", "/phones.ashx", "/passkeys.ashx"} {
		a := v.prove(t, "GET", path, who, shop...)
		a.wantJSON(t, 200)
		if got := a.header.Get("Access-Control-Allow-Origin"); got != "https://shop.test" {
			t.Errorf("%s: Access-Control-Allow-Origin is %q", path, got)
		}
		v.get(t, path, evil...).wantError(t, 400, "invalid_request")
		v.prove(t, "GET", path, waiting).wantError(t, 403, "not_activated")
		s.visitor("b.test").prove(t, "GET", path, who).wantError(t, 401, "unauthorized")
		c := v.get(t, path).challenge(t)
		v.get(t, path, "Authorization", c.proof(who.user, "wrong", "GET", path, nil)).wantError(t, 401, "unauthorized")
	}
	list := v.prove(t, "GET", "/sessions.ashx", who).body
	if strings.Count(list, `"id":`) != 2 || strings.Contains(list, `"current":true`) ||
		strings.Contains(list, theirs[0].ID) {
		t.Errorf("listed are %s", list)
	}
	wantRule(t, v.proveForm(t, who, "/sessions.ashx", "end="+theirs[0].ID), 400, "end.gone")
	v.proveForm(t, who, "/sessions.ashx", "end=x").wantError(t, 400, "invalid_request")
	v.proveForm(t, waiting, "/sessions.ashx", "end=others").wantError(t, 403, "not_activated")
	v.do(t, "POST", "/sessions.ashx", "end=others", append(evil, "Content-Type", formType)...).
		wantError(t, 400, "invalid_request")
	v.proveForm(t, who, "/sessions.ashx", "end="+id, shop...).wantJSON(t, 200)
	s.sessions(t, v, cookies, 1)
	v.get(t, "/sessions.ashx", "Cookie", other).wantError(t, 401, "unauthorized")
	v.proveForm(t, who, "/sessions.ashx", "end=others").wantJSON(t, 200)
	for _, c := range []string{cookies, other} {
		v.get(t, "/sessions.ashx", "Cookie", c).wantError(t, 401, "unauthorized")
	}
}

// TestEndOthersLimit checks that somebody with a stolen session can end the others only as often as
// the limit permits, and cannot prevent the owner from ending all with the password.
func TestEndOthersLimit(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	stolen := v.signIn(t, who.user, who.password).cookies()
	for range 100 {
		a := v.postForm(t, "/sessions.ashx", "end=others", "Cookie", stolen)
		a.wantJSON(t, 200)
		stolen = a.cookies()
	}
	owner := v.signIn(t, who.user, who.password).cookies()
	a := v.postForm(t, "/sessions.ashx", "end=others", "Cookie", stolen)
	wantRule(t, a, 429, "sessions")
	if a.header.Get("Retry-After") == "" || a.cookies() != "" {
		t.Errorf("headers %v", a.header)
	}
	a = v.postForm(t, "/sessions.ashx", "end=others", "Cookie", stolen, "Accept", "text/html")
	if got := a.header.Get("Location"); a.status != 303 || got != "/sessions.html#too-often" {
		t.Errorf("%d to %q", a.status, got)
	}
	if page := v.get(t, "/sessions.html", "Cookie", owner); !strings.Contains(page.body, `id="too-often"`) {
		t.Error("the page does not say so")
	}
	if !v.signedIn(t, owner) {
		t.Error("the owner's session has ended")
	}
	v.proveForm(t, who, "/sessions.ashx", "end=others").wantJSON(t, 200)
	if v.signedIn(t, stolen) {
		t.Error("the stolen session continues")
	}
	if n := s.Log.Count(`"sessions.end","outcome":"rate_limited"`); n != 2 {
		t.Errorf("%d refusals are in the log", n)
	}
}
