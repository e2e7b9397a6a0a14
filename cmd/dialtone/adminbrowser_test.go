package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestBrowserOperators uses the pages for operators in a real browser, by keyboard: one account is disabled, and many
// are deleted.
func TestBrowserOperators(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	b := newBrowser(t, p.base)
	b.signUp("alex")
	b.until(`!sent.hidden`)
	b.visit(strings.TrimPrefix(linkTo(t, "alex@example.org", filepath.Join(data, "pickup")), p.base))
	b.until(`document.querySelector("h1").textContent === "Account activated"`)
	command(t, "account", "role", "alex", "admin", "--tenant", "localhost", "--data", data)
	for i := range 3 {
		command(t, "account", "add", fmt.Sprintf("bot-%d", i), "--email", fmt.Sprintf("bot-%d@example.org", i),
			"--name", "Bot", "--tenant", "localhost", "--data", data)
	}
	press := func(keys string) {
		t.Helper()
		b.run(chromedp.KeyEvent(keys))
	}
	// tabTo moves the focus forward to what a selector matches.
	tabTo := func(selector string) {
		t.Helper()
		for range 80 {
			press(kb.Tab)
			if b.get(`document.activeElement.matches(`+quoted(selector)+`)`) == "true" {
				return
			}
		}
		t.Fatalf("the keyboard does not reach %s", selector)
	}
	b.step("Somebody who is not signed in gets to the page after signing in", func() {
		b.visit("/admin/account?user=bot-1")
		b.until(`document.getElementById("submit")?.disabled === false && location.pathname === "/login.html"`)
		b.fill("user", "alex", "password", secretWords)
		b.click("#submit")
		b.until(`location.pathname + location.search === "/admin/account?user=bot-1" &&
			document.readyState === "complete"`)
		b.check("admin-account")
	})
	b.step("One account is disabled by keyboard", func() {
		tabTo(`details:has([value="disable"]) summary`)
		press("\r")
		tabTo(`#disable-reason`)
		press("spam")
		tabTo(`details[open] button`)
		press("\r")
		b.until(`location.hash === "" && document.querySelector(".state.disabled") && disabled.checkVisibility()`)
		b.want(`document.querySelector("main").innerText.includes("spam")`, "true")
		b.check("admin-disabled")
	})
	b.step("Many accounts are deleted by keyboard", func() {
		b.visit("/admin/accounts")
		b.until(`document.readyState === "complete"`)
		tabTo(`#text`)
		press("bot-")
		press("\r")
		b.until(`location.search.includes("text=bot-") && document.querySelectorAll(".found .what a").length === 3`)
		b.check("admin-found")
		tabTo(`#bulk summary`)
		press("\r")
		tabTo(`#action`)
		press("D") // to "Disable accounts" and then on
		press("D")
		b.do(`action.value = "delete"`)
		tabTo(`#bulk-reason`)
		press("bots")
		press("\r")
		b.until(`location.pathname === "/admin/bulk" && document.getElementById("count")`)
		b.check("admin-bulk")
		tabTo(`#count`)
		press("3")
		press("\r")
		b.until(`document.querySelector(".lead")?.innerText === "Done. Accounts deleted: 3"`)
		b.check("admin-done")
		shown := command(t, "account", "list", "--tenant", "localhost", "--data", data)
		if strings.Contains(shown, "bot-") || !strings.Contains(shown, "alex") {
			t.Errorf("left are %s", shown)
		}
	})
	b.step("The settings have a preview that follows the form", func() {
		b.visit("/admin/settings")
		b.until(`document.readyState === "complete" && frames.length === 1`)
		b.fill("s-product", "Example Phones")
		b.until(`frames[0].document.querySelector(".brand")?.innerText.includes("Example Phones")`)
		b.want(`frames[0].document.querySelectorAll("script").length`, "0")
		for _, path := range []string{"/admin/", "/admin/changes", "/admin/messages", "/admin/again"} {
			b.visit(path)
			b.until(`document.readyState === "complete"`)
			b.check("admin " + path)
		}
	})
	b.end()
	p.mustStop(t)
}
