package main

import (
	"encoding/base32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/totp"
)

// In TestBrowserTwoStep, a person turns on two-step sign-in, signs in with a code and with a
// recovery code, and turns it off. Then an operator removes an app for somebody who has lost the
// phone.
func TestBrowserTwoStep(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	tap := newTap(t, p.address)
	command(t, "tenant", "set", "localhost", "--public-url", tap.base, "--product", "Example Phones", "--data", data)
	waitUntil(t, func() bool { return strings.Contains(tap.page(t, "/"), "Example Phones") })
	b := newBrowser(t, tap.base)
	notices := func() (n int) {
		files, _ := filepath.Glob(filepath.Join(data, "pickup", "*.eml"))
		for _, file := range files {
			if text, _ := os.ReadFile(file); strings.Contains(string(text), "/not-me.html?token=") {
				n++
			}
		}
		return n
	}
	has := func(part string) bool {
		files, _ := filepath.Glob(filepath.Join(data, "pickup", "*.eml"))
		return slices.ContainsFunc(files, func(file string) bool {
			text, _ := os.ReadFile(file)
			return strings.Contains(string(text), part)
		})
	}
	const (
		formReady = `location.pathname === "/two-step.html" && document.getElementById("submit")?.disabled === false`
		accounts  = `location.pathname === "/account.html" && document.readyState === "complete"`
	)
	signOut := func() {
		b.click(`form[action="/signout.ashx"] button`)
		b.until(`location.pathname === "/login.html" && document.getElementById("signed-out").checkVisibility()`)
	}
	var secret totp.Secret
	var used int64 // the step of the code that turned the app on
	var codes []string

	// turnOn leaves the browser on the panel with the recovery codes.
	turnOn := func() {
		b.click(`a[href="/two-step.html"]`)
		b.until(formReady)
		b.check("two-step")
		b.fill("current", secretWords)
		b.click("#submit")
		b.until(`app.checkVisibility() && document.activeElement.id === "first"`)
		b.check("two-step-app")
		b.shot("two-step-app")
		text := strings.ReplaceAll(b.get(`document.getElementById("v-secret").textContent`), " ", "")
		raw, err := base32.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != len(secret) {
			t.Fatalf("the secret is %q", text)
		}
		secret = totp.Secret(raw)
	}
	// now returns the step of the code that the app shows. On a busy machine, loading a page may
	// take longer than a code is shown.
	now := func() int64 { return totp.Step(time.Now()) }

	b.step("A person turns two-step sign-in on", func() {
		b.signUp("alex")
		b.until(`!sent.hidden`)
		command(t, "account", "enable", "--activate", "alex", "--tenant", "localhost", "--data", data)
		b.signIn("alex", secretWords)
		b.until(accounts)
		turnOn()
		b.fill("first", "000000")
		b.click("#submit")
		b.until(`/not the code that the app shows now/.test(document.getElementById("first-error").textContent)`)
		b.check("two-step-wrong")
		used = now() - 1 // the code before is right, too
		b.fill("first", secret.Code(used))
		b.click("#submit")
		b.until(`document.getElementById("codes").checkVisibility() && document.activeElement.id === "codes-title"`)
		b.check("two-step-codes")
		b.shot("two-step-codes")
		codes = strings.Fields(b.get(`document.getElementById("v-codes").textContent`))
		if len(codes) != 10 {
			t.Errorf("the codes are %q", codes)
		}
		waitUntil(t, func() bool { return notices() == 1 })
		b.click(`#codes a[href="/account.html"]`)
		b.until(accounts)
	})
	b.step("Signing in needs a code of the app", func() {
		signOut()
		b.signIn("alex", secretWords)
		b.until(`document.getElementById("code").checkVisibility() && document.activeElement.id === "code"`)
		b.check("signin-code")
		b.shot("signin-code")
		b.fill("code", secret.Code(used)) // it turned the app on
		b.click("#submit")
		b.until(`/wrong or was used before/.test(document.getElementById("code-error").textContent)`)
		b.check("signin-code-wrong")
		b.fill("code", secret.Code(now()))
		b.click("#submit")
		b.until(accounts)
	})
	b.step("A recovery code takes its place, and the page says how many are left", func() {
		signOut()
		b.signIn("alex", secretWords)
		b.until(`document.getElementById("code").checkVisibility()`)
		b.fill("code", codes[0])
		b.click("#submit")
		b.until(formReady + ` && document.getElementById("recovery").checkVisibility()`)
		b.until(`/: 9$/.test(document.getElementById("left").textContent)`)
		b.check("two-step-on")
		b.shot("two-step-on")
	})
	b.step("Turning it off needs the password and a code", func() {
		b.click(`input[value="off"]`)
		b.fill("current", secretWords)
		b.click("#submit")
		b.until(`document.getElementById("code").checkVisibility() && document.activeElement.id === "code"`)
		b.fill("code", codes[1])
		b.click("#submit")
		b.until(formReady + ` && document.getElementById("off").checkVisibility() && !document.querySelector("#do")`)
		waitUntil(t, func() bool { return has("\r\nSubject: Two-step sign-in at Example Phones was turned off\r\n") })
		b.visit("/account.html")
		b.until(accounts)
	})
	b.step("An operator removes it for somebody who has lost the phone", func() {
		turnOn()
		b.fill("first", secret.Code(now()))
		b.click("#submit")
		b.until(`document.getElementById("codes").checkVisibility()`)
		said := string(mustOutput(t, "account", "second-factor", "alex", "--remove", "--tenant", "localhost",
			"--data", data))
		if !strings.HasSuffix(said, "removed: app\nall sessions of the account have ended, and a message "+
			"about it goes to alex@example.org\n") {
			t.Errorf("the command says %s", said)
		}
		b.visit("/account.html")
		b.until(`location.pathname === "/login.html" && document.getElementById("ended").checkVisibility()`)
		b.signIn("alex", secretWords)
		b.until(accounts)
		waitUntil(t, func() bool { return has("\r\nSubject: Removed from your account at Example Phones") })
		for _, subject := range []string{
			"Two-step sign-in at Example Phones was turned on", "Two-step sign-in at Example Phones was turned off",
			"Removed from your account at Example Phones: authenticator app",
		} {
			if !has("\r\nSubject: " + subject + "\r\n") {
				t.Errorf("no message has the subject %q", subject)
			}
		}
		if !has("an operator of Example Phones") || has("network \r\n") || has("network .") {
			t.Error("the message does not say that an operator did it")
		}
	})
	b.end()
	tap.neverCarried(t, secretWords)
}
