package web

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// onPost makes the server answer a POST, and returns a function that returns the received forms.
func (s *pageServer) onPost(path string, h http.HandlerFunc) (forms func() []url.Values) {
	var got []url.Values
	s.handle(path, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f, _ := url.ParseQuery(string(body))
		s.mu.Lock()
		got = append(got, f)
		s.mu.Unlock()
		h(w, r)
	})
	return func() []url.Values {
		s.mu.Lock()
		defer s.mu.Unlock()
		return got
	}
}

// TestForgotPage checks that the page gives the same answer to every text.
func TestForgotPage(t *testing.T) {
	s := newPageServer(t)
	forms := s.onPost("/forgot.ashx", reply(200, `{"ok":true}`))
	p := openTab(t, s, "/forgot.html")
	p.ready()
	p.submit()
	p.wait(`!document.getElementById("account-error").hidden`)
	if n := len(forms()); n != 0 {
		t.Fatalf("an empty form was sent %d times", n)
	}
	var said string
	for i, account := range []string{"alex", "nobody@example.org"} {
		p = openTab(t, s, "/forgot.html")
		p.ready()
		p.fill("account", " "+account+" ")
		p.submit()
		p.wait(`!document.getElementById("sent").hidden && document.activeElement.id === "sent-title"`)
		text := eval[string](p, `document.getElementById("sent").innerText`)
		if want := "At most 3 such messages a day go to an account. If none arrives, look for an earlier one, " +
			"or contact the operator of Dialtone."; !strings.Contains(text, want) {
			t.Errorf("the page says %q", text)
		}
		if want := "You entered: " + account + "\n"; !strings.Contains(text, want) {
			t.Errorf("the page says %q, want %q", text, want)
		}
		text = strings.ReplaceAll(text, account, "")
		if i > 0 && text != said {
			t.Errorf("the page says %q, and %q before", text, said)
		}
		said = text
		if got := forms()[i].Get("account"); got != account {
			t.Errorf("the server got %q", got)
		}
	}
	for answer, want := range map[string]http.HandlerFunc{
		`!document.getElementById("account-error").hidden`: replyError(400, "invalid_request", "x"),
		`/Too many attempts/.test(summary.innerText)`:      replyError(429, "rate_limited", "x"),
		`/did not answer/.test(summary.innerText)`:         hangUp,
	} {
		s.handle("/forgot.ashx", want)
		p = openTab(t, s, "/forgot.html")
		p.ready()
		p.fill("account", "alex")
		p.submit()
		p.wait(answer)
	}
}

// TestForgottenName checks that a name typed for signing in need not be typed again.
func TestForgottenName(t *testing.T) {
	p := openTab(t, newPageServer(t), "/login.html")
	p.ready()
	p.fill("user", "alex")
	p.do(chromedp.Click(chromedp.CSS(`main a[href="/forgot.html"]`)))
	p.wait(`location.pathname === "/forgot.html" && document.getElementById("account")?.value === "alex"`)
}

// TestResetPage checks what the page sends, and what it keeps of the link.
func TestResetPage(t *testing.T) {
	s := newPageServer(t)
	forms := s.onPost("/reset.ashx", reply(200, `{"ok":true,"user":"bea"}`))
	open := func(path string) *tab {
		p := openTab(t, s, path+"?token=secret")
		p.ready()
		p.wait(`!location.href.includes("secret")`)
		return p
	}
	p := open("/reset/several")
	if n := eval[int](p, `document.querySelectorAll("input[type=radio]:checked").length`); n != 0 {
		t.Error("an account is chosen already")
	}
	p.fill("password", "short")
	p.submit()
	if got := p.problems(); len(got) != 2 || got[0] != "Choose the account" {
		t.Errorf("without an account and a password: problems %q", got)
	}
	p.fill("password", testPassword)
	p.submit()
	p.wait(`document.activeElement.value === "alex"`)
	if got := p.problems(); len(got) != 1 || got[0] != "Choose the account" || len(forms()) != 0 {
		t.Errorf("without an account: problems %q, sent %v", got, forms())
	}
	eval[bool](p, `(document.querySelector("input[value=bea]").click(), true)`)
	p.wait(`account.querySelector(".error").hidden && !document.querySelector("[aria-invalid]")`)
	if got := eval[string](p, `[user.value, user.autocomplete, password.autocomplete].join()`); got !=
		"bea,username,new-password" {
		t.Errorf("password managers see %q", got)
	}
	p.fill("password", "short")
	p.submit()
	p.wait(`/at least 12/.test(document.getElementById("password-error").innerText)`)
	p.fill("password", testPassword)
	p.submit()
	p.wait(`!done.hidden && document.activeElement.id === "done-title"`)
	if got := eval[string](p, `document.activeElement.innerText + document.title`); strings.Count(
		got, "The password of bea was changed") != 2 {
		t.Errorf("the page says %q", got)
	}
	if got := eval[string](p, `JSON.stringify(sessionStorage) + location.pathname + location.search`); got !=
		`{"user":"bea","chosen":"bea"}/reset/several?lang=en` {
		t.Errorf("the tab keeps %s", got)
	}
	if len(forms()) != 1 {
		t.Fatalf("the server got %q", forms())
	}
	f := forms()[0]
	if f.Get("token") != "secret" || f.Get("user") != "bea" || len(f.Get("ha1_sha256")) != 64 || len(f) != 5 ||
		f.Get("ha1") != hexDigest("MD5", "bea:"+testHost+":"+testPassword) ||
		f.Get("ha1b") != hexDigest("MD5", "bea@"+testHost+":"+testHost+":"+testPassword) {
		t.Errorf("the server got %q", f)
	}
	common := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Dialtone-Rule", "ha1.common")
		replyError(400, "invalid_request", "x")(w, r)
	}
	for answer, h := range map[string]http.HandlerFunc{
		`!lost.hidden && document.activeElement.id === "lost-title"`:     replyError(404, "not_found", "x"),
		`/easy to guess/.test(document.querySelector("form").innerText)`: common,
		`/went wrong/.test(summary.innerText)`:                           replyError(500, "server_error", "x"),
	} {
		s.handle("/reset.ashx", h)
		p = open("/reset.html")
		p.fill("password", testPassword)
		p.submit()
		p.wait(answer)
	}
}

// TestResetPageKept checks that the page says which account is kept: the chosen one, if its owner had left.
func TestResetPageKept(t *testing.T) {
	s := newPageServer(t)
	for _, x := range []struct {
		path, user, before string
		kept               bool
	}{
		{"/reset/kept", "bea", "bea, which somebody asked to have deleted, is kept if you choose it below.", true},
		{"/reset/kept", "alex", "is kept if you choose it below. Otherwise it is deleted.", false},
		{"/reset/kept-one", "bea", "is kept when you save a new password.", true},
	} {
		s.onPost("/reset.ashx", reply(200, `{"ok":true,"user":"`+x.user+`"}`))
		p := openTab(t, s, x.path+"?token=secret")
		p.ready()
		if got := p.text("start"); !strings.Contains(got, x.before) || strings.Count(got, "is kept") != 1 {
			t.Errorf("%s: before, the page says %q", x.path, got)
		}
		eval[bool](p, `(document.querySelector("input[value=`+x.user+`]").click(), true)`)
		p.fill("password", testPassword)
		p.submit()
		for _, when := range []string{"after saving", "loaded again"} {
			p.wait(`document.getElementById("done")?.checkVisibility()`)
			want := "The account, which somebody asked to have deleted, is kept."
			if got := p.text("done"); strings.Contains(got, want) != x.kept || strings.Contains(got, "recovery") {
				t.Errorf("%s for %s, %s: the page says %q", x.path, x.user, when, got)
			}
			p.do(chromedp.Reload())
		}
	}
}

// TestNotMePage checks that only the button sends something, and leads to the next page.
func TestNotMePage(t *testing.T) {
	s := newPageServer(t)
	forms := s.onPost("/not-me.ashx", reply(200,
		`{"ok":true,"user":"alex","email":"a***@example.org","reset":"/reset.html?token=next"}`))
	p := openTab(t, s, "/not-me.html?token=secret")
	p.ready()
	p.wait(`!location.href.includes("secret")`)
	if n := len(forms()); n != 0 {
		t.Fatalf("the page sent %d forms by itself", n)
	}
	// What a message is about was added before the message was read, and is removed too.
	removed := []string{
		"The authenticator app is removed: it was added at the time of that message or later.",
		"Passkeys that were added at the time of that message or later are removed.",
		"All recovery codes of the account are removed: somebody else may have the list. The authenticator app stays.",
	}
	const noCodes = "The account has no recovery codes now. Sign in with the new password and a code of the app, " +
		"and get new ones under Two‑step sign-in."
	for _, want := range removed {
		if got := p.text("start"); !strings.Contains(got, want) {
			t.Errorf("the page says %q, want %q", got, want)
		}
	}
	p.submit()
	p.wait(`!done.hidden && document.activeElement.id === "done-title"`)
	for _, want := range removed {
		if got := p.text("done"); !strings.Contains(got, want) {
			t.Errorf("after the button, the page says %q, want %q", got, want)
		}
	}
	if got := p.text("done"); !strings.Contains(got, "alex@example.org") || !strings.Contains(got, "is kept") ||
		!strings.Contains(got, "authenticator app") || !strings.Contains(got, "for the account alex") ||
		!strings.Contains(got, noCodes) {
		t.Errorf("the page says %q", got)
	}
	p.do(chromedp.Click(chromedp.ID("choose")))
	p.wait(`location.pathname === "/reset.html" && !location.href.includes("next")`)
	s.onPost("/reset.ashx", reply(200, `{"ok":true,"user":"alex"}`))
	p.ready()
	p.fill("password", testPassword)
	p.submit()
	p.wait(`!done.hidden && document.activeElement.id === "done-title"`)
	for range 2 {
		if got := p.text("done"); !strings.Contains(got, noCodes) {
			t.Errorf("after a new password, the page does not advise to get new recovery codes: %q", got)
		}
		p.do(chromedp.Reload())
		p.wait(`document.getElementById("done")?.checkVisibility()`)
	}
	p.do(chromedp.NavigateBack())
	p.wait(`location.pathname === "/not-me.html" && document.getElementById("chosen")?.checkVisibility()`)
	if got := p.text("done"); strings.Contains(got, "Until you have saved") || p.visible("choose") ||
		!strings.Contains(got, "If you have just chosen a password, it is saved") {
		t.Errorf("after a new password, the page says %q", got)
	}
	if got := fmt.Sprint(forms()); got != "[map[token:[secret]]]" {
		t.Errorf("the server got %s", got)
	}
	for answer, h := range map[string]http.HandlerFunc{
		`!lost.hidden`:                         replyError(404, "not_found", "x"),
		`/went wrong/.test(summary.innerText)`: replyError(500, "server_error", "x"),
		`/Too many such links were used .* Open this link again later/.test(summary.innerText)`: withHeader(
			"Dialtone-Rule", "changes.link", replyError(429, "rate_limited", "x")),
	} {
		s.handle("/not-me.ashx", h)
		p = openTab(t, s, "/not-me.html?token=secret")
		p.ready()
		p.submit()
		p.wait(answer)
	}
}
