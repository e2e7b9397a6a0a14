package web_test

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// requestEmail requests a link to a new address.
func (v *visitor) requestEmail(t testing.TB, who person, email string, headers ...string) answer {
	t.Helper()
	v.s.hide(email)
	return v.proveForm(t, who, "/email.ashx", "email="+url.QueryEscape(email), headers...)
}

// emailToken requests a link to a new address and returns its token.
func (s *testServer) emailToken(t testing.TB, who person, email string) string {
	t.Helper()
	s.visitor(who.host).requestEmail(t, who, email).wantStatus(t, 200)
	_, token := s.linkToPage(t, email, "confirm-email")
	return token
}

// trail returns the actions and subjects of a person's changes.
func (s *testServer) trail(t testing.TB, who person) (list []string) {
	t.Helper()
	s.Must(s.Store.Changes(t.Context(), audit.Filter{User: who.user}, func(c audit.Change) error {
		if c.Actor != (audit.Actor{Kind: audit.Person}) || c.Before != "" || c.After != "" {
			t.Errorf("the audit trail has %+v", c)
		}
		list = append(list, strings.TrimSpace(string(c.Action)+" "+c.Subject))
		return nil
	}))
	return list
}

func TestRequestEmail(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.visitor("a.test")
	who := s.active(t, "a.test")

	t.Run("answers the same whether or not somebody has the address", func(t *testing.T) {
		other := s.active(t, "a.test")
		for _, email := range []string{other.email, "free@mail.test"} {
			who := s.active(t, "a.test")
			a := v.requestEmail(t, who, email)
			a.wantJSON(t, 200)
			if want := fmt.Sprintf(`{"ok":true,"email":%q}`+"\n", audit.MaskEmail(email)); a.body != want {
				t.Errorf("body %q, want %q", a.body, want)
			}
			if got := a.cookies(); got != "" {
				t.Errorf("the cookies are %q", got)
			}
			if got := s.find(t, who).Email; got != who.email {
				t.Errorf("the address is %s already", got)
			}
			s.linkToPage(t, email, "confirm-email")
		}
	})
	t.Run("refused", func(t *testing.T) {
		for email, rule := range map[string]string{
			"": "email.empty", "x": "email.at", "a b@mail.test": "email.space", "a@10.0.0.1": "email.number",
			who.email: "email.same",
		} {
			a := v.requestEmail(t, who, email)
			a.wantError(t, 400, "invalid_request")
			if got := a.header.Get("Dialtone-Rule"); got != rule {
				t.Errorf("%q: the rule is %q, want %q", email, got, rule)
			}
		}
		v.proveForm(t, who, "/email.ashx", "").wantError(t, 400, "invalid_request")
		v.proveForm(t, who, "/email.ashx", "email=a%40mail.test&email=b%40mail.test").
			wantError(t, 400, "invalid_request")
		v.proveForm(t, who, "/email.ashx", "{}", "Content-Type", "application/json").
			wantError(t, 400, "invalid_request")
		v.requestEmail(t, who, "a@mail.test", "Sec-Fetch-Site", "cross-site").wantError(t, 400, "invalid_request")
		v.get(t, "/email.ashx").wantError(t, 405, "method_not_allowed")
		wrong := who
		wrong.password = "wrong"
		v.requestEmail(t, wrong, "a@mail.test").wantError(t, 401, "unauthorized")
		s.visitor("b.test").requestEmail(t, who, "a@mail.test").wantError(t, 401, "unauthorized")
		waiting, held := s.pending(t, "a.test"), s.active(t, "a.test")
		s.visitor("a.test").requestEmail(t, waiting, "a@mail.test").wantError(t, 403, "not_activated")
		s.Disable(held.user)
		s.visitor("a.test").requestEmail(t, held, "a@mail.test").wantError(t, 401, "unauthorized")
		cookies := v.signIn(t, who.user, who.password).cookies()
		v.postForm(t, "/email.ashx", "email=a%40mail.test", "Cookie", cookies).wantError(t, 401, "unauthorized")
		s.Must(s.Outbox.Flush(t.Context()))
		if n := len(s.messages(t, "a@mail.test")); n != 0 {
			t.Errorf("%d messages were sent", n)
		}
	})
	t.Run("is limited for an account", func(t *testing.T) {
		who := s.active(t, "a.test")
		for i := range throttle.EmailRequestsPerAccount.Limit {
			v.requestEmail(t, who, fmt.Sprintf("many%d@mail.test", i)).wantStatus(t, 200)
		}
		a := v.requestEmail(t, who, "more@mail.test")
		a.wantError(t, 429, "rate_limited")
		if got := a.header.Get("Dialtone-Rule"); got != "changes.email" || a.header.Get("Retry-After") == "" {
			t.Errorf("headers %v", a.header)
		}
	})
	t.Run("does not tell that an address gets no more", func(t *testing.T) {
		s.Advance(25 * time.Hour) // the limits for signups
		declined := s.newPerson("a.test")
		s.signUp(t, declined)
		_, token, _ := strings.Cut(s.link(t, declined.email), "token=")
		v.postForm(t, "/decline.ashx", "token="+token).wantStatus(t, 200)
		for range throttle.MessagesPerRecipient.Limit {
			s.visitor("a.test").requestEmail(t, s.active(t, "a.test"), "full@mail.test").wantStatus(t, 200)
		}
		who := s.active(t, "a.test")
		for _, email := range []string{declined.email, "full@mail.test"} {
			s.Must(s.Outbox.Flush(t.Context()))
			before := len(s.messages(t, email))
			v.requestEmail(t, who, email).wantStatus(t, 200)
			s.Must(s.Outbox.Flush(t.Context()))
			if n := len(s.messages(t, email)); n != before {
				t.Errorf("%s got %d messages", email, n-before)
			}
		}
		if n := s.Log.Count(`"msg":"account.email-request","outcome":"rate_limited","tenant":"a.test","user":"` +
			who.user); n != 2 {
			t.Errorf("the log has %d such lines", n)
		}
		s.Advance(25 * time.Hour)
		s.emailToken(t, s.active(t, "a.test"), declined.email)
	})
}

// TestDataBesideRequests checks that the data about a person do not reveal whether a request for a
// new address sent a message.
func TestDataBesideRequests(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for range throttle.MessagesPerRecipient.Limit {
		s.visitor("a.test").requestEmail(t, s.active(t, "a.test"), "full@mail.test").wantStatus(t, 200)
	}
	who := s.active(t, "a.test")
	s.Must(s.Outbox.Flush(t.Context()))
	v := s.visitor("a.test")
	times := regexp.MustCompile(`"\d{4}-\d\d-\d\dT[0-9:.]+Z"`)
	data := func() string {
		t.Helper()
		a := v.prove(t, "GET", "/data.ashx", who)
		a.wantJSON(t, 200)
		return times.ReplaceAllString(a.body, "TIME")
	}
	data() // adds a message about the download, one a day
	s.Must(s.Outbox.Flush(t.Context()))
	before := data()
	for _, email := range []string{"full@mail.test", "free@mail.test"} {
		v.requestEmail(t, who, email).wantStatus(t, 200)
		if got := data(); got != before {
			t.Errorf("after a request for %s:\n%s\nbefore:\n%s", email, got, before)
		}
	}
	s.Must(s.Outbox.Flush(t.Context()))
	if n := len(s.messages(t, "free@mail.test")); n != 1 {
		t.Errorf("%d messages to the free address", n)
	}
	if got := data(); got != before {
		t.Errorf("after the message was written:\n%s\nbefore:\n%s", got, before)
	}
}

func TestConfirmEmail(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.visitor("a.test")
	who := s.active(t, "a.test")
	session := v.signIn(t, who.user, who.password).cookies()
	const email = "new+x@mail.test"
	s.Advance(time.Second)
	token := s.emailToken(t, who, email)

	t.Run("a GET changes nothing", func(t *testing.T) {
		for range 2 {
			page := v.get(t, "/confirm-email.html?token="+token+"&utm=x")
			page.wantStatus(t, 200)
			for _, part := range []string{who.user, "new+x@<wbr>mail.<wbr>test"} {
				if !strings.Contains(strings.ReplaceAll(page.body, "&#43;", "+"), part) {
					t.Errorf("the page lacks %q: %s", part, page.body)
				}
			}
			if strings.Contains(page.body, token) || page.header.Get("Referrer-Policy") != "no-referrer" ||
				page.header.Get("X-Robots-Tag") != "noindex" || page.header.Get("Cache-Control") != "no-store" {
				t.Errorf("headers %v, page %s", page.header, page.body)
			}
		}
		if got := s.find(t, who).Email; got != who.email {
			t.Errorf("the address is %s", got)
		}
	})
	t.Run("bad links", func(t *testing.T) {
		for _, bad := range []string{"", "x", secret.NewToken().Text(), token + "A", token[1:]} {
			page := v.get(t, "/confirm-email.html?token="+bad)
			page.wantStatus(t, 404)
			if !strings.Contains(page.body, deadLink(bad)) || !strings.Contains(page.body, `href="/profile.html"`) {
				t.Errorf("the page is %s", page.body)
			}
			want := 404
			if bad == "" {
				want = 400
			}
			v.postForm(t, "/confirm-email.ashx", "token="+bad).wantStatus(t, want)
		}
		s.visitor("b.test").get(t, "/confirm-email.html?token="+token).wantStatus(t, 404)
		s.visitor("b.test").postForm(t, "/confirm-email.ashx", "token="+token).wantError(t, 404, "not_found")
		v.postForm(t, "/confirm-email.ashx", "token="+token, "Sec-Fetch-Site", "cross-site").
			wantError(t, 400, "invalid_request")
		v.postForm(t, "/confirm-email.ashx?token="+token, "").wantError(t, 400, "invalid_request")
		v.do(t, "POST", "/confirm-email.ashx", "{}", "Content-Type", "application/json").
			wantError(t, 400, "invalid_request")
		v.postForm(t, "/not-me.ashx", "token="+token).wantError(t, 404, "not_found")
	})
	t.Run("sets the address once, and sessions stay", func(t *testing.T) {
		a := v.postForm(t, "/confirm-email.ashx", "token="+token)
		a.wantJSON(t, 200)
		if want := fmt.Sprintf(`{"ok":true,"user":%q}`+"\n", who.user); a.body != want || a.cookies() != "" {
			t.Errorf("body %q, headers %v", a.body, a.header)
		}
		got := s.find(t, who)
		if got.Email != email || got.Confirmed.IsZero() {
			t.Errorf("got %+v", got)
		}
		if !v.signedIn(t, session) {
			t.Error("the session ended")
		}
		v.postForm(t, "/confirm-email.ashx", "token="+token).wantError(t, 404, "not_found")
		v.get(t, "/confirm-email.html?token="+token).wantStatus(t, 404)
		if list := s.trail(t, who); fmt.Sprint(list) != "[account.email]" {
			t.Errorf("the trail has %q", list)
		}
		for _, action := range []audit.Action{audit.EmailRequest, audit.EmailChange} {
			line := fmt.Sprintf(`"msg":%q,"outcome":"ok","tenant":"a.test","user":%q,"email":"n***@mail.test"`,
				action, who.user)
			if n := s.Log.Count(line); n != 1 {
				t.Errorf("the log has %d lines with %s", n, line)
			}
		}
	})
	t.Run("the message to the address before sets it back", func(t *testing.T) {
		_, back := s.linkToPage(t, who.email, "not-me")
		a := v.postForm(t, "/not-me.ashx", "token="+back)
		a.wantJSON(t, 200)
		if got := s.find(t, who).Email; got != who.email {
			t.Errorf("the address is %s", got)
		}
		if v.signedIn(t, session) {
			t.Error("the session is still valid")
		}
	})
	t.Run("not after a reset, a disable, or a day", func(t *testing.T) {
		for name, end := range map[string]func(person){
			"reset": func(who person) {
				f := append(form{{"token", s.resetToken(t, who)}}, s.newKeys(who, otherWords)...)
				v.postForm(t, "/reset.ashx", f.String()).wantStatus(t, 200)
			},
			"disabled": func(who person) { s.At("a.test").Disable(who.user) },
			"a day":    func(person) { s.Advance(24 * time.Hour) },
		} {
			who := s.active(t, "a.test")
			s.Advance(time.Second)
			token := s.emailToken(t, who, strings.ReplaceAll(name, " ", "")+"@mail.test")
			end(who)
			if a := v.postForm(t, "/confirm-email.ashx", "token="+token); a.status != 404 {
				t.Errorf("%s: the answer is %d", name, a.status)
			}
			if a := v.get(t, "/confirm-email.html?token="+token); a.status != 404 {
				t.Errorf("%s: the page is %d", name, a.status)
			}
			if got := s.find(t, who).Email; got != who.email {
				t.Errorf("%s: the address is %s", name, got)
			}
		}
	})
}

func TestChangeProfile(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) { x.Origins = []string{"https://shop.test"} }})
	v := s.visitor("a.test")
	shop := []string{"Origin", "https://shop.test", "Sec-Fetch-Site", "cross-site", "X-Requested-With", "fetch"}

	t.Run("by a proof, also of a page of a listed origin", func(t *testing.T) {
		who := s.active(t, "a.test")
		a := v.proveForm(t, who, "/profile.ashx", "name=+%C3%81lex+&lang=de-AT", shop...)
		a.wantJSON(t, 200)
		want := fmt.Sprintf(`{"ok":true,"user":%q,"name":"Álex","lang":"de"}`+"\n", who.user)
		if a.body != want || a.header.Get("Access-Control-Allow-Origin") != "https://shop.test" {
			t.Errorf("body %q, want %q; headers %v", a.body, want, a.header)
		}
		if got := s.find(t, who); got.Name != "Álex" || got.Lang != "de" {
			t.Errorf("got %+v", got)
		}
		v.proveForm(t, who, "/profile.ashx", "lang=fr").wantStatus(t, 200)
		v.proveForm(t, who, "/profile.ashx", "name=Al").wantStatus(t, 200)
		v.proveForm(t, who, "/profile.ashx", "name=Al&lang=fr").wantStatus(t, 200)
		if got := s.find(t, who); got.Name != "Al" || got.Lang != "fr" {
			t.Errorf("got %+v", got)
		}
		if got := fmt.Sprintf("%q", s.trail(t, who)); got !=
			`["account.profile name,lang" "account.profile lang" "account.profile name"]` {
			t.Errorf("the trail has %s", got)
		}
		wrong := who
		wrong.password = "wrong"
		v.proveForm(t, wrong, "/profile.ashx", "name=Al").wantError(t, 401, "unauthorized")
		waiting := s.pending(t, "a.test")
		v.proveForm(t, waiting, "/profile.ashx", "name=Al").wantError(t, 403, "not_activated")
		s.visitor("b.test").proveForm(t, who, "/profile.ashx", "name=Al").wantError(t, 401, "unauthorized")
	})
	t.Run("by the session of a page of this host", func(t *testing.T) {
		who := s.active(t, "a.test")
		cookies := v.signIn(t, who.user, who.password).cookies()
		set := func(v *visitor, cookies, body string, headers ...string) answer {
			t.Helper()
			return v.postForm(t, "/profile.ashx", body, append(headers, "Cookie", cookies)...)
		}
		set(v, cookies, "name=Bea&lang=ar", "Sec-Fetch-Site", "same-origin").wantJSON(t, 200)
		if got := s.find(t, who); got.Name != "Bea" || got.Lang != "ar" {
			t.Errorf("got %+v", got)
		}
		for _, h := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.test"}, shop,
		} {
			set(v, cookies, "name=Evil", h...).wantError(t, 400, "invalid_request")
		}
		for name, a := range map[string]answer{
			"another cookie": set(v, "__Host-dialtone-session=x", "name=Evil"),
			"another tenant": set(s.visitor("b.test"), cookies, "name=Evil"),
		} {
			if a.wantError(t, 401, "unauthorized"); a.header.Get("WWW-Authenticate") != "Cookie" {
				t.Errorf("%s: the challenge is %q", name, a.header.Get("WWW-Authenticate"))
			}
		}
		for body, rule := range map[string]string{
			"": "", "x=1": "", "name=": "name.empty", "lang=": "", "lang=tlh": "", "name=a%0Ab": "name.control",
			"name=a&name=b": "", "name=a&lang=xx": "",
		} {
			a := set(v, cookies, body)
			a.wantError(t, 400, "invalid_request")
			if got := a.header.Get("Dialtone-Rule"); got != rule {
				t.Errorf("%q: the rule is %q, want %q", body, got, rule)
			}
		}
		v.do(t, "POST", "/profile.ashx", "{}", "Content-Type", "application/json", "Cookie", cookies).
			wantError(t, 400, "invalid_request")
		if got := s.find(t, who); got.Name != "Bea" || got.Lang != "ar" {
			t.Errorf("got %+v", got)
		}
		s.At("a.test").Disable(who.user)
		set(v, cookies, "name=Evil").wantError(t, 401, "unauthorized")
		if n := s.Log.Count(`"msg":"account.profile","outcome":"ok","tenant":"a.test","user":"` + who.user); n != 1 {
			t.Errorf("the log has %d changes", n)
		}
	})
	t.Run("without either, a challenge", func(t *testing.T) {
		if c := v.postForm(t, "/profile.ashx", "name=Al").challenge(t); c.scheme != "Digest" {
			t.Errorf("the scheme is %s", c.scheme)
		}
	})
}

func TestProfilePage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.newPerson("a.test")
	who.name = `"><img src=x onerror=alert(1)>`
	s.signUp(t, who)
	s.visitor("a.test").get(t, s.link(t, who.email)).wantStatus(t, 200)
	v := s.visitor("a.test")
	if a := v.get(t, "/profile.html"); a.status != 303 || a.header.Get("Location") != "/login.html?next=/profile.html" {
		t.Errorf("signed out: %d to %q", a.status, a.header.Get("Location"))
	}
	cookies := v.signIn(t, who.user, who.password).cookies()
	page := v.get(t, "/profile.html", "Cookie", cookies)
	page.wantStatus(t, 200)
	if page.header.Get("Cache-Control") != "no-store" || strings.Contains(page.body, "<img src=x") ||
		!strings.Contains(page.body, `value="`+who.user+`" autocomplete="username"`) ||
		strings.Contains(page.body, `id="saved"`) {
		t.Errorf("the page is %v %s", page.header, page.body)
	}
	if a := v.get(t, "/profile.html?lang=de&saved", "Cookie", cookies); !strings.Contains(a.body, `id="saved"`) {
		t.Errorf("after saving, the page is %s", a.body)
	}
	if a := v.get(t, "/account.html", "Cookie", cookies); !strings.Contains(a.body, `href="/profile.html"`) {
		t.Error("the account page has no link to it")
	}
	for query, next := range map[string]bool{
		"": false, "?next=phone": true, "?lang=en&next=phone": true, "?next=x": false, "?xnext=phone": false,
	} {
		a := v.get(t, "/account.html"+query, "Cookie", cookies)
		if got := strings.Contains(a.body, "Next: set up your phone"); got != next {
			t.Errorf("%q: next is %v", query, got)
		}
	}
}
