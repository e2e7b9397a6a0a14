package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func TestProfileForms(t *testing.T) {
	good := reply(200, `{"ok":true,"user":"alex","name":"Al","lang":"en"}`)

	t.Run("the name and the language", func(t *testing.T) {
		s := newPageServer(t)
		forms := s.onPost("/profile.ashx", good)
		p := openTab(t, s, "/profile.html")
		p.ready()
		p.fill("name", "Al")
		p.do(chromedp.KeyEvent(kb.Enter))
		p.wait(`document.activeElement.id === "saved" && location.search === ""`)
		if got := fmt.Sprint(forms()); got != "[map[lang:[en] name:[Al]]]" {
			t.Errorf("sent %s", got)
		}
		p.do(chromedp.Reload())
		p.ready()
		if eval[bool](p, `document.getElementById("saved") !== null`) {
			t.Error("loaded again, the page says that it was saved")
		}
	})
	t.Run("another language becomes that of the page", func(t *testing.T) {
		s := newPageServer(t)
		forms := s.onPost("/profile.ashx", reply(200, `{"ok":true,"user":"alex","name":"Al","lang":"fr"}`))
		p := openTab(t, s, "/profile.html")
		p.ready()
		eval[bool](p, `(document.getElementById("lang").value = "fr") === "fr"`)
		p.do(chromedp.Click(chromedp.ID("save")))
		p.wait(`document.documentElement.lang === "fr" && document.activeElement.id === "saved"`)
		if got := forms()[0].Get("lang"); got != "fr" {
			t.Errorf("sent %q", got)
		}
	})
	for name, c := range map[string]struct {
		answer        http.HandlerFunc
		field, expect string
	}{
		"rule": {
			func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Dialtone-Rule", "name.wordless")
				replyError(400, "invalid_request", "x")(w, r)
			}, "name", "Use at least one letter or digit in your name",
		},
		"limit": {
			withHeader("Dialtone-Rule", "changes", withRetryAfter("600", replyError(429, "rate_limited", "x"))), "",
			"The account was changed too often today. Try again in 10 minutes (",
		},
		"fault": {replyError(500, "server_error", "x"), "", "Something went wrong on our side. Try again in a moment"},
	} {
		t.Run("the name refused: "+name, func(t *testing.T) {
			s := newPageServer(t)
			forms := s.onPost("/profile.ashx", c.answer)
			p := openTab(t, s, "/profile.html")
			p.ready()
			p.do(chromedp.Click(chromedp.ID("save")))
			if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], c.expect) {
				t.Errorf("problems %q", got)
			}
			if got := p.focused(); c.field != "" && got != c.field {
				t.Errorf("the focus is on %q", got)
			}
			if name == "fault" {
				p.do(chromedp.Click(chromedp.ID("retry")))
				p.wait(`document.activeElement.id === "summary"`)
				if n := len(forms()); n != 2 {
					t.Errorf("%d requests", n)
				}
			}
		})
	}
	t.Run("without a session, the way leads to signing in and back", func(t *testing.T) {
		s := newPageServer(t)
		s.onPost("/profile.ashx", replyError(401, "unauthorized", "x"))
		p := openTab(t, s, "/profile.html")
		p.ready()
		p.fill("name", "Al")
		eval[bool](p, `(document.getElementById("lang").value = "fr") === "fr"`)
		p.do(chromedp.Click(chromedp.ID("save")))
		p.wait(`location.pathname + location.search === "/login.html?next=/profile.html" &&
			document.getElementById("ended").checkVisibility()`)
		typed := `[document.getElementById("name").value, document.getElementById("lang").value].join()`
		for _, want := range []string{"Al,fr", "Álex 🙂,en"} {
			p.do(chromedp.Navigate(s.URL + "/profile.html"))
			p.ready()
			if got := eval[string](p, typed); got != want {
				t.Errorf("the form has %s, want %s", got, want)
			}
		}
	})
	t.Run("another address by keyboard, with the present password", func(t *testing.T) {
		s := newPageServer(t)
		sent := s.onProof("/email.ashx", reply(200, `{"ok":true,"email":"n***@example.org"}`))
		p := openTab(t, s, "/profile.html")
		p.ready()
		p.submit()
		empty := []string{"Enter your email address", "Enter your current password"}
		if got := p.problems(); !slices.Equal(got, empty) {
			t.Errorf("problems %q", got)
		}
		p.fill("email", "alex@example.org", "current", "wrong")
		p.submit()
		if got := p.problems(); !slices.Equal(got, []string{"That is the address you have now. Enter another one"}) {
			t.Errorf("problems %q", got)
		}
		p.fill("email", " new@example.org ")
		p.submit()
		p.wait(`/not your current password/.test(document.getElementById("current-error").textContent)`)
		p.fill("current", testPassword)
		p.do(chromedp.KeyEvent(kb.Enter))
		p.wait(`document.activeElement.id === "mailed-title"`)
		if got := sent(); len(got) != 1 || got[0].Encode() != "email=new%40example.org" {
			t.Errorf("sent %v", got)
		}
		for _, part := range []string{"on its way to new@example.org", "Until then, alex@example.org stays"} {
			if body := p.body(); !strings.Contains(body, part) {
				t.Errorf("the page does not say %q:\n%s", part, body)
			}
		}
		p.do(chromedp.Reload())
		p.wait(`!document.getElementById("mailed").hidden`)
		if body := p.body(); !strings.Contains(body, "new@example.org") {
			t.Errorf("loaded again, the page says %s", body)
		}
		p.do(chromedp.NavigateBack())
		p.ready()
	})
	t.Run("an address refused", func(t *testing.T) {
		s := newPageServer(t)
		s.onProof("/email.ashx", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Dialtone-Rule", "email.dots")
			replyError(400, "invalid_request", "x")(w, r)
		}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Dialtone-Rule", "changes.email")
			replyError(429, "rate_limited", "x")(w, r)
		})
		p := openTab(t, s, "/profile.html")
		p.ready()
		p.fill("email", "a..b@example.org", "current", testPassword)
		p.submit()
		want := []string{"Check the dots before the @: each must be between two other characters"}
		if got := p.problems(); !slices.Equal(got, want) {
			t.Errorf("problems %q", got)
		}
		p.fill("email", "ab@example.org")
		p.submit()
		p.wait(`/too many messages to a new address/.test(summary.innerText)`)
	})
	t.Run("for password managers", func(t *testing.T) {
		p := openTab(t, newPageServer(t), "/profile.html")
		p.ready()
		fields := eval[[]string](p, `[...document.querySelectorAll("#email-form input")]
			.map((e) => e.type + " " + e.autocomplete)`)
		want := []string{"text username", "email email", "password current-password", "text one-time-code"}
		if !slices.Equal(fields, want) {
			t.Errorf("the fields are %q", fields)
		}
	})
}

// TestConfirmEmailPage checks that only the button sends something.
func TestConfirmEmailPage(t *testing.T) {
	testButton(t, "/confirm-email.html", "/confirm-email.ashx", func(*tab) {})
}
