package web_test

import (
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// confirm is both rounds of the exchange, the second with a link's token.
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

func (p *testServer) token(t testing.TB, who person) string {
	t.Helper()
	return strings.TrimPrefix(p.link(t, who.email), "/activate.ashx?token=")
}

// standing is whether the account is active, and whether it is confirmed.
func (p *testServer) status(t testing.TB, who person) [2]bool {
	t.Helper()
	a := p.find(t, who)
	return [2]bool{!a.Disabled, !a.Confirmed.IsZero()}
}

var (
	waiting   = [2]bool{false, false}
	active    = [2]bool{true, false}
	confirmed = [2]bool{true, true}
)

// startConfirmServer has a tenant b.test whose links want the password too.
func startConfirmServer(t *testing.T) *testServer {
	return startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		if x.Host == "b.test" {
			x.Activation = tenant.ActivationConfirm
		}
	}})
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	p := startConfirmServer(t)
	v := p.visitor("b.test")

	t.Run("does nothing by itself, however often it is opened", func(t *testing.T) {
		who := p.pending(t, "b.test")
		link := p.link(t, who.email)
		for range 3 {
			a := v.get(t, link)
			a.wantStatus(t, 200)
			if !strings.Contains(a.body, "<h1>Activate your account</h1>") || !strings.Contains(a.body, `value="`+who.user+`"`) ||
				strings.Contains(a.body, p.token(t, who)) || a.header.Get("Set-Cookie") != "" || a.header.Get("X-Robots-Tag") != "noindex" {
				t.Errorf("headers %v, page %s", a.header, a.body)
			}
		}
		v.get(t, link, "Sec-Purpose", "prefetch").wantStatus(t, 200)
		v.do(t, "HEAD", link, "").wantStatus(t, 200)
		if got := p.status(t, who); got != waiting {
			t.Errorf("active and confirmed: %v", got)
		}
		v.signIn(t, who.user, who.password).wantError(t, 403, "not_activated")
	})
	t.Run("activates with it", func(t *testing.T) {
		who := p.pending(t, "b.test")
		token := p.token(t, who)
		a := v.confirm(t, who.user, who.password, token)
		a.wantJSON(t, 200)
		if want := `{"ok":true,"user":"` + who.user + `"}` + "\n"; a.body != want || a.header.Get("Set-Cookie") != "" {
			t.Errorf("headers %v, body %q, want %q and no cookie", a.header, a.body, want)
		}
		if got := p.status(t, who); got != confirmed {
			t.Errorf("active and confirmed: %v", got)
		}
		v.signIn(t, who.user, who.password).wantStatus(t, 200)
		at := p.find(t, who).Confirmed
		p.clock.add(time.Hour)
		v.confirm(t, who.user, who.password, token).wantStatus(t, 200) // an answer may have been lost
		if got := p.find(t, who).Confirmed; !got.Equal(at) {
			t.Errorf("it was confirmed at %v, and now at %v", at, got)
		}
		page := v.get(t, "/activate.ashx?token="+token)
		page.wantStatus(t, 400)
		if !strings.Contains(page.body, "Your account is already active") {
			t.Errorf("the page is %s", page.body)
		}
	})
	t.Run("is for nobody without it", func(t *testing.T) {
		who, other := p.pending(t, "b.test"), p.pending(t, "b.test")
		held, late := p.pending(t, "b.test"), p.pending(t, "b.test")
		if _, err := p.accounts.Disable(t.Context(), p.tenant(t, "b.test"), held.user); err != nil {
			t.Fatal(err)
		}
		token := p.token(t, who)
		denied := []answer{
			v.confirm(t, who.user, "wrong", token), v.confirm(t, "nobody-at-all", who.password, token), v.confirm(t, who.user, who.ha1(), token),
			v.confirm(t, held.user, held.password, p.token(t, held)), v.confirm(t, late.user, "wrong", p.token(t, late)),
		}
		denied[0].wantError(t, 401, "unauthorized")
		wantSame(t, denied...)
		if got := v.confirm(t, who.user, "wrong", token).challenge(t); got.param["stale"] != "" {
			t.Errorf("the challenge is %v", got)
		}
		// A right password opens its own account's link alone, and the answer tells of no other's.
		links := []answer{
			v.confirm(t, other.user, other.password, token), v.confirm(t, other.user, other.password, secret.NewToken().Text()),
			v.confirm(t, other.user, other.password, p.token(t, held)), v.confirm(t, other.user, other.password, "x"),
		}
		links[0].wantError(t, 400, "invalid_request")
		wantSame(t, links...)
		p.visitor("a.test").confirm(t, who.user, who.password, token).wantError(t, 401, "unauthorized")
		for _, w := range []person{who, other, late} {
			if got := p.status(t, w); got != waiting {
				t.Errorf("active and confirmed: %v", got)
			}
		}
	})
	t.Run("takes a proof for this very request", func(t *testing.T) {
		who := p.pending(t, "b.test")
		body := "token=" + p.token(t, who)
		try := func(c challenge, method, uri string) answer {
			return v.do(t, "POST", "/activate.ashx", body, "Content-Type", formType, "Authorization", c.proof(who.user, who.password, method, uri, nil))
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
	t.Run("counts wrong passwords with those of sign-in", func(t *testing.T) {
		who := p.pending(t, "b.test")
		token := p.token(t, who)
		for i := range 10 {
			if i%2 == 0 {
				p.visitor("b.test").confirm(t, who.user, "wrong", token).wantError(t, 401, "unauthorized")
			} else {
				p.visitor("b.test").signIn(t, who.user, "wrong").wantError(t, 401, "unauthorized")
			}
		}
		if got := p.visitor("b.test").confirm(t, who.user, who.password, token).wantRateLimit(t); got != 15*time.Minute {
			t.Errorf("Retry-After is %v", got)
		}
		p.visitor("b.test").signIn(t, who.user, who.password).wantRateLimit(t)
		p.clock.add(15 * time.Minute)
		p.visitor("b.test").confirm(t, who.user, who.password, token).wantStatus(t, 200)
	})
	t.Run("is worth nothing once a newer message was sent", func(t *testing.T) {
		who := p.pending(t, "b.test")
		old := p.token(t, who)
		right := p.newPerson("b.test").email
		v.resend(t, who.user, who.password, "email="+strings.ReplaceAll(right, "@", "%40")).wantStatus(t, 200)
		v.confirm(t, who.user, who.password, old).wantError(t, 400, "invalid_request")
		if got := p.status(t, who); got != waiting {
			t.Errorf("active and confirmed: %v", got)
		}
		v.confirm(t, who.user, who.password, strings.TrimPrefix(p.link(t, right), "/activate.ashx?token=")).wantStatus(t, 200)
	})
	t.Run("is good for a week", func(t *testing.T) {
		intime, late := p.pending(t, "b.test"), p.pending(t, "b.test")
		p.clock.add(7*24*time.Hour - time.Second)
		v.confirm(t, intime.user, intime.password, p.token(t, intime)).wantStatus(t, 200)
		p.clock.add(time.Second)
		page := v.get(t, p.link(t, late.email))
		page.wantStatus(t, 400)
		if !strings.Contains(page.body, "This link has expired") {
			t.Errorf("the page is %s", page.body)
		}
		v.confirm(t, late.user, late.password, p.token(t, late)).wantError(t, 401, "unauthorized")
	})
	t.Run("twenty at once are one", func(t *testing.T) {
		who := p.pending(t, "b.test")
		token := p.token(t, who)
		answers := make([]answer, 20)
		atOnce(len(answers), func(i int) { answers[i] = p.visitor("b.test").confirm(t, who.user, who.password, token) })
		for _, a := range answers {
			a.wantStatus(t, 200)
		}
		if got := p.status(t, who); got != confirmed {
			t.Errorf("active and confirmed: %v", got)
		}
	})
	t.Run("stays good through trouble with the store", func(t *testing.T) {
		who := p.pending(t, "b.test")
		p.exec(t, `CREATE TRIGGER broken BEFORE UPDATE ON account BEGIN SELECT RAISE(ABORT, 'disk /var/lib: I/O error'); END`)
		a := v.confirm(t, who.user, who.password, p.token(t, who))
		p.exec(t, `DROP TRIGGER broken`)
		if got := a.wantError(t, 500, "server_error"); strings.Contains(got, "/var/lib") {
			t.Errorf("the answer tells of our insides: %q", got)
		}
		if got := p.status(t, who); got != waiting {
			t.Errorf("active and confirmed: %v", got)
		}
		v.confirm(t, who.user, who.password, p.token(t, who)).wantStatus(t, 200)
	})
	t.Run("is recorded, and what is recorded has no secret in it", func(t *testing.T) {
		who := p.pending(t, "b.test")
		v.get(t, p.link(t, who.email)).wantStatus(t, 200)
		v.confirm(t, who.user, "wrong", p.token(t, who)).wantStatus(t, 401)
		v.confirm(t, who.user, who.password, p.token(t, who)).wantStatus(t, 200)
		log := p.log.String()
		for _, line := range []string{`"activate","outcome":"opened"`, `"confirm","outcome":"denied"`, `"confirm","outcome":"ok"`} {
			if !strings.Contains(log, line) {
				t.Errorf("%s is not in the log", line)
			}
		}
		if strings.Contains(log, p.token(t, who)) {
			t.Error("the token is in the log")
		}
	})
}

// At a tenant whose links activate, the same request says later that link and password are in the same hands.
func TestConfirmActiveAccount(t *testing.T) {
	t.Parallel()
	p := startConfirmServer(t)
	v := p.visitor("a.test")
	who, scanned, other := p.pending(t, "a.test"), p.pending(t, "a.test"), p.active(t, "a.test")
	for _, w := range []person{who, scanned} {
		v.get(t, p.link(t, w.email)).wantStatus(t, 200)
		v.signIn(t, w.user, w.password).wantStatus(t, 200)
		if got := p.status(t, w); got != active {
			t.Fatalf("after the link and a sign-in without it, active and confirmed are %v", got)
		}
	}
	v.confirm(t, other.user, other.password, p.token(t, who)).wantError(t, 400, "invalid_request")
	v.confirm(t, who.user, "wrong", p.token(t, who)).wantError(t, 401, "unauthorized")
	if got := p.status(t, who); got != active {
		t.Errorf("active and confirmed: %v", got)
	}
	v.confirm(t, who.user, who.password, p.token(t, who)).wantStatus(t, 200)
	if got := p.status(t, who); got != confirmed {
		t.Errorf("active and confirmed: %v", got)
	}
	if got := p.status(t, scanned); got != active {
		t.Errorf("the other account is active and confirmed: %v", got)
	}
	// It may be the first that is done with a link.
	early := p.pending(t, "a.test")
	v.confirm(t, early.user, early.password, p.token(t, early)).wantStatus(t, 200)
	if got := p.status(t, early); got != confirmed {
		t.Errorf("active and confirmed: %v", got)
	}
	if a := p.find(t, early); a.Role != account.Guest {
		t.Errorf("the account is %+v", a)
	}
}

func TestConfirmCheckOrder(t *testing.T) {
	t.Parallel()
	p := startConfirmServer(t)
	who := p.pending(t, "b.test")
	good := "token=" + p.token(t, who)
	p.visitor("nowhere.test").do(t, "POST", "/activate.ashx", "", "Content-Type", formType).wantError(t, 421, "misdirected_request")
	v := p.visitor("b.test")
	for _, header := range [][2]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.test"}} {
		c := v.do(t, "POST", "/activate.ashx", "").challenge(t)
		v.do(t, "POST", "/activate.ashx", good, "Content-Type", formType, header[0], header[1],
			"Authorization", c.proof(who.user, who.password, "POST", "/activate.ashx", nil)).wantError(t, 400, "invalid_request")
	}
	// A client that does not know the challenge yet may send anything.
	v.do(t, "POST", "/activate.ashx", "token", "Content-Type", "text/plain").wantError(t, 401, "unauthorized")
	// What is wrong with the form is told before the proof is looked at, and the challenge is good still.
	c := v.do(t, "POST", "/activate.ashx", "").challenge(t)
	for _, body := range []string{
		"", "token=", "x=1", good + "&" + good, "token=%ff", "token=%00", "token=a%0d%0ab", "token=%", good + ";x=1", "token=" + strings.Repeat("A", 9000),
	} {
		v.confirmProof(t, c, who.user, "wrong", body).wantError(t, 400, "invalid_request")
	}
	for _, media := range []string{"application/json", "text/plain", "multipart/form-data; boundary=x"} {
		v.do(t, "POST", "/activate.ashx", good, "Content-Type", media, "Authorization",
			c.proof(who.user, who.password, "POST", "/activate.ashx", nil)).wantError(t, 400, "invalid_request")
	}
	v.do(t, "POST", "/activate.ashx?"+good, "", "Content-Type", formType, "Authorization",
		c.proof(who.user, who.password, "POST", "/activate.ashx?"+good, nil)).wantError(t, 400, "invalid_request")
	if got := p.status(t, who); got != waiting {
		t.Errorf("active and confirmed: %v", got)
	}
	v.confirmProof(t, c, who.user, who.password, good+"&disabled=false&role=admin").wantStatus(t, 200)
	if got := p.find(t, who).Role; got != account.Guest {
		t.Errorf("the role is %s", got)
	}
}
