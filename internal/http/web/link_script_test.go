package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"dialtone/internal/i18n"
)

// onLink makes the server show a page for the link with the token secret, until it is used.
// Otherwise the server shows the page of a link that does not work, or of one without its token.
// used marks the link as used.
func (s *pageServer) onLink(t *testing.T, path, lost string) (used func()) {
	t.Helper()
	gone := false
	site, err := loadTestSite()
	if err != nil {
		t.Fatal(err)
	}
	s.handle(path, func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		v, status := site.views[path], 200
		if gone || tokenOf(r.URL) != "secret" {
			v, status = site.views[lost], 404
		}
		if tokenOf(r.URL) == "" {
			v = site.views[strings.Replace(lost, "/lost", "/cut", 1)]
		}
		s.mu.Unlock()
		tag, chosen := requestedLanguage(r.URL)
		if status == 200 && !chosen {
			tag = i18n.German // that of the message
		}
		page, err := site.pages.render(tag, v.page, v.data)
		if err != nil {
			t.Error(err)
		}
		writePage(w, status, page)
	})
	return func() {
		s.mu.Lock()
		gone = true
		s.mu.Unlock()
	}
}

// TestLinkPagesLoadedAgain checks that the page behind a link can be reloaded before the link is
// used, and says afterwards what was done.
func TestLinkPagesLoadedAgain(t *testing.T) {
	for _, c := range []struct {
		name, path, lost, endpoint, answer string
		fill                               []string
		done                               []string
	}{
		{"reset", "/reset.html", "/reset/lost", "/reset.ashx", `{"ok":true,"user":"alex"}`,
			[]string{"password", testPassword}, []string{"alex", "Anmelden"}},
		{"not-me", "/not-me.html", "/not-me/lost", "/not-me.ashx",
			`{"ok":true,"user":"alex","email":"a***@example.org","reset":"/reset.html?token=next"}`,
			nil, []string{"alex@example.org", "alex", "Neues Passwort"}},
		{"stay", "/stay.html", "/stay/lost", "/stay.ashx", `{"ok":true,"user":"alex"}`, nil, []string{"Sie behalten"}},
		{"confirm-email", "/confirm-email.html", "/confirm-email/lost", "/confirm-email.ashx",
			`{"ok":true,"user":"alex"}`, nil, []string{"new@example.org", "alex"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newPageServer(t)
			used := s.onLink(t, c.path, c.lost)
			forms := s.onPost(c.endpoint, func(w http.ResponseWriter, _ *http.Request) {
				used()
				writeReply(w, 200, c.answer)
			})
			p := openTab(t, s, c.path+"?token=secret")
			p.ready()
			entries := eval[int](p, `history.length`)
			for range 2 {
				p.wait(`location.search === "?lang=de"`)
				p.do(chromedp.Reload())
				p.ready()
			}
			p.wait(`document.documentElement.lang === "de" && !location.href.includes("secret")`)
			if n := eval[int](p, `history.length`); n != entries {
				t.Errorf("the history has %d entries, and %d before", n, entries)
			}
			for _, tag := range []string{"fr", "de"} {
				p.do(chromedp.Click(chromedp.ID("language")), chromedp.Click(`#languages a[lang=`+tag+`]`))
				p.wait(`document.documentElement.lang === "` + tag + `" && !location.href.includes("secret")`)
				p.ready()
				p.do(chromedp.Reload())
				p.wait(`document.documentElement.lang === "` + tag + `" && !location.href.includes("secret")`)
				p.ready()
			}
			if n := eval[int](p, `history.length`); n != entries {
				t.Errorf("after other languages, the history has %d entries, and %d before", n, entries)
			}
			if c.fill != nil {
				p.fill(c.fill...)
			}
			p.submit()
			p.wait(`!done.hidden`)
			said := p.text("done")
			for _, want := range c.done {
				if !strings.Contains(said, want) {
					t.Errorf("the page does not say %q:\n%s", want, said)
				}
			}
			if n := len(forms()); n != 1 || forms()[0].Get("token") != "secret" {
				t.Errorf("the server got %v", forms())
			}
			p.do(chromedp.Reload())
			p.wait(`!done.hidden && !document.getElementById("start") && document.activeElement.id === "done-title"`)
			if got := p.text("done"); got != said {
				t.Errorf("loaded again, the page says\n%s\nwant\n%s", got, said)
			}
			if state := eval[string](p, `JSON.stringify(history.state)`); strings.Contains(state, "secret") {
				t.Errorf("the tab keeps %s", state)
			}
			next := "/reset.html?token=next&lang=de"
			if c.name == "not-me" && eval[string](p, `choose.getAttribute("href")`) != next {
				t.Error("loaded again, the page does not lead to another password")
			}

			// The link in the message, once more.
			p.do(chromedp.Navigate(s.URL + c.path + "?token=secret"))
			p.wait(`document.getElementById("lost-title")?.checkVisibility() && done.hidden`)
			p.do(chromedp.Reload())
			p.wait(`document.getElementById("lost-title")?.checkVisibility() && done.hidden`)
		})
	}
}

// TestLanguageOfNextPage checks that a chosen language stays from the page of a message to the one
// for a new password, whatever the language of the account is (here German).
func TestLanguageOfNextPage(t *testing.T) {
	for _, c := range []struct{ name, choose, want string }{
		{"that of the message", "", "de"}, {"another one", "ar", "ar"}, {"English", "en", "en"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newPageServer(t)
			s.onLink(t, "/not-me.html", "/not-me/lost")
			s.onLink(t, "/reset.html", "/reset/lost")
			s.onPost("/not-me.ashx", reply(200,
				`{"ok":true,"user":"alex","email":"a***@example.org","reset":"/reset.html?token=secret"}`))
			s.onPost("/reset.ashx", reply(200, `{"ok":true,"user":"alex"}`))
			p := openTab(t, s, "/not-me.html?token=secret")
			p.ready()
			if c.choose != "" {
				p.do(chromedp.Click(chromedp.ID("language")), chromedp.Click(`#languages a[lang=`+c.choose+`]`))
				p.wait(`document.documentElement.lang === "` + c.choose + `" && !location.href.includes("secret")`)
				p.ready()
			}
			p.submit()
			p.wait(`!done.hidden`)
			p.do(chromedp.Click(chromedp.ID("choose")))
			p.wait(`location.pathname === "/reset.html" && !location.href.includes("secret")`)
			p.ready()
			got := eval[string](p, `document.documentElement.lang + " " + location.search`)
			if got != c.want+" ?lang="+c.want {
				t.Errorf("the next page is in %q, want %s", got, c.want)
			}
			p.fill("password", testPassword)
			p.submit()
			p.wait(`!done.hidden && location.search === "?lang=` + c.want + `"`)
		})
	}
}

// TestBackAfterNewPassword checks that somebody who returns after setting a new password, to an
// address without the link, is not told that something is missing.
func TestBackAfterNewPassword(t *testing.T) {
	s := newPageServer(t)
	used := s.onLink(t, "/reset.html", "/reset/lost")
	s.onPost("/reset.ashx", func(w http.ResponseWriter, _ *http.Request) {
		used()
		writeReply(w, 200, `{"ok":true,"user":"alex"}`)
	})
	p := openTab(t, s, "/reset.html?lang=en&token=secret")
	p.ready()
	p.fill("password", testPassword)
	p.submit()
	p.wait(`!done.hidden`)
	said := p.text("done")
	p.do(chromedp.Click(chromedp.CSS("#done a.button")))
	p.wait(`location.pathname === "/login.html"`)
	p.do(chromedp.Navigate(s.URL + "/reset.html?lang=en"))
	p.wait(`!done.hidden && !document.getElementById("start")`)
	if got := p.text("done"); got != said || !strings.Contains(got, "The password of alex was changed") {
		t.Errorf("the page says %q, want %q", got, said)
	}
}

// TestCopiedAddress checks that the copied address of the page behind a link does not work
// elsewhere, and that the page there says how to get the link.
func TestCopiedAddress(t *testing.T) {
	for _, c := range []struct{ path, lost, says string }{
		{"/reset.html", "/reset/lost", "Get a new link"},
		{"/not-me.html", "/not-me/lost", "ask the operator of Dialtone"},
		{"/stay.html", "/stay/lost", "Sign in"},
		{"/confirm-email.html", "/confirm-email/lost", "Enter the address again"},
	} {
		t.Run(c.path, func(t *testing.T) {
			s := newPageServer(t)
			s.onLink(t, c.path, c.lost)
			p := openTab(t, s, c.path+"?token=secret&lang=en")
			p.ready()
			p.wait(`!location.href.includes("secret")`)
			address := eval[string](p, `location.pathname + location.search`)
			other := openTab(t, s, "/login.html") // another entry of the history does not have the token
			other.do(chromedp.Navigate(s.URL + address))
			other.wait(`document.getElementById("lost-title")?.checkVisibility()`)
			for _, want := range []string{
				"This link does not work", "Part of the link is missing. Open it from the message again",
				"The address of a page that is already open does not work there", c.says,
			} {
				if got := other.text("start"); !strings.Contains(got, want) {
					t.Errorf("the page says %q, want %q", got, want)
				}
			}
			if got := eval[string](other, `document.title`); !strings.HasPrefix(got, "This link does not work ") {
				t.Errorf("the title is %q", got)
			}
		})
	}
}

// TestLeavingOnPages checks what forms say about an account whose owner has left.
func TestLeavingOnPages(t *testing.T) {
	s := newPageServer(t)
	leaving := reply(403, `{"error":"leaving","error_description":"x","since":"2026-03-01T12:00:00Z",`+
		`"until":"2026-03-08T12:00:00Z","email":"a***@example.org"}`)
	for _, path := range []string{"/login.html", "/activate/done?token=secret"} {
		s.onSignIn("MD5", 0, leaving)
		p := openTab(t, s, path)
		p.ready()
		p.fill("user", "alex", "password", testPassword)
		p.submit()
		p.wait(`!leaving.hidden && document.activeElement.id === "leaving-title"`)
		for _, want := range []string{
			"Sunday, 1 March 2026, 12:00 UTC", "Sunday, 8 March 2026, 12:00 UTC", "a***@example.org",
			"the operator of Dialtone",
		} {
			if got := p.text("leaving"); !strings.Contains(got, want) {
				t.Errorf("%s does not say %q:\n%s", path, want, got)
			}
		}
		p.do(chromedp.Click(chromedp.CSS(`#leaving a[href^="/forgot.html"]`)))
		p.wait(`location.pathname === "/forgot.html" && document.getElementById("account")?.value === "alex"`)
	}
	s.onLeave(leaving)
	p := openTab(t, s, "/leave.html")
	p.ready()
	p.fill("current", testPassword)
	p.do(chromedp.Click(chromedp.ID("sure")))
	p.submit()
	p.wait(`!summary.hidden`)
	if got := p.text("summary"); !strings.Contains(got, "asked to have this account deleted") ||
		!strings.Contains(got, "a***@example.org") {
		t.Errorf("the form says %q", got)
	}
}

// TestNotices checks that a page reports only once what has happened.
func TestNotices(t *testing.T) {
	s := newPageServer(t)
	p := openTab(t, s, "/error")
	for _, address := range []string{
		"/passkeys.html#added", "/passkeys.html#removed", "/sessions.html#ended", "/two-step.html#recovery",
		"/two-step.html#off", "/login.html#signed-out", "/login.html#left",
	} {
		_, id, _ := strings.Cut(address, "#")
		p.do(chromedp.Navigate(s.URL+blankPath), chromedp.Navigate(s.URL+address))
		shown := `document.getElementById("` + id + `")?.checkVisibility()`
		p.wait(`document.readyState === "complete" && location.hash === ""`)
		if !eval[bool](p, shown) {
			t.Errorf("%s does not show its notice", address)
		}
		p.do(chromedp.Reload())
		p.wait(`document.readyState === "complete"`)
		if eval[bool](p, shown) {
			t.Errorf("%s shows its notice again", address)
		}
	}
}

// TestBusyIsNotAnnouncedLonger checks that a screen reader does not find the text of a busy form
// after the form is done.
func TestBusyIsNotAnnouncedLonger(t *testing.T) {
	s := newPageServer(t)
	s.onLeave(replyError(500, "server_error", "x"))
	p := openTab(t, s, "/leave.html")
	p.ready()
	p.fill("current", testPassword)
	p.do(chromedp.Click(chromedp.ID("sure")))
	p.submit()
	p.wait(`!summary.hidden && document.getElementById("status").textContent === ""`)
}

// testButton checks that the page of a link sends its token only when the button is pressed, and that it shows what
// the server answers. It calls done when the page has shown the success.
func testButton(t *testing.T, page, endpoint string, done func(*tab)) {
	t.Helper()
	s := newPageServer(t)
	forms := s.onPost(endpoint, reply(200, `{"ok":true,"user":"alex"}`))
	p := openTab(t, s, page+"?token=secret")
	p.ready()
	p.wait(`!location.href.includes("secret")`)
	if n := len(forms()); n != 0 {
		t.Fatalf("the page sent %d forms by itself", n)
	}
	p.submit()
	p.wait(`!done.hidden && document.activeElement.id === "done-title"`)
	if got := fmt.Sprint(forms()); got != "[map[token:[secret]]]" {
		t.Errorf("the server got %s", got)
	}
	done(p)
	for answer, h := range map[string]http.HandlerFunc{
		`!lost.hidden`:                         replyError(404, "not_found", "x"),
		`/went wrong/.test(summary.innerText)`: replyError(500, "server_error", "x"),
	} {
		s.handle(endpoint, h)
		p = openTab(t, s, page+"?token=secret")
		p.ready()
		p.submit()
		p.wait(answer)
	}
}
