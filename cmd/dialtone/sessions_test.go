package main

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestSessionsInBrowsers signs in a person with two browsers, and ends sessions in one of them.
func TestSessionsInBrowsers(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	_, port, _ := strings.Cut(p.address, ":")
	base := "http://localhost:" + port
	command(t, "tenant", "set", "localhost", "--public-url", base, "--data", data)
	a, b := newBrowser(t, base), newBrowser(t, base)
	signedIn := `location.pathname === "/account.html" && document.readyState === "complete"`
	list := func(b *browser, n string) {
		t.Helper()
		b.visit("/sessions.html")
		// The list is written after the sign-in.
		b.reloadUntil(`document.querySelectorAll(".sessions li").length === ` + n)
	}
	ended := func(b *browser) {
		t.Helper()
		b.visit("/account.html")
		b.until(`location.pathname === "/login.html" && document.getElementById("ended").checkVisibility()`)
	}
	// Signing in at the page that a browser was redirected to leads back to the list.
	back := func(b *browser) {
		t.Helper()
		b.visit("/sessions.html")
		b.until(`location.pathname === "/login.html" && document.getElementById("submit")?.disabled === false`)
		b.fill("user", "alex", "password", secretWords)
		b.click("#submit")
		b.until(`location.pathname === "/sessions.html" && document.readyState === "complete"`)
	}
	a.step("A person signs in with two browsers", func() {
		a.signUp("alex")
		a.until(`!sent.hidden`)
		command(t, "account", "enable", "--activate", "alex", "--tenant", "localhost", "--data", data)
		for _, x := range []*browser{a, b} {
			x.signIn("alex", secretWords)
			x.until(signedIn)
		}
	})
	a.step("The list has both, and marks this one", func() {
		a.click(`main a[href="/sessions.html"]`)
		a.until(`location.pathname === "/sessions.html"`)
		a.reloadUntil(`document.querySelectorAll(".sessions li").length === 2`) // once it is written
		a.want(`document.querySelectorAll(".sessions li[aria-current] form").length`, "0")
		a.want(`document.querySelector(".sessions li[aria-current] .what").innerText`, "Chrome on Linux This session")
		a.want(`document.querySelector(".sessions li button").getAttribute("aria-label")`,
			"End the session of Chrome on Linux in the network 127.0.0.0/24")
		a.want(`/: less than a minute ago \(\w+, \d+ \w+ \d{4}, \d\d:\d\d UTC\)/.test(
			document.querySelector(".sessions li").innerText)`, "true")
		a.check("sessions")
		a.shots("sessions")
	})
	a.step("One session is ended, by the keyboard", func() {
		a.do(`document.querySelector(".sessions li button").focus()`)
		a.run(chromedp.KeyEvent(kb.Enter))
		a.until(`document.readyState === "complete" && document.getElementById("ended").checkVisibility()`)
		a.want(`document.querySelectorAll(".sessions li").length`, "1")
		a.want(`document.querySelector("main").innerText.includes("not signed in anywhere else")`, "true")
		a.check("session ended")
		ended(b)
	})
	a.step("All other sessions are ended, and this one continues", func() {
		back(b)
		list(b, "2")
		b.click(`button[value="others"]`)
		b.until(`document.readyState === "complete" && document.getElementById("others-ended")?.checkVisibility()`)
		b.want(`document.querySelectorAll(".sessions li").length`, "1")
		ended(a)
		list(b, "1")
	})
	a.step("Sessions survive a restart of the server", func() {
		a.signIn("alex", secretWords)
		a.until(signedIn)
		p.mustStop(t)
		p = start(t, launch{data: data, flags: []string{"--dev", "--listen", p.address}})
		list(a, "2")
	})
	a.step("Signing out removes the session from the list", func() {
		b.visit("/account.html")
		b.click(`form[action="/signout.ashx"] button`)
		b.until(`location.pathname === "/login.html"`)
		list(a, "1")
	})
	for _, x := range []*browser{a, b} {
		x.end()
	}
	p.mustStop(t)
}
