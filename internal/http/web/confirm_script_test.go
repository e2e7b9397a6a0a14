package web

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// onConfirm makes the activation endpoint require a proof of testPassword, and answer a right one
// with success. It returns a function that returns the forms received with right proofs.
func (s *pageServer) onConfirm(right http.HandlerFunc) (forms func() []string) {
	var got []string
	s.handle("/activate.ashx", func(w http.ResponseWriter, r *http.Request) {
		given := map[string]string{}
		for _, m := range digestParameter.FindAllStringSubmatch(r.Header.Get("Authorization"), -1) {
			given[m[1]] = m[2] + m[3]
		}
		want := hexDigest("MD5", strings.Join([]string{
			hexDigest("MD5", "alex:"+testHost+":"+testPassword),
			"n",
			"00000001",
			given["cnonce"],
			"auth",
			hexDigest("MD5", r.Method+":/activate.ashx"),
		}, ":"))
		if r.Method != "POST" || given["response"] != want || given["username"] != "alex" {
			w.Header().
				Set("WWW-Authenticate", `X-Digest realm="`+testHost+`", qop="auth", algorithm=MD5, nonce="n"`)
			writeReply(w, 401, `{"error":"unauthorized","error_description":"x"}`)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		s.mu.Lock()
		got = append(got, r.Header.Get("Content-Type")+" "+string(body))
		s.mu.Unlock()
		right(w, r)
	})
	return func() []string {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Clone(got)
	}
}

const linkForm = "application/x-www-form-urlencoded;charset=UTF-8 token="

func TestConfirmPage(t *testing.T) {
	open := func(t *testing.T, right http.HandlerFunc) (*tab, func() []string) {
		s := newPageServer(t)
		forms := s.onConfirm(right)
		p := openTab(t, s, "/activate/confirm?token=secret")
		p.wait(`!document.getElementById("submit").disabled`)
		return p, forms
	}
	good := reply(200, `{"ok":true,"user":"alex"}`)

	t.Run("activates", func(t *testing.T) {
		p, forms := open(t, good)
		p.fill("password", testPassword)
		p.submit()
		p.wait(`document.activeElement.id === "done-title"`)
		if body := p.body(); !strings.Contains(body, "\nAccount activated – Dialtone\n") ||
			strings.Contains(body, "secret") ||
			!strings.Contains(body, "Welcome, alex.") {
			t.Errorf("the page says %s", body)
		}
		if got := forms(); !slices.Equal(got, []string{linkForm + "secret"}) {
			t.Errorf("the server got %q", got)
		}
		if n := eval[int](p, `document.querySelectorAll("input").length`); n != 0 {
			t.Errorf("%d inputs are left", n)
		}
		if got := eval[string](p, `JSON.stringify(sessionStorage)`); got != `{"user":"alex"}` {
			t.Errorf("the tab keeps %s", got)
		}
		p.do(chromedp.Reload())
		p.wait(`location.pathname === "/activated.html" && document.readyState === "complete"`)
		if body := p.body(); !strings.Contains(body, "\nAccount activated\n") {
			t.Errorf("loaded again, the page says %s", body)
		}
		p.do(chromedp.Click(chromedp.CSS(`main .after a[href="/login.html"]`)))
		p.wait(`location.pathname === "/login.html" && document.getElementById("user")?.value === "alex"`)
	})
	t.Run("works after a wrong password and a reload", func(t *testing.T) {
		p, forms := open(t, good)
		p.fill("password", "something else")
		p.submit()
		want := []string{"That is not the password of this account. Check it and try again. " +
			"If you have forgotten it, read what this page says about that"}
		if got := p.problems(); !slices.Equal(got, want) {
			t.Errorf("problems %q", got)
		}
		p.do(chromedp.Reload())
		p.wait(`!document.getElementById("submit").disabled`)
		p.fill("password", testPassword)
		p.submit()
		p.wait(`document.activeElement.id === "done-title"`)
		if got := forms(); !slices.Equal(got, []string{linkForm + "secret"}) {
			t.Errorf("the server got %q", got)
		}
	})
	t.Run("user name is fixed", func(t *testing.T) {
		p, _ := open(t, good)
		if got := p.focused(); got != "password" {
			t.Errorf("focus is on %q", got)
		}
		if !eval[bool](p, `document.getElementById("user").readOnly &&
				document.getElementById("user").value === "alex" && !document.getElementById("password").name`) {
			t.Error("the name can be changed, or the password has a name")
		}
	})
	p, _ := open(t, good)
	p.fill("password", testPassword)
	for _, tt := range []struct {
		name    string
		right   http.HandlerFunc
		problem string
		retry   bool
	}{
		{
			"an invalid link", replyError(400, "invalid_request", "x"),
			"This link no longer works. Open the link in the newest message", false,
		},
		{
			"a rate limit", withRetryAfter("60", replyError(429, "rate_limited", "x")),
			"Too many attempts from your network. Try again in 1 minute (", false,
		},
		{
			"too many wrong passwords", withHeader("Dialtone-Rule", "device",
				withRetryAfter("60", replyError(429, "rate_limited", "x"))),
			"Too many wrong passwords. Try again in 1 minute (", false,
		},
		{
			"an overloaded server", replyError(503, "overloaded", "x"),
			"The server is too busy right now.", true,
		},
		{"a server error", replyError(500, "server_error", "x"), "Something went wrong on our side.", true},
		{"no answer", hangUp, "The server did not answer.", true},
		{"a malformed answer", reply(200, `[]`), "Something went wrong on our side.", true},
	} {
		t.Run("explains "+tt.name, func(t *testing.T) {
			p.t = t
			p.s.onConfirm(tt.right)
			p.submit()
			if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], tt.problem) {
				t.Errorf("problems %q", got)
			}
			if retry := eval[bool](p, `document.getElementById("retry").checkVisibility()`); retry != tt.retry {
				t.Errorf("a button to try again: %v", retry)
			}
			if got := eval[string](p,
				`location.search + document.getElementById("password").value`); got != "?token=secret"+testPassword {
				t.Errorf("the page has kept %q", got)
			}
		})
	}
	t.Run("explains an empty password", func(t *testing.T) {
		p, forms := open(t, good)
		p.submit()
		if got := p.problems(); !slices.Equal(got, []string{"Enter the password of this account"}) ||
			len(forms()) != 0 {
			t.Errorf("problems %q, forms %q", got, forms())
		}
	})
}

// TestSignInConfirmsLink checks that a sign-in in the tab that opened the link confirms the
// account.
func TestSignInConfirmsLink(t *testing.T) {
	enter := func(t *testing.T, first string, right http.HandlerFunc) (*tab, func() []string) {
		s := newPageServer(t)
		s.onSignIn("MD5", 0, reply(200, `{"ok":true,"user":"alex","role":"guest"}`))
		forms := s.onConfirm(right)
		p := openTab(t, s, first)
		if first != "/login.html" {
			p.wait(`document.readyState === "complete"`)
			p.do(chromedp.Navigate(s.URL + "/login.html"))
		}
		p.ready()
		p.fill("user", "alex", "password", testPassword)
		p.submit()
		p.wait(`location.pathname === "/account.html"`)
		if got := eval[string](p, `JSON.stringify(sessionStorage)`); got != `{}` {
			t.Errorf("the tab keeps %s", got)
		}
		return p, forms
	}
	good := reply(200, `{"ok":true,"user":"alex"}`)
	for _, state := range []activationState{activationDone, activationAlready} {
		t.Run("after a link that is "+string(state), func(t *testing.T) {
			_, forms := enter(t, "/activate/"+string(state)+"?token=secret", good)
			if got := forms(); !slices.Equal(got, []string{linkForm + "secret"}) {
				t.Errorf("the server got %q", got)
			}
		})
	}
	for _, state := range []activationState{
		activationExpired, activationInvalid, activationReplaced, activationHeld,
	} {
		t.Run("not after a link that is "+string(state), func(t *testing.T) {
			if _, forms := enter(t, "/activate/"+string(state)+"?token=secret", good); len(forms()) != 0 {
				t.Errorf("the server got %q", forms())
			}
		})
	}
	t.Run("not without a link", func(t *testing.T) {
		if _, forms := enter(t, "/login.html", good); len(forms()) != 0 {
			t.Errorf("the server got %q", forms())
		}
	})
	t.Run("sign-in continues after a failure", func(t *testing.T) {
		for _, right := range []http.HandlerFunc{
			replyError(400, "invalid_request", "x"), replyError(500, "server_error", "x"), hangUp,
		} {
			if _, forms := enter(t, "/activate/done?token=secret", right); len(forms()) == 0 {
				t.Error("the server got nothing")
			}
		}
	})
}
