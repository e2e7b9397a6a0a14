package web_test

import (
	"regexp"
	"strings"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// TestSignedInPages checks that public pages recognize a person who is signed in, and do not need
// the store.
func TestSignedInPages(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	cookies := v.signIn(t, who.user, who.password).cookies()
	form := map[string]string{"/": `href="/signup.html"`, "/signup.html": `id="signup"`, "/login.html": `id="login"`}
	for path, public := range form {
		t.Run(path, func(t *testing.T) {
			a := v.get(t, path, "Cookie", cookies)
			a.wantStatus(t, 200)
			for _, want := range []string{
				`<bdi class="host">` + who.user + `</bdi>`, `action="/signout.ashx"`,
				`class="button" href="/account.html"`, `class="brand" href="/"`,
			} {
				if !strings.Contains(a.body, want) {
					t.Errorf("the page has no %s", want)
				}
			}
			if strings.Contains(a.body, public) || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("the page is that of a stranger, or may be stored: %v", a.header)
			}
			// Somebody else on this computer, and the same person after signing out.
			for _, other := range []string{"", "__Host-dialtone-session=x", strings.Replace(cookies, "=A", "=B", 1)} {
				a = v.get(t, path, "Cookie", other)
				a.wantStatus(t, 200)
				if !strings.Contains(a.body, public) || strings.Contains(a.body, who.user) {
					t.Errorf("with the cookie %q the page is\n%s", other, a.body)
				}
			}
		})
	}
	s.exec(t, `ALTER TABLE account RENAME TO elsewhere`)
	for path, public := range form {
		if a := v.get(t, path, "Cookie", cookies); a.status != 200 || !strings.Contains(a.body, public) {
			t.Errorf("without the store, %s is %d", path, a.status)
		}
	}
	s.exec(t, `ALTER TABLE elsewhere RENAME TO account`)
}

// TestAccountPage checks that the page shows the phone address, and no value twice.
func TestAccountPage(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		x.Welcome = "Call 600 to hear yourself."
		if x.Host == "b.test" {
			x.Realm, x.SIPServer = "realm.test", "sip.b.test"
		}
	}})
	row := regexp.MustCompile(`id="v-(user|domain|realm|server|transport)" dir="ltr">([^<]*)<`)
	for host, want := range map[string]string{
		"a.test": "domain a.test, transport TLS",
		"b.test": "domain b.test, realm realm.test, server sip.b.test, transport TLS",
	} {
		who := s.newPerson(host)
		v := s.visitor(host)
		realm := s.At(host).Tenant.Realm
		v.post(t, s.form(t, who).with("ha1="+md5Hex(who.user+":"+realm+":"+who.password))).wantStatus(t, 200)
		v.get(t, s.link(t, who.email)).wantStatus(t, 200)
		page := v.get(t, "/account.html", "Cookie", v.signIn(t, who.user, who.password).cookies())
		page.wantStatus(t, 200)
		text := strings.ReplaceAll(page.body, "<wbr>", "")
		for _, part := range []string{
			`dir="ltr">` + who.user + `@<span class="domain">` + host + `</span></p>`,
			"Call 600 to hear yourself.", `class="qr"`,
			`<details class="manual" id="manual">`, `data-seconds="840"`,
		} {
			if !strings.Contains(text, part) {
				t.Errorf("%s: the page has no %s:\n%s", host, part, page.body)
			}
		}
		var rows []string
		for _, m := range row.FindAllStringSubmatch(text, -1) {
			if m[1] != "user" {
				rows = append(rows, m[1]+" "+m[2])
			}
		}
		if got := strings.Join(rows, ", "); got != want {
			t.Errorf("%s: the settings are %s, want %s", host, got, want)
		}
		if strings.Contains(page.body, "Guest") {
			t.Errorf("%s: the page names a role", host)
		}
	}
}

// TestProvisionByGet checks that the page for a phone can be reloaded, which creates a new link.
func TestProvisionByGet(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	cookies := v.signIn(t, who.user, who.password).cookies()
	link := func() string {
		t.Helper()
		a := v.get(t, "/provision?format=linphone&lang=de", "Cookie", cookies)
		a.wantStatus(t, 200)
		m := linkOnPage.FindStringSubmatch(a.body)
		if m == nil || !strings.Contains(a.body, `data-again="/provision?format=linphone&amp;lang=de"`) ||
			!strings.Contains(a.body, `href="linphone-config:`+m[1]+`"`) {
			t.Fatalf("the page is\n%s", a.body)
		}
		_, token, _ := strings.Cut(m[1], "token=")
		s.hide(token)
		return token
	}
	first, second := link(), link()
	if first == second {
		t.Error("loading the page again makes no new link")
	}
	for _, token := range []string{first, second} {
		s.visitor("a.test").get(t, "/provision/linphone.xml?token="+token).wantStatus(t, 200)
	}
	for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.test"}} {
		v.get(t, "/provision?format=linphone", append(headers, "Cookie", cookies)...).
			wantError(t, 400, "invalid_request")
	}
	v.get(t, "/provision?format=linphone", "Cookie", cookies, "Sec-Purpose", "prefetch").
		wantError(t, 503, "overloaded")
	for _, query := range []string{"", "?", "?format=text", "?format=linphone&format=zoiper", "?format=%ff"} {
		v.get(t, "/provision"+query, "Cookie", cookies).wantError(t, 400, "invalid_request")
	}
	v.get(t, "/provision?format=linphone").wantStatus(t, 303)
}

// TestUnknownHostHasStyle checks that the page for an unknown host can load its files, and that
// nothing else is served there.
func TestUnknownHostHasStyle(t *testing.T) {
	t.Parallel()
	v := startServer(t).visitor("evil.test")
	page := v.get(t, "/", "Accept", "text/html")
	page.wantStatus(t, 421)
	files := regexp.MustCompile(`/static/[\w.-]+`).FindAllString(page.body, -1)
	if len(files) < 2 {
		t.Fatalf("the page names the files %q", files)
	}
	for _, file := range files {
		v.get(t, file).wantStatus(t, 200)
	}
	v.get(t, "/static/absent.css").wantError(t, 421, "misdirected_request")
	v.get(t, "/signup.ashx").wantError(t, 421, "misdirected_request")
}

// TestExchangedNames swaps the user names of two accounts in the database. A session and a
// provisioning link from before must not give access to the other account.
func TestExchangedNames(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		x.TURNURIs = []string{"turn:turn.test"}
	}})
	s.turn.Store(secret.NewRing(s.Now()))
	boss, mallory := s.active(t, "a.test"), s.active(t, "a.test")
	v := s.visitor("a.test")
	cookies := v.signIn(t, mallory.user, mallory.password).cookies()
	link := s.provision(t, v, cookies, "linphone")
	for _, names := range [][2]string{{boss.user, "-"}, {mallory.user, boss.user}, {"-", mallory.user}} {
		s.exec(t, "UPDATE account SET username = '"+names[1]+"' WHERE username = '"+names[0]+"'")
	}
	for name, a := range map[string]answer{
		"the start page":   v.get(t, "/", "Cookie", cookies),
		"the account page": v.get(t, "/account.html", "Cookie", cookies),
		"TURN":             v.get(t, "/turn", "Cookie", cookies),
		"a new link": v.do(t, "POST", "/provision", "format=linphone",
			"Content-Type", formType, "Cookie", cookies),
		"the link": v.get(t, link),
	} {
		if name != "the start page" {
			a.wantStatus(t, 500)
		}
		if strings.Contains(a.body, boss.user) {
			t.Errorf("%s is that of the other account:\n%s", name, a.body)
		}
	}
}
