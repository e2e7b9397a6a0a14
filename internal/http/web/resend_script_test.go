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

// resends makes the resend endpoint ask for a proof and give these answers to it in turn, the last one for ever. It gives what came with
// the proofs.
func (s *stage) resends(answers ...http.HandlerFunc) (bodies func() []string) {
	var mu sync.Mutex
	var got []string
	s.on("/resend.ashx", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `X-Digest realm="`+testRealm+`", nonce="n", qop="auth", algorithm=MD5`)
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

// inactive signs in with the right password for an account whose link was not opened.
func inactive(t *testing.T, s *stage, p *tab, delivery string) {
	t.Helper()
	s.signins("MD5", 0, says(403, `{"error":"not_activated","error_description":"x","email":"a***@example.org"`+delivery+`}`))
	p.ready()
	p.fill("user", "alex", "password", testPassword)
	p.submit()
	p.wait(`document.activeElement.id === "inactive-title"`)
}

func (p *tab) text(id string) string {
	p.t.Helper()
	return eval[string](p, `document.getElementById("`+id+`").innerText.trim()`)
}

func (p *tab) rests() bool {
	p.t.Helper()
	return eval[bool](p, `document.getElementById("again").getAttribute("aria-disabled") === "true"`)
}

func TestWhatBecameOfTheMessage(t *testing.T) {
	b := startBrowser(t)
	for state, want := range map[string]string{
		`,"delivery":"failed"`:    "That message could not be delivered.",
		`,"delivery":"discarded"`: "That message could not be delivered.",
		`,"delivery":"deferred"`:  "The mail server of that address has not accepted the message yet.",
		`,"delivery":"sent"`:      "",
		`,"delivery":"waiting"`:   "",
		`,"delivery":"toString"`:  "",
		``:                        "",
	} {
		t.Run(state, func(t *testing.T) {
			s := newStage(t)
			s.resends(says(200, `{"ok":true,"email":"a***@example.org"}`))
			p := openTab(t, b, s, "/login.html")
			inactive(t, s, p, state)
			if got := p.text("inactive-mail"); !strings.HasPrefix(got, want) || want == "" && got != "" {
				t.Errorf("the panel says %q", got)
			}
			if open := eval[bool](p, `document.getElementById("wrong").open`); open != (want != "") {
				t.Errorf("the address can be mended at once: %t", open)
			}
			if body := p.body(); !strings.Contains(body, "a***@example.org") {
				t.Errorf("the address is not said: %s", body)
			}
			spam := `document.getElementById("inactive-spam").checkVisibility()`
			if said, failed := eval[bool](p, spam), strings.HasPrefix(want, "That message"); said == failed {
				t.Errorf("the spam folder is spoken of: %t", said)
			}
			p.do(chromedp.Click(chromedp.ID("again")))
			p.wait(`document.getElementById("again-note").textContent.startsWith("A new message") && ` + spam)
			if eval[bool](p, `document.getElementById("inactive-mail").checkVisibility()`) {
				t.Error("what became of the older message is still said")
			}
		})
	}
}

func TestResendPanel(t *testing.T) {
	b := startBrowser(t)
	sent := says(200, `{"ok":true,"email":"a***@example.org"}`)

	t.Run("sends once a minute, and three times", func(t *testing.T) {
		s := newStage(t)
		bodies := s.resends(sent)
		p := openTab(t, b, s, "/login.html")
		inactive(t, s, p, "")
		if p.rests() {
			t.Error("whoever has waited already waits for a minute more")
		}
		for n, want := range []string{"Only the link in the newest message works.", "Only the link in the newest message works.", "It was the last one for today"} {
			p.do(chromedp.Click(chromedp.ID("again")))
			p.wait(fmt.Sprintf(`document.getElementById("again-note").textContent.includes(%q)`, want))
			if got := p.text("again-note"); !strings.Contains(got, "is on its way to a***@example.org") {
				t.Errorf("message %d: %q", n, got)
			}
			if !p.rests() {
				t.Errorf("after message %d another can be asked for at once", n)
			}
			p.do(chromedp.Click(chromedp.ID("again")))
			rang := eval[int](p, `ring(60_000)`)
			if last := n == 2; rang == 0 != last {
				t.Errorf("after message %d %d timers are set", n, rang)
			}
			if p.rests() != (n == 2) {
				t.Errorf("after message %d and a minute the button rests: %t", n, p.rests())
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

	t.Run("mends the address", func(t *testing.T) {
		s := newStage(t)
		bodies := s.resends(refuses(400, "invalid_request", "x"), says(200, `{"ok":true,"email":"r***@example.org"}`))
		p := openTab(t, b, s, "/login.html")
		inactive(t, s, p, `,"delivery":"failed"`)
		mend := func(address string) {
			p.fill("mend-email", address)
			p.do(chromedp.Click(chromedp.CSS("#mend button")))
		}
		for _, address := range []string{"", "right", "right@", "a b@example.org"} {
			mend(address)
			p.wait(`document.activeElement.id === "mend-email" && document.activeElement.getAttribute("aria-invalid") === "true"`)
			if got := p.text("mend-email-error"); !strings.HasPrefix(got, "Enter an e-mail address") {
				t.Errorf("%q: %q", address, got)
			}
		}
		if got := bodies(); len(got) != 0 {
			t.Errorf("sent %q", got)
		}
		mend("right@nowhere")
		p.wait(`document.getElementById("mend-email-error").textContent.startsWith("No mail can be sent to that address")`)
		mend("right+tag@example.org")
		p.wait(`document.activeElement.id === "again"`)
		if got, want := p.text("again-note"), "A new message is on its way to right+tag@example.org."; !strings.HasPrefix(got, want) {
			t.Errorf("the panel says %q", got)
		}
		if got := p.text("inactive-email"); got != "right+tag@example.org" {
			t.Errorf("the address shown is %q", got)
		}
		if eval[bool](p, `document.getElementById("wrong").open`) || !p.rests() {
			t.Error("the form is still open, or another message can be had at once")
		}
		if got := bodies(); len(got) != 2 || got[1] != "email="+url.QueryEscape("right+tag@example.org") {
			t.Errorf("sent %q", got)
		}
	})

	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a limit":             {retryAfter("7200", refuses(429, "rate_limited", "x")), "The message cannot be sent again yet. Try again in 2 hours, at "},
		"a limit without end": {refuses(429, "rate_limited", "x"), "The message cannot be sent again yet. Try again later"},
		"an active account":   {refuses(409, "conflict", "x"), "The account is already active."},
		"another password":    {refuses(401, "unauthorized", "x"), "This password does not work for the account any more."},
		"trouble":             {refuses(500, "server_error", "x"), "Nothing was sent. Try again in a moment"},
		"too many people":     {refuses(503, "overloaded", "x"), "Nothing was sent. Try again in a moment"},
		"silence":             {hangUp, "Nothing was sent. Try again in a moment"},
	} {
		t.Run("explains "+name, func(t *testing.T) {
			s := newStage(t)
			s.resends(tt.answer)
			p := openTab(t, b, s, "/login.html")
			inactive(t, s, p, "")
			p.do(chromedp.Click(chromedp.ID("again")))
			p.wait(fmt.Sprintf(`document.getElementById("again-note").textContent.startsWith(%q)`, tt.want))
			if got := p.text("status"); !strings.HasPrefix(got, tt.want) {
				t.Errorf("who listens to the page hears %q", got)
			}
			if p.rests() {
				t.Error("it cannot be tried again")
			}
		})
	}
}
