package web

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// confirms makes the endpoint of links ask for a proof of testPassword, and answer it with right. It gives the forms that came
// with right proofs.
func (s *stage) confirms(right http.HandlerFunc) (forms func() []string) {
	var got []string
	s.on("/activate.ashx", func(w http.ResponseWriter, r *http.Request) {
		given := map[string]string{}
		for _, m := range digestParameter.FindAllStringSubmatch(r.Header.Get("Authorization"), -1) {
			given[m[1]] = m[2] + m[3]
		}
		want := hexDigest("MD5", strings.Join([]string{
			hexDigest("MD5", "alex:"+testRealm+":"+testPassword), "n", "00000001", given["cnonce"], "auth", hexDigest("MD5", r.Method+":/activate.ashx"),
		}, ":"))
		if r.Method != "POST" || given["response"] != want || given["username"] != "alex" {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`X-Digest realm=%q, qop="auth", algorithm=MD5, nonce="n"`, testRealm))
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
	b := startBrowser(t)
	open := func(t *testing.T, right http.HandlerFunc) (*tab, func() []string) {
		s := newStage(t)
		forms := s.confirms(right)
		p := openTab(t, b, s, "/activate/confirm?token=secret")
		p.wait(`!document.getElementById("submit").disabled`)
		return p, forms
	}
	good := says(200, `{"ok":true,"user":"alex"}`)

	t.Run("activates, forgets token and password, and leads to sign-in with the name", func(t *testing.T) {
		p, forms := open(t, good)
		p.fill("password", testPassword)
		p.submit()
		p.wait(`document.activeElement.id === "done-title"`)
		if body := p.body(); !strings.Contains(body, "\nAccount activated – Dialtone\n") || strings.Contains(body, "secret") || !strings.Contains(body, "Welcome, alex.") {
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
		p.do(chromedp.Click(chromedp.CSS("#done .button")))
		p.wait(`location.pathname === "/login.html" && document.getElementById("user")?.value === "alex"`)
	})
	t.Run("keeps the token while it is needed, also when the page is loaded again", func(t *testing.T) {
		p, forms := open(t, good)
		p.fill("password", "something else")
		p.submit()
		if got := p.problems(); !slices.Equal(got, []string{"That is not the password of this account"}) {
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
	t.Run("cannot be given another name", func(t *testing.T) {
		p, _ := open(t, good)
		if !eval[bool](p, `document.getElementById("user").readOnly && document.getElementById("user").value === "alex" && !document.getElementById("password").name`) {
			t.Error("the name can be changed, or the password has a name")
		}
	})
	for _, tt := range []struct {
		name    string
		right   http.HandlerFunc
		problem string
		retry   bool
	}{
		{"a link that is worth nothing", refuses(400, "invalid_request", "x"), "This link does not work any more. Open the link in the newest message", false},
		{"too many tries", retryAfter("60", refuses(429, "rate_limited", "x")), "Too many attempts from here. Try again in 1 minute, at ", false},
		{"too many people", refuses(503, "overloaded", "x"), "Too many people are waiting right now.", true},
		{"trouble", refuses(500, "server_error", "x"), "Something went wrong on our side.", true},
		{"silence", hangUp, "The server did not answer.", true},
		{"an answer that is none", says(200, `[]`), "Something went wrong on our side.", true},
	} {
		t.Run("explains "+tt.name, func(t *testing.T) {
			p, _ := open(t, tt.right)
			p.fill("password", testPassword)
			p.submit()
			if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], tt.problem) {
				t.Errorf("problems %q", got)
			}
			if retry := eval[bool](p, `document.getElementById("retry").checkVisibility()`); retry != tt.retry {
				t.Errorf("a button to try again: %v", retry)
			}
			if got := eval[string](p, `location.search + document.getElementById("password").value`); got != "?token=secret"+testPassword {
				t.Errorf("the page has kept %q", got)
			}
		})
	}
	t.Run("explains that nothing was typed", func(t *testing.T) {
		p, forms := open(t, good)
		p.submit()
		if got := p.problems(); !slices.Equal(got, []string{"Enter the password of this account"}) || len(forms()) != 0 {
			t.Errorf("problems %q, forms %q", got, forms())
		}
	})
}

// Who opens a link and signs in in the same tab has shown both.
func TestSignInHandsTheLinkOver(t *testing.T) {
	b := startBrowser(t)
	enter := func(t *testing.T, first string, right http.HandlerFunc) (*tab, func() []string) {
		s := newStage(t)
		s.signins("MD5", 0, says(200, `{"ok":true,"user":"alex","role":"guest"}`))
		forms := s.confirms(right)
		p := openTab(t, b, s, first)
		if first != "/login.html" {
			p.wait(`location.search === ""`)
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
	good := says(200, `{"ok":true,"user":"alex"}`)
	for _, state := range []activationState{activationDone, activationAlready} {
		t.Run("after a link that is "+string(state), func(t *testing.T) {
			_, forms := enter(t, "/activate/"+string(state)+"?token=secret", good)
			if got := forms(); !slices.Equal(got, []string{linkForm + "secret"}) {
				t.Errorf("the server got %q", got)
			}
		})
	}
	for _, state := range []activationState{activationExpired, activationInvalid, activationReplaced, activationHeld} {
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
	t.Run("and goes on whatever comes of it", func(t *testing.T) {
		for _, right := range []http.HandlerFunc{refuses(400, "invalid_request", "x"), refuses(500, "server_error", "x"), hangUp} {
			if _, forms := enter(t, "/activate/done?token=secret", right); len(forms()) == 0 {
				t.Error("the server got nothing")
			}
		}
	})
}
