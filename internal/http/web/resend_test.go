package web_test

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialtone/internal/audit"
)

// resend is both rounds of the exchange, the second with a form. An empty one is not sent at all.
func (v *visitor) resend(t testing.TB, user, password, body string, headers ...string) answer {
	t.Helper()
	c := v.do(t, "POST", "/resend.ashx", "").challenge(t)
	return v.proven(t, c, user, password, body, headers...)
}

func (v *visitor) proven(t testing.TB, c challenge, user, password, body string, headers ...string) answer {
	t.Helper()
	if body != "" {
		headers = append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)
	}
	headers = append([]string{"Authorization", c.proof(user, password, "POST", "/resend.ashx", nil)}, headers...)
	return v.do(t, "POST", "/resend.ashx", body, headers...)
}

// waits is the time that a 429 says.
func (a answer) waits(t testing.TB) time.Duration {
	t.Helper()
	a.fails(t, 429, "rate_limited")
	n, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || n < 1 {
		t.Fatalf("Retry-After is %q", a.header.Get("Retry-After"))
	}
	return time.Duration(n) * time.Second
}

func TestResend(t *testing.T) {
	t.Parallel()
	p := open(t)

	t.Run("sends a new link, and the older one is worth nothing", func(t *testing.T) {
		who := p.member(t, "a.test")
		old := p.link(t, who.email)
		p.clock.add(time.Minute)
		a := p.visitor("a.test").resend(t, who.user, who.password, "")
		a.isJSON(t, 200)
		if want := `{"ok":true,"email":"` + audit.MaskEmail(who.email) + `"}` + "\n"; a.body != want {
			t.Errorf("body %q, want %q", a.body, want)
		}
		list := p.messages(t, who.email)
		if len(list) != 2 {
			t.Fatalf("%d messages", len(list))
		}
		var fresh string
		for _, m := range list {
			if !strings.Contains(m.text, old) {
				_, fresh, _ = strings.Cut(m.text, "https://a.test")
				fresh, _, _ = strings.Cut(fresh, "\n")
			}
		}
		page := p.visitor("a.test").get(t, old)
		page.is(t, 400)
		if !strings.Contains(page.body, "There is a newer link") || strings.Contains(page.body, who.user) {
			t.Errorf("the page is %s", page.body)
		}
		p.visitor("a.test").signIn(t, who.user, who.password).fails(t, 403, "not_activated")
		p.visitor("a.test").get(t, fresh).is(t, 200)
		p.visitor("a.test").signIn(t, who.user, who.password).is(t, 200)
		p.visitor("a.test").get(t, old).is(t, 400)
	})
	t.Run("mends the address", func(t *testing.T) {
		who, right := p.member(t, "a.test"), p.person("a.test").email
		old := p.link(t, who.email)
		a := p.visitor("a.test").resend(t, who.user, who.password, "email="+url.QueryEscape(strings.ToUpper(right[:6])+right[6:]))
		a.isJSON(t, 200)
		if !strings.Contains(a.body, "@mail.test") || strings.Contains(a.body, right) {
			t.Errorf("body %q", a.body)
		}
		if got := len(p.messages(t, who.email)); got != 1 {
			t.Errorf("%d messages to the wrong address", got)
		}
		p.visitor("a.test").get(t, old).is(t, 400)
		to := strings.ToUpper(right[:6]) + right[6:]
		p.visitor("a.test").get(t, p.link(t, to)).is(t, 200)
		if got := p.find(t, who).Email; got != to {
			t.Errorf("the account has the address %s", got)
		}
	})
	t.Run("is for nobody without the password", func(t *testing.T) {
		who, other := p.member(t, "a.test"), p.active(t, "a.test")
		held := p.member(t, "a.test")
		if _, err := p.desk.Disable(t.Context(), p.tenant(t, "a.test"), held.user); err != nil {
			t.Fatal(err)
		}
		files := len(p.files(t))
		v := p.visitor("a.test")
		answers := []answer{
			v.resend(t, who.user, "wrong", ""), v.resend(t, "nobody-at-all", who.password, ""), v.resend(t, other.user, "wrong", ""),
			v.resend(t, held.user, held.password, ""), v.resend(t, who.user, who.ha1(), ""),
			v.resend(t, who.user, "wrong", "email=thief%40mail.test"),
		}
		answers[0].fails(t, 401, "unauthorized")
		alike(t, answers...)
		v.resend(t, other.user, other.password, "").fails(t, 409, "conflict")
		v.resend(t, other.user, other.password, "email=new%40mail.test").fails(t, 409, "conflict")
		if got := p.find(t, who).Email + p.find(t, other).Email; got != who.email+other.email || len(p.files(t)) != files {
			t.Errorf("the addresses are %s, and %d messages were sent", got, len(p.files(t))-files)
		}
		c := v.get(t, "/signin.ashx").challenge(t)
		v.do(t, "POST", "/resend.ashx", "", "Authorization", c.proof(who.user, who.password, "GET", "/signin.ashx", nil)).fails(t, 401, "unauthorized")
		v.do(t, "POST", "/resend.ashx", "", "Authorization", c.proof(who.user, who.password, "POST", "/signin.ashx", nil)).fails(t, 401, "unauthorized")
		p.visitor("b.test").resend(t, who.user, who.password, "").fails(t, 401, "unauthorized")
	})
	t.Run("counts wrong passwords with those of sign-in", func(t *testing.T) {
		who := p.member(t, "a.test")
		for i := range 10 {
			if i%2 == 0 {
				p.visitor("a.test").resend(t, who.user, "wrong", "").fails(t, 401, "unauthorized")
			} else {
				p.visitor("a.test").signIn(t, who.user, "wrong").fails(t, 401, "unauthorized")
			}
		}
		if got := p.visitor("a.test").resend(t, who.user, who.password, "").waits(t); got != 15*time.Minute {
			t.Errorf("Retry-After is %v", got)
		}
		p.visitor("a.test").signIn(t, who.user, who.password).waits(t)
	})
	t.Run("is done so often in a day that an address gets three messages, and an account four", func(t *testing.T) {
		who := p.member(t, "a.test")
		v := p.visitor("a.test")
		for range 2 {
			p.clock.add(time.Hour)
			v.resend(t, who.user, who.password, "").is(t, 200)
		}
		if got := v.resend(t, who.user, who.password, "").waits(t); got != 22*time.Hour {
			t.Errorf("Retry-After is %v, want the rest of the first message's day", got)
		}
		v.resend(t, who.user, who.password, "email="+url.QueryEscape(strings.Replace(who.email, "@", "+tag@", 1))).waits(t)
		v.resend(t, who.user, who.password, "email="+url.QueryEscape(p.person("a.test").email)).is(t, 200)
		if got := v.resend(t, who.user, who.password, "email="+url.QueryEscape(p.person("a.test").email)).waits(t); got != 23*time.Hour {
			t.Errorf("Retry-After is %v, want the rest of the first resend's day", got)
		}
		p.clock.add(23 * time.Hour)
		v.resend(t, who.user, who.password, "").is(t, 200)
	})
	t.Run("checks in the order of the contract", func(t *testing.T) {
		who := p.member(t, "a.test")
		form := "application/x-www-form-urlencoded"
		nobody := p.visitor("nowhere.test").do(t, "POST", "/resend.ashx", "email=bad", "Content-Type", form)
		nobody.fails(t, 421, "misdirected_request")
		v := p.visitor("a.test")
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			a := v.do(t, method, "/resend.ashx", "")
			a.is(t, 405)
			if a.header.Get("Allow") != "POST" {
				t.Errorf("%s: Allow is %q", method, a.header.Get("Allow"))
			}
		}
		v.do(t, "POST", "/resend.ashx", "", "Sec-Fetch-Site", "cross-site").fails(t, 400, "invalid_request")
		// A client that does not know the challenge yet may send anything.
		v.do(t, "POST", "/resend.ashx", "email=bad", "Content-Type", form).fails(t, 401, "unauthorized")
		// What is wrong with the form is told before the proof is looked at, and the challenge is good still.
		c := v.do(t, "POST", "/resend.ashx", "").challenge(t)
		for _, body := range []string{
			"email=", "email=a%40x.test&email=b%40x.test", "email=%ff", "email=a%0d%0aBcc%3a+x%40y.test", "email=a+b%40x.test", "email=a%40x.test%2cb%40x.test",
			"email=%", "email=-f%40x.test", "email=a", strings.Repeat("x", 9000), ";",
		} {
			v.proven(t, c, who.user, "wrong", body).fails(t, 400, "invalid_request")
		}
		v.proven(t, c, who.user, who.password, "{}", "Content-Type", "application/json").fails(t, 400, "invalid_request")
		for _, media := range []string{"application/json", "text/plain", "multipart/form-data; boundary=x"} {
			v.do(t, "POST", "/resend.ashx", "email=a%40x.test", "Content-Type", media, "Authorization",
				c.proof(who.user, who.password, "POST", "/resend.ashx", nil)).fails(t, 400, "invalid_request")
		}
		v.do(t, "POST", "/resend.ashx?email=a%40x.test", "", "Authorization",
			c.proof(who.user, who.password, "POST", "/resend.ashx?email=a%40x.test", nil)).fails(t, 400, "invalid_request")
		v.proven(t, c, who.user, who.password, "unknown=field&token=x").is(t, 200)
		v.proven(t, c, who.user, who.password, "").fails(t, 401, "unauthorized")
	})
	t.Run("is not for an account whose week is over", func(t *testing.T) {
		who := p.member(t, "b.test")
		p.clock.add(7*24*time.Hour - time.Minute)
		v := p.visitor("b.test")
		c := v.do(t, "POST", "/resend.ashx", "").challenge(t)
		p.clock.add(59 * time.Second)
		v.proven(t, c, who.user, who.password, "").is(t, 200)
		p.clock.add(time.Second)
		v.resend(t, who.user, who.password, "").fails(t, 401, "unauthorized")
	})
}

func TestResendInTroubleLeavesNothing(t *testing.T) {
	t.Parallel()
	p := open(t)
	who := p.member(t, "a.test")
	old := p.link(t, who.email)
	v := p.visitor("a.test")
	c := v.do(t, "POST", "/resend.ashx", "").challenge(t)
	p.exec(t, `ALTER TABLE replaced RENAME TO elsewhere`)
	a := v.proven(t, c, who.user, who.password, "email=new%40mail.test")
	p.exec(t, `ALTER TABLE elsewhere RENAME TO replaced`)
	if got := a.fails(t, 500, "server_error"); strings.Contains(got, "replaced") {
		t.Errorf("the description tells of our insides: %q", got)
	}
	if got := p.find(t, who).Email; got != who.email || len(p.messages(t, "new@mail.test")) != 0 {
		t.Errorf("the address is %s", got)
	}
	v.get(t, old).is(t, 200)
}
