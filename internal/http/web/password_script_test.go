package web

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// freshPassword is a good new password.
const freshPassword = `"Fünf" Kamele \ zählen 🐪 Wolken`

// onChange is like onProof, for the endpoint of the password.
func (s *pageServer) onChange(answers ...http.HandlerFunc) (sent func() []url.Values) {
	return s.onProof("/password.ashx", answers...)
}

// onProof makes an endpoint require a proof of testPassword, and give these answers to right proofs
// one after another, and then repeat the last one. It returns a function that returns the forms
// received with right proofs.
func (s *pageServer) onProof(path string, answers ...http.HandlerFunc) (sent func() []url.Values) {
	var forms []url.Values
	s.handle(path, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		given := map[string]string{}
		for _, m := range digestParameter.FindAllStringSubmatch(r.Header.Get("Authorization"), -1) {
			given[m[1]] = m[2] + m[3]
		}
		want := hexDigest("MD5", strings.Join([]string{
			hexDigest("MD5", "alex:"+testHost+":"+testPassword), "n", "00000001", given["cnonce"], "auth",
			hexDigest("MD5", "POST:"+path),
		}, ":"))
		if given["response"] != want || given["username"] != "alex" {
			w.Header().Set("WWW-Authenticate",
				fmt.Sprintf(`X-Digest realm="%s", nonce="n", qop="auth", algorithm=MD5`, testHost))
			writeReply(w, 401, `{"error":"unauthorized","error_description":"x"}`)
			return
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			panic(err)
		}
		forms = append(forms, form)
		answers[min(len(forms), len(answers))-1](w, r)
	})
	return func() []url.Values {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Clone(forms)
	}
}

func TestPasswordPage(t *testing.T) {
	good := reply(200, `{"ok":true,"user":"alex"}`)

	t.Run("leads to the code for phones", func(t *testing.T) {
		s := newPageServer(t)
		s.onChange(reply(200, `{"ok":true,"user":"alex","signed_in":true}`))
		p := openTab(t, s, "/password.html")
		p.ready()
		p.fill("current", testPassword, "password", freshPassword)
		p.submit()
		p.wait(`location.pathname + location.search === "/account.html" && document.activeElement.id === "phone"`)
		if got := p.text("phone"); got != "Your password was changed" {
			t.Errorf("the heading is %q", got)
		}
		for _, part := range []string{"Each phone needs the new password", "other browsers", "alex@example.org"} {
			if got := p.text("changed"); !strings.Contains(got, part) {
				t.Errorf("the page does not say %q: %s", part, got)
			}
		}
		if !eval[bool](p, `document.querySelector("#phone ~ .scan .qr").checkVisibility()`) {
			t.Error("the code is not shown")
		}
		p.do(chromedp.Reload())
		p.wait(`document.readyState === "complete"`)
		if eval[bool](p, `Boolean(document.getElementById("changed"))`) {
			t.Error("loaded again, the page says it again")
		}
	})
	t.Run("sends the keys and never a password", func(t *testing.T) {
		s := newPageServer(t)
		sent := s.onChange(good)
		p := openTab(t, s, "/password.html")
		p.ready()
		if got := p.focused(); got != "current" {
			t.Errorf("the focus is on %q", got)
		}
		for _, field := range []string{"user username", "current current-password", "password new-password"} {
			id, want, _ := strings.Cut(field, " ")
			if got := eval[string](p, `document.getElementById("`+id+`").autocomplete`); got != want {
				t.Errorf("autocomplete of %s is %q", id, got)
			}
		}
		p.fill("current", testPassword, "password", freshPassword)
		p.do(chromedp.Click(chromedp.ID("current-reveal")))
		p.wait(`document.getElementById("current").type === "text"`)
		if eval[string](p, `document.getElementById("password").type`) != "password" {
			t.Error("the button of one field shows the other")
		}
		if got := eval[string](p, `document.getElementById("strength-word").textContent`); got != "Strong" {
			t.Errorf("the meter says %q", got)
		}
		if !eval[bool](p, `!document.getElementById("beyond").hidden`) {
			t.Error("the note on characters that some phones do not know is not shown")
		}
		p.submit()
		p.wait(`!document.getElementById("changed").hidden && location.hash === "#changed"`)
		want := url.Values{
			"ha1":        {hexDigest("MD5", "alex:"+testHost+":"+freshPassword)},
			"ha1b":       {hexDigest("MD5", "alex@"+testHost+":"+testHost+":"+freshPassword)},
			"ha1_sha256": {hexDigest("SHA-256", "alex:"+testHost+":"+freshPassword)},
		}
		if got := sent(); len(got) != 1 || got[0].Encode() != want.Encode() {
			t.Errorf("sent %v, want %v", got, want)
		}
		if got := p.focused(); got != "changed-title" {
			t.Errorf("the focus is on %q", got)
		}
		for _, part := range []string{"Your password was changed", "every phone", "alex@example.org"} {
			if body := p.body(); !strings.Contains(body, part) {
				t.Errorf("the page does not say %q:\n%s", part, body)
			}
		}
		if n := eval[int](p, `document.querySelectorAll("input").length`); n != 0 {
			t.Errorf("the page still has %d inputs", n)
		}
		if got := eval[string](p, `document.querySelector("#changed .button").getAttribute("href")`); got !=
			"/login.html" {
			t.Errorf("the way on is %q", got)
		}
		p.do(chromedp.Reload())
		p.wait(`!document.getElementById("changed").hidden`)
		p.do(chromedp.NavigateBack())
		p.ready()
		if !eval[bool](p, `document.getElementById("current").value === "" &&
			document.getElementById("changed").hidden`) {
			t.Error("going back shows a password, or that it was changed")
		}
		p.do(chromedp.Navigate(s.URL + "/password.html#changed"))
		p.ready()
	})

	t.Run("works by keyboard", func(t *testing.T) {
		s := newPageServer(t)
		sent := s.onChange(good)
		p := openTab(t, s, "/password.html")
		p.ready()
		stops := []string{p.focused()}
		p.do(chromedp.KeyEvent("wrong"))
		for range 5 {
			p.do(chromedp.KeyEvent(kb.Tab))
			stops = append(stops, p.focused())
			if p.focused() == "password" {
				p.do(chromedp.KeyEvent("correct horse battery"))
			}
		}
		want := "current current-reveal current-forgot password password-reveal submit"
		if got := strings.Join(stops, " "); got != want {
			t.Errorf("stops: %q, want %q", got, want)
		}
		p.do(chromedp.KeyEvent(kb.Enter))
		if got := p.problems(); len(got) != 1 || !strings.Contains(got[0], "not your current password") ||
			!strings.Contains(got[0], "follow the link below the field") {
			t.Errorf("problems: %q", got)
		}
		if got := p.focused(); got != "current" {
			t.Errorf("the focus is on %q", got)
		}
		if got := eval[string](p, `document.getElementById("current-forgot").pathname`); got != "/forgot.html" {
			t.Errorf("the way to a new password is %q", got)
		}
		p.fill("current", testPassword)
		p.do(chromedp.KeyEvent(kb.Enter))
		p.wait(`!document.getElementById("changed").hidden`)
		if len(sent()) != 1 {
			t.Errorf("%d changes", len(sent()))
		}
	})

	t.Run("the current password in another Unicode form", func(t *testing.T) {
		s := newPageServer(t)
		sent := s.onChange(good)
		p := openTab(t, s, "/password.html")
		p.ready()
		p.fill("current", strings.ReplaceAll(testPassword, "ö", "o\u0308"), "password", freshPassword)
		p.submit()
		p.wait(`!document.getElementById("changed").hidden`)
		if len(sent()) != 1 {
			t.Errorf("%d changes", len(sent()))
		}
	})

	const (
		limit   = "Too many wrong passwords were entered for this user name. Try again"
		trouble = "Something went wrong on our side. Try again in a moment"
	)
	s := newPageServer(t)
	p := openTab(t, s, "/password.html")
	p.ready()
	for _, tt := range []struct {
		name           string
		current, fresh string
		answer         http.HandlerFunc // nil if nothing is sent
		problems       []string         // their beginnings
		field          string           // the only one with a problem
		retry          bool
	}{
		{name: "empty", problems: []string{"Enter your current password", "Enter a new password"}},
		{
			"too short", testPassword, "kurz", nil,
			[]string{"Use at least 12 characters. The password has 4"}, "password", false,
		},
		{
			"the same", testPassword, testPassword, nil,
			[]string{"That is the password you have now"}, "password", false,
		},
		{
			"with the user name", testPassword, "my name is Alex, hello", nil,
			[]string{"Choose a password that does not"}, "password", false,
		},
		{
			"with the e-mail address", testPassword, "alex@example.org", nil,
			[]string{"Choose a password that does not"}, "password", false,
		},
		{
			"easy to guess", testPassword, "passwordpassword", nil,
			[]string{"That password is easy to guess"}, "password", false,
		},
		{
			"refused as common", testPassword, freshPassword, replyRule("ha1", "common"),
			[]string{"That password is too easy to guess"}, "password", false,
		},
		{
			"refused as the same", testPassword, freshPassword, replyRule("ha1", "same"),
			[]string{"That is the password you have now"}, "password", false,
		},
		{
			"refused by a new rule", testPassword, freshPassword, replyRule("ha1b", "new"),
			[]string{"The server did not accept this password"}, "password", false,
		},
		{
			"refused for another reason", testPassword, freshPassword, replyError(400, "invalid_request", "x"),
			[]string{"The server did not accept the form"}, "", false,
		},
		{
			"too many wrong passwords", testPassword, freshPassword,
			withHeader("Dialtone-Rule", "name", withRetryAfter("900", replyError(429, "rate_limited", "x"))),
			[]string{limit}, "", false,
		},
		{
			"too many changes", testPassword, freshPassword,
			withHeader("Dialtone-Rule", "changes.password",
				withRetryAfter("7200", replyError(429, "rate_limited", "x"))),
			[]string{"The password was changed too often today. Try again in 2 hours ("}, "", false,
		},
		{
			"a fault", testPassword, freshPassword, replyError(500, "server_error", "x"),
			[]string{trouble}, "", true,
		},
		{
			"no answer", testPassword, freshPassword, hangUp,
			[]string{"The server did not answer. Check your connection"}, "", true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.t = t
			answer := tt.answer
			if answer == nil {
				answer = good
			}
			sent := s.onChange(answer)
			p.fill("current", tt.current, "password", tt.fresh)
			p.submit()
			got := p.problems()
			if len(got) != len(tt.problems) {
				t.Fatalf("problems: %q, want %q", got, tt.problems)
			}
			for i, want := range tt.problems {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("problem %q, want %q", got[i], want)
				}
			}
			if (len(sent()) > 0) != (tt.answer != nil) {
				t.Errorf("%d forms were sent", len(sent()))
			}
			if tt.field != "" && p.focused() != tt.field {
				t.Errorf("the focus is on %q", p.focused())
			}
			if got := eval[bool](p, `!document.getElementById("summary-retry").hidden`); got != tt.retry {
				t.Errorf("the page offers to send the form again: %v", got)
			}
			if got := eval[string](p, `document.getElementById("current").value`); got != tt.current {
				t.Errorf("the current password is %q now", got)
			}
		})
	}
}
