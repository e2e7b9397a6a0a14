package web_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/xml"
	"html"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/turn"
)

func TestTURN(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		if x.Host != "b.test" {
			x.TURNURIs, x.TURNSeconds = []string{"turn:turn.test:3478?transport=udp", "turns:turn.test"}, 600
		}
		x.Origins = []string{"https://shop.test"}
	}})
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	cookies := v.signIn(t, who.user, who.password).cookies()

	t.Run("not without the key", func(t *testing.T) {
		v.get(t, "/turn", "Cookie", cookies).wantError(t, 500, "server_error")
		if s.Log.Count("create it with: dialtone turn secret") == 0 {
			t.Error("the log does not say what to do")
		}
	})
	ring := secret.NewRing(s.Now())
	shared := turn.Secrets(ring)[0].Text()
	s.hide(shared)
	s.turn.Store(ring)

	t.Run("when signed in", func(t *testing.T) {
		a := v.get(t, "/turn", "Cookie", cookies)
		a.wantJSON(t, 200)
		var got struct {
			Username, Password string
			TTL                int
			URIs               []string
		}
		a.decode(t, &got)
		s.hide(got.Password)
		mac := hmac.New(sha1.New, []byte(shared))
		io.WriteString(mac, got.Username)
		if want := strconv.FormatInt(s.Now().Unix()+600,
			10) + ":" + who.user + "@a.test"; got.Username != want {
			t.Errorf("the name is %q, want %q", got.Username, want)
		}
		if got.Password != base64.StdEncoding.EncodeToString(mac.Sum(nil)) || got.TTL != 600 ||
			strings.Join(got.URIs, " ") != "turn:turn.test:3478?transport=udp turns:turn.test" {
			t.Errorf("got %s", a.body)
		}
		if n := strings.Count(a.body, `":`); n != 4 {
			t.Errorf("%d members: %s", n, a.body)
		}
	})
	t.Run("not when signed out", func(t *testing.T) {
		for _, cookies := range []string{
			"", "__Host-dialtone-session=x", strings.Replace(cookies, "session=A", "session=B", 1),
		} {
			a := v.get(t, "/turn", "Cookie", cookies)
			a.wantError(t, 401, "unauthorized")
			if a.header.Get("WWW-Authenticate") != "Cookie" {
				t.Errorf("the challenge is %q", a.header.Get("WWW-Authenticate"))
			}
		}
		s.visitor("localhost").get(t, "/turn", "Cookie", cookies).wantError(t, 401, "unauthorized")
	})
	t.Run("not from another site", func(t *testing.T) {
		for _, headers := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"},
			{"Origin", "https://evil.test"},
		} {
			v.get(t, "/turn", append(headers, "Cookie", cookies)...).wantError(t, 400, "invalid_request")
		}
		a := v.get(t, "/turn", "Cookie", cookies, "Origin", "https://shop.test", "Sec-Fetch-Site", "cross-site")
		for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} {
			if a.header.Get(name) != "" {
				t.Errorf("another site may read the answer: %s", name)
			}
		}
		v.get(t, "/turn", "Cookie", cookies, "Sec-Fetch-Site", "same-origin").wantStatus(t, 200)
	})
	t.Run("not without TURN servers", func(t *testing.T) {
		other := s.active(t, "b.test")
		v := s.visitor("b.test")
		a := v.get(t, "/turn", "Cookie", v.signIn(t, other.user, other.password).cookies())
		if said := a.wantError(t, 404,
			"not_found"); said != "this platform has no TURN servers; make calls without one" {
			t.Errorf("the response is %q", said)
		}
	})
	t.Run("not when disabled", func(t *testing.T) {
		s.At("a.test").Disable(who.user)
		v.get(t, "/turn", "Cookie", cookies).wantError(t, 401, "unauthorized")
	})
}

var linkOnPage = regexp.MustCompile(`id="v-link" dir="ltr">([^<]+)<`)

// provision creates a link on the account page, and returns its path and query.
func (s *testServer) provision(t testing.TB, v *visitor, cookies, format string) string {
	t.Helper()
	a := v.do(t, "POST", "/provision", "format="+format, "Content-Type", formType, "Cookie", cookies)
	a.wantStatus(t, 200)
	m := linkOnPage.FindStringSubmatch(a.body)
	if m == nil {
		t.Fatalf("there is no link: %s", a.body)
	}
	origin := s.At(v.host).Tenant.PublicURL
	target, ok := strings.CutPrefix(html.UnescapeString(m[1]), origin)
	if !ok {
		t.Fatalf("the link is %s, and the tenant is at %s", m[1], origin)
	}
	_, token, _ := strings.Cut(target, "token=")
	s.hide(token)
	return target
}

func TestProvisionLink(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	enter := func(t *testing.T, host string) (person, *visitor, string) {
		t.Helper()
		who := s.active(t, host)
		v := s.visitor(host)
		return who, v, v.signIn(t, who.user, who.password).cookies()
	}
	gone := func(t *testing.T, host, target string) {
		t.Helper()
		a := s.visitor(host).get(t, target)
		if said := a.wantError(t, 404, "not_found"); !strings.Contains(said,
			"make a new one on your account page") {
			t.Errorf("a program gets %q", said)
		}
		page := s.visitor(host).get(t, target, "Accept", "text/html")
		page.wantStatus(t, 404)
		if !strings.Contains(page.body, "This link no longer works") ||
			!strings.Contains(page.body, `href="/account.html"`) {
			t.Errorf("a browser gets %s", page.body)
		}
	}

	for format, media := range map[string]string{
		"linphone": "application/xml; charset=utf-8", "zoiper": "application/xml; charset=utf-8",
	} {
		t.Run("give "+format+" once", func(t *testing.T) {
			who, v, cookies := enter(t, "a.test")
			target := s.provision(t, v, cookies, format)
			for _, ahead := range [][]string{{"Sec-Purpose", "prefetch"}, {"X-Moz", "prefetch"}} {
				s.visitor("a.test").get(t, target, ahead...).wantError(t, 503, "overloaded")
			}
			s.visitor("a.test").do(t, "HEAD", target, "").wantStatus(t, 503)
			a := s.visitor("a.test").get(t, target)
			a.wantStatus(t, 200)
			if got := a.header.Get("Content-Type"); got != media {
				t.Errorf("its media type is %s", got)
			}
			if err := xml.Unmarshal([]byte(a.body), new(struct{})); err != nil {
				t.Errorf("not XML: %v\n%s", err, a.body)
			}
			if !strings.Contains(a.body, who.user) || strings.Contains(a.body, who.ha1()) ||
				strings.Contains(strings.ToLower(a.body), "passw") {
				t.Errorf("the file is %s", a.body)
			}
			gone(t, "a.test", target)
		})
	}
	t.Run("work once when opened concurrently", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		target := s.provision(t, v, cookies, "linphone")
		answers := make([]answer, 20)
		atOnce(len(answers), func(i int) { answers[i] = s.visitor("a.test").get(t, target) })
		ok := 0
		for _, a := range answers {
			if a.status == 200 {
				ok++
			}
		}
		if ok != 1 {
			t.Errorf("%d got the file", ok)
		}
	})
	t.Run("not after 15 minutes", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		first, second := s.provision(t, v, cookies, "linphone"), s.provision(t, v, cookies, "linphone")
		s.Advance(15*time.Minute - time.Second)
		v.get(t, first).wantStatus(t, 200)
		s.Advance(time.Second)
		gone(t, "a.test", second)
	})
	t.Run("not for another format or tenant", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		target := s.provision(t, v, cookies, "linphone")
		gone(t, "a.test", strings.Replace(target, "linphone", "zoiper", 1))
		gone(t, "b.test", target)
		v.get(t, target).wantStatus(t, 200)
	})
	t.Run("not when forged", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		target := s.provision(t, v, cookies, "linphone")
		path, token, _ := strings.Cut(target, "token=")
		for _, bad := range []string{
			"", "x", token[:len(token)-1], token + "A", "AQ" + strings.Repeat("A", len(token)-2),
			token[:30] + "%0A" + token[30:], token[:40] + "A" + token[41:],
		} {
			if bad != token {
				gone(t, "a.test", path+"token="+bad)
			}
		}
		gone(t, "a.test", path)
		gone(t, "a.test", target+"&token="+token)
		v.get(t, target).wantStatus(t, 200)
	})
	t.Run("not after disabling, also when enabled again", func(t *testing.T) {
		who, v, cookies := enter(t, "a.test")
		target := s.provision(t, v, cookies, "linphone")
		s.At("a.test").Disable(who.user)
		gone(t, "a.test", target)
		s.At("a.test").Enable(who.user)
		gone(t, "a.test", target)
	})
	t.Run("not when deleted", func(t *testing.T) {
		who, v, cookies := enter(t, "a.test")
		target := s.provision(t, v, cookies, "linphone")
		s.At("a.test").Delete(who.user)
		gone(t, "a.test", target)
	})
	t.Run("survive a restart", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		used, unused := s.provision(t, v, cookies, "linphone"), s.provision(t, v, cookies, "zoiper")
		v.get(t, used).wantStatus(t, 200)
		s.restart(t)
		gone(t, "a.test", used)
		v.get(t, unused).wantStatus(t, 200)
	})
	t.Run("made only by a signed-in person on this site", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		a := v.do(t, "POST", "/provision", "format=linphone", "Content-Type", formType)
		if a.wantStatus(t, 303); a.header.Get("Location") != "/login.html" {
			t.Errorf("Location is %q", a.header.Get("Location"))
		}
		v.do(t, "POST", "/provision", "format=linphone", "Content-Type", formType, "Cookie", cookies,
			"Sec-Fetch-Site", "cross-site").wantError(t, 400, "invalid_request")
		for _, body := range []string{
			"", "format=", "format=text", "format=acrobits", "format=jssip",
			"format=linphone&format=zoiper", "format=Linphone", "format=%ff",
		} {
			v.do(t, "POST", "/provision", body, "Content-Type", formType, "Cookie", cookies).
				wantError(t, 400, "invalid_request")
		}
	})
	t.Run("are logged without their tokens", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		target := s.provision(t, v, cookies, "linphone") // a secret: see checkLog
		v.get(t, target).wantStatus(t, 200)
		gone(t, "a.test", target)
		for _, want := range []string{
			`"msg":"provision.link","outcome":"ok"`, `"msg":"provision.file","outcome":"ok"`,
			`"msg":"provision.file","outcome":"used"`, `"outcome":"expired"`,
		} {
			if s.Log.Count(want) == 0 {
				t.Errorf("the log has no %s", want)
			}
		}
	})
}

// TestAccountPagePrograms checks that the account page offers the programs that can use the
// tenant's settings.
func TestAccountPagePrograms(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		switch x.Host {
		case "b.test":
			x.SIPTransport, x.SIPServer = "WSS", "sip.test:7443"
		case "localhost":
			x.SIPWebSocket, x.AcrobitsCloud = "wss://sip.test/ws", "HOUSE"
		}
	}})
	// The page shows the code of the recommended program, and links for the others.
	offer := regexp.MustCompile(`/provision\?format=([a-z]+)"|"QR code for (Linphone)"`)
	for host, want := range map[string]string{
		"a.test": "linphone zoiper baresip", "b.test": "jssip",
		"localhost": "linphone zoiper acrobits baresip jssip",
	} {
		who := s.active(t, host)
		v := s.visitor(host)
		cookies := v.signIn(t, who.user, who.password).cookies()
		var offered []string
		for _, m := range offer.FindAllStringSubmatch(v.get(t, "/account.html", "Cookie", cookies).body, -1) {
			m[1] += strings.ToLower(m[2])
			offered = append(offered, m[1])
			a := v.get(t, "/provision?format="+m[1], "Cookie", cookies)
			a.wantStatus(t, 200)
			if scanned := strings.Contains(a.body, `class="qr"`); scanned == strings.Contains(a.body, `id="v-text"`) {
				t.Errorf("%s: there is a code: %v, and a text as well or neither", m[1], scanned)
			}
			if strings.Contains(a.body, who.ha1()) {
				t.Errorf("%s: the page shows HA1", m[1])
			}
		}
		if got := strings.Join(offered, " "); got != want {
			t.Errorf("%s offers %q, want %q", host, got, want)
		}
	}
}
