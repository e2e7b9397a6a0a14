package web

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// layoutShift is the sum of all layout shifts of the page so far.
const layoutShift = `new Promise((done) => {
	let sum = 0;
	new PerformanceObserver((list) => { for (const e of list.getEntries()) sum += e.value; })
		.observe({ type: "layout-shift", buffered: true });
	requestAnimationFrame(() => setTimeout(() => done(sum), 0));
})`

func TestSignInOnActivationPage(t *testing.T) {
	good := reply(200, `{"ok":true,"user":"alex","role":"guest"}`)
	phoneIsNext := `location.pathname === "/account.html" && document.activeElement.id === "phone" &&
		document.activeElement.innerText === "Next: set up your phone"`

	for _, state := range []string{"done", "already"} {
		t.Run("from the link to the phone by keyboard, after a wrong password: "+state, func(t *testing.T) {
			s := newPageServer(t)
			s.onSignIn("MD5", 0, good)
			forms := s.onConfirm(good)
			p := openTab(t, s, "/activate/"+state+"?token=secret")
			p.ready()
			if got := p.focused(); got != "password" {
				t.Errorf("focus is on %q", got)
			}
			p.do(chromedp.KeyEvent("wrong"), chromedp.KeyEvent(kb.Enter))
			want := []string{"The user name or password is wrong. Check both and try again. " +
				"If you have forgotten the password, follow the link on this page"}
			if got := p.problems(); !slices.Equal(got, want) {
				t.Errorf("problems %q", got)
			}
			p.fill("password", testPassword)
			p.do(chromedp.KeyEvent(kb.Enter))
			p.wait(phoneIsNext)
			if !eval[bool](p, `document.querySelector("#phone ~ * .qr").checkVisibility()`) {
				t.Error("there is no code to scan")
			}
			if got := forms(); len(got) > 1 { // the realms of the two endpoints differ here
				t.Errorf("the server got %q", got)
			}
			if got := eval[string](p, `JSON.stringify(sessionStorage)`); strings.Contains(got, "secret") {
				t.Errorf("the tab keeps %s", got)
			}
			p.wait(`location.search === ""`)
			p.do(chromedp.Reload())
			p.wait(`document.readyState === "complete"`)
			if got := p.text("phone"); got != "Set up a phone" {
				t.Errorf("loaded again, the page says %q", got)
			}
		})
	}

	t.Run("with the name in the tab's storage", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignIn("MD5", 0, good)
		p := openTab(t, s, "/activate/done?token=secret")
		p.wait(`location.pathname === "/activated.html"`)
		p.do(chromedp.Reload())
		p.ready()
		p.wait(`document.getElementById("user").value === "alex" && document.activeElement.id === "password"`)
		p.fill("password", testPassword)
		p.submit()
		p.wait(phoneIsNext)
	})

	t.Run("for password managers", func(t *testing.T) {
		p := openTab(t, newPageServer(t), "/activate/done?token=secret")
		p.ready()
		fields := eval[[]string](p, `[...document.querySelector("#password").form.querySelectorAll("input")]
			.map((e) => e.type + " " + e.autocomplete)`)
		want := []string{"text username", "password current-password", "text one-time-code"}
		if !slices.Equal(fields, want) {
			t.Errorf("the fields are %q", fields)
		}
		if n := eval[int](p, `document.querySelectorAll("input[type=password]").length`); n != 1 {
			t.Errorf("%d fields for a password", n)
		}
		if got := eval[string](p, `document.getElementById("user").value`); got != "alex" {
			t.Errorf("the name is %q", got)
		}
	})

	t.Run("of another account that is not active", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignIn("MD5", 0, replyError(403, "not_activated", "x"))
		p := openTab(t, s, "/activate/done?token=secret")
		p.wait(`location.pathname === "/activated.html"`)
		p.do(chromedp.Reload())
		p.ready()
		p.fill("user", "alex", "password", testPassword)
		p.submit()
		p.wait(`document.activeElement.id === "inactive-title"`)
	})

	t.Run("without a link the page is that for signing in", func(t *testing.T) {
		p := openTab(t, newPageServer(t), "/activated.html")
		p.wait(`location.pathname + location.search === "/login.html"`)
		p.ready()
		if body := p.body(); strings.Contains(body, "Account activated") {
			t.Errorf("the page says %s", body)
		}
	})

	t.Run("without a shift of the layout", func(t *testing.T) {
		s := newPageServer(t)
		for _, size := range [][2]int{{320, 640}, {1280, 800}} {
			p := openDrawing(t, s, "/error", 1280, 800)
			p.resize(size[0], size[1], size[0] < 400)
			for _, path := range []string{
				"/activate/done?token=secret", "/activated.html", "/decline/ask", "/account.html?next=phone",
				"/account.html#phone", "/profile.html", "/profile.html?saved", "/confirm-email.html?token=secret",
			} {
				p.do(chromedp.Navigate(s.URL + path))
				p.wait(`document.readyState === "complete"`)
				if got := eval[float64](p, layoutShift); got > 0 {
					t.Errorf("%s at %d pixels shifts by %g", path, size[0], got)
				}
			}
		}
	})

	t.Run("on a small screen the phone comes first", func(t *testing.T) {
		s := newPageServer(t)
		p := ownTab(t, s, "/error")
		p.resize(320, 640, true)
		p.do(chromedp.Navigate(s.URL + "/account.html?next=phone"))
		p.wait(`document.activeElement.id === "phone"`)
		top := `document.getElementById("phone").getBoundingClientRect().top`
		if got := eval[float64](p, top); got < 0 || got > 320 {
			t.Errorf("the heading is at %g", got)
		}
		if !eval[bool](p, top+` < document.getElementById("hello").getBoundingClientRect().top`) {
			t.Error("the address is above it")
		}
	})
}
