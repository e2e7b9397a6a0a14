package web

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// resize gives the tab a screen of this size, and that of a phone a coarse pointer.
func (p *tab) resize(width, height int, phone bool) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(width), Height: int64(height), DeviceScaleFactor: 1, Mobile: phone,
	}); err != nil {
		p.t.Fatal(err)
	}
	if _, err := chromedp.Call(p.ctx, emulation.SetTouchEmulationEnabled,
		emulation.SetTouchEmulationEnabledParams{Enabled: phone}); err != nil {
		p.t.Fatal(err)
	}
}

// ownTab opens a page in its own tab, whose screen a test may change.
func ownTab(t *testing.T, s *pageServer, path string) *tab {
	t.Helper()
	return openTab(t, s, path, chromedp.EmulateViewport(1280, 800))
}

const goodPassword = "correct horse battery staple"

func TestWeakPasswords(t *testing.T) {
	s := newPageServer(t)
	s.onSignup(reply(200, `{"ok":true,"user":"alex"}`))
	p := openTab(t, s, "/signup.html")
	p.fillAll()
	for _, password := range []string{
		"password1234", "123456789012", "111111111111", "passwordpassword", "abcdefghijkl", "qwertyuiop12",
		"Passwort1234", "phone.testphone.test",
	} {
		p.fill("password", password)
		p.submit()
		want := []string{"That password is easy to guess. Add a few unrelated words"}
		if got := p.problems(); !slices.Equal(got, want) {
			t.Errorf("%s: %q", password, got)
		}
	}
	if n := len(s.sent()); n != 0 {
		t.Errorf("%d requests went out", n)
	}
	p.fill("password", goodPassword)
	p.submit()
	p.wait(`!document.getElementById("sent").hidden`)
}

func TestErrorGoesWithItsField(t *testing.T) {
	marked := `[...document.querySelectorAll("[aria-invalid]")].map((input) => input.id).join()`
	shown := `[...document.querySelectorAll(".error:not([hidden])")].length`

	t.Run("when the field changes", func(t *testing.T) {
		p := openTab(t, newPageServer(t), "/signup.html")
		p.ready()
		p.submit()
		p.problems()
		p.fill("user", "alex", "email", "alex@example.org")
		if got := eval[string](p, marked); got != "name,password,captcha_answer" {
			t.Errorf("marked fields: %s", got)
		}
		if got := p.problems(); len(got) != 3 {
			t.Errorf("the summary has %q", got)
		}
		p.fill("name", "Alex", "password", goodPassword, "captcha_answer", "4")
		if eval[int](p, shown) != 0 || eval[bool](p, `document.getElementById("summary").checkVisibility()`) ||
			eval[string](p, `document.title`) != "Create an account – Dialtone" {
			t.Errorf("an error is left: %s", p.body())
		}
	})
	t.Run("when a name is taken from the offers", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignup(replyError(409, "conflict", "x"))
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		p.submit()
		p.problems()
		if p.focused() != "user" || eval[bool](p, `document.getElementById("summary").checkVisibility()`) {
			t.Errorf("focus is on %q, and there is a summary of one problem", p.focused())
		}
		p.do(chromedp.Click(chromedp.CSS("#user-offers button")))
		if got := eval[string](p, marked); got != "" || eval[int](p, shown) != 0 {
			t.Errorf("the new name is still marked: %s", p.body())
		}
	})
	t.Run("in the form for the address", func(t *testing.T) {
		s := newPageServer(t)
		p := openTab(t, s, "/login.html")
		inactive(t, s, p, `,"delivery":"failed"`)
		p.do(chromedp.Click(chromedp.CSS("#correct button")))
		p.wait(`document.activeElement.getAttribute("aria-invalid") === "true"`)
		p.fill("correct-email", "a")
		if eval[string](p, marked) != "" || p.text("correct-email-error") != "" {
			t.Error("the error is still there")
		}
	})
}

func TestResendCountdown(t *testing.T) {
	s := newPageServer(t)
	s.onSignup(reply(200, `{"ok":true,"user":"alex"}`))
	s.onResend(reply(200, `{"ok":true,"email":"a***@example.org"}`))
	p := openTab(t, s, "/signup.html")
	p.fillAll()
	p.submit()
	p.wait(`!document.getElementById("sent").hidden`)
	color := `getComputedStyle(document.getElementById("again")).backgroundColor`
	paused := eval[string](p, color)
	if got := p.text("again-left"); !strings.HasPrefix(got, "1:00") && !strings.HasPrefix(got, "0:5") {
		t.Errorf("the countdown says %q", got)
	}
	said := `(() => {
		window.heard = [];
		new MutationObserver(() => heard.push(document.getElementById("status").textContent))
			.observe(document.getElementById("status"), { childList: true });
		return true;
	})()`
	p.wait(`document.getElementById("again-left").textContent.startsWith("0:5")`) // it counts
	eval[bool](p, said)
	if n := eval[int](p, `fireTimers(60_000)`); n != 1 {
		t.Fatalf("%d timers of a minute", n)
	}
	p.wait(`heard.length > 0`)
	if got := eval[string](p, `heard.join()`); got != "You can send the message again now" {
		t.Errorf("screen readers get %q", got)
	}
	if p.pausing() || p.text("again-left") != "" {
		t.Error("the button is still disabled")
	}
	p.wait(color + ` !== "` + paused + `"`)
	// The server shows only part of the address; the page knows all of it.
	p.do(chromedp.Click(chromedp.ID("again")))
	p.wait(`document.getElementById("again-note").textContent.startsWith("A new message")`)
	got := p.text("again-note")
	if !strings.Contains(got, " alex@example.org.") || p.text("sent-to") != "alex@example.org" {
		t.Errorf("the page says %q and %q", got, p.text("sent-to"))
	}
}

func TestSentPanelAfterReload(t *testing.T) {
	s := newPageServer(t)
	s.onSignup(reply(200, `{"ok":true,"user":"alex"}`))
	p := openTab(t, s, "/signup.html?lang=en")
	p.fillAll()
	p.submit()
	p.wait(`!document.getElementById("sent").hidden`)
	until := p.text("sent-until")
	p.do(chromedp.Reload())
	p.wait(`document.activeElement?.id === "sent-title"`)
	if p.text("sent-to") != "alex@example.org" || p.text("sent-user") != "alex" || p.text("sent-until") != until {
		t.Errorf("the page says %s", p.body())
	}
	if eval[bool](p, `document.getElementById("resend").checkVisibility()`) ||
		!eval[bool](p, `document.getElementById("sent-signin").checkVisibility()`) {
		t.Error("the page offers to resend without a proof, or does not say how")
	}
	kept := eval[string](p, `JSON.stringify([history.state, {...sessionStorage}, {...localStorage}])`)
	for _, secret := range []string{
		testPassword, "Boxk", hexDigest("MD5", "alex:"+testHost+":"+testPassword),
		hexDigest("SHA-256", "alex:"+testHost+":"+testPassword),
	} {
		if strings.Contains(kept, secret) {
			t.Errorf("the tab keeps %s", kept)
		}
	}
	p.do(chromedp.NavigateBack())
	p.ready()
}

func TestSignInName(t *testing.T) {
	good := reply(200, `{"ok":true,"user":"alex","role":"user"}`)
	for _, typed := range []string{"alex@phone.test", "sip:alex@phone.test", "SIP:alex@PHONE.test ", "sips:alex"} {
		t.Run(typed, func(t *testing.T) {
			s := newPageServer(t)
			s.onSignIn("MD5", 0, good)
			p := openTab(t, s, "/login.html")
			p.ready()
			if got := p.focused(); got != "user" {
				t.Errorf("focus is on %q", got)
			}
			p.fill("user", typed, "password", testPassword)
			p.submit()
			p.wait(`location.pathname === "/account.html"`)
		})
	}
	t.Run("an e-mail address", func(t *testing.T) {
		p := openTab(t, newPageServer(t), "/login.html")
		p.ready()
		p.fill("user", "alex@example.org", "password", "x")
		p.submit()
		if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], "That looks like an email address.") {
			t.Errorf("problems %q", got)
		}
	})
	t.Run("capitals", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignIn("MD5", 0, good)
		p := openTab(t, s, "/login.html")
		p.ready()
		p.fill("user", "Alex", "password", testPassword)
		p.submit()
		p.problems()
		p.do(chromedp.Click(chromedp.CSS("#user-offers button")))
		p.submit()
		p.wait(`location.pathname === "/account.html"`)
	})
	t.Run("a known name", func(t *testing.T) {
		s := newPageServer(t)
		p := openTab(t, s, "/activate/done?token=secret")
		p.wait(`location.search === ""`)
		p.do(chromedp.Navigate(s.URL + "/login.html"))
		p.ready()
		if got := p.focused(); got != "password" {
			t.Errorf("focus is on %q", got)
		}
	})
	t.Run("at sign-up", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignup(reply(200, `{"ok":true,"user":"alex"}`))
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		p.fill("user", "alex@phone.test")
		p.submit()
		p.wait(`!document.getElementById("sent").hidden`)
		if got := s.sent()[0]; !strings.HasPrefix(got, "user=alex&") {
			t.Errorf("sent %s", got)
		}
	})
}

func TestWhySignIn(t *testing.T) {
	s := newPageServer(t)
	for fragment, want := range map[string]string{
		"#signed-out": "You are signed out.", "#ended": "Your session has ended. Sign in again.", "": "",
	} {
		p := openTab(t, s, "/login.html"+fragment)
		p.ready()
		got := eval[string](p, `[...document.querySelectorAll(".said")].filter((e) => e.checkVisibility())
			.map((e) => e.innerText).join()`)
		if got != want || eval[string](p, `document.getElementById("status").textContent`) != want {
			t.Errorf("%q: the page says %q", fragment, got)
		}
		p.wait(`document.readyState === "complete" && document.activeElement.id === "user"`)
		p.fill("user", "alex")
		p.submit()
		p.problems()
		if eval[bool](p, `[...document.querySelectorAll(".said")].some((e) => e.checkVisibility())`) {
			t.Errorf("%q: the page still says why, above the problem", fragment)
		}
		p.do(chromedp.Navigate(s.URL + blankPath))
	}
}

// TestUnicodeForms checks what the page does about passwords that have two forms in Unicode.
func TestUnicodeForms(t *testing.T) {
	const composed, decomposed = "Sch\u00f6ne alte Kaffeem\u00fchle", "Scho\u0308ne alte Kaffeemu\u0308hle"

	t.Run("at sign-up", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignup(reply(200, `{"ok":true,"user":"alex"}`))
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		visible := func(id string) bool {
			return eval[bool](p, `document.getElementById("`+id+`").checkVisibility()`)
		}
		for _, tt := range []struct {
			password      string
			note, compose bool
		}{{goodPassword, false, false}, {composed, true, false}, {decomposed, true, true}} {
			p.fill("password", tt.password)
			if visible("beyond") != tt.note || visible("compose") != tt.compose {
				t.Errorf("%+q: a note %t, an offer %t", tt.password, visible("beyond"), visible("compose"))
			}
		}
		// The key is that of the form in the field: nothing changes automatically.
		p.submit()
		p.wait(`!document.getElementById("sent").hidden`)
		if want := hexDigest("MD5", "alex:"+testHost+":"+decomposed); !strings.Contains(s.sent()[0], "ha1="+want) {
			t.Errorf("sent %s", s.sent()[0])
		}
	})
	t.Run("composes when asked", func(t *testing.T) {
		s := newPageServer(t)
		p := openTab(t, s, "/signup.html")
		p.fillAll()
		p.fill("password", decomposed)
		p.do(chromedp.Click(chromedp.ID("compose")))
		if got := eval[string](p, `document.getElementById("password").value`); got != composed {
			t.Errorf("the field holds %+q", got)
		}
	})

	other := strings.NewReplacer("ö", "o\u0308", "ä", "a\u0308").Replace(testPassword)
	t.Run("at sign-in, the other form is tried once", func(t *testing.T) {
		s := newPageServer(t)
		s.onSignIn("MD5", 0, reply(200, `{"ok":true,"user":"alex","role":"user"}`))
		p := openTab(t, s, "/login.html")
		p.ready()
		p.fill("user", "alex", "password", other)
		p.submit()
		p.wait(`location.pathname === "/account.html"`)
	})
	for password, requests := range map[string]int{"wrong": 2, "wröng": 4} {
		t.Run("requests for "+password, func(t *testing.T) {
			s := newPageServer(t)
			s.onSignIn("MD5", 0, http.NotFound)
			p := openTab(t, s, "/login.html")
			p.ready()
			p.fill("user", "alex", "password", password)
			p.submit()
			p.problems()
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.signIns) != requests {
				t.Errorf("%d requests, want %d", len(s.signIns), requests)
			}
		})
	}
	t.Run("at the confirmation of a link", func(t *testing.T) {
		s := newPageServer(t)
		forms := s.onConfirm(reply(200, `{"ok":true,"user":"alex"}`))
		p := openTab(t, s, "/activate/confirm?token=secret")
		p.wait(`!document.getElementById("submit").disabled`)
		p.fill("password", other)
		p.submit()
		p.wait(`document.activeElement.id === "done-title"`)
		if len(forms()) != 1 {
			t.Errorf("the server got %q", forms())
		}
	})
}

func TestCopyAll(t *testing.T) {
	p := openTab(t, newPageServer(t), "/account.html")
	p.wait(`!document.querySelector("[data-copy=settings]").hidden`)
	eval[bool](p, `(navigator.clipboard.writeText = async (text) => { window.copied = text; }, true)`)
	p.do(chromedp.Click(chromedp.CSS(".manual summary")), chromedp.Click(chromedp.CSS("[data-copy=settings]")))
	p.wait(`document.getElementById("status").textContent === "All settings copied"`)
	want := "User name: alex\nDomain: phone.test\nServer: sip.phone.test:5061\nTransport: TLS"
	if got := eval[string](p, `copied`); got != want {
		t.Errorf("copied %q", got)
	}
	p.do(chromedp.Click(chromedp.CSS("[data-copy=v-address]")))
	p.wait(`window.copied === "alex@phone.test"`)
	p.do(chromedp.Click(chromedp.CSS("[data-copy=v-link]")))
	p.wait(`copied.startsWith("https://phone.test/provision/linphone.xml?token=") && copied.length > 120`)
}

// TestSetUpOnPhone checks that a phone does not get a code first that only another device can scan.
func TestSetUpOnPhone(t *testing.T) {
	s := newPageServer(t)
	p := ownTab(t, s, "/scan")
	order := `[["open", '.offer a[href^="linphone-config:https://"]'], ["copy", "[data-copy=v-link]"], ["code", ".qr"]]
		.map(([name, selector]) => [name, document.querySelector(selector)])
		.filter(([, element]) => element?.checkVisibility())
		.sort(([, a], [, b]) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)
		.map(([name]) => name).join()`
	if got := eval[string](p, order); got != "code,copy" {
		t.Errorf("with a mouse the page has %s", got)
	}
	p.resize(390, 844, true)
	p.do(chromedp.Reload())
	s.handle("/provision", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "new", http.StatusOK) })
	p.do(chromedp.Navigate(s.URL + "/scan"))
	if got := eval[string](p, order); got != "open,copy,code" {
		t.Errorf("with a finger the page has %s", got)
	}
	if body := p.body(); strings.Contains(body, "with a code") || strings.Contains(body, "in the code") {
		t.Errorf("with a finger the page speaks of a code that nobody needs: %s", body)
	}
	stores := eval[string](p, `[...document.querySelectorAll(".stores a")].map((a) => a.hostname).join()`)
	if stores != "apps.apple.com,play.google.com,www.linphone.org" {
		t.Errorf("the stores are %s", stores)
	}
}

// TestNewLink checks that the page reloads itself for a new link, from an address that needs no
// form.
func TestNewLink(t *testing.T) {
	s := newPageServer(t)
	s.handle("/provision", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.RawQuery != "format=linphone" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<title>new</title>"))
	})
	p := openTab(t, s, "/scan")
	p.wait(`location.pathname + location.search === "/provision?format=linphone"`)
	if n := eval[int](p, `fireTimers(14 * 60_000)`); n != 1 {
		t.Fatalf("%d timers of 14 minutes", n)
	}
	p.wait(`document.title === "new"`)
	p.do(chromedp.Navigate(s.URL + "/scan"))
	p.wait(`location.pathname === "/provision"`)
	p.do(chromedp.Reload())
	p.wait(`document.title === "new"`)
}

// TestNewLinkOnAccountPage checks that a new link is available immediately, that it is loaded after
// the device slept, and that the page then looks as the person left it.
func TestNewLinkOnAccountPage(t *testing.T) {
	s := newPageServer(t)
	p := ownTab(t, s, "/account.html")
	p.resize(390, 600, true)
	loaded := func() { p.wait(`!window.old && document.querySelector("[data-copy=settings]")?.hidden === false`) }
	for name, renew := range map[string]func(){
		"the timer": func() {
			if n := eval[int](p, `fireTimers(14 * 60_000)`); n != 1 {
				t.Fatalf("%d timers of 14 minutes", n)
			}
		},
		"the button": func() { p.do(chromedp.Click(chromedp.ID("renew"))) },
		"waking up": func() {
			eval[bool](p, `document.dispatchEvent(new Event("visibilitychange"))`) // not yet
			if !eval[bool](p, `window.old`) {
				t.Error("the page is loaded again before the link expires")
			}
			eval[bool](p, `(() => {
				const real = Date.now;
				Date.now = () => real() + 14 * 60_000;
				return document.dispatchEvent(new Event("visibilitychange"));
			})()`)
		},
	} {
		p.do(chromedp.Navigate(s.URL + "/account.html"))
		loaded()
		opened := eval[bool](p, `document.querySelector(".manual").open`)
		if !opened {
			p.do(chromedp.Click(chromedp.CSS(".manual summary")))
			p.wait(`sessionStorage.getItem("open /account.html") === "manual"`)
		}
		eval[bool](p, `(scrollTo(0, document.getElementById("settings").offsetTop), window.old = true)`)
		top := eval[float64](p, `scrollY`)
		if name == "the button" {
			p.do(chromedp.ScrollIntoView(chromedp.ID("renew")))
			top = eval[float64](p, `scrollY`)
		}
		renew()
		loaded()
		if !eval[bool](p, `document.querySelector(".manual").open`) {
			t.Errorf("%s closes the settings", name)
		}
		if got := eval[float64](p, `scrollY`); top == 0 || got != top {
			t.Errorf("%s scrolls from %g to %g", name, top, got)
		}
	}
	p.do(chromedp.Click(chromedp.CSS(".manual summary")))
	p.wait(`sessionStorage.getItem("open /account.html") === ""`)
	p.do(chromedp.Reload())
	p.wait(`document.readyState === "complete"`)
	if eval[bool](p, `document.querySelector(".manual").open`) {
		t.Error("closed settings are open again")
	}
}

func TestLanguageMenuCloses(t *testing.T) {
	p := openTab(t, newPageServer(t), "/signup.html")
	p.ready()
	open := `document.getElementById("language-list").matches(":popover-open")`
	p.do(chromedp.Click(chromedp.ID("language")))
	p.wait(open)
	p.do(chromedp.KeyEvent(kb.Escape))
	p.wait("!" + open)
	p.do(chromedp.Click(chromedp.ID("language")))
	p.wait(open)
	p.do(chromedp.Click(chromedp.CSS("h1")))
	p.wait("!" + open)
}

// TestLargeText doubles the size of text on a phone's screen.
func TestLargeText(t *testing.T) {
	s := newPageServer(t)
	p := openTab(t, s, "/", chromedp.EmulateViewport(390, 844))
	for _, path := range []string{
		"/", "/in", "/signed", "/signup.html", "/login.html", "/account.html", "/scan", "/error",
		"/forgot.html", "/reset/several", "/reset/lost", "/not-me.html", "/sessions.html", "/leave.html", "/stay.html",
		"/passkeys.html", "/profile.html", "/confirm-email.html", "/two-step.html", "/two-step/on",
		"/two-step/required", "/account/changed",
		"/activate/confirm", "/activate/held", "/activate/done", "/decline/ask", "/decline/active",
	} {
		for _, lang := range []string{"en", "de", "fr", "es", "ar"} {
			p.show(path + "?lang=" + lang)
			wide := eval[[]string](p, `(() => {
				document.documentElement.style.fontSize = "200%";
				document.querySelectorAll("details").forEach((e) => { e.open = true; });
				if (document.documentElement.scrollWidth <= 390) return [];
				return [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > 391 ||
					e.getBoundingClientRect().left < -1).map((e) => e.outerHTML.slice(0, 120));
			})()`)
			if len(wide) > 0 {
				t.Errorf("%s in %s is too wide: %q", path, lang, wide)
			}
			// A label that is broken into letters is much higher than its lines of text need.
			broken := eval[[]string](p, `[...document.querySelectorAll("label, button, dt, .button, .label")]
				.filter((e) => e.checkVisibility() && e.innerText.length > 3)
				.filter((e) => e.getBoundingClientRect().width < 60).map((e) => e.innerText)`)
			if len(broken) > 0 {
				t.Errorf("%s in %s breaks %q", path, lang, broken)
			}
			if path == "/" {
				if got := eval[[]string](p, brokenWords); len(got) > 0 {
					t.Errorf("%s in %s breaks %q", path, lang, got)
				}
			}
		}
	}
}

func TestScreens(t *testing.T) {
	s := newPageServer(t)
	p := ownTab(t, s, "/signup.html")
	p.ready()
	if bottom := eval[float64](p, `document.getElementById("submit").getBoundingClientRect().bottom`); bottom > 800 {
		t.Errorf("at 1280 x 800, the button ends at %.0f", bottom)
	}
	columns := `((a, b) => a.left < b.left && a.top < b.bottom && b.top < a.bottom)(
		document.querySelector(".intro").getBoundingClientRect(),
		document.querySelector("form").getBoundingClientRect())`
	if !eval[bool](p, columns) {
		t.Error("at 1280 x 800 there is one column")
	}
	p.resize(1920, 1080, false)
	p.do(chromedp.Navigate(s.URL + "/"))
	used := eval[float64](p, `((a, b) => b.right - a.left)(document.querySelector(".pitch").getBoundingClientRect(),
		document.querySelector(".ways").getBoundingClientRect())`)
	if used < 1920*.6 {
		t.Errorf("at 1920 pixels, the home page uses %.0f", used)
	}
}

// TestRequests counts the requests of the sign-up page: the page, a style sheet, a script and a
// question.
func TestRequests(t *testing.T) {
	p := openTab(t, newPageServer(t), "/signup.html")
	p.ready()
	loaded := eval[[]string](p, `performance.getEntriesByType("resource").map(({ name }) => new URL(name).pathname)
		.filter((path) => !path.includes("favicon"))`)
	if len(loaded) != 3 {
		t.Errorf("the page loads %q", loaded)
	}
	for _, want := range []string{
		`meta[name="description"][content^="Desk phone"]`, `meta[name="theme-color"][media*="dark"]`,
		`a.brand[href="/"]`,
	} {
		if eval[int](p, `document.querySelectorAll(`+"`"+want+"`"+`).length`) != 1 {
			t.Errorf("the page has no %s", want)
		}
	}
}
