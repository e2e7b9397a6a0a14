package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The passwords of a person who forgets the first one.
const (
	changedWords = "vier Möwen über dem Hafen 🔐"
	lastWords    = "zwei Leuchttürme im Nebel 🔐"
)

// In TestBrowserReset, a person forgets a password and sets a new one, and then reports that
// somebody else changed it.
func TestBrowserReset(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	tap := newTap(t, p.address)
	command(t, "tenant", "set", "localhost", "--public-url", tap.base, "--product", "Example Phones", "--data", data)
	waitUntil(t, func() bool { return strings.Contains(tap.page(t, "/"), "Example Phones") })
	b := newBrowser(t, tap.base)
	const address = "home@example.org"
	for _, user := range []string{"alex", "bea"} {
		b.visit("/signup.html")
		b.fill("user", user, "name", "Somebody", "email", address, "password", secretWords)
		b.answer()
		b.click("#submit")
		b.until(`!sent.hidden`)
		command(t, "account", "enable", "--activate", user, "--tenant", "localhost", "--data", data)
	}
	// message waits for a message with a link to a page, and returns the path of the link.
	message := func(page string) (path string) {
		t.Helper()
		link := regexp.MustCompile(
			`(?m)^` + regexp.QuoteMeta(tap.base) + `(/` + page + `\.html\?token=[A-Za-z0-9_-]{43})\r?$`)
		waitUntil(t, func() bool {
			files, _ := filepath.Glob(filepath.Join(data, "pickup", "*.eml"))
			for _, file := range files {
				text, _ := os.ReadFile(file)
				if m := link.FindSubmatch(text); m != nil && strings.Contains(string(text), "\nTo: "+address+"\r\n") {
					path = string(m[1])
				}
			}
			return path != ""
		})
		return path
	}
	ask := func(account string) (said string) {
		b.visit("/login.html")
		b.until(`document.getElementById("submit")?.disabled === false`)
		b.click(`.further a[href="/forgot.html"]`)
		b.until(`location.pathname === "/forgot.html" && document.getElementById("submit")?.disabled === false`)
		b.check("forgot")
		b.fill("account", account)
		b.click("#submit")
		b.until(`!sent.hidden && document.activeElement.id === "sent-title"`)
		b.check("forgot-sent")
		return strings.Replace(b.get(`sent.innerText`), "You entered: "+account, "", 1)
	}
	var link string
	b.step("The sign-in page leads to a form, which says the same for every name", func() {
		unknown := ask("nobody.here")
		b.shot("forgot-sent")
		if known := ask("alex"); known != unknown || !strings.Contains(known, "60 minutes") {
			t.Errorf("the page says %q, and for an unknown name %q", known, unknown)
		}
		link = message("reset")
	})
	b.step("A mail scanner that opens the link uses nothing up", func() {
		v := newVisitor(p.address, "")
		for range 2 {
			if status, page, err := v.open(tap.base + link); err != nil || status != 200 {
				t.Errorf("%d, %v\n%s", status, err, page)
			}
		}
	})
	b.step("The link names the accounts of the address, and sets the password of one", func() {
		b.visit(link)
		b.until(`document.getElementById("submit")?.disabled === false && !location.href.includes("token")`)
		b.want(`[...document.querySelectorAll("input[type=radio]")].map((e) => e.value).join()`, "alex,bea")
		b.check("reset")
		b.shot("reset")
		b.fill("password", changedWords)
		b.click("#submit") // without an account
		b.until(`document.activeElement.value === "alex" && document.querySelector("#account[aria-invalid]")`)
		b.check("reset-which")
		b.shot("reset-which")
		b.click(`input[value="bea"]`)
		b.fill("password", "qazwsxedcrfv")
		b.click("#submit")
		b.until(`!document.getElementById("password-error").hidden`)
		b.check("reset-common")
		b.fill("password", changedWords)
		b.click("#submit")
		b.until(`!done.hidden && document.activeElement.id === "done-title"`)
		b.check("reset-done")
		b.shot("reset-done")
	})
	b.step("The new password signs in, the name is filled in, and the old password does not", func() {
		b.signIn("bea", secretWords)
		b.until(`!summary.hidden`)
		b.visit("/login.html")
		b.until(`document.getElementById("submit")?.disabled === false`)
		b.want(`user.value`, "bea")
		b.fill("password", changedWords)
		b.click("#submit")
		b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
	})
	b.step("The link works once", func() {
		b.visit(link)
		b.until(`document.querySelector("h1").textContent === "This link no longer works"`)
		b.check("reset-lost")
		b.want(`document.querySelector("main a").getAttribute("href")`, "/forgot.html")
	})
	b.step("The message about the change ends the sessions and leads to another password", func() {
		notMe := message("not-me")
		b.visit(notMe)
		b.until(`document.getElementById("submit")?.disabled === false && !location.href.includes("token")`)
		b.check("not-me")
		b.shot("not-me")
		b.visit("/account.html")
		b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
		b.visit(notMe)
		b.reload(`document.getElementById("submit")?.disabled === false`)
		b.click("#submit")
		done := `!done.hidden && document.activeElement.id === "done-title"`
		b.until(done)
		b.check("not-me-done")
		b.shot("not-me-done")
		b.reload(done)
		b.click("#choose")
		b.until(`location.pathname === "/reset.html" && document.getElementById("submit")?.disabled === false &&
			!location.href.includes("token")`)
		b.want(`user.value + document.querySelectorAll("input[type=radio]").length`, "bea0")
		b.check("reset-one")
		b.reload(`document.getElementById("submit")?.disabled === false`)
		b.fill("password", lastWords)
		b.click("#submit")
		b.until(`!done.hidden`)
		b.reload(`!done.hidden`)
		b.visit("/account.html")
		b.until(`location.pathname === "/login.html"`)
		b.signIn("bea", lastWords)
		b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
		b.visit(notMe)
		b.until(`document.getElementById("lost-title")?.checkVisibility()`)
		b.check("not-me-lost")
		b.shot("not-me-lost")
	})
	b.end()
	tap.neverCarried(t, secretWords, changedWords, lastWords, "qazwsxedcrfv")
	p.mustStop(t)
}

// testLinkPage reloads the page of a link, changes its language, and sets a password.
func testLinkPage(t *testing.T, b *browser) {
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	command(t, "tenant", "set", "localhost", "--public-url", p.base, "--data", data)
	b.base = p.base
	b.signUp("alex")
	b.until(`!sent.hidden`)
	command(t, "account", "enable", "--activate", "alex", "--tenant", "localhost", "--data", data)
	out := command(t, "account", "reset-link", "alex", "--tenant", "localhost", "--data", data)
	link := regexp.MustCompile(`/reset\.html\?token=[A-Za-z0-9_-]{43}`).FindString(out)
	ready := func(tag string) string {
		return `document.documentElement.lang === "` + tag + `" && !location.href.includes("token") &&
			document.getElementById("submit")?.disabled === false`
	}
	b.visit(link)
	b.until(ready("en"))
	entries := b.get(`history.length`)
	for range 2 {
		b.reload(ready("en"))
	}
	b.click("#language")
	b.click(`#languages a[lang="fr"]`)
	b.until(ready("fr"))
	b.reload(ready("fr"))
	b.want(`history.length`, entries)
	b.want(`user.value`, "alex")
	b.fill("password", changedWords)
	b.click("#submit")
	b.until(`!done.hidden && document.activeElement.id === "done-title"`)
	b.reload(`!done.hidden && document.activeElement.id === "done-title"`)
	b.want(`JSON.stringify(history.state).includes("token")`, "false")
}
