package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func TestKeys(t *testing.T) {
	s := newPageServer(t)
	const rounds, each = 4, 1_000
	type triple struct {
		User, Realm, Password string
	}
	r := rand.New(rand.NewChaCha8([32]byte{7}))
	alphabets := [][]rune{
		[]rune("abcdefghijklmnopqrstuvwxyz0123456789_.-"),
		[]rune(`AaZz09:::: "\'%&+=;/?` + "\t~"),
		[]rune("äßéñøŞıİΩжשع"),
		[]rune("漢字かな한글\u200d\u0301\ufeff\u00a0"),
		[]rune("🔐🙂👩‍👩‍👧𝔘𐍈\U0010fffd"),
	}
	text := func(length int, alphabets ...[]rune) string {
		var b strings.Builder
		for range length {
			a := alphabets[r.IntN(len(alphabets))]
			b.WriteRune(a[r.IntN(len(a))])
		}
		return b.String()
	}
	triples := make([][]triple, rounds)
	for i := range triples {
		for range each {
			triples[i] = append(triples[i], triple{
				text(1+r.IntN(64), alphabets[0]),
				text(1+r.IntN(30), alphabets[0]),
				text(r.IntN(129), alphabets...),
			})
		}
	}
	s.handle("/triples", func(w http.ResponseWriter, r *http.Request) {
		var round int
		if _, err := fmt.Sscan(r.URL.Query().Get("round"), &round); err != nil {
			t.Error(err)
			return
		}
		if r.Method == http.MethodGet {
			if err := json.NewEncoder(w).Encode(triples[round]); err != nil {
				t.Error(err)
			}
			return
		}
		lines := bufio.NewScanner(r.Body)
		for _, x := range triples[round] {
			lines.Scan()
			want := hexDigest("MD5", x.User+":"+x.Realm+":"+x.Password) + " " +
				hexDigest("MD5", x.User+"@"+x.Realm+":"+x.Realm+":"+x.Password) + " " +
				hexDigest("SHA-256", x.User+":"+x.Realm+":"+x.Password)
			if got := lines.Text(); got != want {
				t.Errorf("keys of %+q\n got %s\nwant %s", x, got, want)
				return
			}
		}
		writeReply(w, 200, `{}`)
	})
	p := openTab(t, s, "/error")
	const module = modulePath + "keys.js"
	done := eval[int](p, `(async () => {
		const { keys, sound } = await import("`+module+`");
		if (!sound) return -1;
		let done = 0;
		for (let round = 0; round < `+fmt.Sprint(rounds)+`; round++) {
			const triples = await (await fetch("/triples?round=" + round)).json();
			const line = ({ User, Realm, Password }) => Object.values(keys(User, Realm, Password)).join(" ");
			const lines = triples.map(line);
			const answer = await fetch("/triples?round=" + round, { method: "POST", body: lines.join("\n") });
			if (answer.ok) done += lines.length;
		}
		return done;
	})()`)
	if done != rounds*each {
		t.Errorf("%d triples were computed, want %d", done, rounds*each)
	}
}

func TestHashLengths(t *testing.T) {
	p := openTab(t, newPageServer(t), "/error")
	got := eval[[]string](p, `(async () => {
		const { hashes } = await import("`+modulePath+`keys.js");
		const out = [];
		for (let n = 0; n < 300; n++) out.push(hashes["MD5"]("x".repeat(n)) + hashes["SHA-256"]("x".repeat(n)));
		return out;
	})()`)
	for n, sums := range got {
		text := strings.Repeat("x", n)
		if want := hexDigest("MD5", text) + hexDigest("SHA-256", text); sums != want {
			t.Errorf("%d bytes: %s, want %s", n, sums, want)
		}
	}
	if len(got) != 300 {
		t.Errorf("%d lengths, want 300", len(got))
	}
}

func TestDigestModule(t *testing.T) {
	p := openTab(t, newPageServer(t), "/error")
	const module = modulePath + "digest.js"

	t.Run("RFC 7616 section 3.9.1", func(t *testing.T) {
		for algorithm, want := range map[string]string{
			"MD5":     "8ca523f5e9506fed4657c9700eebdbec",
			"SHA-256": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
		} {
			got := eval[string](p, `(async () => {
				const { digestChallenge, authorization } = await import("`+module+`");
				const params = digestChallenge(
					'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=`+algorithm+`, ' +
					'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", ' +
					'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"');
				return authorization(params, {
					user: "Mufasa", password: "Circle of Life", method: "GET", uri: "/dir/index.html",
					cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ" });
			})()`)
			if !strings.Contains(got, `response="`+want+`"`) ||
				!strings.Contains(got, "algorithm="+algorithm+", qop=auth, nc=00000001") {
				t.Errorf("%s: %s", algorithm, got)
			}
		}
	})

	t.Run("parses challenges", func(t *testing.T) {
		tests := []struct{ field, want string }{
			{`Digest realm="a", nonce="n", qop="auth"`, `a`},
			{`x-DIGEST REALM="a", NoNce="n", QOP="auth"`, `a`},
			{`Digest realm="a \"b\" \\ c", nonce="n", qop=auth`, `a "b" \ c`},
			{`Digest realm="a, nonce=\"x\"",nonce="n",qop="auth"`, `a, nonce="x"`},
			{`Basic realm="b", Digest realm="d", nonce="n", qop="auth"`, `d`},
			{`Negotiate aGVsbG8==, Digest realm="d", nonce="n", qop="auth"`, `d`},
			{
				`Digest realm="s", nonce="n", qop="auth", algorithm=SHA-512-256, ` +
					`Digest realm="m", nonce="n", qop="auth", algorithm=md5`,
				`m`,
			},
			{`Digest realm = "a" , nonce = "n" , , qop="auth-int,auth"`, `a`},
			{`Digest realm="first", realm="second", nonce="n", qop="auth"`, `first`},
			{`Digest realm="a", nonce="n", qop="auth-int"`, ``},
			{`Digest realm="a", nonce="n"`, ``},
			{`Digest nonce="n", qop="auth"`, ``},
			{`Digest realm="a`, ``},
			{`"=,=Digest`, ``},
			{``, ``},
		}
		for _, tt := range tests {
			field, err := json.Marshal(tt.field)
			if err != nil {
				t.Fatal(err)
			}
			got := eval[string](p, `import("`+module+`").then(({ digestChallenge }) =>
				digestChallenge(`+string(field)+`)?.get("realm") ?? "")`)
			if got != tt.want {
				t.Errorf("%s: realm %q, want %q", tt.field, got, tt.want)
			}
		}
	})
}

func TestSignUpPage(t *testing.T) {
	good := reply(200, `{"ok":true,"user":"alex"}`)

	t.Run("sends the keys and never the password", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignup(good)
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		p.do(chromedp.Click(chromedp.ID("password-reveal")))
		p.wait(`document.getElementById("password").type === "text"`)
		p.fill("user", "alexa")
		p.submit()
		p.wait(`!document.getElementById("sent").hidden`)
		if got, want := p.received(), "POST /signup.ashx application/x-www-form-urlencoded;charset=UTF-8"; got != want {
			t.Errorf("request %q, want %q", got, want)
		}
		fields, err := url.ParseQuery(s.sent()[0])
		if err != nil {
			t.Fatal(err)
		}
		want := url.Values{
			"user": {"alexa"}, "name": {"Álex Müller"}, "email": {"alex@example.org"},
			"ha1":           {hexDigest("MD5", "alexa:"+testHost+":"+testPassword)},
			"ha1b":          {hexDigest("MD5", "alexa@"+testHost+":"+testHost+":"+testPassword)},
			"ha1_sha256":    {hexDigest("SHA-256", "alexa:"+testHost+":"+testPassword)},
			"captcha_token": {"token-1"}, "captcha_answer": {"4"}, "lang": {"en"},
		}
		if fields.Encode() != want.Encode() {
			t.Errorf("sent %s\nwant %s", fields.Encode(), want.Encode())
		}
		if got := p.focused(); got != "sent-title" {
			t.Errorf("focus is on %q", got)
		}
		body := p.body()
		for _, part := range []string{
			"#sent\n", "\nCheck your email – Dialtone\n", "alex@example.org", "phones@phone.test",
			time.Now().Add(7 * 24 * time.Hour).Format("2006"),
		} {
			if !strings.Contains(body, part) {
				t.Errorf("the page does not say %q:\n%s", part, body)
			}
		}
		inputs := `[...document.querySelectorAll("input")].map((input) => input.id + input.value).join()`
		if got := eval[string](p, inputs); got != "correct-email" {
			t.Errorf("the page still has the inputs %s", got)
		}
		if got := eval[string](p, `document.getElementById("again").getAttribute("aria-disabled")`); got != "true" {
			t.Error("the button does not pause")
		}
		p.do(chromedp.NavigateBack())
		p.ready()
	})

	t.Run("works by keyboard", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignup(good)
		p := openTab(t, s, "/signup.html")
		p.ready()
		var stops []string
		for _, text := range []string{
			"", "", "alex", "Alex", "a@b.test", "correct horse battery", "", "4", "", "",
		} {
			p.do(chromedp.KeyEvent(kb.Tab))
			stops = append(stops, p.focused())
			if text != "" {
				p.do(chromedp.KeyEvent(text))
			}
			if ring := eval[string](p, `getComputedStyle(document.activeElement).outlineWidth`); ring != "3px" {
				t.Errorf("the outline of %q is %s wide", p.focused(), ring)
			}
		}
		if got, want := strings.Join(stops,
			" "), " language user name email password password-reveal captcha_answer another submit"; got != want {
			t.Errorf("stops: %q, want %q", got, want)
		}
		p.do(chromedp.Focus(chromedp.ID("captcha_answer")), chromedp.KeyEvent(kb.Enter))
		p.wait(`!document.getElementById("sent").hidden`)
	})

	t.Run("the button that shows the password, in German", func(t *testing.T) {
		p := openTab(t, newPageServer(t), "/password.html?lang=de")
		p.ready()
		name := `document.getElementById("current-reveal").innerText`
		for _, want := range []string{
			"Aktuelles Passwort anzeigen", "Aktuelles Passwort ausblenden", "Aktuelles Passwort anzeigen",
		} {
			if got := eval[string](p, name); got != want {
				t.Errorf("the button is called %q, want %q", got, want)
			}
			p.do(chromedp.Click(chromedp.ID("current-reveal")))
		}
	})

	t.Run("hides the password before sending", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignup(replyError(500, "server_error", "x"))
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		name := `document.getElementById("password-reveal").innerText`
		if got := eval[string](p, name); got != "Show password" {
			t.Errorf("the button is called %q", got)
		}
		p.do(chromedp.Click(chromedp.ID("password-reveal")))
		p.wait(`document.getElementById("status").textContent === "Your password is visible"`)
		if got := eval[string](p, name); got != "Hide password" {
			t.Errorf("the button is called %q", got)
		}
		p.submit()
		p.problems()
		if got := eval[string](p, `document.getElementById("password").type`); got != "password" {
			t.Errorf("the field has the type %q", got)
		}
	})

	t.Run("shows all missing fields", func(t *testing.T) {
		s := newPageServer(t)
		p := openTab(t, s, "/signup.html")
		p.ready()
		p.submit()
		want := []string{
			"Enter a user name",
			"Enter your name",
			"Enter your email address",
			"Enter a password",
			"Enter the answer as a number",
		}
		if got := p.problems(); !slices.Equal(got, want) {
			t.Errorf("problems %q", got)
		}
		if got := p.focused(); got != "summary" {
			t.Errorf("focus is on %q", got)
		}
		if got := eval[string](p, `document.title`); got != "Error: Create an account – Dialtone" {
			t.Errorf("title %q", got)
		}
		inline := eval[[]string](p, `[...document.querySelectorAll("input[aria-invalid=true]")].map((input) =>
			document.getElementById(input.getAttribute("aria-describedby").split(" ")[0]).textContent)`)
		for i := range want {
			want[i] = "Error: " + want[i]
		}
		if !slices.Equal(inline, want) {
			t.Errorf("texts next to the fields: %q", inline)
		}
		p.do(chromedp.Click(chromedp.CSS(`#summary a[href="#email"]`)))
		if got := p.focused(); got != "email" {
			t.Errorf("the link leads to %q", got)
		}
	})

	t.Run("checks each field", func(t *testing.T) {
		s := newPageServer(t)
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		tests := []struct{ field, value, want string }{
			{"user", "Alex", "Use lowercase letters only"},
			{"user", "álex", "Use only the letters a to z, digits, dots, hyphens and underscores"},
			{"user", "al ex", "Use only the letters a to z, digits, dots, hyphens and underscores"},
			{"user", "\u212aarl", "Use only the letters a to z, digits, dots, hyphens and underscores"},
			{"user", strings.Repeat("a", 65), "Use at most 64 characters for the user name"},
			{"name", "   ", "Enter your name"},
			{"name", strings.Repeat("漢", 121), "Use at most 120 characters for your name"},
			{"email", "alex", "Enter an email address in the form name@example.org"},
			{"email", "alex@", "Enter an email address in the form name@example.org"},
			{"password", "elevenchars", "Use at least 12 characters. The password has 11 so far"},
			{"password", "🔐🔐🔐🔐🔐🔐", "Use at least 12 characters. The password has 6 so far"},
			{"password", "my name is ALEX!", "Choose a password that does not contain the user name"},
			{"captcha_answer", "four", "Enter the answer as a number"},
		}
		for _, tt := range tests {
			before := eval[string](p, `document.getElementById("`+tt.field+`").value`)
			value, err := json.Marshal(tt.value)
			if err != nil {
				t.Fatal(err)
			}
			set := func(quoted string) {
				eval[bool](p, `((input) => {
					input.value = `+quoted+`;
					return input.dispatchEvent(new Event("input", { bubbles: true }));
				})(document.getElementById("`+tt.field+`"))`)
			}
			set(string(value))
			p.submit()
			if got := p.problems(); len(got) != 1 || got[0] != tt.want {
				t.Errorf("%s %q: %q, want %q", tt.field, tt.value, got, tt.want)
			}
			quoted, err := json.Marshal(before)
			if err != nil {
				t.Fatal(err)
			}
			set(string(quoted))
		}
		if len(s.sent()) != 0 {
			t.Errorf("%d requests went out", len(s.sent()))
		}
	})

	t.Run("offers lower-case letters", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignup(good)
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		p.fill("user", "Alex.M")
		p.submit()
		p.problems()
		if got := eval[string](p, `document.getElementById("user").value`); got != "Alex.M" {
			t.Errorf("the name was changed to %q", got)
		}
		p.do(chromedp.Click(chromedp.CSS("#user-offers button")))
		if got := eval[string](p, `document.getElementById("user").value`); got != "alex.m" {
			t.Errorf("the offer gave %q", got)
		}
		p.submit()
		p.wait(`!document.getElementById("sent").hidden`)
	})

	t.Run("explains", func(t *testing.T) {
		tests := []struct {
			name       string
			answer     http.HandlerFunc
			problem    string
			field      string
			focus      string
			newCaptcha bool
			retry      bool
			contains   string
		}{
			{
				name: "a wrong captcha", answer: replyError(400, "captcha_failed", "x"),
				problem: "That’s not the answer", field: "captcha_answer", focus: "captcha_answer",
				newCaptcha: true,
			},
			{
				name: "a taken name", answer: replyError(409, "conflict", "x"),
				problem: "That user name is taken", field: "user", focus: "user", newCaptcha: true,
			},
			{
				name:    "a rate limit",
				answer:  withRetryAfter("1500", replyError(429, "rate_limited", "x")),
				problem: "Try again in 25 minutes (", focus: "summary",
			},
			{
				name: "too many accounts",
				answer: withHeader("Dialtone-Rule", "accounts",
					withRetryAfter("1500", replyError(429, "rate_limited", "x"))),
				problem: "Too many accounts were created from your network. Try again in 25 minutes (",
				focus:   "summary",
			},
			{
				name: "a platform at its limit",
				answer: withHeader("Dialtone-Rule", "platform",
					withRetryAfter("1500", replyError(429, "rate_limited", "x"))),
				problem: "Too many people are signing up here at the moment. Try again in 25 minutes (",
				focus:   "summary",
			},
			{
				name:   "too many messages to the address",
				answer: withHeader("Dialtone-Rule", "recipient", replyError(429, "rate_limited", "x")),
				problem: "This email address gets no more messages about signing up for now: there were too many, " +
					"or its owner has removed an account. Look for an earlier message, or try again later",
				focus: "summary",
			},
			{
				name:    "a long rate limit",
				answer:  withRetryAfter("86000", replyError(429, "rate_limited", "x")),
				problem: "Try again in 24 hours (", focus: "summary",
			},
			{
				name:   "a rate limit without Retry-After",
				answer: replyError(429, "rate_limited", "x"), problem: "Try again later",
				focus: "summary",
			},
			{
				name: "a server error", answer: replyError(500, "server_error", "x"),
				problem: "Nothing was saved", focus: "summary", retry: true,
			},
			{
				name: "an overloaded server", answer: replyError(503, "overloaded", "x"),
				problem: "The server is too busy right now. Nothing was saved", focus: "summary", retry: true,
			},
			{
				name: "a platform that was closed in the meantime", answer: replyError(403, "signups_closed", "x"),
				problem: "Nobody can sign up here any more at the moment. Nothing was saved", focus: "summary",
			},
			{
				name: "a reserved name", answer: replyRule("user", "kept"),
				problem: "That name is reserved. Choose another", field: "user",
				focus: "user",
			},
			{
				name: "a common password", answer: replyRule("ha1", "common"),
				problem: "That password is too easy to guess", field: "password", focus: "password",
			},
			{
				name: "a common password by its ha1b", answer: replyRule("ha1b", "common"),
				problem: "That password is too easy to guess", field: "password", focus: "password",
			},
			{
				name: "an unknown rule", answer: replyRule("name", "new"),
				problem: "The server did not accept this", field: "name", focus: "name",
			},
			{
				name: "an unknown field", answer: replyRule("constructor", "kept"),
				problem: "The server did not accept the form", focus: "summary",
			},
			{
				name:    "a description alone",
				answer:  replyError(400, "invalid_request", "user: is kept"),
				problem: "The server did not accept the form", focus: "summary",
			},
			{
				name: "an answer that is not JSON",
				answer: func(w http.ResponseWriter, _ *http.Request) {
					http.Error(w, "<b>gateway</b>", http.StatusBadGateway)
				},
				problem: "check your email first",
				focus:   "summary",
				retry:   true,
			},
			{
				name: "a success without ok", answer: reply(200, `null`),
				problem: "check your email first", focus: "summary", retry: true,
			},
			{name: "no answer", answer: hangUp, problem: "check your email first", focus: "summary", retry: true},
			{
				name: "markup in a rule", answer: replyRule("name", hostile),
				problem: "The server did not accept this", field: "name", focus: "name",
			},
		}
		s := newPageServer(t)
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		question := 1            // the number of the captcha
		send := p.submit         // the form that was refused before
		checkCaptcha := func() { // checks that the form was sent with the captcha of the page
			p.t.Helper()
			sent := s.sent()
			want := fmt.Sprintf("&captcha_token=token-%d&", question)
			if !strings.Contains(sent[len(sent)-1]+"&", want) {
				p.t.Errorf("sent %s, want %s", sent[len(sent)-1], want)
			}
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				p.t = t
				s.onSignup(tt.answer)
				send()
				problems := p.problems()
				checkCaptcha()
				if len(problems) != 1 || !strings.Contains(problems[0], tt.problem) {
					t.Errorf("problems %q", problems)
				}
				if got := p.focused(); got != tt.focus {
					t.Errorf("focus is on %q", got)
				}
				marked := `[...document.querySelectorAll("[aria-invalid]")].map((input) => input.id).join()`
				if got := eval[string](p, marked); got != tt.field {
					t.Errorf("marked fields: %q", got)
				}
				retry := p.visible("retry")
				if retry != tt.retry {
					t.Errorf("a button to try again: %v", retry)
				}
				left := "4"
				if tt.newCaptcha {
					question++
					left = ""
				}
				sum := fmt.Sprintf("What is 3 + %d?", question)
				if got := eval[string](p, `document.getElementById("question").innerText`); got != sum {
					t.Errorf("the sum is %q, want %q", got, sum)
				}
				kept := eval[string](p, `["user", "name", "email", "password", "captcha_answer"]
						.map((id) => document.getElementById(id).value).join("|")`)
				if want := "alex|Álex Müller|alex@example.org|" + testPassword + "|" + left; kept != want {
					t.Errorf("the fields hold %q, want %q", kept, want)
				}
				if eval[int](p, `document.querySelectorAll("main img:not(.badge), main b").length`) != 0 {
					t.Error("markup from the server was rendered")
				}
				if tt.newCaptcha {
					p.fill("captcha_answer", "4")
				}
				if send = p.submit; retry {
					send = func() { p.do(chromedp.Click(chromedp.ID("retry"))) }
				}
			})
		}
		p.t = t
		s.onSignup(good)
		send()
		p.wait(`!document.getElementById("sent").hidden`)
		checkCaptcha()
	})

	t.Run("suggests three names", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignup(replyError(409, "conflict", "x"))
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		p.submit()
		p.problems()
		offers := eval[[]string](p,
			`[...document.querySelectorAll("#user-offers button")].map((button) => button.innerText)`)
		if len(offers) != 3 || offers[0] != "Use alex.muller" || offers[1] != "Use a.muller" {
			t.Errorf("offers %q", offers)
		}
		p.do(chromedp.Click(chromedp.CSS("#user-offers button:nth-of-type(2)")))
		if got := eval[string](p, `document.getElementById("user").value`); got != "a.muller" {
			t.Errorf("the offer gave %q", got)
		}
		if n := len(s.sent()); n != 1 {
			t.Errorf("%d requests", n)
		}
	})

	t.Run("sends once", func(t *testing.T) {
		s := newPageServer(t)
		release := make(chan struct{})
		s.onSignup(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
				good(w, r)
			case <-r.Context().Done():
			}
		})
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		eval[bool](p,
			`(() => { for (let i = 0; i < 100; i++) document.getElementById("submit").click(); return true; })()`)
		p.received()
		if got := eval[string](p, `document.querySelector("form").getAttribute("aria-busy") + " " +
				document.getElementById("submit").innerText`); got != "true Creating your account…" {
			t.Errorf("while it is being sent, the form is %q", got)
		}
		eval[bool](p, `(document.getElementById("submit").click(), true)`)
		close(release)
		p.wait(`!document.getElementById("sent").hidden`)
		if n := len(s.sent()); n != 1 {
			t.Errorf("%d requests", n)
		}
	})

	t.Run("times out after 15 seconds", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignup(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		p.submit()
		p.received()
		if n := eval[int](p, `fireTimers(15000)`); n != 1 {
			t.Fatalf("%d timers of 15 seconds", n)
		}
		if got := p.problems(); len(got) != 1 || !strings.Contains(got[0], "check your email first") {
			t.Errorf("problems %q", got)
		}
	})

	t.Run("replaces the captcha", func(t *testing.T) {
		s := newPageServer(t)
		p := openTab(t, s, "/signup.html")
		p.ready()
		if n := eval[int](p, `fireTimers(13 * 60 * 1000)`); n != 1 {
			t.Fatalf("%d timers of 13 minutes", n)
		}
		p.wait(`document.getElementById("question").innerText === "What is 3 + 2?"`)
		if got := eval[string](p, `document.getElementById("status").textContent`); got != "" {
			t.Errorf("there was no answer to remove, and the page said %q", got)
		}
		p.fill("captcha_answer", "5")
		eval[int](p, `fireTimers(13 * 60 * 1000)`)
		p.wait(
			`document.getElementById("question").innerText === "What is 3 + 3?" &&
				document.getElementById("captcha_answer").value === ""`,
		)
		p.wait(`document.getElementById("status").textContent.startsWith("The question has expired")`)
		p.do(chromedp.Click(chromedp.ID("another")))
		p.wait(
			`document.getElementById("question").innerText === "What is 3 + 4?" &&
				document.activeElement.id === "captcha_answer"`,
		)
	})

	t.Run("works after a failed captcha request", func(t *testing.T) {
		s := newPageServer(t)
		s.mu.Lock()
		works := s.handlers["/captcha.ashx"]
		s.mu.Unlock()
		s.handle("/captcha.ashx", hangUp)
		p := openTab(t, s, "/signup.html")
		p.wait(`!document.getElementById("submit").disabled`)
		p.fill("user", "alex", "name", "Alex", "email", "a@b.test", "password", testPassword)
		p.submit()
		if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], "The sum could not be loaded") {
			t.Errorf("problems %q", got)
		}
		s.handle("/captcha.ashx", works)
		p.do(chromedp.Click(chromedp.ID("another")))
		p.wait(`document.getElementById("question").innerText === "What is 3 + 1?"`)
	})

	t.Run("measures the password", func(t *testing.T) {
		p := openTab(t, newPageServer(t), "/signup.html")
		p.ready()
		if eval[bool](p, `document.getElementById("strength").checkVisibility()`) {
			t.Error("the meter shows before anything is typed")
		}
		for _, tt := range []struct{ password, want string }{
			{"short", "Too short: 7 to go"},
			{"password1234", "Weak: easy to guess"},
			{"aaaaaaaaaaaaaaaa", "Weak: easy to guess"},
			{"abcdefghijklmnop", "Weak: easy to guess"},
			{"maple!maple!maple!", "Weak: easy to guess"},
			{"phone.testphone.test", "Weak: easy to guess"},
			{"correct horse battery staple", "Strong"},
			{"kX9$vQ2!mZ7&pL4", "Strong"},
		} {
			p.fill("password", tt.password)
			p.wait(`document.getElementById("strength-word").textContent === "` + tt.want + `"`)
		}
		p.wait(`document.getElementById("status").textContent === "Strong"`)
		if got := eval[int](p, `document.getElementById("meter").value`); got != 4 {
			t.Errorf("the meter stands at %d", got)
		}
		// A value of 3, "Good", has the colour of good values only if it is above high (HTML section
		// 4.10.14), and 2 that of fair ones only if it is not below low.
		if !eval[bool](p, `(m => 3 > m.high && 2 <= m.high && 2 >= m.low)(document.getElementById("meter"))`) {
			t.Error("the colours of the meter do not match its words")
		}
	})

	t.Run("refuses wrong hash functions", func(t *testing.T) {
		s := newPageServer(t)
		p := openTab(t, s, "/signup.html", onEachPage(`const sin = Math.sin; Math.sin = (x) => sin(x) + 1e-6;`))
		p.wait(`!document.getElementById("summary").hidden`)
		if !eval[bool](p, `document.getElementById("submit").disabled`) {
			t.Error("the form can be sent")
		}
		if got := p.problems(); len(got) != 1 ||
			!strings.HasPrefix(got[0], "This browser could not calculate the key from your password") {
			t.Errorf("problems %q", got)
		}
	})

	t.Run("explains missing JavaScript", func(t *testing.T) {
		for _, path := range []string{"/signup.html", "/login.html", "/activate/done", "/activated.html"} {
			disable := chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
				_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled,
					emulation.SetScriptExecutionDisabledParams{Value: true})
				return err
			})
			p := openTab(t, newPageServer(t), path, disable)
			if !eval[bool](p, `document.getElementById("submit").disabled`) {
				t.Errorf("%s can be sent", path)
			}
			if body := p.body(); !strings.Contains(body, "This page needs JavaScript") ||
				!strings.Contains(body, "the operator of Dialtone.") ||
				strings.Contains(body, "still loading") {
				t.Errorf("%s says %s", path, body)
			}
		}
	})
}

func TestSignInPage(t *testing.T) {
	good := reply(200, `{"ok":true,"user":"alex","role":"user"}`)

	for _, algorithm := range []string{"MD5", "SHA-256"} {
		for stale := range 2 {
			name := fmt.Sprintf("proves the password by %s after %d stale nonces", algorithm, stale)
			t.Run(name, func(t *testing.T) {
				s := newPageServer(t)
				s.onSignIn(algorithm, stale, good)
				p := openTab(t, s, "/login.html")
				p.ready()
				p.fill("user", " alex ", "password", testPassword)
				p.submit()
				p.wait(`location.pathname === "/account.html" && document.querySelector("h1") !== null`)
				s.mu.Lock()
				defer s.mu.Unlock()
				if len(s.signIns) != 2+stale {
					t.Errorf("%d requests: %q", len(s.signIns), s.signIns)
				}
				for _, request := range s.signIns {
					if !strings.HasPrefix(request, "GET fetch ") {
						t.Errorf("request %q", request)
					}
				}
			})
		}
	}

	t.Run("sends no credentials of a link", func(t *testing.T) {
		s := newPageServer(t)
		// The browser keeps credentials for an origin, and the other tests use another one.
		s.URL = strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
		byBrowser := make(chan bool, 100)
		s.handle("/signin.ashx", func(w http.ResponseWriter, r *http.Request) {
			proof := r.Header.Get("Authorization")
			byBrowser <- strings.Contains(proof, `username="mallory"`)
			if proof == "" {
				w.Header().Set("WWW-Authenticate", `Digest realm="x", nonce="n", qop="auth", algorithm=MD5`)
				writeReply(w, 401, `{}`)
				return
			}
			writeReply(w, 200, `{}`)
		})
		p := openTab(t, s, "/login.html")
		p.do(chromedp.Navigate(strings.Replace(s.URL, "//", "//mallory:secret@", 1) + "/signin.ashx"))
		if first, second := <-byBrowser, <-byBrowser; first || !second {
			t.Fatal("the browser does not sign in by the link")
		}
		s.onSignIn("MD5", 0, good)
		p.do(chromedp.Navigate(s.URL + "/login.html"))
		p.ready()
		p.fill("user", "alex", "password", testPassword)
		p.submit()
		p.wait(`location.pathname === "/account.html" && document.querySelector("h1") !== null`)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.signIns) != 2 || s.signIns[0] != "GET fetch X-Digest" ||
			!strings.Contains(s.signIns[1], `username="alex"`) {
			t.Errorf("the requests are %q", s.signIns)
		}
	})

	const (
		denied     = "The user name or password is wrong. Check both and try again"
		failed     = "Something went wrong on our side. Try again in a moment"
		overloaded = "The server is too busy right now. Try again in a moment"
	)
	asks := func(s *pageServer) { s.onSignIn("MD5", 0, good) }
	answers := func(answer http.HandlerFunc) func(*pageServer) {
		return func(s *pageServer) { s.handle("/signin.ashx", answer) }
	}
	unknownScheme := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Other realm="x"`)
		writeReply(w, 401, `{}`)
	}
	s := newPageServer(t)
	p := openTab(t, s, "/login.html")
	p.ready()
	for _, tt := range []struct {
		name           string
		prepare        func(*pageServer)
		user, password string
		problems       []string
		retry          bool
		field          string // the only one with a problem
	}{
		{"empty fields", asks, "", "", []string{"Enter your user name", "Enter your password"}, false, ""},
		{"a wrong password", asks, "alex", "something else", []string{denied}, false, ""},
		{"an unknown name", asks, "nobody", testPassword, []string{denied}, false, ""},
		{
			"a nonce that is always stale",
			func(s *pageServer) { s.onSignIn("MD5", 9, good) }, "alex", testPassword, []string{denied}, false, "",
		},
		{
			"upper case",
			asks, "Alex", "x", []string{"Use lowercase letters only"}, false, "user",
		},
		{
			"a name that no header can hold", asks, "а🙂", "x",
			[]string{"Check the user name: it has only the letters a to z, digits, dots, hyphens and underscores"},
			false, "user",
		},
		{
			"a rate limit",
			answers(withRetryAfter("60", replyError(429, "rate_limited", "x"))), "alex", "x",
			[]string{"Too many attempts from your network. Try again in 1 minute ("}, false, "",
		},
		{
			"too many wrong passwords for a name", answers(withHeader("Dialtone-Rule", "name",
				withRetryAfter("60", replyError(429, "rate_limited", "x")))), "alex", "x",
			[]string{"Too many wrong passwords were entered for this user name. Try again in 1 minute ("}, false, "",
		},
		{
			"too many wrong passwords in a known browser", answers(withHeader("Dialtone-Rule", "device",
				withRetryAfter("60", replyError(429, "rate_limited", "x")))), "alex", "x",
			[]string{"Too many wrong passwords. Try again in 1 minute ("}, false, "",
		},
		{
			"a server error",
			answers(replyError(500, "server_error", "x")), "alex", "x", []string{failed}, true, "",
		},
		{
			"an overloaded server",
			answers(replyError(503, "overloaded", "x")), "alex", "x", []string{overloaded}, true, "",
		},
		{"success without a challenge", answers(good), "alex", "x", []string{failed}, true, ""},
		{"an unknown scheme", answers(unknownScheme), "alex", "x", []string{failed}, true, ""},
		{
			"no answer", answers(hangUp), "alex", "x",
			[]string{"The server did not answer. Check your connection and try again"}, true, "",
		},
	} {
		t.Run("explains "+tt.name, func(t *testing.T) {
			p.t = t
			tt.prepare(s)
			p.fill("user", tt.user, "password", tt.password)
			p.submit()
			got := p.problems()
			if !slices.EqualFunc(got, tt.problems, strings.HasPrefix) {
				t.Errorf("problems %q", got)
			}
			if retry := eval[bool](p, `document.getElementById("retry").checkVisibility()`); retry != tt.retry {
				t.Errorf("a button to try again: %v", retry)
			}
			want := "summary"
			if tt.field != "" {
				want = tt.field
			}
			if focus := p.focused(); focus != want {
				t.Errorf("focus is on %q", focus)
			}
		})
	}

	t.Run("shows the panel of an inactive account", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignIn("MD5", 0, replyError(403, "not_activated", "x"))
		p := openTab(t, s, "/login.html")
		p.ready()
		p.fill("user", "alex", "password", testPassword)
		p.submit()
		p.wait(`document.activeElement.id === "inactive-title"`)
		if body := p.body(); !strings.Contains(body, "\nActivate your account first – Dialtone\n") ||
			strings.Contains(body, "New here?") || strings.Contains(body, "when you created it") {
			t.Errorf("the page says %s", body)
		}
	})
}

func TestActivationScript(t *testing.T) {
	for _, state := range activationStates {
		t.Run(string(state), func(t *testing.T) {
			p := openTab(t, newPageServer(t), "/activate/"+string(state)+"?token=secret")
			if state == activationTrouble || state == activationUnopened {
				want := p.s.URL + "/activate/" + string(state) + "?token=secret"
				if got := eval[string](p, `document.querySelector("main .button").href`); got != want {
					t.Errorf("the button leads to %s", got)
				}
				return
			}
			if state == activationConfirm {
				return // it still needs the token; see TestConfirmPage
			}
			if !slices.Contains(statesWithUser, state) {
				// Without the token, the page would say that part of the link is missing.
				heading := p.text("activation")
				p.do(chromedp.Reload())
				p.wait(`document.readyState === "complete"`)
				if got := p.text("activation"); got != heading {
					t.Errorf("loaded again, the page says %q", got)
				}
				if got := eval[string](p, `location.search`); got != "?token=secret" {
					t.Errorf("the address has the query %q", got)
				}
				return
			}
			p.wait(`location.pathname + location.search === "/activated.html"`)
			for range 2 {
				p.do(chromedp.Reload())
				p.wait(`document.querySelector("h1")?.textContent === "Account activated" &&
					document.readyState === "complete"`)
			}
			p.do(chromedp.Click(chromedp.CSS(`main .after a[href="/login.html"]`)))
			p.wait(
				`location.pathname === "/login.html" &&
					document.getElementById("user")?.value === "alex" &&
					location.search === ""`,
			)
		})
	}
}

func TestCopyButton(t *testing.T) {
	s := newPageServer(t)
	// A person allows it with the click, but Chromium without a window asks nobody.
	if _, err := chromedp.CallBrowser(startBrowser(t), cdpbrowser.SetPermission, cdpbrowser.SetPermissionParams{
		Permission: &cdpbrowser.PermissionDescriptor{Name: "clipboard-write"}, Setting: "granted",
	}); err != nil {
		t.Fatal(err)
	}
	p := openTab(t, s, "/account.html")
	p.wait(`document.querySelectorAll("[data-copy]:not([hidden])").length === 7`)
	p.do(chromedp.Click(chromedp.CSS(`.manual summary`)), chromedp.Click(chromedp.CSS(`[data-copy="v-server"]`)))
	p.wait(
		`document.getElementById("status").textContent === "Server copied" &&
				document.querySelector("[data-copy=v-server]").innerText === "Copied"`,
	)
}

// TestPageLayout opens every page on a small screen, with hostile text, and with plain text in the longest language,
// in German and from right to left.
func TestPageLayout(t *testing.T) {
	s := newPageServer(t)
	paths := []string{
		"/", "/in", "/signed", "/signup.html", "/login.html", "/account.html", "/password.html",
		"/two-step.html", "/two-step/on", "/two-step/required", "/account.html?next=phone&changed",
		"/sessions.html", "/passkeys.html", "/passkeys/none", "/scan", "/scan/zoiper", "/copied", "/error", "/nowhere",
		"/devmail", "/devmail/none",
		"/forgot.html", "/reset.html", "/reset/several", "/reset/lost", "/reset/cut", "/not-me.html", "/not-me/cut",
		"/profile.html", "/confirm-email.html", "/confirm-email/lost",
		"/leave.html", "/stay.html",
	}
	for _, state := range activationStates {
		paths = append(paths, "/activate/"+string(state))
	}
	for _, state := range declineStates {
		paths = append(paths, "/decline/"+string(state))
	}
	p := openTab(t, s, "/", chromedp.EmulateViewport(320, 640))
	check := func(path string, open func(path string)) {
		t.Run(path, func(t *testing.T) {
			p.t = t
			open(path)
			for _, problem := range eval[[]string](p, layoutProblems) {
				t.Error(problem)
			}
		})
	}
	load := func(path string) { p.do(chromedp.Navigate(s.URL + path)) }
	for name := range allPages("") {
		check("/hostile/"+strings.ReplaceAll(name, " ", "-"), load)
	}
	for _, path := range paths {
		query := "?"
		if strings.Contains(path, "?") {
			query = "&"
		}
		check(path+query+"lang="+string(pseudoTag), load) // longer than English
		for _, lang := range []string{"de", "ar"} {
			check(path+query+"lang="+lang, func(path string) { p.show(path) })
		}
	}
}

// layoutProblems says what is wrong with a page that is 320 pixels wide. It first checks the page as it is, and
// then, unless it has hostile text, with everything that a script may show.
const layoutProblems = `(() => {
	const problems = [];
	const visible = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility());
	const width = (when) => {
		const pixels = document.documentElement.scrollWidth;
		if (pixels > 320) problems.push(when + ", the page is " + pixels + " pixels wide");
	};
	const say = (what, elements) => problems.push(...elements.map((e) => what + ": " + e.outerHTML));
	width("first");
	if (location.search) {
		document.querySelectorAll("[popover]").forEach((e) => e.showPopover());
		document.querySelectorAll("details").forEach((e) => { e.open = true; });
		document.querySelectorAll("[hidden]").forEach((e) => { e.hidden = false; });
		width("with all that may be shown");
		say("text is wider than its place", visible("body *:not(input, pre, .unseen)")
			.filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0)
			.filter((e) => getComputedStyle(e).display !== "inline")
			.filter((e) => getComputedStyle(e).textOverflow !== "ellipsis"));
	}
	say("a target below 44 pixels", visible("button, input, .button")
		.filter((e) => Math.min(e.offsetHeight, e.offsetWidth) < 44));
	say("markup was rendered", [...document.querySelectorAll("img[src=x], [onerror]")]);
	for (const { name } of performance.getEntriesByType("resource")) {
		if (!name.startsWith(location.origin)) problems.push("a request went to " + name);
	}
	return problems;
})()`

// TestTabReportsPolicyViolation shows that a tab would fail a test for a violation.
func TestTabReportsPolicyViolation(t *testing.T) {
	s := newPageServer(t)
	violations := make(chan string, 1)
	ctx, cancel := chromedp.NewContext(startBrowser(t))
	defer cancel()
	if err := chromedp.Listen(ctx, func(event any) {
		if event, ok := event.(*log.EventEntryAdded); ok && event.Entry.Source != "network" {
			select {
			case violations <- string(event.Entry.Source):
			default:
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	style := `void document.querySelector("main").setAttribute("style", "color: red")`
	if err := chromedp.Do(ctx, chromedp.Navigate(s.URL+"/error"),
		chromedp.Evaluate[chromedp.Void](style)); err != nil {
		t.Fatal(err)
	}
	select {
	case source := <-violations:
		if source != "security" {
			t.Errorf("the source is %q", source)
		}
	case <-ctx.Done():
		t.Error("nothing was reported")
	}
}
