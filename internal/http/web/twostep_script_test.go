package web

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// onCodeProof makes an endpoint require a proof of any password, and give these answers to proofs
// one after another, and then repeat the last one. It returns a function that returns the code and
// the form received with each proof.
func (s *pageServer) onCodeProof(path string, answers ...http.HandlerFunc) (sent func() []string) {
	var list []string
	s.handle(path, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Digest ") {
			w.Header().Set("WWW-Authenticate", `X-Digest realm="a.test", nonce="n", qop="auth", algorithm=MD5`)
			writeReply(w, 401, `{"error":"unauthorized","error_description":"x"}`)
			return
		}
		s.mu.Lock()
		list = append(list, r.Header.Get("Dialtone-Code")+" "+string(body))
		answer := answers[min(len(list), len(answers))-1]
		s.mu.Unlock()
		answer(w, r)
	})
	return func() []string {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Clone(list)
	}
}

// needs returns the answer that requires a second factor.
func needs(rule string) http.HandlerFunc {
	return withHeader("Dialtone-Rule", rule, replyError(403, "second_factor", "x"))
}

// visible reports whether people see an element.
func (p *tab) visible(id string) bool {
	return eval[bool](p, `document.getElementById("`+id+`").checkVisibility()`)
}

const codeAsked = `document.activeElement.id === "code"`

func TestCodeField(t *testing.T) {
	signedIn := reply(200, `{"ok":true,"user":"alex","role":"guest"}`)

	t.Run("appears when the server asks for a code", func(t *testing.T) {
		s := newPageServer(t)
		sent := s.onCodeProof("/signin.ashx", needs("code"), needs("code"), needs("code.wrong"), signedIn)
		p := openTab(t, s, "/login.html")
		p.ready()
		if p.visible("code") {
			t.Error("the field is shown before")
		}
		p.fill("user", "alex", "password", testPassword)
		p.submit()
		p.wait(codeAsked)
		if p.visible("summary") || p.visible("code-error") {
			t.Error("the first question is shown as a problem")
		}
		if got := p.text("code-field"); !strings.Contains(got, "Ask the operator of Dialtone") {
			t.Errorf("the field does not say what to do without a code: %s", got)
		}
		for _, attribute := range []string{"autocomplete one-time-code", "inputMode text"} {
			name, want, _ := strings.Cut(attribute, " ")
			if got := eval[string](p, `document.getElementById("code").`+name); got != want {
				t.Errorf("%s is %q", name, got)
			}
		}
		p.submit()
		if got := p.problems(); len(got) != 1 || got[0] != "Enter the code" {
			t.Errorf("problems: %q", got)
		}
		for _, code := range []string{"hello", "12345", "1234567", "abcde-fgh2u"} {
			p.fill("code", code)
			p.submit()
			if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], "A code of the app has 6 digits") {
				t.Errorf("%s: problems: %q", code, got)
			}
		}
		p.fill("code", "١٢٣ 45-6")
		p.submit()
		if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], "This code is wrong") {
			t.Errorf("problems: %q", got)
		}
		if eval[string](p, `document.getElementById("code").value`) != "" {
			t.Error("the wrong code is still there")
		}
		p.fill("code", "654321")
		p.submit()
		p.wait(`location.pathname === "/account.html"`)
		if got, want := sent(), []string{" ", " ", "123456 ", "654321 "}; !slices.Equal(got, want) {
			t.Errorf("sent %q, want %q", got, want)
		}
	})
	t.Run("leads to the recovery codes after one of them", func(t *testing.T) {
		s := newPageServer(t)
		s.onCodeProof("/signin.ashx", needs("code"), signedIn)
		p := openTab(t, s, "/login.html")
		p.ready()
		p.fill("user", "alex", "password", testPassword)
		p.submit()
		p.wait(codeAsked)
		p.fill("code", "ABCDE-FGH23")
		p.submit()
		p.wait(`location.pathname === "/two-step.html" && document.getElementById("recovery")?.checkVisibility()`)
	})
	for rule, want := range map[string]string{
		"passkey": "For your account, the password alone is not enough on this site. Sign in with your passkey. " +
			"If you no longer have it, ask the operator",
		"factor": "For your account, the password alone is not enough on this site. Sign in, and first turn on " +
			"two‑step sign-in or add a passkey",
	} {
		t.Run("is not shown for the rule "+rule, func(t *testing.T) {
			s := newPageServer(t)
			s.onCodeProof("/signin.ashx", needs(rule))
			p := openTab(t, s, "/login.html")
			p.ready()
			p.fill("user", "alex", "password", testPassword)
			p.submit()
			if got := p.problems(); len(got) != 1 || got[0] != want {
				t.Errorf("problems: %q", got)
			}
			if p.visible("code") {
				t.Error("it is shown")
			}
		})
	}
	t.Run("is on the page that changes the password", func(t *testing.T) {
		s := newPageServer(t)
		limit := withHeader("Dialtone-Rule", "code.limit", withRetryAfter("3600", replyError(429, "rate_limited", "x")))
		sent := s.onCodeProof("/password.ashx", needs("code"), limit, reply(200, `{"ok":true,"user":"alex"}`))
		p := openTab(t, s, "/password.html")
		p.ready()
		p.fill("current", testPassword, "password", freshPassword)
		p.submit()
		p.wait(codeAsked)
		p.fill("code", "123456")
		p.submit()
		const limited = "Too many wrong codes. Try again in 60 minutes"
		if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], limited) {
			t.Errorf("problems: %q", got)
		}
		p.submit()
		p.wait(`!document.getElementById("changed").hidden`)
		for i, code := range []string{" ", "123456 ha1=", "123456 ha1="} {
			if got := sent(); len(got) != 3 || !strings.HasPrefix(got[i], code) {
				t.Errorf("sent %q", got)
			}
		}
	})
}

func TestTwoStepPage(t *testing.T) {
	const (
		app = `{"ok":true,"secret":"GEZDGNBVGY3TQOJQ","uri":"otpauth://totp/x",
			"qr":{"size":29,"path":"M4 4h7v1h-7z"}}`
		codes = `{"ok":true,"codes":["abcde-fgh23","00000-11111"]}`
	)

	t.Run("sets an app up", func(t *testing.T) {
		s := newPageServer(t)
		other := withHeader("Dialtone-Rule", "code.other", replyError(400, "invalid_request", "x"))
		sent := s.onCodeProof("/two-step.ashx", reply(200, app), other, reply(200, codes))
		p := openTab(t, s, "/two-step.html")
		p.ready()
		if got := p.text("submit"); got != "Turn on two‑step sign-in" {
			t.Errorf("the button says %q", got)
		}
		if got := p.text("state"); got != "Two‑step sign-in is off." {
			t.Errorf("the state is %q", got)
		}
		p.submit()
		if got := p.problems(); len(got) != 1 || got[0] != "Enter your current password" {
			t.Errorf("problems: %q", got)
		}
		p.fill("current", testPassword)
		p.submit()
		p.wait(`document.activeElement.id === "first"`)
		if got := p.text("v-secret"); got != "GEZD GNBV GY3T QOJQ" {
			t.Errorf("the secret is %q", got)
		}
		if got := eval[string](p, `document.getElementById("qr").getAttribute("viewBox") +
			document.getElementById("qr-path").getAttribute("d")`); got != "0 0 29 29M4 4h7v1h-7z" {
			t.Errorf("the code is %q", got)
		}
		p.submit()
		if got := p.problems(); len(got) != 1 || got[0] != "Enter the code that the app shows" {
			t.Errorf("problems: %q", got)
		}
		p.fill("first", "hello")
		p.submit()
		if got := p.problems(); len(got) != 1 || got[0] != "Enter the 6 digits that the app shows" {
			t.Errorf("problems: %q", got)
		}
		p.fill("first", "123456")
		p.submit()
		if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], "This is not the code") {
			t.Errorf("problems: %q", got)
		}
		p.fill("first", "123 457")
		p.submit()
		p.wait(`document.activeElement.id === "codes-title"`)
		if got := eval[string](p, `document.getElementById("v-codes").textContent`); got != "abcde-fgh23\n00000-11111" {
			t.Errorf("the codes are %q", got)
		}
		if got := p.text("now-on"); !strings.HasPrefix(got, "Two‑step sign-in is on.") || !p.visible("now-on") {
			t.Errorf("the page says %q", got)
		}
		if got := eval[string](p, `document.getElementById("download").download`); got != testHost+"-codes.txt" {
			t.Errorf("the file is %q", got)
		}
		if n := eval[int](p, `document.querySelectorAll("input").length`); n != 0 {
			t.Errorf("the page still has %d inputs", n)
		}
		want := []string{" do=begin", " do=finish&code=123456", " do=finish&code=123457"}
		if got := sent(); !slices.Equal(got, want) {
			t.Errorf("sent %q, want %q", got, want)
		}
	})
	t.Run("renews the codes with a code", func(t *testing.T) {
		s := newPageServer(t)
		sent := s.onCodeProof("/two-step.ashx", needs("code"), reply(200, codes))
		p := openTab(t, s, "/two-step/on")
		p.ready()
		if got := p.focused(); got != "" {
			t.Errorf("the focus is on %q, past the question", got)
		}
		if got := p.text("state"); !strings.HasPrefix(got, "Two‑step sign-in is on, since Sunday, 1 March 2026") {
			t.Errorf("the state is %q", got)
		}
		p.fill("current", testPassword)
		p.submit()
		if got := p.problems(); len(got) != 1 || got[0] != "Choose what you want to do" {
			t.Errorf("problems: %q", got)
		}
		p.do(chromedp.Click(`input[value="renew"]`))
		p.submit()
		p.wait(codeAsked)
		p.fill("code", "123456")
		p.submit()
		p.wait(`document.activeElement.id === "codes-title"`)
		if p.visible("now-on") {
			t.Error("the page says that two-step sign-in was turned on")
		}
		if got, want := sent(), []string{" do=renew", "123456 do=renew"}; !slices.Equal(got, want) {
			t.Errorf("sent %q, want %q", got, want)
		}
	})
	t.Run("turns the app off", func(t *testing.T) {
		s := newPageServer(t)
		s.onCodeProof("/two-step.ashx", reply(200, `{"ok":true,"user":"alex"}`))
		p := openTab(t, s, "/two-step/on")
		p.ready()
		p.do(chromedp.Click(`input[value="off"]`))
		p.fill("current", testPassword)
		p.submit()
		p.wait(`location.hash === "" && document.getElementById("off")?.checkVisibility()`)
	})
	t.Run("says that another window has finished before", func(t *testing.T) {
		s := newPageServer(t)
		s.onCodeProof("/two-step.ashx", reply(200, app), needs("code"))
		p := openTab(t, s, "/two-step.html")
		p.ready()
		p.fill("current", testPassword)
		p.submit()
		p.wait(`document.activeElement.id === "first"`)
		p.fill("first", "123456")
		p.submit()
		if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], "The app was changed in another window") {
			t.Errorf("problems: %q", got)
		}
	})
	t.Run("offers a passkey where a second factor is required, and no way back", func(t *testing.T) {
		s := newPageServer(t)
		p := openTab(t, s, "/two-step/required")
		p.ready()
		if got := p.text("required"); !strings.Contains(got, "or add a passkey") {
			t.Errorf("the page says %q", got)
		}
		links := eval[[]string](p, `[...document.querySelectorAll("main a[href]")].filter((e) => e.checkVisibility())
			.map((e) => e.getAttribute("href"))`)
		if !slices.Equal(links, []string{"/passkeys.html", "/forgot.html"}) {
			t.Errorf("the links are %q", links)
		}
	})
	t.Run("says that another window has changed the app", func(t *testing.T) {
		s := newPageServer(t)
		s.onCodeProof("/two-step.ashx", replyError(409, "conflict", "x"))
		p := openTab(t, s, "/two-step.html")
		p.ready()
		p.fill("current", testPassword)
		p.submit()
		if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], "The app was changed in another window") {
			t.Errorf("problems: %q", got)
		}
	})
}
