package web_test

import (
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// confirm sends both requests of a confirmation, the second with the token of a link.
func (v *visitor) confirm(t testing.TB, user, password, token string) answer {
	t.Helper()
	c := v.do(t, "POST", "/activate.ashx", "").challenge(t)
	return v.confirmProof(t, c, user, password, "token="+token)
}

func (v *visitor) confirmProof(t testing.TB, c challenge, user, password, body string) answer {
	t.Helper()
	return v.do(t, "POST", "/activate.ashx", body, "Content-Type", formType,
		"Authorization", c.proof(user, password, "POST", "/activate.ashx", nil))
}

func (s *testServer) token(t testing.TB, who person) string {
	t.Helper()
	return strings.TrimPrefix(s.link(t, who.email), "/activate.ashx?token=")
}

// status reports whether the account is active, and whether it is confirmed.
func (s *testServer) status(t testing.TB, who person) [2]bool {
	t.Helper()
	a := s.find(t, who)
	return [2]bool{!a.Disabled, !a.Confirmed.IsZero()}
}

var (
	waiting   = [2]bool{false, false}
	active    = [2]bool{true, false}
	confirmed = [2]bool{true, true}
)

// startConfirmServer starts a server whose tenant b.test requires the password to activate.
func startConfirmServer(t *testing.T) *testServer {
	return startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		if x.Host == "b.test" {
			x.Activation = tenant.ActivationConfirm
		}
	}})
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	s := startConfirmServer(t)
	v := s.visitor("b.test")

	t.Run("link alone does not activate", func(t *testing.T) {
		who := s.pending(t, "b.test")
		link := s.link(t, who.email)
		for range 3 {
			a := v.get(t, link)
			a.wantStatus(t, 200)
			if !strings.Contains(a.body, "<h1>Activate your account</h1>") ||
				!strings.Contains(a.body, `value="`+who.user+`"`) ||
				strings.Contains(a.body, s.token(t, who)) ||
				a.header.Get("Set-Cookie") != "" ||
				a.header.Get("X-Robots-Tag") != "noindex" {
				t.Errorf("headers %v, page %s", a.header, a.body)
			}
		}
		v.get(t, link, "Sec-Purpose", "prefetch").wantStatus(t, 200)
		v.do(t, "HEAD", link, "").wantStatus(t, 200)
		if got := s.status(t, who); got != waiting {
			t.Errorf("active and confirmed: %v", got)
		}
		v.signIn(t, who.user, who.password).wantError(t, 403, "not_activated")
	})
	t.Run("activates with the password", func(t *testing.T) {
		who := s.pending(t, "b.test")
		token := s.token(t, who)
		a := v.confirm(t, who.user, who.password, token)
		a.wantJSON(t, 200)
		cookie := a.header.Values("Set-Cookie")
		if want := `{"ok":true,"user":"` + who.user + `"}` + "\n"; a.body != want ||
			len(cookie) != 1 || !strings.HasPrefix(cookie[0], "__Host-dialtone-device=") {
			t.Errorf("headers %v, body %q, want %q and no session", a.header, a.body, want)
		}
		if got := s.status(t, who); got != confirmed {
			t.Errorf("active and confirmed: %v", got)
		}
		v.signIn(t, who.user, who.password).wantStatus(t, 200)
		at := s.find(t, who).Confirmed
		s.Advance(time.Hour)
		v.confirm(t, who.user, who.password, token).wantStatus(t, 200) // for a client that lost the answer
		if got := s.find(t, who).Confirmed; !got.Equal(at) {
			t.Errorf("it was confirmed at %v, and now at %v", at, got)
		}
		page := v.get(t, "/activate.ashx?token="+token)
		page.wantStatus(t, 400)
		if !strings.Contains(page.body, "Your account is already active") {
			t.Errorf("the page is %s", page.body)
		}
	})
	t.Run("not without the password", func(t *testing.T) {
		who, other := s.pending(t, "b.test"), s.pending(t, "b.test")
		held, late := s.pending(t, "b.test"), s.pending(t, "b.test")
		s.At("b.test").Disable(held.user)
		token := s.token(t, who)
		denied := []answer{
			v.confirm(t, who.user, "wrong", token),
			v.confirm(t, "nobody-at-all", who.password, token),
			v.confirm(t, who.user, who.ha1(), token),
			v.confirm(t, held.user, held.password, s.token(t, held)),
			v.confirm(t, late.user, "wrong", s.token(t, late)),
		}
		denied[0].wantError(t, 401, "unauthorized")
		wantSame(t, denied...)
		if got := v.confirm(t, who.user, "wrong", token).challenge(t); got.param["stale"] != "" {
			t.Errorf("the challenge is %v", got)
		}
		// A right password does not activate another account with that account's link.
		links := []answer{
			v.confirm(t, other.user, other.password, token),
			v.confirm(t, other.user, other.password, secret.NewToken().Text()),
			v.confirm(t, other.user, other.password, s.token(t, held)),
			v.confirm(t, other.user, other.password, "x"),
		}
		links[0].wantError(t, 400, "invalid_request")
		wantSame(t, links...)
		s.visitor("a.test").confirm(t, who.user, who.password, token).wantError(t, 401, "unauthorized")
		for _, w := range []person{who, other, late} {
			if got := s.status(t, w); got != waiting {
				t.Errorf("active and confirmed: %v", got)
			}
		}
	})
	t.Run("not with a proof for another request", func(t *testing.T) {
		who := s.pending(t, "b.test")
		body := "token=" + s.token(t, who)
		try := func(c challenge, method, uri string) answer {
			return v.do(t, "POST", "/activate.ashx", body, "Content-Type", formType, "Authorization",
				c.proof(who.user, who.password, method, uri, nil))
		}
		try(v.get(t, "/signin.ashx").challenge(t), "GET", "/signin.ashx").wantError(t, 401, "unauthorized")
		try(v.get(t, "/signin.ashx").challenge(t), "POST", "/signin.ashx").wantError(t, 401, "unauthorized")
		try(v.get(t, "/signin.ashx").challenge(t), "GET", "/activate.ashx").wantError(t, 401, "unauthorized")
		c := v.get(t, "/signin.ashx").challenge(t)
		try(c, "POST", "/activate.ashx").wantStatus(t, 200)
		if got := try(c, "POST", "/activate.ashx").challenge(t); got.param["stale"] != "true" {
			t.Errorf("a proof for the second time: %v", got)
		}
	})
	t.Run("after wrong passwords of others", func(t *testing.T) {
		who := s.pending(t, "b.test")
		token := s.token(t, who)
		for range 10 {
			s.visitor("b.test").signIn(t, who.user, "wrong").wantError(t, 401, "unauthorized")
		}
		s.visitor("b.test").signIn(t, who.user, who.password).wantRateLimit(t)
		owner := s.visitor("b.test")
		got := owner.confirm(t, who.user, who.password, token)
		got.wantStatus(t, 200)
		device := got.cookies()
		owner.signIn(t, who.user, who.password, "Cookie", device).wantStatus(t, 200)
	})
	t.Run("not after ten wrong passwords with the link", func(t *testing.T) {
		who := s.pending(t, "b.test")
		token := s.token(t, who)
		for range 10 {
			s.visitor("b.test").confirm(t, who.user, "wrong", token).wantError(t, 401, "unauthorized")
		}
		if got := s.visitor("b.test").confirm(t, who.user, who.password, token).
			wantRateLimit(t); got != 15*time.Minute {
			t.Errorf("Retry-After is %v", got)
		}
		s.Advance(15 * time.Minute)
		s.visitor("b.test").confirm(t, who.user, who.password, token).wantStatus(t, 200)
	})
	t.Run("not with a replaced link", func(t *testing.T) {
		who := s.pending(t, "b.test")
		old := s.token(t, who)
		right := s.newPerson("b.test").email
		v.resend(t, who.user, who.password, "email="+strings.ReplaceAll(right, "@", "%40")).wantStatus(t, 200)
		v.confirm(t, who.user, who.password, old).wantError(t, 400, "invalid_request")
		if got := s.status(t, who); got != waiting {
			t.Errorf("active and confirmed: %v", got)
		}
		v.confirm(t, who.user, who.password, strings.TrimPrefix(s.link(t, right), "/activate.ashx?token=")).
			wantStatus(t, 200)
	})
	t.Run("not after 7 days", func(t *testing.T) {
		intime, late := s.pending(t, "b.test"), s.pending(t, "b.test")
		s.Advance(7*24*time.Hour - time.Second)
		v.confirm(t, intime.user, intime.password, s.token(t, intime)).wantStatus(t, 200)
		s.Advance(time.Second)
		page := v.get(t, s.link(t, late.email))
		page.wantStatus(t, 400)
		if !strings.Contains(page.body, "This link has expired") {
			t.Errorf("the page is %s", page.body)
		}
		v.confirm(t, late.user, late.password, s.token(t, late)).wantError(t, 401, "unauthorized")
	})
	t.Run("concurrent", func(t *testing.T) {
		who := s.pending(t, "b.test")
		token := s.token(t, who)
		answers := make([]answer, 20)
		atOnce(len(answers),
			func(i int) { answers[i] = s.visitor("b.test").confirm(t, who.user, who.password, token) })
		for _, a := range answers {
			a.wantStatus(t, 200)
		}
		if got := s.status(t, who); got != confirmed {
			t.Errorf("active and confirmed: %v", got)
		}
	})
	t.Run("works after a store failure", func(t *testing.T) {
		who := s.pending(t, "b.test")
		s.exec(t,
			`CREATE TRIGGER broken BEFORE UPDATE ON account BEGIN SELECT RAISE(ABORT, 'disk /var/lib: I/O error'); END`)
		a := v.confirm(t, who.user, who.password, s.token(t, who))
		s.exec(t, `DROP TRIGGER broken`)
		if got := a.wantError(t, 500, "server_error"); strings.Contains(got, "/var/lib") {
			t.Errorf("the answer shows internals: %q", got)
		}
		if got := s.status(t, who); got != waiting {
			t.Errorf("active and confirmed: %v", got)
		}
		v.confirm(t, who.user, who.password, s.token(t, who)).wantStatus(t, 200)
	})
	t.Run("is logged without the token", func(t *testing.T) {
		who := s.pending(t, "b.test")
		v.get(t, s.link(t, who.email)).wantStatus(t, 200)
		v.confirm(t, who.user, "wrong", s.token(t, who)).wantStatus(t, 401)
		v.confirm(t, who.user, who.password, s.token(t, who)).wantStatus(t, 200)
		log := s.Log.String()
		for _, line := range []string{
			`"activate","outcome":"opened"`, `"confirm","outcome":"denied"`,
			`"confirm","outcome":"ok"`,
		} {
			if !strings.Contains(log, line) {
				t.Errorf("%s is not in the log", line)
			}
		}
		if strings.Contains(log, s.token(t, who)) {
			t.Error("the token is in the log")
		}
	})
}

// TestConfirmActiveAccount checks that a confirmation of an active account succeeds at a tenant
// whose links activate.
func TestConfirmActiveAccount(t *testing.T) {
	t.Parallel()
	s := startConfirmServer(t)
	v := s.visitor("a.test")
	who, scanned, other := s.pending(t, "a.test"), s.pending(t, "a.test"), s.active(t, "a.test")
	for _, w := range []person{who, scanned} {
		v.get(t, s.link(t, w.email)).wantStatus(t, 200)
		v.signIn(t, w.user, w.password).wantStatus(t, 200)
		if got := s.status(t, w); got != active {
			t.Fatalf("after the link and a sign-in without it, active and confirmed are %v", got)
		}
	}
	v.confirm(t, other.user, other.password, s.token(t, who)).wantError(t, 400, "invalid_request")
	v.confirm(t, who.user, "wrong", s.token(t, who)).wantError(t, 401, "unauthorized")
	if got := s.status(t, who); got != active {
		t.Errorf("active and confirmed: %v", got)
	}
	v.confirm(t, who.user, who.password, s.token(t, who)).wantStatus(t, 200)
	if got := s.status(t, who); got != confirmed {
		t.Errorf("active and confirmed: %v", got)
	}
	if got := s.status(t, scanned); got != active {
		t.Errorf("the other account is active and confirmed: %v", got)
	}
	// It may come before the link was opened.
	early := s.pending(t, "a.test")
	v.confirm(t, early.user, early.password, s.token(t, early)).wantStatus(t, 200)
	if got := s.status(t, early); got != confirmed {
		t.Errorf("active and confirmed: %v", got)
	}
	if a := s.find(t, early); a.Role != account.Guest {
		t.Errorf("the account is %+v", a)
	}
}

// TestSentPanelConfirm checks that the page after a signup says what the link will ask for.
func TestSentPanelConfirm(t *testing.T) {
	t.Parallel()
	s := startConfirmServer(t)
	for host, want := range map[string]bool{"a.test": false, "b.test": true} {
		page := s.visitor(host).get(t, "/signup.html").body
		if got := strings.Contains(page, "enter your password to activate your account"); got != want {
			t.Errorf("%s: the password is mentioned: %t", host, got)
		}
	}
}

// TestActivatedPage opens the address to which the page of a used link changes.
func TestActivatedPage(t *testing.T) {
	t.Parallel()
	s := startConfirmServer(t)
	who := s.pending(t, "a.test")
	v := s.visitor("a.test")
	opened := v.get(t, s.link(t, who.email))
	const after = "/activated.html"
	if !strings.Contains(opened.body, `data-after="`+after+`"`) {
		t.Errorf("the page of the link is %s", opened.body)
	}
	a := v.get(t, after)
	a.wantStatus(t, 200)
	if !strings.Contains(a.body, "<h1>Account activated</h1>") || !strings.Contains(a.body, `href="/login.html"`) ||
		!strings.Contains(a.body, `content="noindex"`) || a.header.Get("Set-Cookie") != "" {
		t.Errorf("headers %v, page %s", a.header, a.body)
	}
	if german := v.get(t, after+"?lang=de"); !strings.Contains(german.body, "<h1>Konto freigeschaltet</h1>") {
		t.Errorf("the page is %s", german.body)
	}
}

func TestConfirmCheckOrder(t *testing.T) {
	t.Parallel()
	s := startConfirmServer(t)
	who := s.pending(t, "b.test")
	good := "token=" + s.token(t, who)
	s.visitor("nowhere.test").do(t, "POST", "/activate.ashx", "", "Content-Type", formType).
		wantError(t, 421, "misdirected_request")
	v := s.visitor("b.test")
	for _, header := range [][2]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.test"}} {
		c := v.do(t, "POST", "/activate.ashx", "").challenge(t)
		v.do(t, "POST", "/activate.ashx", good, "Content-Type", formType, header[0], header[1],
			"Authorization",
			c.proof(who.user, who.password, "POST", "/activate.ashx", nil)).wantError(t, 400, "invalid_request")
	}
	// The first request has no proof yet, and its body does not matter.
	v.do(t, "POST", "/activate.ashx", "token", "Content-Type", "text/plain").wantError(t, 401, "unauthorized")
	// The form is checked before the proof, and a refused form does not use up the challenge.
	c := v.do(t, "POST", "/activate.ashx", "").challenge(t)
	for _, body := range []string{
		"", "token=", "x=1", good + "&" + good, "token=%ff", "token=%00", "token=a%0d%0ab",
		"token=%", good + ";x=1", "token=" + strings.Repeat("A", 9000),
	} {
		v.confirmProof(t, c, who.user, "wrong", body).wantError(t, 400, "invalid_request")
	}
	for _, media := range []string{"application/json", "text/plain", "multipart/form-data; boundary=x"} {
		v.do(t, "POST", "/activate.ashx", good, "Content-Type", media, "Authorization",
			c.proof(who.user, who.password, "POST", "/activate.ashx", nil)).wantError(t, 400, "invalid_request")
	}
	v.do(t, "POST", "/activate.ashx?"+good, "", "Content-Type", formType, "Authorization",
		c.proof(who.user, who.password, "POST", "/activate.ashx?"+good, nil)).wantError(t, 400, "invalid_request")
	if got := s.status(t, who); got != waiting {
		t.Errorf("active and confirmed: %v", got)
	}
	v.confirmProof(t, c, who.user, who.password, good+"&disabled=false&role=admin").wantStatus(t, 200)
	if got := s.find(t, who).Role; got != account.Guest {
		t.Errorf("the role is %s", got)
	}
}
