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

func TestSignInExchange(t *testing.T) {
	t.Parallel()
	p := open(t)
	who := p.active(t, "a.test")
	v := p.visitor("a.test")

	a := v.get(t, "/signin.ashx")
	a.fails(t, 401, "unauthorized")
	c := a.challenge(t)
	if c.scheme != "Digest" || c.param["realm"] != "a.test" || c.param["qop"] != "auth" || c.param["algorithm"] != "MD5" ||
		len(c.param["nonce"]) < 22 || c.param["stale"] != "" || c.param["charset"] != "UTF-8" || len(c.param) != 5 {
		t.Errorf("the challenge is %+v", c)
	}
	if other := v.get(t, "/signin.ashx").challenge(t); other.param["nonce"] == c.param["nonce"] {
		t.Error("two challenges have one nonce")
	}

	proof := c.proof(who.user, who.password, "GET", "/signin.ashx", nil)
	a = v.get(t, "/signin.ashx", "Authorization", proof)
	a.isJSON(t, 200)
	if want := fmt.Sprintf(`{"ok":true,"user":%q,"role":"guest"}`, who.user) + "\n"; a.body != want {
		t.Errorf("body %q, want %q", a.body, want)
	}
	cookies := (&http.Response{Header: a.header}).Cookies()
	if len(cookies) != 2 || cookies[0].Name != "__Host-dialtone-session" || cookies[1].Name != "__Host-dialtone-device" {
		t.Fatalf("cookies %v", cookies)
	}
	for _, cookie := range cookies {
		if !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" || cookie.MaxAge <= 0 {
			t.Errorf("the cookie %s", cookie)
		}
	}

	t.Run("an answer is good once", func(t *testing.T) {
		a := v.get(t, "/signin.ashx", "Authorization", proof)
		a.fails(t, 401, "unauthorized")
		if c := a.challenge(t); c.param["stale"] != "true" {
			t.Errorf("the new challenge is %v", c.param)
		}
	})
	t.Run("a nonce is good for one try, and then stale", func(t *testing.T) {
		c := v.get(t, "/signin.ashx").challenge(t)
		a := v.get(t, "/signin.ashx", "Authorization", c.proof(who.user, "wrong", "GET", "/signin.ashx", nil))
		if c := a.challenge(t); c.param["stale"] != "" {
			t.Errorf("a wrong password is told as a stale nonce: %v", c.param)
		}
		a = v.get(t, "/signin.ashx", "Authorization", c.proof(who.user, who.password, "GET", "/signin.ashx", nil))
		if c := a.challenge(t); c.param["stale"] != "true" {
			t.Errorf("the new challenge is %v", c.param)
		}
	})
	t.Run("a nonce is good for a minute", func(t *testing.T) {
		c, late := v.get(t, "/signin.ashx").challenge(t), v.get(t, "/signin.ashx").challenge(t)
		p.clock.add(time.Minute - time.Millisecond)
		v.get(t, "/signin.ashx", "Authorization", c.proof(who.user, who.password, "GET", "/signin.ashx", nil)).is(t, 200)
		p.clock.add(time.Millisecond)
		v.get(t, "/signin.ashx", "Authorization", late.proof(who.user, who.password, "GET", "/signin.ashx", nil)).fails(t, 401, "unauthorized")
	})
	t.Run("a nonce is good at its tenant alone", func(t *testing.T) {
		c := p.visitor("b.test").get(t, "/signin.ashx").challenge(t)
		c.param["realm"] = "a.test"
		v.get(t, "/signin.ashx", "Authorization", c.proof(who.user, who.password, "GET", "/signin.ashx", nil)).fails(t, 401, "unauthorized")
	})
	t.Run("twenty at once with one answer are one", func(t *testing.T) {
		c := v.get(t, "/signin.ashx").challenge(t)
		proof := c.proof(who.user, who.password, "GET", "/signin.ashx", nil)
		answers := make([]answer, 20)
		atOnce(len(answers), func(i int) { answers[i] = p.visitor("a.test").get(t, "/signin.ashx", "Authorization", proof) })
		ok := 0
		for _, a := range answers {
			if a.status == 200 {
				ok++
			} else {
				a.fails(t, 401, "unauthorized")
			}
		}
		if ok != 1 {
			t.Errorf("%d signed in", ok)
		}
	})
	t.Run("a POST is as good", func(t *testing.T) {
		c := v.do(t, "POST", "/signin.ashx", "").challenge(t)
		v.do(t, "POST", "/signin.ashx", "", "Authorization", c.proof(who.user, who.password, "POST", "/signin.ashx", nil)).is(t, 200)
	})
	t.Run("the method and the address are part of the proof", func(t *testing.T) {
		c := v.get(t, "/signin.ashx").challenge(t)
		v.do(t, "POST", "/signin.ashx", "", "Authorization", c.proof(who.user, who.password, "GET", "/signin.ashx", nil)).is(t, 401)
		c = v.get(t, "/signin.ashx").challenge(t)
		v.get(t, "/signin.ashx?x=1", "Authorization", c.proof(who.user, who.password, "GET", "/signin.ashx", nil)).is(t, 401)
		c = v.get(t, "/signin.ashx").challenge(t)
		v.get(t, "/signin.ashx?x=1", "Authorization", c.proof(who.user, who.password, "GET", "/signin.ashx?x=1", nil)).is(t, 200)
	})
	t.Run("a script's challenge opens no box of the browser", func(t *testing.T) {
		c := v.get(t, "/signin.ashx", "X-Requested-With", "fetch").challenge(t)
		if c.scheme != "X-Digest" {
			t.Errorf("the scheme is %s", c.scheme)
		}
		v.get(t, "/signin.ashx", "X-Requested-With", "fetch", "Authorization", c.proof(who.user, who.password, "GET", "/signin.ashx", nil)).is(t, 200)
	})

	basic := base64.StdEncoding.EncodeToString([]byte(who.user + ":" + who.password))
	for name, header := range map[string]func(c challenge) string{
		"not Basic":       func(challenge) string { return "Basic " + basic },
		"not Bearer":      func(challenge) string { return "Bearer " + who.ha1() },
		"not HA1 as such": func(challenge) string { return "Digest " + who.ha1() },
		"not HA1 as the response": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/signin.ashx", map[string]string{"response": `"` + who.ha1() + `"`})
		},
		"not the scheme of the script's challenge": func(c challenge) string {
			return "X-" + c.proof(who.user, who.password, "GET", "/signin.ashx", nil)
		},
		"not MD5-sess": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/signin.ashx", map[string]string{"algorithm": "MD5-sess"})
		},
		"not SHA-256 where the challenge says MD5": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/signin.ashx", map[string]string{"algorithm": "SHA-256", "response": `"` + sha256Hex("x") + `"`})
		},
		"not auth-int": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/signin.ashx", map[string]string{"qop": "auth-int"})
		},
		"not the old way without qop": func(c challenge) string {
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
			return c.proof(who.user, who.password, "GET", "/signin.ashx", nil)
		},
		"not another realm": func(c challenge) string {
			c.param["realm"] = "b.test"
			return c.proof(who.user, who.password, "GET", "/signin.ashx", nil)
		},
		"not another address": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/account.html", nil)
		},
		"not a parameter twice": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/signin.ashx", nil) + `, username="other"`
		},
		"not a hashed user name": func(c challenge) string {
			return c.proof(who.user, who.password, "GET", "/signin.ashx", map[string]string{"userhash": "true"})
		},
		"not a user name in capitals": func(c challenge) string {
			return c.proof(strings.ToUpper(who.user), who.password, "GET", "/signin.ashx", nil)
		},
		"not an empty password":    func(c challenge) string { return c.proof(who.user, "", "GET", "/signin.ashx", nil) },
		"not an endless header":    func(c challenge) string { return "Digest username=\"" + strings.Repeat("a", 8000) + `"` },
		"not an unfinished string": func(c challenge) string { return `Digest username="` },
		"not nothing at all":       func(c challenge) string { return "Digest" },
	} {
		t.Run(name, func(t *testing.T) {
			v := p.visitor("a.test")
			a := v.get(t, "/signin.ashx", "Authorization", header(v.get(t, "/signin.ashx").challenge(t)))
			a.fails(t, 401, "unauthorized")
			if got := a.challenge(t); got.scheme != "Digest" || got.param["algorithm"] != "MD5" || got.param["qop"] != "auth" {
				t.Errorf("the challenge is %+v", got)
			}
		})
	}
}

// Nobody learns from sign-in who is here. Only the right password is told that the link was not opened.
func TestSignInTellsNobodyWhoIsHere(t *testing.T) {
	t.Parallel()
	p := open(t)
	active, pending, held, early := p.active(t, "a.test"), p.member(t, "a.test"), p.active(t, "a.test"), p.member(t, "a.test")
	gone := p.active(t, "a.test")
	expired := p.member(t, "b.test")
	for _, who := range []person{held, early} {
		if _, err := p.desk.Disable(t.Context(), p.tenant(t, "a.test"), who.user); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.desk.Delete(t.Context(), p.tenant(t, "a.test"), gone.user); err != nil {
		t.Fatal(err)
	}
	sign := func(user, password string) answer { return p.visitor("a.test").signIn(t, user, password) }
	answers := []answer{
		sign("nobody-at-all", active.password), sign(active.user, "wrong"), sign(pending.user, "wrong"), sign(held.user, "wrong"),
		sign(held.user, held.password), sign(early.user, early.password), sign(early.user, "wrong"), sign(gone.user, gone.password),
		sign(expired.user, expired.password), sign("ADMIN", "x"), sign("not a name at all", "x"), sign(strings.Repeat("a", 65), "x"),
	}
	answers[0].fails(t, 401, "unauthorized")
	alike(t, answers...)

	sign(active.user, active.password).is(t, 200)
	a := sign(pending.user, pending.password)
	a.fails(t, 403, "not_activated")
	if a.header.Get("WWW-Authenticate") != "" {
		t.Error("a proved password is asked for again")
	}
	p.visitor("a.test").get(t, p.link(t, pending.email)).is(t, 200)
	sign(pending.user, pending.password).is(t, 200)
}

func TestSignInTellsOfTheMessage(t *testing.T) {
	t.Parallel()
	states := map[account.UID]delivery.State{}
	p := openWith(t, choice{delivery: func(_ context.Context, a account.Account) (delivery.State, error) {
		state, ok := states[a.UID]
		switch {
		case state == "broken":
			return "", errors.New("the store is on fire")
		case !ok:
			return "", fault.New(fault.NotFound, "nothing is known")
		}
		return state, nil
	}})
	failed, unknown, broken := p.member(t, "a.test"), p.member(t, "a.test"), p.member(t, "a.test")
	states[p.find(t, failed).UID], states[p.find(t, broken).UID] = delivery.Failed, "broken"
	for who, more := range map[person]string{failed: `,"delivery":"failed"`, unknown: "", broken: ""} {
		a := p.visitor("a.test").signIn(t, who.user, who.password)
		a.fails(t, 403, "not_activated")
		if want := `,"email":"` + audit.MaskEmail(who.email) + `"` + more + "}\n"; !strings.HasSuffix(a.body, want) {
			t.Errorf("body %q, want it to end with %q", a.body, want)
		}
	}
	a := p.visitor("a.test").signIn(t, failed.user, "wrong")
	a.fails(t, 401, "unauthorized")
}

func TestSessions(t *testing.T) {
	t.Parallel()
	p := open(t)
	enter := func(t *testing.T, who person) (v *visitor, cookies string) {
		t.Helper()
		v = p.visitor(who.host)
		a := v.signIn(t, who.user, who.password)
		a.is(t, 200)
		return v, a.cookies()
	}
	out := func(t *testing.T, v *visitor, cookies string) {
		t.Helper()
		a := v.get(t, "/account.html", "Cookie", cookies)
		a.is(t, 303)
		if got := a.header.Get("Location"); got != "/login.html" {
			t.Errorf("Location is %q", got)
		}
	}

	t.Run("open the account's page", func(t *testing.T) {
		who := p.person("a.test")
		who.name = `"><img src=x onerror=alert(1)>`
		p.signUp(t, who)
		p.visitor("a.test").get(t, p.link(t, who.email)).is(t, 200)
		v, cookies := enter(t, who)
		a := v.get(t, "/account.html", "Cookie", cookies)
		a.is(t, 200)
		if !strings.Contains(a.body, who.user) || !strings.Contains(a.body, "&lt;img src=x") || strings.Contains(a.body, "<img src=x") {
			t.Errorf("the page is %s", a.body)
		}
		if strings.Contains(a.body, who.ha1()) {
			t.Error("the page shows HA1")
		}
	})
	t.Run("end by signing out", func(t *testing.T) {
		who := p.active(t, "a.test")
		v, cookies := enter(t, who)
		_, other := enter(t, who)
		v.get(t, "/signout.ashx", "Cookie", cookies).fails(t, 405, "method_not_allowed")
		v.do(t, "POST", "/signout.ashx", "", "Cookie", cookies, "Sec-Fetch-Site", "cross-site").fails(t, 400, "invalid_request")
		v.get(t, "/account.html", "Cookie", cookies).is(t, 200)
		a := v.do(t, "POST", "/signout.ashx", "", "Cookie", cookies)
		a.is(t, 303)
		if a.header.Get("Location") != "/login.html" || !strings.Contains(a.header.Get("Set-Cookie"), "__Host-dialtone-session=; Path=/; Max-Age=0") {
			t.Errorf("headers %v", a.header)
		}
		out(t, v, cookies)
		v.get(t, "/account.html", "Cookie", other).is(t, 200)
		v.do(t, "POST", "/signout.ashx", "").is(t, 303)
	})
	t.Run("end after twelve hours", func(t *testing.T) {
		v, cookies := enter(t, p.active(t, "a.test"))
		p.clock.add(12*time.Hour - time.Second)
		v.get(t, "/account.html", "Cookie", cookies).is(t, 200)
		p.clock.add(time.Second)
		out(t, v, cookies)
	})
	t.Run("end when an operator disables the account, and stay ended", func(t *testing.T) {
		who := p.active(t, "a.test")
		v, cookies := enter(t, who)
		if _, err := p.desk.Disable(t.Context(), p.tenant(t, "a.test"), who.user); err != nil {
			t.Fatal(err)
		}
		out(t, v, cookies)
		if _, err := p.desk.Enable(t.Context(), p.tenant(t, "a.test"), who.user); err != nil {
			t.Fatal(err)
		}
		out(t, v, cookies)
	})
	t.Run("end when the account is deleted", func(t *testing.T) {
		who := p.active(t, "a.test")
		v, cookies := enter(t, who)
		if err := p.desk.Delete(t.Context(), p.tenant(t, "a.test"), who.user); err != nil {
			t.Fatal(err)
		}
		out(t, v, cookies)
	})
	t.Run("are worth nothing at another tenant", func(t *testing.T) {
		_, cookies := enter(t, p.active(t, "a.test"))
		out(t, p.visitor("b.test"), cookies)
	})
	t.Run("cannot be made up", func(t *testing.T) {
		v, cookies := enter(t, p.active(t, "a.test"))
		name, token, _ := strings.Cut(strings.Split(cookies, ";")[0], "=")
		for _, bad := range []string{"", "x", token[:len(token)-1], token + "A", "A" + token[1:], token[:20] + "A" + token[21:], strings.ToLower(token)} {
			if bad != token {
				out(t, v, name+"="+bad)
			}
		}
		out(t, v, "dialtone-session="+token) // without the prefix that binds it to the host
	})
	t.Run("are made anew at each sign-in", func(t *testing.T) {
		who := p.active(t, "a.test")
		v := p.visitor("a.test")
		a := v.signIn(t, who.user, who.password, "Cookie", "__Host-dialtone-session=chosen-by-somebody-else")
		a.is(t, 200)
		if strings.Contains(a.cookies(), "chosen-by-somebody-else") {
			t.Error("a cookie of before is adopted")
		}
		if b := v.signIn(t, who.user, who.password); b.cookies() == a.cookies() {
			t.Error("two sign-ins are one session")
		}
	})
	t.Run("live through a restart", func(t *testing.T) {
		v, cookies := enter(t, p.active(t, "a.test"))
		p.restart(t)
		v.get(t, "/account.html", "Cookie", cookies).is(t, 200)
	})
}

func TestSignInTries(t *testing.T) {
	t.Parallel()
	p := open(t)
	who := p.active(t, "a.test")
	known := p.visitor("a.test").signIn(t, who.user, who.password)
	known.is(t, 200)
	for range 10 {
		p.visitor("a.test").signIn(t, who.user, "wrong").fails(t, 401, "unauthorized")
	}
	a := p.visitor("a.test").signIn(t, who.user, who.password)
	a.fails(t, 429, "rate_limited")
	if got := a.retryAfter(t); got != 15*time.Minute {
		t.Errorf("Retry-After is %v", got)
	}
	// A browser that was here before is not shut out by strangers who guess.
	p.visitor("a.test").signIn(t, who.user, who.password, "Cookie", known.cookies()).is(t, 200)
	// Unknown names are no different.
	for range 10 {
		p.visitor("a.test").signIn(t, "nobody-at-all", "wrong").fails(t, 401, "unauthorized")
	}
	p.visitor("a.test").signIn(t, "nobody-at-all", "wrong").fails(t, 429, "rate_limited")
	p.clock.add(15 * time.Minute)
	p.visitor("a.test").signIn(t, who.user, who.password).is(t, 200)

	t.Run("one address may fail a hundred times, whatever the names", func(t *testing.T) {
		v := p.visitor("a.test")
		for i := range 100 {
			v.signIn(t, fmt.Sprintf("guess-%d", i), "wrong").fails(t, 401, "unauthorized")
		}
		v.signIn(t, who.user, who.password).fails(t, 429, "rate_limited")
		p.visitor("a.test").signIn(t, who.user, who.password).is(t, 200)
	})
}

func TestSignInInTroubleSaysNothing(t *testing.T) {
	t.Parallel()
	p := open(t)
	who := p.active(t, "a.test")
	v := p.visitor("a.test")
	c := v.get(t, "/signin.ashx").challenge(t)
	p.exec(t, `ALTER TABLE account RENAME TO elsewhere`)
	a := v.get(t, "/signin.ashx", "Authorization", c.proof(who.user, who.password, "GET", "/signin.ashx", nil))
	p.exec(t, `ALTER TABLE elsewhere RENAME TO account`)
	if got := a.fails(t, 500, "server_error"); strings.Contains(got, "account") || strings.ContainsAny(got, `/\`) {
		t.Errorf("the description tells of our insides: %q", got)
	}
	v.signIn(t, who.user, who.password).is(t, 200)
}
