package web_test

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialtone/internal/audit"
)

// resend sends both requests of a resend, the second with a form unless that is empty.
func (v *visitor) resend(t testing.TB, user, password, body string, headers ...string) answer {
	t.Helper()
	c := v.do(t, "POST", "/resend.ashx", "").challenge(t)
	return v.resendProof(t, c, user, password, body, headers...)
}

func (v *visitor) resendProof(t testing.TB, c challenge, user, password, body string, headers ...string) answer {
	t.Helper()
	if body != "" {
		headers = append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)
	}
	headers = append([]string{"Authorization", c.proof(user, password, "POST", "/resend.ashx", nil)}, headers...)
	return v.do(t, "POST", "/resend.ashx", body, headers...)
}

// wantRateLimit checks that the answer is a 429, and returns its Retry-After.
func (a answer) wantRateLimit(t testing.TB) time.Duration {
	t.Helper()
	a.wantError(t, 429, "rate_limited")
	n, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || n < 1 {
		t.Fatalf("Retry-After is %q", a.header.Get("Retry-After"))
	}
	return time.Duration(n) * time.Second
}

func TestResend(t *testing.T) {
	t.Parallel()
	s := startServer(t)

	t.Run("replaces the link", func(t *testing.T) {
		who := s.pending(t, "a.test")
		old := s.link(t, who.email)
		s.Advance(time.Minute)
		a := s.visitor("a.test").resend(t, who.user, who.password, "")
		a.wantJSON(t, 200)
		if want := `{"ok":true,"email":"` + audit.MaskEmail(who.email) + `"}` + "\n"; a.body != want {
			t.Errorf("body %q, want %q", a.body, want)
		}
		list := s.messages(t, who.email)
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
		page := s.visitor("a.test").get(t, old)
		page.wantStatus(t, 400)
		if !strings.Contains(page.body, "There is a newer link") || strings.Contains(page.body, who.user) {
			t.Errorf("the page is %s", page.body)
		}
		s.visitor("a.test").signIn(t, who.user, who.password).wantError(t, 403, "not_activated")
		s.visitor("a.test").get(t, fresh).wantStatus(t, 200)
		s.visitor("a.test").signIn(t, who.user, who.password).wantStatus(t, 200)
		s.visitor("a.test").get(t, old).wantStatus(t, 400)
	})
	t.Run("corrects the address", func(t *testing.T) {
		who, right := s.pending(t, "a.test"), s.newPerson("a.test").email
		old := s.link(t, who.email)
		a := s.visitor("a.test").
			resend(t, who.user, who.password, "email="+url.QueryEscape(strings.ToUpper(right[:6])+right[6:]))
		a.wantJSON(t, 200)
		if !strings.Contains(a.body, "@mail.test") || strings.Contains(a.body, right) {
			t.Errorf("body %q", a.body)
		}
		if got := len(s.messages(t, who.email)); got != 1 {
			t.Errorf("%d messages to the wrong address", got)
		}
		s.visitor("a.test").get(t, old).wantStatus(t, 400)
		to := strings.ToUpper(right[:6]) + right[6:]
		s.visitor("a.test").get(t, s.link(t, to)).wantStatus(t, 200)
		if got := s.find(t, who).Email; got != to {
			t.Errorf("the account has the address %s", got)
		}
	})
	t.Run("not without the password", func(t *testing.T) {
		who, other := s.pending(t, "a.test"), s.active(t, "a.test")
		held := s.pending(t, "a.test")
		s.At("a.test").Disable(held.user)
		files := len(s.Files("pickup"))
		v := s.visitor("a.test")
		answers := []answer{
			v.resend(t, who.user, "wrong", ""),
			v.resend(t, "nobody-at-all", who.password, ""),
			v.resend(t, other.user, "wrong", ""),
			v.resend(t, held.user, held.password, ""),
			v.resend(t, who.user, who.ha1(), ""),
			v.resend(t, who.user, "wrong", "email=thief%40mail.test"),
		}
		answers[0].wantError(t, 401, "unauthorized")
		wantSame(t, answers...)
		v.resend(t, other.user, other.password, "").wantError(t, 409, "conflict")
		v.resend(t, other.user, other.password, "email=new%40mail.test").wantError(t, 409, "conflict")
		if got := s.find(t, who).Email + s.find(t, other).Email; got != who.email+other.email ||
			len(s.Files("pickup")) != files {
			t.Errorf("the addresses are %s, and %d messages were sent", got, len(s.Files("pickup"))-files)
		}
		c := v.get(t, "/signin.ashx").challenge(t)
		v.do(t, "POST", "/resend.ashx", "", "Authorization", c.signInProof(who)).wantError(t, 401, "unauthorized")
		proof := c.proof(who.user, who.password, "POST", "/signin.ashx", nil)
		v.do(t, "POST", "/resend.ashx", "", "Authorization", proof).wantError(t, 401, "unauthorized")
		s.visitor("b.test").resend(t, who.user, who.password, "").wantError(t, 401, "unauthorized")
	})
	t.Run("counts wrong passwords with those of sign-in", func(t *testing.T) {
		who := s.pending(t, "a.test")
		for i := range 10 {
			if i%2 == 0 {
				s.visitor("a.test").resend(t, who.user, "wrong", "").wantError(t, 401, "unauthorized")
			} else {
				s.visitor("a.test").signIn(t, who.user, "wrong").wantError(t, 401, "unauthorized")
			}
		}
		if got := s.visitor("a.test").resend(t, who.user, who.password, "").
			wantRateLimit(t); got != 15*time.Minute {
			t.Errorf("Retry-After is %v", got)
		}
		s.visitor("a.test").signIn(t, who.user, who.password).wantRateLimit(t)
	})
	t.Run("daily limits of an address and an account", func(t *testing.T) {
		who := s.pending(t, "a.test")
		v := s.visitor("a.test")
		for range 2 {
			s.Advance(time.Hour)
			v.resend(t, who.user, who.password, "").wantStatus(t, 200)
		}
		if got := v.resend(t, who.user, who.password, "").wantRateLimit(t); got != 22*time.Hour {
			t.Errorf("Retry-After is %v, want the rest of the first message's day", got)
		}
		v.resend(t, who.user, who.password, "email="+url.QueryEscape(strings.Replace(who.email, "@", "+tag@", 1))).
			wantRateLimit(t)
		v.resend(t, who.user, who.password, "email="+url.QueryEscape(s.newPerson("a.test").email)).
			wantStatus(t, 200)
		if got := v.resend(t, who.user, who.password, "email="+url.QueryEscape(s.newPerson("a.test").email)).
			wantRateLimit(t); got != 23*time.Hour {
			t.Errorf("Retry-After is %v, want the rest of the first resend's day", got)
		}
		s.Advance(23 * time.Hour)
		v.resend(t, who.user, who.password, "").wantStatus(t, 200)
	})
	t.Run("order of checks", func(t *testing.T) {
		who := s.pending(t, "a.test")
		form := "application/x-www-form-urlencoded"
		misdirected := s.visitor("nowhere.test").do(t, "POST", "/resend.ashx", "email=bad", "Content-Type", form)
		misdirected.wantError(t, 421, "misdirected_request")
		v := s.visitor("a.test")
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			a := v.do(t, method, "/resend.ashx", "")
			a.wantStatus(t, 405)
			if a.header.Get("Allow") != "POST" {
				t.Errorf("%s: Allow is %q", method, a.header.Get("Allow"))
			}
		}
		v.do(t, "POST", "/resend.ashx", "", "Sec-Fetch-Site", "cross-site").wantError(t, 400, "invalid_request")
		// The first request has no proof yet, and its body does not matter.
		v.do(t, "POST", "/resend.ashx", "email=bad", "Content-Type", form).wantError(t, 401, "unauthorized")
		// The form is checked before the proof, and a refused form does not use up the challenge.
		c := v.do(t, "POST", "/resend.ashx", "").challenge(t)
		for _, body := range []string{
			"email=", "email=a%40x.test&email=b%40x.test", "email=%ff",
			"email=a%0d%0aBcc%3a+x%40y.test", "email=a+b%40x.test", "email=a%40x.test%2cb%40x.test",
			"email=%", "email=-f%40x.test", "email=a", strings.Repeat("x", 9000), ";",
		} {
			v.resendProof(t, c, who.user, "wrong", body).wantError(t, 400, "invalid_request")
		}
		v.resendProof(t, c, who.user, who.password, "{}", "Content-Type", "application/json").
			wantError(t, 400, "invalid_request")
		for _, media := range []string{"application/json", "text/plain", "multipart/form-data; boundary=x"} {
			v.do(t, "POST", "/resend.ashx", "email=a%40x.test", "Content-Type", media, "Authorization",
				c.proof(who.user, who.password, "POST", "/resend.ashx", nil)).wantError(t, 400, "invalid_request")
		}
		v.do(t, "POST", "/resend.ashx?email=a%40x.test", "", "Authorization",
			c.proof(who.user, who.password, "POST", "/resend.ashx?email=a%40x.test", nil)).
			wantError(t, 400, "invalid_request")
		v.resendProof(t, c, who.user, who.password, "unknown=field&token=x").wantStatus(t, 200)
		v.resendProof(t, c, who.user, who.password, "").wantError(t, 401, "unauthorized")
	})
	t.Run("not when expired", func(t *testing.T) {
		who := s.pending(t, "b.test")
		s.Advance(7*24*time.Hour - time.Minute)
		v := s.visitor("b.test")
		c := v.do(t, "POST", "/resend.ashx", "").challenge(t)
		s.Advance(59 * time.Second)
		v.resendProof(t, c, who.user, who.password, "").wantStatus(t, 200)
		s.Advance(time.Second)
		v.resend(t, who.user, who.password, "").wantError(t, 401, "unauthorized")
	})
}

func TestResendServerError(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.pending(t, "a.test")
	old := s.link(t, who.email)
	v := s.visitor("a.test")
	c := v.do(t, "POST", "/resend.ashx", "").challenge(t)
	s.exec(t, `ALTER TABLE replaced RENAME TO elsewhere`)
	a := v.resendProof(t, c, who.user, who.password, "email=new%40mail.test")
	s.exec(t, `ALTER TABLE elsewhere RENAME TO replaced`)
	if got := a.wantError(t, 500, "server_error"); strings.Contains(got, "replaced") {
		t.Errorf("the description shows internals: %q", got)
	}
	if got := s.find(t, who).Email; got != who.email || len(s.messages(t, "new@mail.test")) != 0 {
		t.Errorf("the address is %s", got)
	}
	v.get(t, old).wantStatus(t, 200)
}
