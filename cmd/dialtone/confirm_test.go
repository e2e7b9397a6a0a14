package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"dialtone/internal/i18n"
)

// TestBrowserConfirm tests a tenant with activation by link and password, in two languages.
func TestBrowserConfirm(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	tap := newTap(t, p.address)
	command(t, "tenant", "set", "localhost", "--public-url", tap.base, "--product",
		"Example Phones", "--activation", "confirm", "--data", data)
	waitUntil(t, func() bool { return strings.Contains(tap.page(t, "/"), "Example Phones") })
	b := newBrowser(t, tap.base)
	for _, tag := range []i18n.Tag{i18n.English, i18n.Arabic} {
		w := i18n.In(tag)
		user := "user-" + string(tag)
		shown := func() string {
			return command(t, "account", "show", user, "--tenant", "localhost",
				"--data", data)
		}
		b.speaks(tag)
		b.step(w.Name+": the page of the link asks for the password, and changes nothing", func() {
			b.signUp(user)
			b.until(`!sent.hidden`)
			b.visit("/dev/mail")
			b.do(messageWith(user) + `.querySelector("a").click()`)
			b.until(`document.querySelector("h1").textContent === ` +
				quoted(w.Text("activation.confirm")) +
				` && document.getElementById("submit")?.disabled === false`)
			b.want(`document.documentElement.lang + " " + document.documentElement.dir + " " +
				user.value + " " + user.readOnly`, string(tag)+" "+w.Dir+" "+user+" true")
			if s := shown(); !hasLine(s, "activated not yet") || !hasLine(s, "confirmed not yet") {
				t.Errorf("the account: %s", s)
			}
			b.check(string(tag) + " confirm")
			b.shots(string(tag) + "-confirm")
		})
		b.step(w.Name+": a wrong password shows an error next to the field", func() {
			b.fill("password", "not the pass phrase")
			b.click("#submit")
			b.until(`document.activeElement.id === "password" && !document.getElementById("password-error").hidden`)
			b.want(`document.getElementById("password-error").lastChild.textContent`,
				w.Text("activation.say.password_wrong"))
			b.want(`password.getAttribute("aria-invalid")`, "true")
			b.check(string(tag) + " confirm, wrong")
			if n := b.prompts(); n != 0 {
				t.Errorf("the browser opened its password prompt %d times", n)
			}
		})
		b.step(w.Name+": the right password activates the account, with the Enter key", func() {
			b.fill("password", secretWords)
			b.run(chromedp.KeyEvent(kb.Enter))
			b.until(`document.activeElement.id === "done-title" && !location.href.includes("token")`)
			b.want(`document.getElementById("done-title").textContent`, w.Text("activation.done"))
			if s := shown(); regexp.MustCompile(`(?m)^(activated|confirmed) +not yet$`).MatchString(s) {
				t.Errorf("the account: %s", s)
			}
			b.check(string(tag) + " confirmed")
			b.shots(string(tag) + "-confirmed")
			b.want(`document.cookie`, "")
			b.visit("/account.html")
			b.until(`location.pathname === "/login.html"`) // a link starts no session
		})
		b.step(w.Name+": then the password signs in", func() {
			b.until(`document.getElementById("submit")?.disabled === false`)
			b.want(`user.value`, user)
			b.fill("password", secretWords)
			b.click("#submit")
			b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
			b.click(`form[action^="/signout.ashx"] button`)
			b.until(`location.pathname === "/login.html"`)
		})
	}
	b.end()
	tap.neverCarried(t, secretWords, "not the pass phrase")
	p.mustStop(t)
}
