package web_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")

	a := v.get(t, "/signin.ashx")
	a.wantError(t, 401, "unauthorized")
	c := a.challenge(t)
	if c.scheme != "Digest" || c.param["realm"] != "a.test" || c.param["qop"] != "auth" ||
		c.param["algorithm"] != "MD5" ||
		len(c.param["nonce"]) < 22 || c.param["stale"] != "" ||
		c.param["charset"] != "UTF-8" ||
		c.param["opaque"] == "" || len(c.param) != 6 {
		t.Errorf("the challenge is %+v", c)
	}
	if other := v.get(t, "/signin.ashx").challenge(t); other.param["nonce"] == c.param["nonce"] {
		t.Error("two challenges have the same nonce")
	}

	proof := c.signInProof(who)
	a = v.get(t, "/signin.ashx", "Authorization", proof)
	a.wantJSON(t, 200)
	if want := fmt.Sprintf(`{"ok":true,"user":%q,"role":"guest"}`, who.user) + "\n"; a.body != want {
		t.Errorf("body %q, want %q", a.body, want)
	}
	cookies := (&http.Response{Header: a.header}).Cookies()
	if len(cookies) != 2 || cookies[0].Name != "__Host-dialtone-session" ||
		cookies[1].Name != "__Host-dialtone-device" {
		t.Fatalf("cookies %v", cookies)
	}
	for _, cookie := range cookies {
		if !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" ||
			cookie.Domain != "" ||
			cookie.MaxAge <= 0 {
			t.Errorf("the cookie %s", cookie)
		}
	}

	t.Run("proof works once", func(t *testing.T) {
		a := v.get(t, "/signin.ashx", "Authorization", proof)
		a.wantError(t, 401, "unauthorized")
		if c := a.challenge(t); c.param["stale"] != "true" {
			t.Errorf("the new challenge is %v", c.param)
		}
	})
	t.Run("nonce is stale after one try", func(t *testing.T) {
		c := v.get(t, "/signin.ashx").challenge(t)
		a := v.get(t, "/signin.ashx", "Authorization", c.proof(who.user, "wrong", "GET", "/signin.ashx", nil))
		if c := a.challenge(t); c.param["stale"] != "" {
			t.Errorf("the challenge after a wrong password is stale: %v", c.param)
		}
		a = v.get(t, "/signin.ashx", "Authorization", c.signInProof(who))
		if c := a.challenge(t); c.param["stale"] != "true" {
			t.Errorf("the new challenge is %v", c.param)
		}
	})
	t.Run("nonce expires after a minute", func(t *testing.T) {
		c, late := v.get(t, "/signin.ashx").challenge(t), v.get(t, "/signin.ashx").challenge(t)
		s.Advance(time.Minute - time.Millisecond)
		v.get(t, "/signin.ashx", "Authorization", c.signInProof(who)).wantStatus(t, 200)
		s.Advance(time.Millisecond)
		v.get(t, "/signin.ashx", "Authorization", late.signInProof(who)).wantError(t, 401, "unauthorized")
	})
	t.Run("nonce not valid at another tenant", func(t *testing.T) {
		c := s.visitor("b.test").get(t, "/signin.ashx").challenge(t)
		c.param["realm"] = "a.test"
		v.get(t, "/signin.ashx", "Authorization", c.signInProof(who)).wantError(t, 401, "unauthorized")
	})
	t.Run("concurrent use of one proof", func(t *testing.T) {
		c := v.get(t, "/signin.ashx").challenge(t)
		proof := c.signInProof(who)
		answers := make([]answer, 20)
		atOnce(len(answers),
			func(i int) { answers[i] = s.visitor("a.test").get(t, "/signin.ashx", "Authorization", proof) })
		ok := 0
		for _, a := range answers {
			if a.status == 200 {
				ok++
			} else {
				a.wantError(t, 401, "unauthorized")
			}
		}
		if ok != 1 {
			t.Errorf("%d signed in", ok)
		}
	})
	t.Run("POST works too", func(t *testing.T) {
		c := v.do(t, "POST", "/signin.ashx", "").challenge(t)
		proof := c.proof(who.user, who.password, "POST", "/signin.ashx", nil)
		v.do(t, "POST", "/signin.ashx", "", "Authorization", proof).wantStatus(t, 200)
	})
	t.Run("proof covers method and path", func(t *testing.T) {
		c := v.get(t, "/signin.ashx").challenge(t)
		v.do(t, "POST", "/signin.ashx", "", "Authorization", c.signInProof(who)).wantStatus(t, 401)
		c = v.get(t, "/signin.ashx").challenge(t)
		v.get(t, "/signin.ashx?x=1", "Authorization", c.signInProof(who)).wantStatus(t, 401)
		c = v.get(t, "/signin.ashx").challenge(t)
		v.get(t, "/signin.ashx?x=1", "Authorization", c.proof(who.user, who.password, "GET", "/signin.ashx?x=1", nil)).
			wantStatus(t, 200)
	})
	t.Run("scripts get X-Digest", func(t *testing.T) {
		c := v.get(t, "/signin.ashx", "X-Requested-With", "fetch").challenge(t)
		if c.scheme != "X-Digest" {
			t.Errorf("the scheme is %s", c.scheme)
		}
		v.get(t, "/signin.ashx", "X-Requested-With", "fetch", "Authorization", c.signInProof(who)).
			wantStatus(t, 200)
	})

	basic := base64.StdEncoding.EncodeToString([]byte(who.user + ":" + who.password))
	for name, header := range map[string]func(c challenge) string{
		"not Basic":     func(challenge) string { return "Basic " + basic },
		"not Bearer":    func(challenge) string { return "Bearer " + who.ha1() },
		"not HA1 alone": func(challenge) string { return "Digest " + who.ha1() },
		"not HA1 as the response": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/signin.ashx",
				map[string]string{"response": `"` + who.ha1() + `"`})
		},
		"not the scheme of the script's challenge": func(c challenge) string {
			return "X-" + c.signInProof(who)
		},
		"not MD5-sess": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/signin.ashx", map[string]string{"algorithm": "MD5-sess"})
		},
		"not SHA-256 where the challenge says MD5": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/signin.ashx", map[string]string{
				"algorithm": "SHA-256", "response": `"` + sha256Hex("x") + `"`,
			})
		},
		"not auth-int": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/signin.ashx", map[string]string{"qop": "auth-int"})
		},
		"not RFC 2069 without qop": func(c challenge) string {
			ha1, ha2 := who.ha1(), md5Hex("GET:/signin.ashx")
			return c.proof(who.user, who.password, "GET", "/signin.ashx", map[string]string{
				"qop": "", "nc": "", "cnonce": "", "response": `"` + md5Hex(ha1+":"+c.param["nonce"]+":"+ha2) + `"`,
			})
		},
		"not a nonce count beyond the first": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/signin.ashx", map[string]string{"nc": "00000002"})
		},
		"not a made-up nonce": func(c challenge) string {
			c.param["nonce"] = strings.Repeat("A", len(c.param["nonce"]))
			return c.signInProof(who)
		},
		"not another realm": func(c challenge) string {
			c.param["realm"] = "b.test"
			return c.signInProof(who)
		},
		"not another address": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/account.html", nil)
		},
		"not a parameter twice": func(c challenge) string {
			return c.signInProof(who) + `, username="other"`
		},
		"not a hashed user name": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/signin.ashx", map[string]string{"userhash": "true"})
		},
		"not a user name in capitals": func(c challenge) string {
			return c.proof(strings.ToUpper(who.user), who.password, "GET", "/signin.ashx", nil)
		},
		"not an empty password": func(c challenge) string { return c.proof(who.user, "", "GET", "/signin.ashx", nil) },
		"not a long header": func(c challenge) string {
			return `Digest username="` + strings.Repeat("a", 8000) + `"`
		},
		"not an unfinished string": func(c challenge) string { return `Digest username="` },
		"not an empty header":      func(c challenge) string { return "Digest" },
	} {
		t.Run(name, func(t *testing.T) {
			v := s.visitor("a.test")
			a := v.get(t, "/signin.ashx", "Authorization", header(v.get(t, "/signin.ashx").challenge(t)))
			a.wantError(t, 401, "unauthorized")
			if got := a.challenge(t); got.scheme != "Digest" || got.param["algorithm"] != "MD5" ||
				got.param["qop"] != "auth" {
				t.Errorf("the challenge is %+v", got)
			}
		})
	}
}

// TestSignInHidesAccounts checks that a failed sign-in does not reveal whether the account exists.
// Only the right password is answered with not_activated.
func TestSignInHidesAccounts(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	active, held, gone := s.active(t, "a.test"), s.active(t, "a.test"), s.active(t, "a.test")
	pending, early := s.pending(t, "a.test"), s.pending(t, "a.test")
	expired := s.pending(t, "b.test")
	for _, who := range []person{held, early} {
		s.At("a.test").Disable(who.user)
	}
	s.At("a.test").Delete(gone.user)
	sign := func(user, password string) answer { return s.visitor("a.test").signIn(t, user, password) }
	answers := []answer{
		sign("nobody-at-all", active.password),
		sign(active.user, "wrong"),
		sign(pending.user, "wrong"),
		sign(held.user, "wrong"),
		sign(held.user, held.password),
		sign(early.user, early.password),
		sign(early.user, "wrong"),
		sign(gone.user, gone.password),
		sign(expired.user, expired.password),
		sign("ADMIN", "x"),
		sign("not a name at all", "x"),
		sign(strings.Repeat("a", 65), "x"),
	}
	answers[0].wantError(t, 401, "unauthorized")
	wantSame(t, answers...)

	sign(active.user, active.password).wantStatus(t, 200)
	a := sign(pending.user, pending.password)
	a.wantError(t, 403, "not_activated")
	if a.header.Get("WWW-Authenticate") != "" {
		t.Error("the answer to a right password has a challenge")
	}
	s.visitor("a.test").get(t, s.link(t, pending.email)).wantStatus(t, 200)
	sign(pending.user, pending.password).wantStatus(t, 200)
}

func TestSignInNotActivated(t *testing.T) {
	t.Parallel()
	states := map[account.UID]delivery.State{}
	s := startServerWith(t, options{delivery: func(_ context.Context, a account.Account) (delivery.State, error) {
		state, ok := states[a.UID]
		switch {
		case state == "broken":
			return "", errors.New("the store is on fire")
		case !ok:
			return "", fault.New(fault.NotFound, "nothing is known")
		}
		return state, nil
	}})
	failed, unknown, broken := s.pending(t, "a.test"), s.pending(t, "a.test"), s.pending(t, "a.test")
	states[s.find(t, failed).UID], states[s.find(t, broken).UID] = delivery.Failed, "broken"
	for who, more := range map[person]string{failed: `,"delivery":"failed"`, unknown: "", broken: ""} {
		a := s.visitor("a.test").signIn(t, who.user, who.password)
		a.wantError(t, 403, "not_activated")
		want := `,"email":"` + audit.MaskEmail(who.email) + `"` + more + "}\n"
		if !strings.HasSuffix(a.body, want) {
			t.Errorf("body %q, want it to end with %q", a.body, want)
		}
	}
	a := s.visitor("a.test").signIn(t, failed.user, "wrong")
	a.wantError(t, 401, "unauthorized")
}

func TestSession(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	enter := func(t *testing.T, who person) (v *visitor, cookies string) {
		t.Helper()
		v = s.visitor(who.host)
		a := v.signIn(t, who.user, who.password)
		a.wantStatus(t, 200)
		return v, a.cookies()
	}
	out := func(t *testing.T, v *visitor, cookies string) {
		t.Helper()
		a := v.get(t, "/account.html", "Cookie", cookies)
		a.wantStatus(t, 303)
		want := "/login.html#ended"
		if a := v.get(t, "/account.html"); a.header.Get("Location") != "/login.html" {
			t.Errorf("without a cookie, Location is %q", a.header.Get("Location"))
		}
		if strings.HasSuffix(cookies, "=") || strings.HasPrefix(cookies, "dialtone-session=") {
			want = "/login.html" // a cookie without a value, or without the prefix, is none
		}
		if got := a.header.Get("Location"); got != want {
			t.Errorf("Location is %q, want %q", got, want)
		}
	}

	t.Run("opens the account page", func(t *testing.T) {
		who := s.newPerson("a.test")
		who.name = `"><img src=x onerror=alert(1)>`
		s.signUp(t, who)
		s.visitor("a.test").get(t, s.link(t, who.email)).wantStatus(t, 200)
		v, cookies := enter(t, who)
		a := v.get(t, "/account.html", "Cookie", cookies)
		a.wantStatus(t, 200)
		if !strings.Contains(a.body, who.user) || !strings.Contains(a.body, "&lt;img src=x") ||
			strings.Contains(a.body, "<img src=x") {
			t.Errorf("the page is %s", a.body)
		}
		if strings.Contains(a.body, who.ha1()) {
			t.Error("the page shows HA1")
		}
	})
	t.Run("ends at sign-out", func(t *testing.T) {
		who := s.active(t, "a.test")
		v, cookies := enter(t, who)
		_, other := enter(t, who)
		v.get(t, "/signout.ashx", "Cookie", cookies).wantError(t, 405, "method_not_allowed")
		v.do(t, "POST", "/signout.ashx", "", "Cookie", cookies, "Sec-Fetch-Site", "cross-site").
			wantError(t, 400, "invalid_request")
		v.get(t, "/account.html", "Cookie", cookies).wantStatus(t, 200)
		a := v.do(t, "POST", "/signout.ashx", "", "Cookie", cookies)
		a.wantStatus(t, 303)
		if a.header.Get("Location") != "/login.html#signed-out" ||
			!strings.Contains(a.header.Get("Set-Cookie"), "__Host-dialtone-session=; Path=/; Max-Age=0") {
			t.Errorf("headers %v", a.header)
		}
		out(t, v, cookies)
		v.get(t, "/account.html", "Cookie", other).wantStatus(t, 200)
		v.do(t, "POST", "/signout.ashx", "").wantStatus(t, 303)
	})
	t.Run("ends after twelve hours without a use", func(t *testing.T) {
		v, cookies := enter(t, s.active(t, "a.test"))
		for range 2 {
			s.Advance(12*time.Hour - time.Second)
			v.get(t, "/account.html", "Cookie", cookies).wantStatus(t, 200)
			s.Must(s.authenticator.Flush(t.Context()))
		}
		s.Advance(12 * time.Hour)
		out(t, v, cookies)
	})
	t.Run("ends when disabled, also when enabled again", func(t *testing.T) {
		who := s.active(t, "a.test")
		v, cookies := enter(t, who)
		s.At("a.test").Disable(who.user)
		out(t, v, cookies)
		s.At("a.test").Enable(who.user)
		out(t, v, cookies)
	})
	t.Run("ends when deleted", func(t *testing.T) {
		who := s.active(t, "a.test")
		v, cookies := enter(t, who)
		s.At("a.test").Delete(who.user)
		out(t, v, cookies)
	})
	t.Run("not valid at another tenant", func(t *testing.T) {
		_, cookies := enter(t, s.active(t, "a.test"))
		out(t, s.visitor("b.test"), cookies)
	})
	t.Run("not when forged", func(t *testing.T) {
		v, cookies := enter(t, s.active(t, "a.test"))
		name, token, _ := strings.Cut(strings.Split(cookies, ";")[0], "=")
		for _, bad := range []string{
			"", "x", token[:len(token)-1], token + "A", "A" + token[1:],
			token[:20] + "A" + token[21:], strings.ToLower(token),
		} {
			if bad != token {
				out(t, v, name+"="+bad)
			}
		}
		out(t, v, "dialtone-session="+token) // without the __Host- prefix
	})
	t.Run("new at each sign-in", func(t *testing.T) {
		who := s.active(t, "a.test")
		v := s.visitor("a.test")
		a := v.signIn(t, who.user, who.password, "Cookie", "__Host-dialtone-session=chosen-by-somebody-else")
		a.wantStatus(t, 200)
		if strings.Contains(a.cookies(), "chosen-by-somebody-else") {
			t.Error("the server adopted the cookie of the request")
		}
		if b := v.signIn(t, who.user, who.password); b.cookies() == a.cookies() {
			t.Error("two sign-ins have the same session")
		}
	})
	t.Run("survives a restart", func(t *testing.T) {
		v, cookies := enter(t, s.active(t, "a.test"))
		s.restart(t)
		v.get(t, "/account.html", "Cookie", cookies).wantStatus(t, 200)
	})
}

func TestSignInLimit(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	known := s.visitor("a.test").signIn(t, who.user, who.password)
	known.wantStatus(t, 200)
	for range 10 {
		s.visitor("a.test").signIn(t, who.user, "wrong").wantError(t, 401, "unauthorized")
	}
	a := s.visitor("a.test").signIn(t, who.user, who.password)
	a.wantError(t, 429, "rate_limited")
	if got := a.retryAfter(t); got != 15*time.Minute {
		t.Errorf("Retry-After is %v", got)
	}
	if got := a.header.Get("Dialtone-Rule"); got != "name" {
		t.Errorf("the rule is %q", got)
	}
	// A browser that signed in before is not locked out by others.
	s.visitor("a.test").signIn(t, who.user, who.password, "Cookie", known.cookies()).wantStatus(t, 200)
	// The limit applies to unknown names too.
	for range 10 {
		s.visitor("a.test").signIn(t, "nobody-at-all", "wrong").wantError(t, 401, "unauthorized")
	}
	s.visitor("a.test").signIn(t, "nobody-at-all", "wrong").wantError(t, 429, "rate_limited")
	s.Advance(15 * time.Minute)
	s.visitor("a.test").signIn(t, who.user, who.password).wantStatus(t, 200)

	t.Run("a known browser", func(t *testing.T) {
		known := s.visitor("a.test").signIn(t, who.user, who.password).cookies()
		for range 10 {
			s.visitor("a.test").signIn(t, who.user, "wrong", "Cookie", known).wantError(t, 401, "unauthorized")
		}
		a := s.visitor("a.test").signIn(t, who.user, who.password, "Cookie", known)
		a.wantError(t, 429, "rate_limited")
		if got := a.header.Get("Dialtone-Rule"); got != "device" {
			t.Errorf("the rule is %q", got)
		}
	})

	t.Run("one address, many names", func(t *testing.T) {
		v := s.visitor("a.test")
		for i := range 100 {
			v.signIn(t, fmt.Sprintf("guess-%d", i), "wrong").wantError(t, 401, "unauthorized")
		}
		limited := v.signIn(t, who.user, who.password)
		limited.wantError(t, 429, "rate_limited")
		if got, ok := limited.header["Dialtone-Rule"]; ok {
			t.Errorf("the rule is %q", got)
		}
		s.visitor("a.test").signIn(t, who.user, who.password).wantStatus(t, 200)
	})
}

func TestSignInServerError(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	c := v.get(t, "/signin.ashx").challenge(t)
	s.exec(t, `ALTER TABLE account RENAME TO elsewhere`)
	a := v.get(t, "/signin.ashx", "Authorization", c.signInProof(who))
	s.exec(t, `ALTER TABLE elsewhere RENAME TO account`)
	if got := a.wantError(t, 500, "server_error"); strings.Contains(got, "account") ||
		strings.ContainsAny(got, `/\`) {
		t.Errorf("the description shows internals: %q", got)
	}
	v.signIn(t, who.user, who.password).wantStatus(t, 200)
}
