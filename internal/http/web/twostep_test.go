package web_test

import (
	"encoding/base32"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/tenant"
	"dialtone/internal/totp"
)

// twoStep sends both requests of a change of the authenticator app.
func (v *visitor) twoStep(t testing.TB, who person, body string, headers ...string) answer {
	t.Helper()
	c := v.do(t, "POST", "/two-step.ashx", "").challenge(t)
	proof := c.proof(who.user, who.password, "POST", "/two-step.ashx", nil)
	headers = append([]string{"Content-Type", formType, "Authorization", proof}, headers...)
	return v.do(t, "POST", "/two-step.ashx", body, headers...)
}

// app is an authenticator app in a test.
type app struct {
	s        *testServer
	secret   totp.Secret
	recovery []string
}

// code waits until the app shows a new code, and returns it.
func (a *app) code() string {
	a.s.Clock.Advance(totp.Period)
	return a.secret.Code(totp.Step(a.s.Clock.Now()))
}

// header is the header with the next code.
func (a *app) header() []string { return []string{"Dialtone-Code", a.code()} }

// begin starts an app, and returns it as read from the QR code.
func (s *testServer) begin(t testing.TB, who person) *app {
	t.Helper()
	a := s.visitor(who.host).twoStep(t, who, "do=begin")
	a.wantJSON(t, 200)
	var got struct {
		OK          bool
		Secret, URI string
		QR          struct {
			Size int
			Path string
		}
	}
	a.decode(t, &got)
	s.hide(got.Secret)
	u := must[*url.URL](t)(url.Parse(got.URI))
	if q := u.Query(); !got.OK || q.Get("secret") != got.Secret || u.Scheme != "otpauth" || u.Host != "totp" ||
		u.Path != "/"+who.host+":"+who.user+"@"+who.host || q.Get("issuer") != who.host ||
		got.QR.Size < 29 || !strings.HasPrefix(got.QR.Path, "M4 4h7") {
		t.Errorf("got %+v", got)
	}
	b := must[[]byte](t)(base32.StdEncoding.DecodeString(got.Secret))
	return &app{s: s, secret: totp.Secret(b)}
}

// turnOn sets up an app for a person and turns it on.
func (s *testServer) turnOn(t testing.TB, who person) *app {
	t.Helper()
	p := s.begin(t, who)
	a := s.visitor(who.host).twoStep(t, who, "do=finish&code="+p.code())
	a.wantJSON(t, 200)
	p.recovery = s.recoveryCodes(t, a)
	return p
}

func (s *testServer) recoveryCodes(t testing.TB, a answer) []string {
	t.Helper()
	var got struct {
		OK    bool
		Codes []string
	}
	a.decode(t, &got)
	if !got.OK || len(got.Codes) != account.RecoveryCodes {
		t.Fatalf("got %s", a.body)
	}
	for _, code := range got.Codes {
		s.hide(code)
	}
	return got.Codes
}

// wantRule checks a refusal for a second factor.
func (a answer) wantRule(t testing.TB, rule string) {
	t.Helper()
	a.wantError(t, 403, "second_factor")
	if got := a.header.Get("Dialtone-Rule"); got != rule {
		t.Errorf("the rule is %q, want %q", got, rule)
	}
	if len(a.header["Set-Cookie"]) > 0 || a.header.Get("Www-Authenticate") != "" {
		t.Errorf("headers %v", a.header)
	}
}

func TestTwoStep(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	signIn := func(t *testing.T, who person, headers ...string) answer {
		t.Helper()
		return s.visitor(who.host).signIn(t, who.user, who.password, headers...)
	}

	t.Run("an app that is not finished does not count", func(t *testing.T) {
		who := s.active(t, "a.test")
		p := s.begin(t, who)
		signIn(t, who).wantStatus(t, 200)
		signIn(t, who, p.header()...).wantStatus(t, 200)
		a := s.visitor("a.test").twoStep(t, who, "do=finish&code=000000")
		a.wantError(t, 400, "invalid_request")
		if got := a.header.Get("Dialtone-Rule"); got != "code.other" {
			t.Errorf("the rule is %q", got)
		}
		if other := s.begin(t, who); other.secret == p.secret {
			t.Error("the secret is the same")
		}
		s.visitor("a.test").twoStep(t, who, "do=finish&code="+p.code()).wantError(t, 400, "invalid_request")
		signIn(t, who).wantStatus(t, 200)
	})
	t.Run("signing in needs a code, and a code works once", func(t *testing.T) {
		who := s.active(t, "a.test")
		p := s.turnOn(t, who)
		signIn(t, who).wantRule(t, "code")
		used := p.secret.Code(totp.Step(s.Clock.Now()))
		signIn(t, who, "Dialtone-Code", used).wantRule(t, "code.wrong") // it turned the app on
		code := p.code()
		a := signIn(t, who, "Dialtone-Code", code[:3]+" "+code[3:])
		a.wantStatus(t, 200)
		if !s.visitor("a.test").signedIn(t, a.cookies()) {
			t.Error("not signed in")
		}
		signIn(t, who, "Dialtone-Code", code).wantRule(t, "code.wrong")
		signIn(t, who, "Dialtone-Code", "x").wantRule(t, "code.wrong")
		signIn(t, who, p.header()...).wantStatus(t, 200)
	})
	t.Run("a code counts one step before and after its time", func(t *testing.T) {
		who := s.active(t, "a.test")
		p := s.turnOn(t, who)
		s.Clock.Advance(10 * totp.Period)
		now := totp.Step(s.Clock.Now())
		for _, offset := range []int64{-2, 2} {
			signIn(t, who, "Dialtone-Code", p.secret.Code(now+offset)).wantRule(t, "code.wrong")
		}
		for _, offset := range []int64{-1, 1} {
			signIn(t, who, "Dialtone-Code", p.secret.Code(now+offset)).wantStatus(t, 200)
		}
		signIn(t, who, "Dialtone-Code", p.secret.Code(now)).wantRule(t, "code.wrong") // a newer one was used
	})
	t.Run("a wrong password says nothing of the app", func(t *testing.T) {
		who, plain := s.active(t, "a.test"), s.active(t, "a.test")
		p := s.turnOn(t, who)
		wrong, other := s.newPassword(who), s.newPassword(plain)
		answers := []answer{signIn(t, other), signIn(t, wrong), signIn(t, wrong, p.header()...)}
		answers[0].wantError(t, 401, "unauthorized")
		wantSame(t, answers...)
		signIn(t, who, "Dialtone-Code", p.secret.Code(totp.Step(s.Clock.Now()))).wantStatus(t, 200) // it is not spent
	})
	t.Run("a challenge is spent by a proof without a code", func(t *testing.T) {
		who := s.active(t, "a.test")
		p := s.turnOn(t, who)
		v := s.visitor("a.test")
		c := v.get(t, "/signin.ashx").challenge(t)
		v.get(t, "/signin.ashx", "Authorization", c.signInProof(who)).wantRule(t, "code")
		v.get(t, "/signin.ashx", append(p.header(), "Authorization", c.signInProof(who))...).
			wantError(t, 401, "unauthorized")
	})
	t.Run("a recovery code works once", func(t *testing.T) {
		who := s.active(t, "a.test")
		p := s.turnOn(t, who)
		typed := strings.ToUpper(strings.ReplaceAll(p.recovery[3], "-", " "))
		a := signIn(t, who, "Dialtone-Code", typed)
		a.wantStatus(t, 200)
		signIn(t, who, "Dialtone-Code", p.recovery[3]).wantRule(t, "code.wrong")
		page := s.visitor("a.test").get(t, "/two-step.html", "Cookie", a.cookies())
		if !strings.Contains(page.body, "Recovery codes left: 9") {
			t.Errorf("the page is %s", page.body)
		}
		if n := s.Log.Count(fmt.Sprintf(`"msg":"two-step.recovery","outcome":"ok","tenant":"a.test","user":%q`,
			who.user)); n != 1 {
			t.Errorf("%d audit events", n)
		}
		s.Must(s.Outbox.Flush(t.Context())) // finds that there is a message
		s.Must(s.Outbox.Flush(t.Context()))
		list := slices.DeleteFunc(s.messages(t, who.email), func(m message) bool {
			return !strings.Contains(m.header.Get("Subject"), "A recovery code was used")
		})
		if len(list) != 1 || !strings.Contains(strings.Join(strings.Fields(list[0].text), " "), "left after that: 9.") {
			t.Errorf("the messages are %+v", list)
		}
	})
	t.Run("every proof needs a code", func(t *testing.T) {
		old := s.active(t, "a.test")
		p := s.turnOn(t, old)
		who := s.newPassword(old)
		v := s.visitor("a.test")
		v.changePassword(t, old, passwordForm(who)).wantRule(t, "code")
		v.changePassword(t, old, passwordForm(who), "Dialtone-Code", "000000").wantRule(t, "code.wrong")
		for _, do := range []string{"begin", "renew", "off"} {
			v.twoStep(t, old, "do="+do).wantRule(t, "code")
		}
		v.changePassword(t, old, passwordForm(who), p.header()...).wantStatus(t, 200)
		signIn(t, who).wantRule(t, "code")
		signIn(t, who, p.header()...).wantStatus(t, 200)
	})
	t.Run("wrong codes are limited, also for known browsers", func(t *testing.T) {
		who := s.active(t, "a.test")
		p := s.turnOn(t, who)
		cookies := signIn(t, who, p.header()...).cookies()
		for range 10 {
			signIn(t, who, "Dialtone-Code", "00000", "Cookie", cookies).wantRule(t, "code.wrong")
		}
		for _, headers := range [][]string{
			p.header(), append(p.header(), "Cookie", cookies), {"Dialtone-Code", p.recovery[0]},
		} {
			a := signIn(t, who, headers...)
			a.wantRateLimit(t)
			if got := a.header.Get("Dialtone-Rule"); got != "code.limit" {
				t.Errorf("the rule is %q", got)
			}
		}
		signIn(t, who).wantRule(t, "code")
		s.Clock.Advance(time.Hour)
		signIn(t, who, p.header()...).wantStatus(t, 200)
		for outcome, n := range map[string]int{"code_wrong": 10, "rate_limited": 3, "code_needed": 1} {
			if got := s.Log.Count(fmt.Sprintf(`"msg":"signin","outcome":%q,"tenant":"a.test","user":%q`,
				outcome, who.user)); got != n {
				t.Errorf("%d events with the outcome %s, want %d", got, outcome, n)
			}
		}
	})
	t.Run("one code at once works once", func(t *testing.T) {
		who := s.active(t, "a.test")
		p := s.turnOn(t, who)
		for _, code := range []string{p.code(), p.recovery[0]} {
			good := make([]bool, 4)
			atOnce(len(good), func(i int) { good[i] = signIn(t, who, "Dialtone-Code", code).status == 200 })
			n := 0
			for _, ok := range good {
				if ok {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%d of %d sign-ins succeeded", n, len(good))
			}
		}
	})
	t.Run("codes are renewed, and the app is turned off", func(t *testing.T) {
		who := s.active(t, "a.test")
		p := s.turnOn(t, who)
		v := s.visitor("a.test")
		v.twoStep(t, who, "do=begin", p.header()...).wantError(t, 409, "conflict")
		v.twoStep(t, who, "do=finish&code="+p.code(), p.header()...).wantError(t, 409, "conflict")
		a := v.twoStep(t, who, "do=renew", "Dialtone-Code", p.recovery[0])
		a.wantJSON(t, 200)
		fresh := s.recoveryCodes(t, a)
		signIn(t, who, "Dialtone-Code", p.recovery[1]).wantRule(t, "code.wrong")
		a = v.twoStep(t, who, "do=off", "Dialtone-Code", fresh[0])
		a.wantJSON(t, 200)
		signIn(t, who).wantStatus(t, 200)
		for _, do := range []string{"renew", "off"} {
			v.twoStep(t, who, "do="+do).wantError(t, 409, "conflict")
		}
		s.Must(s.Outbox.Flush(t.Context()))
		if n := len(s.messages(t, who.email)); n != 4 {
			t.Errorf("%d messages, want those of the signup and of three changes", n)
		}
		var changes []string
		s.Must(s.Store.Changes(t.Context(), audit.Filter{User: who.user}, func(c audit.Change) error {
			if c.Actor != (audit.Actor{Kind: audit.Person}) {
				t.Errorf("the actor is %v", c.Actor)
			}
			changes = append(changes, string(c.Action))
			return nil
		}))
		want := "two-step.on two-step.recovery two-step.codes two-step.recovery two-step.off"
		if got := strings.Join(changes, " "); got != want {
			t.Errorf("the trail has %s, want %s", got, want)
		}
	})
	t.Run("the message removes an app that somebody else has added", func(t *testing.T) {
		who := s.active(t, "a.test")
		s.turnOn(t, who)
		s.Must(s.Outbox.Flush(t.Context()))
		_, token := s.linkToPage(t, who.email, "not-me")
		s.visitor("a.test").postForm(t, "/not-me.ashx", "token="+token).wantStatus(t, 200)
		signIn(t, who).wantStatus(t, 200)
	})
	t.Run("the message about replaced codes removes them, and the app stays", func(t *testing.T) {
		who := s.active(t, "a.test")
		p := s.turnOn(t, who)
		s.Must(s.Outbox.Flush(t.Context()))
		s.Advance(time.Minute) // the newest message is of the latest second
		v := s.visitor("a.test")
		a := v.twoStep(t, who, "do=renew", p.header()...)
		a.wantJSON(t, 200)
		fresh := s.recoveryCodes(t, a)
		s.Must(s.Outbox.Flush(t.Context()))
		link, token := s.linkToPage(t, who.email, "not-me")
		page := v.get(t, link)
		page.wantStatus(t, 200)
		if start, _, _ := strings.Cut(page.body, `id="lost"`); !strings.Contains(start, `data-did="codes"`) ||
			strings.Contains(start, `data-did="app"`) {
			t.Errorf("the page does not say that only codes are removed:\n%s", start)
		}
		v.postForm(t, "/not-me.ashx", "token="+token).wantStatus(t, 200)
		signIn(t, who, "Dialtone-Code", fresh[0]).wantRule(t, "code.wrong")
		s.Advance(time.Minute)
		signIn(t, who, p.header()...).wantStatus(t, 200)
	})
	t.Run("refused forms", func(t *testing.T) {
		who := s.active(t, "a.test")
		v := s.visitor("a.test")
		for _, body := range []string{
			"", "do=", "do=on", "do=begin&do=off", "do=finish", "do=finish&code=", "do=finish&code=%ff", "code=123456",
		} {
			v.twoStep(t, who, body).wantError(t, 400, "invalid_request")
		}
		v.twoStep(t, who, "do=finish&code=123456").wantError(t, 409, "conflict") // nothing was begun
		v.get(t, "/two-step.ashx").wantError(t, 405, "method_not_allowed")
		v.twoStep(t, who, "do=begin", "Sec-Fetch-Site", "cross-site").wantError(t, 400, "invalid_request")
	})
	t.Run("other accounts", func(t *testing.T) {
		pending, held, other := s.pending(t, "a.test"), s.active(t, "a.test"), s.active(t, "b.test")
		p := s.turnOn(t, held)
		s.visitor("a.test").twoStep(t, pending, "do=begin").wantError(t, 403, "not_activated")
		s.At("a.test").Disable(held.user)
		s.visitor("a.test").twoStep(t, held, "do=off", p.header()...).wantError(t, 401, "unauthorized")
		s.visitor("a.test").twoStep(t, other, "do=begin").wantError(t, 401, "unauthorized")
		s.visitor("a.test").resend(t, pending.user, pending.password, "").wantStatus(t, 200)
	})
}

// TestTwoStepWhileChanging checks accounts that change between the proof of the password and the code.
func TestTwoStepWhileChanging(t *testing.T) {
	t.Parallel()
	var then func()
	s := startServerWith(t, options{store: func(store account.Store) account.Store {
		return afterFind{store, &then}
	}})
	for name, end := range map[string]func(person){
		"disabled": func(who person) { s.At("a.test").Disable(who.user) },
		"deleted":  func(who person) { s.At("a.test").Delete(who.user) },
	} {
		t.Run(name, func(t *testing.T) {
			who := s.active(t, "a.test")
			p := s.turnOn(t, who)
			header := p.header()
			then = func() { end(who) }
			late := s.visitor("a.test").signIn(t, who.user, who.password, header...)
			late.wantError(t, 401, "unauthorized")
			wantSame(t, s.visitor("a.test").signIn(t, who.user, who.password), late)
		})
	}
	t.Run("an app is turned on after a proof without a code", func(t *testing.T) {
		for path, body := range map[string]string{
			"/email.ashx": "email=other@mail.test", "/leave.ashx": "", "/two-step.ashx": "do=begin",
		} {
			who := s.active(t, "a.test")
			then = func() { s.turnOn(t, who) }
			s.visitor("a.test").proveForm(t, who, path, body).wantError(t, 401, "unauthorized")
			s.visitor("a.test").proveForm(t, who, path, body).wantError(t, 403, "second_factor")
		}
		who := s.active(t, "a.test")
		then = func() { s.turnOn(t, who) }
		v := s.visitor("a.test")
		v.changePassword(t, who, passwordForm(s.newPassword(who))).wantError(t, 401, "unauthorized")
	})
	t.Run("an app is turned on after a change of the address was asked for", func(t *testing.T) {
		who := s.active(t, "a.test")
		token := s.emailToken(t, who, who.user+"-other@mail.test")
		s.turnOn(t, who)
		s.visitor("a.test").postForm(t, "/confirm-email.ashx", "token="+token).wantError(t, 404, "not_found")
		if got := s.find(t, who).Email; got != who.email {
			t.Errorf("the address is %s", got)
		}
	})
}

// TestRequireFactor checks a platform that requires a second factor of admins.
func TestRequireFactor(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		if x.Host == "a.test" {
			x.RequireFactor = tenant.RequireAdmin
		}
	}})
	admin := func(host string) person {
		who := s.active(t, host)
		tn := s.find(t, who).Tenant
		must[account.Account](t)(s.Store.SetRole(t.Context(), tn, who.user, account.Admin, s.Clock.Now()))
		return who
	}
	pages := []string{
		"/account.html", "/password.html", "/sessions.html", "/", "/login.html", "/provision?format=zoiper",
	}

	t.Run("without a factor, everything leads to setting one up", func(t *testing.T) {
		who := admin("a.test")
		v := s.visitor("a.test")
		a := v.signIn(t, who.user, who.password)
		a.wantStatus(t, 200)
		cookies := a.cookies()
		for _, page := range pages {
			if a := v.get(t, page, "Cookie", cookies); a.status != 303 ||
				a.header.Get("Location") != "/two-step.html#required" {
				t.Errorf("%s: %d to %q", page, a.status, a.header.Get("Location"))
			}
		}
		for _, path := range []string{"/sessions.ashx", "/turn"} {
			v.get(t, path, "Cookie", cookies).wantRule(t, "factor")
		}
		v.postForm(t, "/sessions.ashx", "end=others", "Cookie", cookies).wantRule(t, "factor")
		for path, other := range map[string]string{
			"/two-step.html": "/passkeys.html", "/passkeys.html": "/two-step.html",
		} {
			page := v.get(t, path, "Cookie", cookies)
			page.wantStatus(t, 200)
			main := page.body[strings.Index(page.body, "<main"):]
			// When the app is on, its page redirects to the account page.
			main, _, _ = strings.Cut(main, `id="codes"`)
			if strings.Contains(main, "/account.html") || !strings.Contains(main, other) {
				t.Errorf("%s leads back to itself, or not to %s", path, other)
			}
		}
		v.requestEmail(t, who, "evil@mail.test").wantRule(t, "factor")
		v.prove(t, "GET", "/data.ashx", who).wantRule(t, "factor")
		p := s.begin(t, who)
		a = v.twoStep(t, who, "do=finish&code="+p.code(), "Cookie", cookies)
		p.recovery = s.recoveryCodes(t, a)
		v.get(t, "/account.html", "Cookie", cookies).wantStatus(t, 303)
		v.get(t, "/account.html", "Cookie", a.cookies()).wantStatus(t, 200)
		v.signIn(t, who.user, who.password).wantRule(t, "code")
		v.signIn(t, who.user, who.password, p.header()...).wantStatus(t, 200)
	})
	t.Run("with a passkey alone, the password alone does not count", func(t *testing.T) {
		who := admin("a.test")
		v := s.visitor("a.test")
		cookies := v.signIn(t, who.user, who.password).cookies()
		s.exec(t, `UPDATE account SET factors = 2 WHERE username = '`+who.user+`'`)
		v.signIn(t, who.user, who.password).wantRule(t, "passkey")
		v.changePassword(t, who, passwordForm(s.newPassword(who))).wantRule(t, "passkey")
		// A session that began with the password alone is no longer valid, and does not replace a
		// factor.
		for _, page := range []string{"/account.html", "/two-step.html", "/passkeys.html"} {
			v.get(t, page, "Cookie", cookies).wantStatus(t, 303)
		}
		v.get(t, "/passkeys.ashx", "Cookie", cookies).wantError(t, 401, "unauthorized")
		v.postForm(t, "/passkeys.ashx", "do=rename&id=AA&name=x", "Cookie", cookies).wantError(t, 401, "unauthorized")
		v.twoStep(t, who, "do=begin", "Cookie", cookies).wantRule(t, "passkey")
		s.Must(s.authenticator.Flush(t.Context()))
		s.exec(t, `UPDATE session SET how = 'passkey'`)
		v.get(t, "/account.html", "Cookie", cookies).wantStatus(t, 200)
		v.twoStep(t, who, "do=begin", "Cookie", cookies).wantStatus(t, 200)
		other := s.active(t, "a.test")
		stolen := v.signIn(t, other.user, other.password).cookies()
		v.twoStep(t, who, "do=begin", "Cookie", stolen).wantRule(t, "passkey")
	})
	t.Run("others need none", func(t *testing.T) {
		for _, who := range []person{s.active(t, "a.test"), admin("b.test")} {
			v := s.visitor(who.host)
			cookies := v.signIn(t, who.user, who.password).cookies()
			v.get(t, "/account.html", "Cookie", cookies).wantStatus(t, 200)
			v.get(t, "/sessions.ashx", "Cookie", cookies).wantStatus(t, 200)
		}
	})
}

// TestTwoStepCORS checks that a page of a listed origin may send a code.
func TestTwoStepCORS(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) { x.Origins = []string{"https://shop.test"} }})
	a := s.visitor("a.test").do(t, "OPTIONS", "/signin.ashx", "", "Origin", "https://shop.test",
		"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization,dialtone-code")
	if !strings.Contains(a.header.Get("Access-Control-Allow-Headers"), "Dialtone-Code") {
		t.Errorf("headers %v", a.header)
	}
}
