package web_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/i18n"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
)

// prove sends both requests of a proof of the password.
func (v *visitor) prove(t testing.TB, method, target string, who person, headers ...string) answer {
	t.Helper()
	c := v.do(t, method, target, "").challenge(t)
	return v.do(t, method, target, "", append([]string{
		"Authorization", c.proof(who.user, who.password, method, target, nil), "Content-Type", formType,
	}, headers...)...)
}

// left makes a person leave, and returns the token of the link to stay.
func (s *testServer) left(t testing.TB, who person) (token string) {
	t.Helper()
	s.visitor(who.host).prove(t, "POST", "/leave.ashx", who).wantStatus(t, 200)
	_, token = s.linkToPage(t, who.email, "stay")
	return token
}

func (s *testServer) stay(t testing.TB, host, token string, headers ...string) answer {
	t.Helper()
	return s.visitor(host).postForm(t, "/stay.ashx", "token="+token, headers...)
}

// wantActions checks the changes of an account in the audit trail, with their actors.
func (s *testServer) wantActions(t testing.TB, who person, want ...string) {
	t.Helper()
	var got []string
	s.Must(s.Store.Changes(t.Context(), audit.Filter{Tenant: who.host, User: who.user}, func(c audit.Change) error {
		got = append(got, fmt.Sprintf("%s by %s", c.Action, c.Actor.Kind))
		return nil
	}))
	if !slices.Equal(got, want) {
		t.Errorf("the audit trail has %q, want %q", got, want)
	}
}

func TestLeave(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) { x.Origins = []string{"https://shop.test"} }})

	t.Run("holds the account until the owner stays", func(t *testing.T) {
		who := s.active(t, "a.test")
		v, other := s.visitor("a.test"), s.visitor("a.test")
		cookies := v.signIn(t, who.user, who.password).cookies()
		elsewhere := other.signIn(t, who.user, who.password).cookies()
		a := v.prove(t, "POST", "/leave.ashx", who, "Cookie", cookies)
		a.wantJSON(t, 200)
		until := s.Now().Add(account.Grace).UTC().Truncate(time.Second).Format(time.RFC3339)
		if want := fmt.Sprintf(`{"ok":true,"until":%q}`, until) + "\n"; a.body != want {
			t.Errorf("body %q, want %q", a.body, want)
		}
		if got := a.header.Values("Set-Cookie"); len(got) != 1 ||
			!strings.HasPrefix(got[0], "__Host-dialtone-session=; Path=/; Max-Age=0;") {
			t.Errorf("the cookies are %q", got)
		}
		if v.signedIn(t, cookies) || other.signedIn(t, elsewhere) {
			t.Error("a session is still valid")
		}
		v.signIn(t, who.user, "wrong").wantError(t, 401, "unauthorized")
		v.prove(t, "POST", "/leave.ashx", who).wantError(t, 403, "leaving")

		_, token := s.linkToPage(t, who.email, "stay")
		page := s.visitor("a.test").get(t, "/stay.html?token="+token)
		page.wantStatus(t, 200)
		wantWords(t, page, who.user, i18n.In(i18n.English).Moment(s.Now().Add(account.Grace)))
		if page.header.Get("Referrer-Policy") != "no-referrer" || strings.Contains(page.body, token) ||
			s.find(t, who).State() != account.Leaving {
			t.Errorf("headers %v, and the account is %s", page.header, s.find(t, who).State())
		}
		a = s.stay(t, "a.test", token)
		a.wantJSON(t, 200)
		if want := fmt.Sprintf(`{"ok":true,"user":%q}`, who.user) + "\n"; a.body != want || a.cookies() != "" {
			t.Errorf("body %q, want %q; cookies %q", a.body, want, a.cookies())
		}
		if v.signedIn(t, cookies) || !s.signsIn(t, who) {
			t.Error("a session has returned, or the password does not work")
		}
		s.wantActions(t, who, "account.leave by person", "account.stay by person")
		for line, n := range map[string]int{`"account.leave","outcome":"ok"`: 1, `"account.stay","outcome":"ok"`: 1} {
			if got := s.Log.Count(`"msg":` + line + fmt.Sprintf(`,"tenant":"a.test","user":%q`, who.user)); got != n {
				t.Errorf("the log has %d lines with %s", got, line)
			}
		}
	})
	t.Run("keeps the session of another account", func(t *testing.T) {
		who, other := s.active(t, "a.test"), s.active(t, "a.test")
		v := s.visitor("a.test")
		cookies := v.signIn(t, other.user, other.password).cookies()
		if got := v.prove(t, "POST", "/leave.ashx", who, "Cookie", cookies).cookies(); got != "" {
			t.Errorf("the cookies are %q", got)
		}
		if !v.signedIn(t, cookies) {
			t.Error("the session has ended")
		}
	})
	t.Run("is refused", func(t *testing.T) {
		who, waiting, held := s.active(t, "a.test"), s.pending(t, "a.test"), s.active(t, "a.test")
		s.Disable(held.user)
		v := s.visitor("a.test")
		wrong := who
		wrong.password = "wrong"
		c := v.signIn(t, who.user, who.password).cookies()
		v.do(t, "POST", "/leave.ashx", "", "Cookie", c).wantError(t, 401, "unauthorized") // without a proof
		v.prove(t, "POST", "/leave.ashx", wrong).wantError(t, 401, "unauthorized")
		v.prove(t, "POST", "/leave.ashx", held).wantError(t, 401, "unauthorized")
		v.prove(t, "POST", "/leave.ashx", waiting).wantError(t, 403, "not_activated")
		s.visitor("b.test").prove(t, "POST", "/leave.ashx", who).wantError(t, 401, "unauthorized")
		for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.test"}} {
			v.do(t, "POST", "/leave.ashx", "", h...).wantError(t, 400, "invalid_request")
		}
		if !s.signsIn(t, who) {
			t.Error("the account is gone")
		}
		a := v.prove(t, "POST", "/leave.ashx", who, "Origin", "https://shop.test", "Sec-Fetch-Site", "cross-site")
		a.wantStatus(t, 200)
		if a.header.Get("Access-Control-Allow-Origin") != "https://shop.test" {
			t.Errorf("headers %v", a.header)
		}
	})
	t.Run("is undone by a new password by a reset link", func(t *testing.T) {
		who := s.active(t, "a.test")
		early := s.resetToken(t, who)
		s.left(t, who)
		v := s.visitor("a.test")
		v.get(t, "/reset.ashx?token="+early).wantStatus(t, 200)
		s.Advance(time.Second) // the newest message is of the latest second
		reset := s.resetToken(t, who)
		page := v.get(t, "/reset.html?token="+reset)
		page.wantStatus(t, 200)
		wantWords(t, page, "which somebody asked to have deleted, is kept when you save a new password")
		v.postForm(t, "/reset.ashx", s.newKeys(who, otherWords).with("token="+reset).String()).wantStatus(t, 200)
		s.Must(s.Outbox.Flush(t.Context()))
		if !slices.ContainsFunc(s.messages(t, who.email), func(m message) bool {
			text := strings.Join(strings.Fields(m.text), " ")
			return strings.Contains(text, "The account, which somebody had asked to have deleted, is kept.")
		}) {
			t.Errorf("no message says that the account is kept: %+v", s.messages(t, who.email))
		}
		who.password = otherWords
		if !s.signsIn(t, who) {
			t.Error("the new password does not work")
		}
		s.wantActions(t, who, "password.link by system", "account.leave by person", "password.link by system",
			"account.stay by person", "password.reset by person")
		page = v.get(t, "/reset.html?token="+reset)
		page.wantStatus(t, 404)
	})
	t.Run("works three times a day", func(t *testing.T) {
		who := s.active(t, "a.test")
		for range 3 {
			s.Advance(time.Second) // the newest message is of the latest second
			s.stay(t, "a.test", s.left(t, who)).wantStatus(t, 200)
		}
		a := s.visitor("a.test").prove(t, "POST", "/leave.ashx", who)
		a.wantError(t, 429, "rate_limited")
		if a.header.Get("Dialtone-Rule") != "leave" || a.header.Get("Retry-After") == "" {
			t.Errorf("headers %v", a.header)
		}
		if !s.signsIn(t, who) {
			t.Error("the account is not active")
		}
	})
}

// TestStayRefused checks which links do not cancel leaving, and that the account is then still
// leaving.
func TestStayRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who, disabled := s.active(t, "a.test"), s.active(t, "a.test")
	token, ofDisabled := s.left(t, who), s.left(t, disabled)
	s.Disable(disabled.user)
	changed := s.active(t, "a.test")
	s.visitor("a.test").changePassword(t, changed, passwordForm(s.newPassword(changed))).wantStatus(t, 200)
	_, notMe := s.linkToPage(t, changed.email, "not-me")
	var answers []answer
	for _, a := range []answer{
		s.stay(t, "b.test", token), s.stay(t, "a.test", ofDisabled), s.stay(t, "a.test", notMe),
		s.stay(t, "a.test", strings.Repeat("A", 43)), s.stay(t, "a.test", "x"),
	} {
		a.wantError(t, 404, "not_found")
		answers = append(answers, a)
	}
	wantSame(t, answers...)
	s.visitor("a.test").postForm(t, "/stay.ashx", "").wantError(t, 400, "invalid_request")
	s.visitor("a.test").postForm(t, "/stay.ashx", "token="+token+"&token="+token).wantError(t, 400, "invalid_request")
	s.visitor("a.test").postForm(t, "/stay.ashx?token="+token, "").wantError(t, 400, "invalid_request")
	s.stay(t, "a.test", token, "Sec-Fetch-Site", "cross-site").wantError(t, 400, "invalid_request")
	s.stay(t, "a.test", token, "Content-Type", "application/json").wantError(t, 400, "invalid_request")
	if got := s.find(t, who).State(); got != account.Leaving {
		t.Errorf("the account is %s", got)
	}
	if got := s.find(t, disabled).State(); got != account.Disabled {
		t.Errorf("the disabled account is %s", got)
	}
	s.stay(t, "a.test", token).wantStatus(t, 200)
	s.stay(t, "a.test", token).wantError(t, 404, "not_found")
}

// TestLeavingAnswer checks who learns that the owner of an account has left.
func TestLeavingAnswer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who, disabled, waiting := s.active(t, "a.test"), s.active(t, "a.test"), s.pending(t, "a.test")
	s.left(t, who)
	s.left(t, disabled)
	s.Disable(disabled.user)
	since := s.Now().UTC().Truncate(time.Second)
	s.Advance(time.Hour)
	v := s.visitor("a.test")
	for _, c := range []struct{ method, path, form string }{
		{"GET", "/signin.ashx", ""}, {"POST", "/resend.ashx", ""},
		{"POST", "/password.ashx", passwordForm(s.newPassword(who)).String()},
		{"POST", "/email.ashx", "email=b@mail.test"}, {"POST", "/two-step.ashx", "do=begin"},
		{"POST", "/passkey-new.ashx", ""}, {"POST", "/leave.ashx", ""}, {"GET", "/data.ashx", ""},
		{"GET", "/sessions.ashx", ""}, {"POST", "/profile.ashx", "name=Al"},
	} {
		ask := func(who person) answer {
			t.Helper()
			ch := v.do(t, c.method, c.path, c.form, "Content-Type", formType).challenge(t)
			return v.do(t, c.method, c.path, c.form, "Content-Type", formType,
				"Authorization", ch.proof(who.user, who.password, c.method, c.path, nil))
		}
		a := ask(who)
		a.wantError(t, 403, "leaving")
		var got struct {
			Error       string    `json:"error"`
			Description string    `json:"error_description"`
			Since       time.Time `json:"since"`
			Until       time.Time `json:"until"`
			Email       string    `json:"email"`
		}
		a.decode(t, &got)
		if !got.Since.Equal(since) || !got.Until.Equal(since.Add(account.Grace)) ||
			got.Email != audit.MaskEmail(who.email) || a.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: headers %v, body %s", c.path, a.header, a.body)
		}
		wrong := who
		wrong.password = "wrong"
		unknown := person{user: "nobody", password: who.password}
		wantSame(t, ask(wrong), ask(disabled), ask(unknown))
	}
	v.signIn(t, waiting.user, waiting.password).wantError(t, 403, "not_activated")
	s.visitor("b.test").signIn(t, who.user, who.password).wantError(t, 401, "unauthorized")
	if n := s.Log.Count(`"msg":"signin","outcome":"leaving","tenant":"a.test"`); n != 1 {
		t.Errorf("the log has %d lines", n)
	}
}

// TestStayPageChecksLink checks what the page says about a link, and that it uses nothing up.
func TestStayPageChecksLink(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	token := s.left(t, who)
	for range 2 {
		s.visitor("a.test").get(t, "/stay.html?token="+token).wantStatus(t, 200)
		s.visitor("a.test").do(t, "HEAD", "/stay.html?token="+token, "").wantStatus(t, 200)
	}
	dead := func(a answer, says string) {
		t.Helper()
		a.wantStatus(t, 404)
		wantWords(t, a, says, `href="/login.html"`)
		if strings.Contains(a.body, who.user) || strings.Contains(a.body, `action="/stay.ashx"`) {
			t.Errorf("the page of a dead link has a name or a form:\n%s", a.body)
		}
	}
	dead(s.visitor("b.test").get(t, "/stay.html?token="+token), deadLink(token))
	s.stay(t, "a.test", token).wantStatus(t, 200)
	dead(s.visitor("a.test").get(t, "/stay.html?token="+token), deadLink(token))
	dead(s.visitor("a.test").get(t, "/stay.html?token=x"), deadLink("x"))
	dead(s.visitor("a.test").get(t, "/stay.html"), deadLink(""))
}

// wantWords checks that a page contains some texts.
func wantWords(t testing.TB, a answer, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(a.body, w) {
			t.Errorf("the page does not have %q:\n%s", w, a.body)
		}
	}
}

// TestErased checks when an account is erased, and that the link to stay then does not work.
func TestErased(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	token := s.left(t, who)
	erased := func() int {
		t.Helper()
		n, err := s.Accounts.EraseOverdue(t.Context(), s.Tenants.ByID)
		s.Must(err)
		return n
	}
	s.Advance(account.Grace)
	s.stay(t, "a.test", token).wantError(t, 404, "not_found")
	s.Advance(24*time.Hour - time.Second)
	if n := erased(); n != 0 {
		t.Errorf("erased %d accounts too early", n)
	}
	s.Advance(time.Second)
	if n, again := erased(), erased(); n != 1 || again != 0 {
		t.Errorf("erased %d accounts, and then %d", n, again)
	}
	s.stay(t, "a.test", token).wantError(t, 404, "not_found")
	if s.signsIn(t, who) {
		t.Error("the password still works")
	}
	s.wantActions(t, who, "account.leave by person", "account.delete by system")
	line := fmt.Sprintf(`"msg":"account.delete","outcome":"ok","tenant":"a.test","user":%q`, who.user)
	if n := s.Log.Count(line); n != 1 {
		t.Errorf("the log has %d lines about it", n)
	}
	next := s.newPerson("a.test")
	next.user = who.user
	s.visitor("a.test").post(t, s.form(t, next)).wantError(t, 409, "conflict")
}

func TestData(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	signedIn := v.signIn(t, who.user, who.password, "User-Agent", firefox)
	s.Must(s.authenticator.Flush(t.Context()))
	read := func(a answer) (d account.Data) {
		t.Helper()
		a.wantJSON(t, 200)
		want := fmt.Sprintf(`attachment; filename="%s@a.test.json"`, who.user)
		if a.header.Get("Content-Disposition") != want || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers %v, want %s", a.header, want)
		}
		if err := json.Unmarshal([]byte(a.body), &d); err != nil || d.Format != account.DataFormat {
			t.Fatalf("%v\n%s", err, a.body)
		}
		for _, secret := range []string{who.password, who.ha1()} {
			if strings.Contains(a.body, secret) {
				t.Errorf("the file has a secret:\n%s", a.body)
			}
		}
		return d
	}
	byLink := read(v.get(t, "/data.ashx", "Cookie", signedIn.cookies(), "Sec-Fetch-Mode", "navigate",
		"Sec-Fetch-Site", "same-origin"))
	byProof := read(s.visitor("a.test").prove(t, "GET", "/data.ashx", who))
	for _, d := range []account.Data{byLink, byProof} {
		if d.Account.User != who.user || d.Account.Email != who.email || d.Account.Name != who.name ||
			d.Account.State != account.Active || d.Tenant.Host != "a.test" || d.Credential.Included ||
			len(d.Sessions) != 1 || d.Sessions[0].Browser != "Firefox on Linux" ||
			!d.Made.Equal(s.Now().Truncate(time.Second)) {
			t.Errorf("got %+v", d)
		}
	}
	if n := s.Log.Count(`"msg":"account.data","outcome":"ok","tenant":"a.test"`); n != 2 {
		t.Errorf("the log has %d lines", n)
	}
	about := func(email string) (n int) {
		t.Helper()
		s.Must(s.Outbox.Flush(t.Context()))
		for _, m := range s.messages(t, email) {
			if strings.Contains(m.header.Get("Subject"), "Your data") {
				n++
			}
		}
		return n
	}
	if n := about(who.email); n != 1 {
		t.Errorf("%d messages after two files, want one a day", n)
	}
	waiting := s.pending(t, "a.test")
	a := s.visitor("a.test").prove(t, "GET", "/data.ashx", waiting)
	a.wantStatus(t, 200)
	if !strings.Contains(a.body, `"state": "waiting"`) || !strings.Contains(a.body, `"kind": "activation"`) {
		t.Errorf("of a waiting account:\n%s", a.body)
	}
	if n := about(waiting.email); n != 0 {
		t.Errorf("%d messages to an address that nobody has confirmed", n)
	}

	t.Run("is refused", func(t *testing.T) {
		if got := v.get(t, "/data.ashx").wantError(t, 401, "unauthorized"); got != session.ErrNoProof.Error() {
			t.Errorf("the answer without anything is %q", got)
		}
		for name, c := range map[string]struct {
			headers []string
			want    string
		}{
			"by a link, signed out": {nil, "/login.html?next=/leave.html"},
			"by a link, with a session that has ended": {
				[]string{"Cookie", "__Host-dialtone-session=x"}, "/login.html?next=/leave.html#ended",
			},
			"by a browser that sends no metadata": {[]string{"Accept", "text/html"}, "/login.html?next=/leave.html"},
		} {
			if c.headers == nil || c.headers[0] != "Accept" {
				c.headers = append(c.headers, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "none")
			}
			a := v.get(t, "/data.ashx", c.headers...)
			a.wantStatus(t, 303)
			if got := a.header.Get("Location"); got != c.want {
				t.Errorf("%s: to %s, want %s", name, got, c.want)
			}
		}
		for name, a := range map[string]answer{
			"with a bad session": v.get(t, "/data.ashx", "Cookie", "__Host-dialtone-session=x"),
			"at another tenant":  s.visitor("b.test").get(t, "/data.ashx", "Cookie", signedIn.cookies()),
		} {
			a.wantError(t, 401, "unauthorized")
			if got := a.header.Get("WWW-Authenticate"); got != "Cookie" {
				t.Errorf("%s: the challenge is %q", name, got)
			}
		}
		s.visitor("b.test").prove(t, "GET", "/data.ashx", who).wantError(t, 401, "unauthorized")
		for _, h := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.test"},
		} {
			v.get(t, "/data.ashx", append(h, "Cookie", signedIn.cookies())...).wantError(t, 400, "invalid_request")
		}
		s.Disable(who.user)
		v.get(t, "/data.ashx", "Cookie", signedIn.cookies()).wantError(t, 401, "unauthorized")
		v.prove(t, "GET", "/data.ashx", who).wantError(t, 401, "unauthorized")
	})
}
