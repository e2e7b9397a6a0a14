package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// In TestBrowserProfile, a person changes the name, the language and the address, and then reports
// that somebody else changed the address.
func TestBrowserProfile(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	tap := newTap(t, p.address)
	command(t, "tenant", "set", "localhost", "--public-url", tap.base, "--product", "Example Phones", "--data", data)
	waitUntil(t, func() bool { return strings.Contains(tap.page(t, "/"), "Example Phones") })
	b := newBrowser(t, tap.base)
	b.signUp("alex")
	b.until(`!sent.hidden`)
	command(t, "account", "enable", "--activate", "alex", "--tenant", "localhost", "--data", data)
	b.signIn("alex", secretWords)
	b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
	const before, after = "alex@example.org", "new.alex@example.net"

	// message waits for a message to an address with a link to a page, and returns the path of the link.
	message := func(to, page string) (path string) {
		t.Helper()
		link := regexp.MustCompile(
			`(?m)^` + regexp.QuoteMeta(tap.base) + `(/` + page + `\.html\?token=[A-Za-z0-9_-]{43})\r?$`)
		waitUntil(t, func() bool {
			files, _ := filepath.Glob(filepath.Join(data, "pickup", "*.eml"))
			for _, file := range files {
				text, _ := os.ReadFile(file)
				if m := link.FindSubmatch(text); m != nil && strings.Contains(string(text), "\nTo: "+to+"\r\n") {
					path = string(m[1])
				}
			}
			return path != ""
		})
		return path
	}
	address := func(want string) {
		t.Helper()
		got := string(mustOutput(t, "account", "show", "alex", "--tenant", "localhost", "--data", data))
		if !strings.Contains(got, want) {
			t.Errorf("the account is %s, want the address %s", got, want)
		}
	}
	b.step("The account page leads to the forms", func() {
		b.click(`a[href="/profile.html"]`)
		b.until(`document.getElementById("submit")?.disabled === false`)
		b.check("profile")
		b.shot("profile")
	})
	b.step("The name and the language need no password, and the page is in that language", func() {
		b.fill("name", "Alexandra Example")
		b.get(`(lang.value = "de", "")`)
		b.click("#save")
		b.until(`document.documentElement.lang === "de" && document.activeElement.id === "saved"`)
		b.check("profile-saved")
		b.shot("profile-saved")
		b.want(`document.getElementById("name").value + document.getElementById("lang").value`, "Alexandra Examplede")
		b.visit("/account.html")
		b.until(`document.documentElement.lang === "de" && document.readyState === "complete"`)
		b.click(`form[action="/signout.ashx"] button`)
		b.until(`location.pathname === "/login.html" && document.documentElement.lang === "en"`)
		b.signIn("alex", secretWords)
		b.until(`location.pathname + location.search === "/account.html" && document.readyState === "complete"`)
		b.want(`document.documentElement.lang`, "de")
		b.visit("/profile.html")
		b.until(`document.getElementById("save")?.disabled === false`)
		b.get(`(lang.value = "en", "")`)
		b.click("#save")
		b.until(`document.documentElement.lang === "en" && document.activeElement.id === "saved"`)
	})
	b.step("The address needs the current password", func() {
		b.until(`document.getElementById("submit")?.disabled === false`)
		b.fill("email", after, "current", "not the pass phrase")
		b.click("#submit")
		b.until(`!document.getElementById("current-error").hidden`)
		b.check("profile-wrong")
		b.fill("current", secretWords)
		b.click("#submit")
		b.until(`!mailed.hidden && document.activeElement.id === "mailed-title"`)
		b.check("profile-mailed")
		b.shot("profile-mailed")
		address(before)
	})
	link := message(after, "confirm-email")
	b.step("A mail scanner that opens the link changes nothing", func() {
		v := newVisitor(p.address, "")
		defer v.leave()
		for range 2 {
			if status, page, err := v.open(tap.base + link); err != nil || status != 200 {
				t.Errorf("%d, %v\n%s", status, err, page)
			}
		}
		address(before)
	})
	b.step("The button behind the link sets the address, once", func() {
		b.visit(link)
		b.until(`document.getElementById("submit")?.disabled === false && !location.href.includes("token")`)
		b.want(`document.documentElement.lang`, "en") // that of the account
		b.check("confirm-email")
		b.shot("confirm-email")
		b.click("#submit")
		b.until(`!done.hidden && document.activeElement.id === "done-title"`)
		b.check("confirm-email-done")
		address(after)
		b.visit("/account.html") // the session is still valid
		b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
		b.visit(link)
		b.until(`document.getElementById("lost-title")?.checkVisibility()`)
		b.check("confirm-email-lost")
		b.want(`document.querySelector("main a").getAttribute("href").split("?")[0]`, "/profile.html")
	})
	b.step("The message to the address before sets it back and leads to another password", func() {
		b.visit(message(before, "not-me"))
		b.until(`document.getElementById("submit")?.disabled === false && !location.href.includes("token")`)
		b.shot("not-me-email")
		b.click("#submit")
		b.until(`!done.hidden`)
		b.shot("not-me-email-done")
		b.click("#choose")
		b.until(`location.pathname === "/reset.html" && document.getElementById("submit")?.disabled === false`)
		address(before)
		b.fill("password", lastWords)
		b.click("#submit")
		b.until(`!done.hidden`)
		b.signIn("alex", lastWords)
		b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
	})
	b.end()
	tap.neverCarried(t, secretWords, lastWords, "not the pass phrase")
	p.mustStop(t)
}
