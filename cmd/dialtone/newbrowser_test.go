package main

import (
	"database/sql"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// In TestBrowserNotice, somebody who knows a person's password signs in with another browser. The
// person gets a message, ends all sessions, and chooses a new password.
func TestBrowserNotice(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	tap := newTap(t, p.address)
	command(t, "tenant", "set", "localhost", "--public-url", tap.base, "--product", "Example Phones", "--data", data)
	waitUntil(t, func() bool { return strings.Contains(tap.page(t, "/"), "Example Phones") })
	b, thief := newBrowser(t, tap.base), newBrowser(t, tap.base)
	if _, err := chromedp.Call(thief.ctx, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{
		UserAgent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
	}); err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(tap.base) + `(/not-me\.html\?token=[A-Za-z0-9_-]{43})\r?$`)
	// messages returns the paths of the links in messages about the account.
	messages := func() (paths []string) {
		files, _ := filepath.Glob(filepath.Join(data, "pickup", "*.eml"))
		for _, file := range files {
			text, _ := os.ReadFile(file)
			if m := link.FindSubmatch(text); m != nil && !strings.Contains(
				strings.Join(strings.Fields(string(text)), " "), "not been used for it before: Firefox on Windows.") {
				t.Errorf("the message does not name the browser:\n%s", text)
			}
			if m := link.FindSubmatch(text); m != nil && strings.Contains(string(text), "\nTo: alex@example.org\r\n") {
				paths = append(paths, string(m[1]))
			}
		}
		return paths
	}
	signedIn := func(b *browser, words string) {
		b.signIn("alex", words)
		b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
	}
	b.step("A person has an account for more than an hour", func() {
		b.signUp("alex")
		b.until(`!sent.hidden`)
		command(t, "account", "enable", "--activate", "alex", "--tenant", "localhost", "--data", data)
		signedIn(b, secretWords)
		db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "dialtone.db")+"?_pragma=busy_timeout(5000)")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(`UPDATE account SET activated = activated - 7200000000`); err != nil {
			t.Fatal(err)
		}
	})
	b.step("The person signs in again with the same browser, and somebody else with another", func() {
		b.click(`form[action="/signout.ashx"] button`)
		b.until(`location.pathname === "/login.html"`)
		signedIn(b, secretWords)
		signedIn(thief, secretWords)
		waitUntil(t, func() bool { return len(messages()) > 0 })
		b.visit("/sessions.html")
		b.until(`document.querySelectorAll(".sessions > li").length === 2`)
		b.check("sessions-two")
		b.want(`/Firefox on Windows/.test(document.querySelector(".sessions").innerText)`, "true")
		if n := len(messages()); n != 1 {
			t.Fatalf("there are %d messages, want 1", n)
		}
	})
	b.step("\"This was not me\" ends both sessions, and leads to another password", func() {
		b.visit(messages()[0])
		b.until(`document.getElementById("submit")?.disabled === false && !location.href.includes("token")`)
		b.want(`document.querySelector("h1").textContent`, "Was this somebody else?")
		b.click("#submit")
		b.until(`!done.hidden`)
		b.click("#choose")
		b.until(`location.pathname === "/reset.html" && document.getElementById("submit")?.disabled === false`)
		thief.visit("/account.html")
		thief.until(`location.pathname === "/login.html"`)
		b.fill("password", newWords)
		b.click("#submit")
		b.until(`!done.hidden`)
		thief.signIn("alex", secretWords)
		thief.until(`/user name or password is wrong/.test(summary.innerText)`)
		signedIn(b, newWords)
	})
	b.end()
	thief.end()
	tap.neverCarried(t, secretWords, newWords)
	p.mustStop(t)
	if n := strings.Count(p.stderr.String(), `"msg":"signin.new-browser","outcome":"ok"`); n != 1 {
		t.Errorf("the log has %d messages about new browsers, want 1", n)
	}
}
