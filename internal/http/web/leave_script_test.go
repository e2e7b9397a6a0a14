package web

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// onLeave makes the endpoint require a proof, and accept every one.
func (s *pageServer) onLeave(h http.HandlerFunc) (sent func() int) {
	n := 0
	s.handle("/leave.ashx", func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Digest ") {
			w.Header().Set("WWW-Authenticate", `X-Digest realm="`+testHost+`", nonce="n", qop="auth", algorithm=MD5`)
			writeReply(w, 401, `{"error":"unauthorized","error_description":"x"}`)
			return
		}
		s.mu.Lock()
		n++
		s.mu.Unlock()
		h(w, r)
	})
	return func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return n
	}
}

func TestLeavePage(t *testing.T) {
	s := newPageServer(t)
	sent := s.onLeave(reply(200, `{"ok":true,"until":"2026-03-08T12:00:00Z"}`))
	p := openTab(t, s, "/leave.html")
	p.ready()
	fields := eval[[]string](p, `[...document.forms.leave.elements].filter((e) => e.autocomplete)
		.map((e) => e.id + " " + e.autocomplete + " " + e.readOnly)`)
	if want := []string{
		"user username true", "current current-password false", "code one-time-code false",
	}; !slices.Equal(fields, want) {
		t.Errorf("the fields are %q", fields)
	}
	p.submit()
	want := []string{"Enter your current password", "To delete your account, check this box"}
	if got := p.problems(); !slices.Equal(got, want) {
		t.Errorf("the problems are %q", got)
	}
	p.fill("current", testPassword)
	p.submit()
	p.wait(`document.activeElement.id === "sure" && sure.getAttribute("aria-invalid") === "true"`)
	if n := sent(); n != 0 {
		t.Fatalf("the page sent %d proofs", n)
	}
	p.do(chromedp.Click(chromedp.ID("sure")))
	p.submit()
	p.wait(`!left.hidden && document.activeElement.id === "left-title"`)
	if got := p.body(); !strings.Contains(got, "Sunday, 8 March 2026, 12:00 UTC") ||
		!strings.Contains(got, "alex@example.org") || strings.Contains(got, "Sign out") ||
		strings.Contains(got, "alex ") {
		t.Errorf("the page says\n%s", got)
	}
	if n := eval[int](p, `document.querySelectorAll("input").length`); n != 0 || sent() != 1 {
		t.Errorf("%d inputs are left, and %d proofs were sent", n, sent())
	}
	for answer, h := range map[string]http.HandlerFunc{
		`/not your current password/.test(document.forms.leave.innerText)`: func(
			w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `X-Digest realm="`+testHost+`", nonce="n", qop="auth", algorithm=MD5`)
			writeReply(w, 401, `{"error":"unauthorized","error_description":"x"}`)
		},
		`/Too many wrong passwords/.test(summary.innerText) || /Too many attempts/.test(summary.innerText)`: replyError(
			429, "rate_limited", "x"),
		`/went wrong/.test(summary.innerText)`:     replyError(500, "server_error", "x"),
		`/did not accept/.test(summary.innerText)`: replyError(400, "invalid_request", "x"),
	} {
		s.onLeave(h)
		p = openTab(t, s, "/leave.html")
		p.ready()
		p.fill("current", testPassword)
		p.do(chromedp.Click(chromedp.ID("sure")))
		p.submit()
		p.wait(answer)
		if !eval[bool](p, `left.hidden`) {
			t.Error("the page says that the person has left")
		}
	}
}

// TestStayPage checks that only the button sends something.
func TestStayPage(t *testing.T) {
	testButton(t, "/stay.html", "/stay.ashx", func(p *tab) {
		if !eval[bool](p, `!!document.querySelector('#done a[href="/forgot.html"]')`) {
			t.Error("the page does not lead to another password")
		}
	})
}
