package web

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
)

// onResend makes the resend endpoint require a proof and give these answers one after another, and
// then repeat the last one. It returns a function that returns the bodies received with proofs.
func (s *pageServer) onResend(answers ...http.HandlerFunc) (bodies func() []string) {
	var mu sync.Mutex
	var got []string
	s.handle("/resend.ashx", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == scriptScheme {
			w.Header().
				Set("WWW-Authenticate", `X-Digest realm="`+testHost+`", nonce="n", qop="auth", algorithm=MD5`)
			writeReply(w, 401, `{"error":"unauthorized","error_description":"x"}`)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		mu.Lock()
		got = append(got, string(body))
		answer := answers[min(len(got), len(answers))-1]
		mu.Unlock()
		answer(w, r)
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string{}, got...)
	}
}

// inactive signs in with the right password for an account that is not active.
func inactive(t *testing.T, s *pageServer, p *tab, delivery string) {
	t.Helper()
	s.onSignIn("MD5", 0,
		reply(403, `{"error":"not_activated","error_description":"x","email":"a***@example.org"`+delivery+`}`))
	p.ready()
	p.fill("user", "alex", "password", testPassword)
	p.submit()
	p.wait(`document.activeElement.id === "inactive-title"`)
}

func (p *tab) text(id string) string {
	p.t.Helper()
	return eval[string](p, `document.getElementById("`+id+`").innerText.trim()`)
}

func (p *tab) pausing() bool {
	p.t.Helper()
	return eval[bool](p, `document.getElementById("again").getAttribute("aria-disabled") === "true"`)
}

func TestDeliveryState(t *testing.T) {
	for state, want := range map[string]string{
		`,"delivery":"failed"`:    "That message could not be delivered.",
		`,"delivery":"discarded"`: "That message could not be delivered.",
		`,"delivery":"deferred"`:  "The mail server of that address has not accepted the message yet.",
		`,"delivery":"sent"`:      "", `,"delivery":"waiting"`: "", `,"delivery":"toString"`: "",
		``: "",
	} {
		t.Run(state, func(t *testing.T) {
			s := newPageServer(t)
			s.onResend(reply(200, `{"ok":true,"email":"a***@example.org"}`))
			p := openTab(t, s, "/login.html")
			inactive(t, s, p, state)
			if got := p.text("inactive-mail"); !strings.HasPrefix(got, want) || want == "" && got != "" {
				t.Errorf("the panel says %q", got)
			}
			if open := eval[bool](p, `document.getElementById("wrong").open`); open != (want != "") {
				t.Errorf("the form for the address is open: %t", open)
			}
			if body := p.body(); !strings.Contains(body, "a***@example.org") {
				t.Errorf("the page does not show the address: %s", body)
			}
			spam := `document.getElementById("inactive-spam").checkVisibility()`
			if said, failed := eval[bool](p, spam), strings.HasPrefix(want, "That message"); said == failed {
				t.Errorf("the page mentions the spam folder: %t", said)
			}
			p.do(chromedp.Click(chromedp.ID("again")))
			p.wait(`document.getElementById("again-note").textContent.startsWith("A new message") && ` + spam)
			if eval[bool](p, `document.getElementById("inactive-mail").checkVisibility()`) {
				t.Error("the state of the older message is still shown")
			}
		})
	}
}

func TestResendPanel(t *testing.T) {
	sent := reply(200, `{"ok":true,"email":"a***@example.org"}`)

	t.Run("three times, once a minute", func(t *testing.T) {
		s := newPageServer(t)
		bodies := s.onResend(sent)
		p := openTab(t, s, "/login.html")
		inactive(t, s, p, "")
		if p.pausing() {
			t.Error("the button pauses before the first message")
		}
		for n, want := range []string{
			"Only the link in the newest message works.",
			"Only the link in the newest message works.", "It was the last one for today",
		} {
			p.do(chromedp.Click(chromedp.ID("again")))
			p.wait(fmt.Sprintf(`document.getElementById("again-note").textContent.includes(%q)`, want))
			if got := p.text("again-note"); !strings.Contains(got, "is on its way to a***@example.org") {
				t.Errorf("message %d: %q", n, got)
			}
			if !p.pausing() {
				t.Errorf("after message %d the button does not pause", n)
			}
			p.do(chromedp.Click(chromedp.ID("again")))
			rang := eval[int](p, `fireTimers(60_000)`)
			if last := n == 2; rang == 0 != last {
				t.Errorf("after message %d there are %d timers", n, rang)
			}
			if p.pausing() != (n == 2) {
				t.Errorf("a minute after message %d the button pauses: %t", n, p.pausing())
			}
		}
		p.do(chromedp.Click(chromedp.ID("again")))
		if got := eval[string](p, `document.activeElement.id`); got != "again" {
			t.Errorf("focus is on %q", got)
		}
		if got := bodies(); len(got) != 3 || strings.Join(got, "") != "" {
			t.Errorf("sent %q", got)
		}
	})

	t.Run("pauses after a signup in this tab", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignup(reply(200, `{"ok":true,"user":"alex"}`))
		s.onResend(sent)
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		p.submit()
		p.wait(`!document.getElementById("sent").hidden`)
		p.do(chromedp.Navigate(s.URL + "/login.html"))
		inactive(t, s, p, "")
		got := p.text("again-left")
		if !p.pausing() || !strings.HasPrefix(got, "0:") && got != "1:00" {
			t.Errorf("the button pauses: %t, and the countdown says %q", p.pausing(), got)
		}
		p.do(chromedp.Navigate(s.URL + "/login.html"))
		eval[bool](p, `(sessionStorage.setItem("sent",
			JSON.stringify({ user: "alex", at: Date.now() - 20_000 })), true)`)
		inactive(t, s, p, "")
		if got := p.text("again-left"); !strings.HasPrefix(got, "0:3") && got != "0:40" {
			t.Errorf("20 seconds after the message, the countdown says %q", got)
		}
		// A minute after the signup, and for another account, there is no notice.
		for _, kept := range []string{`{"user":"alex","at":1}`, `{"user":"alexa","at":9e15}`} {
			p.do(chromedp.Navigate(s.URL + "/login.html"))
			eval[bool](p, `(sessionStorage.setItem("sent", '`+kept+`'), true)`)
			inactive(t, s, p, "")
			if p.pausing() {
				t.Errorf("the button pauses after %s", kept)
			}
		}
	})

	t.Run("corrects the address", func(t *testing.T) {
		s := newPageServer(t)
		bodies := s.onResend(replyError(400, "invalid_request", "x"),
			reply(200, `{"ok":true,"email":"r***@example.org"}`))
		p := openTab(t, s, "/login.html")
		inactive(t, s, p, `,"delivery":"failed"`)
		correct := func(address string) {
			p.fill("correct-email", address)
			p.do(chromedp.Click(chromedp.CSS("#correct button")))
		}
		for _, address := range []string{"", "right", "right@", "a b@example.org"} {
			correct(address)
			p.wait(
				`document.activeElement.id === "correct-email" &&
					document.activeElement.getAttribute("aria-invalid") === "true"`,
			)
			if got := p.text("correct-email-error"); !strings.HasPrefix(got, "Enter an email address") {
				t.Errorf("%q: %q", address, got)
			}
		}
		if got := bodies(); len(got) != 0 {
			t.Errorf("sent %q", got)
		}
		correct("right@nowhere")
		p.wait(
			`document.getElementById("correct-email-error").textContent
				.startsWith("We cannot send email to that address")`,
		)
		correct("right+tag@example.org")
		p.wait(`document.activeElement.id === "again"`)
		want := "A new message is on its way to right+tag@example.org."
		if got := p.text("again-note"); !strings.HasPrefix(got, want) {
			t.Errorf("the panel says %q", got)
		}
		if got := p.text("inactive-email"); got != "right+tag@example.org" {
			t.Errorf("the address shown is %q", got)
		}
		if eval[bool](p, `document.getElementById("wrong").open`) || !p.pausing() {
			t.Error("the form is still open, or the button does not pause")
		}
		if got := bodies(); len(got) != 2 || got[1] != "email="+url.QueryEscape("right+tag@example.org") {
			t.Errorf("sent %q", got)
		}
	})

	s := newPageServer(t)
	p := openTab(t, s, "/login.html")
	inactive(t, s, p, "")
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a limit": {
			withRetryAfter("7200", replyError(429, "rate_limited", "x")),
			"The message cannot be sent again yet. Try again in 2 hours (",
		},
		"a limit without Retry-After": {
			replyError(429, "rate_limited", "x"),
			"The message cannot be sent again yet. Try again later",
		},
		"an active account": {replyError(409, "conflict", "x"), "The account is already active."},
		"another password": {
			replyError(401, "unauthorized", "x"),
			"This password no longer works for the account.",
		},
		"a server error": {
			replyError(500, "server_error", "x"), "Nothing was sent. Try again in a moment",
		},
		"an overloaded server": {
			replyError(503, "overloaded", "x"), "Nothing was sent. Try again in a moment",
		},
		"no answer": {hangUp, "Nothing was sent. Try again in a moment"},
	} {
		t.Run("explains "+name, func(t *testing.T) {
			p.t = t
			s.onResend(tt.answer)
			eval[bool](p, `(document.getElementById("again-note").textContent = "") === ""`)
			p.do(chromedp.Click(chromedp.ID("again")))
			p.wait(fmt.Sprintf(`document.getElementById("again-note").textContent.startsWith(%q)`, tt.want))
			if got := p.text("status"); !strings.HasPrefix(got, tt.want) {
				t.Errorf("screen readers get %q", got)
			}
			if p.pausing() {
				t.Error("the button pauses")
			}
		})
	}
}
