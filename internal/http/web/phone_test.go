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

func TestTURNCredentials(t *testing.T) {
	t.Parallel()
	p := openWith(t, choice{tenants: func(x *tenant.Tenant) {
		if x.Host != "b.test" {
			x.TURNURIs, x.TURNSeconds = []string{"turn:turn.test:3478?transport=udp", "turns:turn.test"}, 600
		}
		x.Origins = []string{"https://shop.test"}
	}})
	who := p.active(t, "a.test")
	v := p.visitor("a.test")
	cookies := v.signIn(t, who.user, who.password).cookies()

	t.Run("not without the key", func(t *testing.T) {
		v.get(t, "/turn", "Cookie", cookies).fails(t, 500, "server_error")
		if !strings.Contains(p.log.String(), "make it with: dialtone turn secret") {
			t.Error("the operator is not told what to do")
		}
	})
	ring := secret.NewRing(p.clock.Now())
	shared := turn.Secrets(ring)[0].Text()
	p.hide("TURN secret", shared)
	p.turn.Store(ring)

	t.Run("for who is signed in", func(t *testing.T) {
		a := v.get(t, "/turn", "Cookie", cookies)
		a.isJSON(t, 200)
		var got struct {
			Username, Password string
			TTL                int
			URIs               []string
		}
		a.json(t, &got)
		p.hide("TURN password", got.Password)
		mac := hmac.New(sha1.New, []byte(shared))
		io.WriteString(mac, got.Username)
		if want := strconv.FormatInt(p.clock.Now().Unix()+600, 10) + ":" + who.user + "@a.test"; got.Username != want {
			t.Errorf("the name is %q, want %q", got.Username, want)
		}
		if got.Password != base64.StdEncoding.EncodeToString(mac.Sum(nil)) || got.TTL != 600 || strings.Join(got.URIs, " ") != "turn:turn.test:3478?transport=udp turns:turn.test" {
			t.Errorf("got %s", a.body)
		}
		if n := strings.Count(a.body, `":`); n != 4 {
			t.Errorf("there are %d members: %s", n, a.body)
		}
	})
	t.Run("not for others", func(t *testing.T) {
		for _, cookies := range []string{"", "__Host-dialtone-session=x", strings.Replace(cookies, "session=A", "session=B", 1)} {
			a := v.get(t, "/turn", "Cookie", cookies)
			a.fails(t, 401, "unauthorized")
			if a.header.Get("WWW-Authenticate") != "Cookie" {
				t.Errorf("the challenge is %q", a.header.Get("WWW-Authenticate"))
			}
		}
		p.visitor("localhost").get(t, "/turn", "Cookie", cookies).fails(t, 401, "unauthorized")
	})
	t.Run("not for the page of another site", func(t *testing.T) {
		for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.test"}} {
			v.get(t, "/turn", append(headers, "Cookie", cookies)...).fails(t, 400, "invalid_request")
		}
		a := v.get(t, "/turn", "Cookie", cookies, "Origin", "https://shop.test", "Sec-Fetch-Site", "cross-site")
		for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} {
			if a.header.Get(name) != "" {
				t.Errorf("a listed site may read the answer: %s", name)
			}
		}
		v.get(t, "/turn", "Cookie", cookies, "Sec-Fetch-Site", "same-origin").is(t, 200)
	})
	t.Run("not where there are no servers", func(t *testing.T) {
		other := p.active(t, "b.test")
		v := p.visitor("b.test")
		a := v.get(t, "/turn", "Cookie", v.signIn(t, other.user, other.password).cookies())
		if said := a.fails(t, 404, "not_found"); said != "this platform has no TURN servers; make calls without one" {
			t.Errorf("it says %q", said)
		}
	})
	t.Run("not for who was disabled", func(t *testing.T) {
		if _, err := p.desk.Disable(t.Context(), p.tenant(t, "a.test"), who.user); err != nil {
			t.Fatal(err)
		}
		v.get(t, "/turn", "Cookie", cookies).fails(t, 401, "unauthorized")
	})
}

var linkOnPage = regexp.MustCompile(`id="v-link" dir="ltr">([^<]+)<`)

// provision makes a link on the account page, and gives what follows the host.
func (p *platform) provision(t testing.TB, v *visitor, cookies, format string) string {
	t.Helper()
	a := v.do(t, "POST", "/provision", "format="+format, "Content-Type", formType, "Cookie", cookies)
	a.is(t, 200)
	m := linkOnPage.FindStringSubmatch(a.body)
	if m == nil {
		t.Fatalf("there is no link: %s", a.body)
	}
	origin := p.tenant(t, v.host).PublicURL
	target, ok := strings.CutPrefix(html.UnescapeString(m[1]), origin)
	if !ok {
		t.Fatalf("the link is %s, and people reach the tenant at %s", m[1], origin)
	}
	_, token, _ := strings.Cut(target, "token=")
	p.hide("provisioning token", token)
	return target
}

func TestProvisioningLinks(t *testing.T) {
	t.Parallel()
	p := open(t)
	enter := func(t *testing.T, host string) (person, *visitor, string) {
		t.Helper()
		who := p.active(t, host)
		v := p.visitor(host)
		return who, v, v.signIn(t, who.user, who.password).cookies()
	}
	gone := func(t *testing.T, host, target string) {
		t.Helper()
		a := p.visitor(host).get(t, target)
		if said := a.fails(t, 404, "not_found"); !strings.Contains(said, "make a new one on your account page") {
			t.Errorf("a program is told %q", said)
		}
		page := p.visitor(host).get(t, target, "Accept", "text/html")
		page.is(t, 404)
		if !strings.Contains(page.body, "This link no longer works") || !strings.Contains(page.body, `href="/account.html"`) {
			t.Errorf("a person is told %s", page.body)
		}
	}

	for format, media := range map[string]string{"linphone": "application/xml; charset=utf-8", "zoiper": "application/xml; charset=utf-8"} {
		t.Run("give "+format+" its file, once", func(t *testing.T) {
			who, v, cookies := enter(t, "a.test")
			target := p.provision(t, v, cookies, format)
			for _, ahead := range [][]string{{"Sec-Purpose", "prefetch"}, {"X-Moz", "prefetch"}} {
				p.visitor("a.test").get(t, target, ahead...).fails(t, 503, "overloaded")
			}
			p.visitor("a.test").do(t, "HEAD", target, "").is(t, 503)
			a := p.visitor("a.test").get(t, target)
			a.is(t, 200)
			if got := a.header.Get("Content-Type"); got != media {
				t.Errorf("its type is %s", got)
			}
			if err := xml.Unmarshal([]byte(a.body), new(struct{})); err != nil {
				t.Errorf("not XML: %v\n%s", err, a.body)
			}
			if !strings.Contains(a.body, who.user) || strings.Contains(a.body, who.ha1()) || strings.Contains(strings.ToLower(a.body), "passw") {
				t.Errorf("the file is %s", a.body)
			}
			gone(t, "a.test", target)
		})
	}
	t.Run("are opened by one of twenty at once", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		target := p.provision(t, v, cookies, "linphone")
		answers := make([]answer, 20)
		atOnce(len(answers), func(i int) { answers[i] = p.visitor("a.test").get(t, target) })
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
	t.Run("end after fifteen minutes", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		first, second := p.provision(t, v, cookies, "linphone"), p.provision(t, v, cookies, "linphone")
		p.clock.add(15*time.Minute - time.Second)
		v.get(t, first).is(t, 200)
		p.clock.add(time.Second)
		gone(t, "a.test", second)
	})
	t.Run("are for one format and one tenant", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		target := p.provision(t, v, cookies, "linphone")
		gone(t, "a.test", strings.Replace(target, "linphone", "zoiper", 1))
		gone(t, "b.test", target)
		v.get(t, target).is(t, 200)
	})
	t.Run("cannot be made up", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		target := p.provision(t, v, cookies, "linphone")
		path, token, _ := strings.Cut(target, "token=")
		for _, bad := range []string{"", "x", token[:len(token)-1], token + "A", "AQ" + strings.Repeat("A", len(token)-2), token[:30] + "%0A" + token[30:], token[:40] + "A" + token[41:]} {
			if bad != token {
				gone(t, "a.test", path+"token="+bad)
			}
		}
		gone(t, "a.test", path)
		gone(t, "a.test", target+"&token="+token)
		v.get(t, target).is(t, 200)
	})
	t.Run("end when the account is disabled, and stay ended", func(t *testing.T) {
		who, v, cookies := enter(t, "a.test")
		target := p.provision(t, v, cookies, "linphone")
		if _, err := p.desk.Disable(t.Context(), p.tenant(t, "a.test"), who.user); err != nil {
			t.Fatal(err)
		}
		gone(t, "a.test", target)
		if _, err := p.desk.Enable(t.Context(), p.tenant(t, "a.test"), who.user); err != nil {
			t.Fatal(err)
		}
		gone(t, "a.test", target)
	})
	t.Run("end when the account is deleted", func(t *testing.T) {
		who, v, cookies := enter(t, "a.test")
		target := p.provision(t, v, cookies, "linphone")
		if err := p.desk.Delete(t.Context(), p.tenant(t, "a.test"), who.user); err != nil {
			t.Fatal(err)
		}
		gone(t, "a.test", target)
	})
	t.Run("live through a restart, used or not", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		used, unused := p.provision(t, v, cookies, "linphone"), p.provision(t, v, cookies, "zoiper")
		v.get(t, used).is(t, 200)
		p.restart(t)
		gone(t, "a.test", used)
		v.get(t, unused).is(t, 200)
	})
	t.Run("are made for who is signed in, by the platform's own page", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		a := v.do(t, "POST", "/provision", "format=linphone", "Content-Type", formType)
		if a.is(t, 303); a.header.Get("Location") != "/login.html" {
			t.Errorf("Location is %q", a.header.Get("Location"))
		}
		v.do(t, "POST", "/provision", "format=linphone", "Content-Type", formType, "Cookie", cookies, "Sec-Fetch-Site", "cross-site").fails(t, 400, "invalid_request")
		for _, body := range []string{"", "format=", "format=text", "format=acrobits", "format=jssip", "format=linphone&format=zoiper", "format=Linphone", "format=%ff"} {
			v.do(t, "POST", "/provision", body, "Content-Type", formType, "Cookie", cookies).fails(t, 400, "invalid_request")
		}
	})
	t.Run("are in the log without their tokens", func(t *testing.T) {
		_, v, cookies := enter(t, "a.test")
		target := p.provision(t, v, cookies, "linphone") // hidden: see wary
		v.get(t, target).is(t, 200)
		gone(t, "a.test", target)
		for _, want := range []string{`"msg":"provision.link","outcome":"ok"`, `"msg":"provision.file","outcome":"ok"`, `"msg":"provision.file","outcome":"used"`, `"outcome":"expired"`} {
			if !strings.Contains(p.log.String(), want) {
				t.Errorf("the log has no %s", want)
			}
		}
	})
}

// What the account page offers is what such a program can use.
func TestAccountPageOffersPrograms(t *testing.T) {
	t.Parallel()
	p := openWith(t, choice{tenants: func(x *tenant.Tenant) {
		switch x.Host {
		case "b.test":
			x.SIPTransport, x.SIPServer = "WSS", "sip.test:7443"
		case "localhost":
			x.SIPWebSocket, x.AcrobitsCloud = "wss://sip.test/ws", "HOUSE"
		}
	}})
	button := regexp.MustCompile(`name="format" value="([a-z]+)"`)
	for host, want := range map[string]string{"a.test": "linphone zoiper baresip", "b.test": "jssip", "localhost": "linphone zoiper acrobits baresip jssip"} {
		who := p.active(t, host)
		v := p.visitor(host)
		cookies := v.signIn(t, who.user, who.password).cookies()
		var offered []string
		for _, m := range button.FindAllStringSubmatch(v.get(t, "/account.html", "Cookie", cookies).body, -1) {
			offered = append(offered, m[1])
			a := v.do(t, "POST", "/provision", "format="+m[1], "Content-Type", formType, "Cookie", cookies)
			a.is(t, 200)
			if scanned := strings.Contains(a.body, "<svg"); scanned == strings.Contains(a.body, `id="v-text"`) {
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
