package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/account"
	"dialtone/internal/config"
	"dialtone/internal/tenant"
	"dialtone/internal/test/process"
)

// TestBrowserLeave acts as a person who downloads the data and leaves, returns with the link in the
// message, leaves again, and is erased when the time is over.
func TestBrowserLeave(t *testing.T) {
	t.Parallel()
	data, operators := t.TempDir(), process.Address(t)
	flags := []string{"--dev", "--ops-listen", operators}
	p := start(t, launch{data: data, flags: flags})
	tap := newTap(t, p.address)
	command(t, "tenant", "set", "localhost", "--public-url", tap.base, "--product", "Example Phones", "--data", data)
	token := secrets(t, data, "directory", "token", "add", "sip", "--tenant", "localhost")[0]
	waitUntil(t, func() bool { return strings.Contains(tap.page(t, "/"), "Example Phones") })
	b := newBrowser(t, tap.base)
	const signedIn = `location.pathname === "/account.html" && document.readyState === "complete"`
	const ready = `document.getElementById("submit")?.disabled === false`
	// lookUp returns the status of a phone server's request for the credential.
	lookUp := func() int {
		t.Helper()
		const path = "/v1/sip/credential?username=alex&realm=localhost&algorithm=MD5"
		r, err := http.NewRequest("GET", "http://"+operators+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		return a.StatusCode
	}
	// message waits for a message with a new link to stay, and returns the path of the link.
	var known []string
	message := func() (path string) {
		t.Helper()
		link := regexp.MustCompile(
			`(?m)^` + regexp.QuoteMeta(tap.base) + `(/stay\.html\?token=[A-Za-z0-9_-]{43})\r?$`)
		waitUntil(t, func() bool {
			files, _ := filepath.Glob(filepath.Join(data, "pickup", "*.eml"))
			for _, file := range files {
				text, _ := os.ReadFile(file)
				if m := link.FindSubmatch(text); m != nil && !strings.Contains(strings.Join(known, " "), string(m[1])) {
					path = string(m[1])
				}
			}
			return path != ""
		})
		known = append(known, path)
		return path
	}
	leave := func() {
		b.visit("/account.html")
		b.until(signedIn)
		b.click(`a[href="/leave.html"]`)
		b.until(ready)
		b.fill("current", secretWords)
		b.click("#sure")
		b.click("#submit")
		b.until(`!left.hidden && document.activeElement.id === "left-title"`)
	}

	b.step("A person has an account that a phone server knows", func() {
		b.signUp("alex")
		b.until(`!sent.hidden`)
		command(t, "account", "enable", "--activate", "alex", "--tenant", "localhost", "--data", data)
		b.signIn("alex", secretWords)
		b.until(signedIn)
		waitUntil(t, func() bool { return lookUp() == 200 })
	})
	b.step("The account page leads to a page that says what happens, and has the data", func() {
		b.click(`a[href="/leave.html"]`)
		b.until(ready)
		b.want(`user.value + " " + user.readOnly`, "alex true")
		b.check("leave")
		b.shot("leave")
		b.do(`fetch(document.getElementById("data").href).then((a) => a.text()).then((text) => { window.got = text; })`)
		b.until(`window.got !== undefined`)
		var d account.Data
		if err := json.Unmarshal([]byte(b.get(`window.got`)), &d); err != nil || d.Format != account.DataFormat ||
			d.Account.User != "alex" || len(d.Sessions) != 1 {
			t.Errorf("the data are %+v, %v", d, err)
		}
	})
	b.step("The form says what is wrong, next to the field", func() {
		b.click("#submit")
		b.until(`document.querySelectorAll("#summary-list li").length === 2`)
		b.check("leave-empty")
		b.fill("current", "not the pass phrase")
		b.click("#sure")
		b.click("#submit")
		b.until(`/not your current password/.test(document.getElementById("current-error").textContent)`)
		b.check("leave-wrong")
	})
	b.step("After leaving, nobody can use the account", func() {
		leave()
		b.check("leave-left")
		b.shot("leave-left")
		b.want(`document.querySelector("form[action='/signout.ashx']") === null`, "true")
		waitUntil(t, func() bool { return lookUp() == 404 })
		b.reload(`location.pathname === "/login.html" && document.getElementById("left").checkVisibility()`)
		b.shot("leave-left-again")
		b.visit("/account.html")
		b.until(`location.pathname === "/login.html"`)
		b.signIn("alex", secretWords)
		b.until(`!leaving.hidden && document.activeElement.id === "leaving-title"`)
		b.want(`document.getElementById("leaving-email").textContent`, "a***@example.org")
		b.check("leaving")
		b.shot("leaving")
	})
	b.step("The link in the message keeps the account, and not before the button", func() {
		link := message()
		b.visit(link)
		b.until(ready + ` && !location.href.includes("token")`)
		b.check("stay")
		b.shot("stay")
		if lookUp() != 404 {
			t.Error("opening the link has made the account active")
		}
		b.visit(link)
		b.reload(ready)
		b.click("#submit")
		done := `!done.hidden && document.activeElement.id === "done-title"`
		b.until(done)
		b.reload(done)
		b.check("stay-done")
		b.shot("stay-done")
		waitUntil(t, func() bool { return lookUp() == 200 })
		b.click(`#done .button`)
		b.until(ready)
		b.signIn("alex", secretWords)
		b.until(signedIn)
		b.visit(link)
		b.until(`document.getElementById("lost-title")?.checkVisibility()`)
		b.check("stay-lost")
	})
	b.step("When the time is over, the account is erased and its name stays taken", func() {
		leave()
		link := message()
		p.mustStop(t)
		eraseInEightDays(t, data)
		p = start(t, launch{data: data, flags: append(flags, "--listen", p.address)})
		if out := mustOutput(t, "account", "names", "--tenant", "localhost", "--data", data); !strings.HasPrefix(
			string(out), "USER") || !strings.Contains(string(out), "\nalex ") {
			t.Errorf("the names that are kept are %s", out)
		}
		b.visit(link)
		b.until(`document.getElementById("lost-title")?.checkVisibility()`)
		out := string(mustOutput(t, "audit", "list", "--account", "alex", "--data", data))
		erased := regexp.MustCompile(`account\.delete +ok +localhost +alex .*leaving -> closed +the server`)
		if !erased.MatchString(out) {
			t.Errorf("the audit trail is\n%s", out)
		}
		b.signUp("alex")
		b.until(`/taken/.test(document.body.innerText)`)
	})
	b.end()
	p.mustStop(t)
}

// eraseInEightDays erases the accounts of people who left, as a server does in eight days.
func eraseInEightDays(t *testing.T, data string) {
	t.Helper()
	c, err := config.Load("", nil, map[string]string{"data": data})
	if err != nil {
		t.Fatal(err)
	}
	in, err := installation.Open(t.Context(), c, installation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Store.Close()
	erase := func(after time.Duration) {
		accounts := account.NewService(account.Deps{
			Store: in.Store, SealRing: in.Seal, Now: func() time.Time { return time.Now().Add(after) },
		})
		n, err := accounts.EraseOverdue(t.Context(), tenant.NewTable(in.Store, in.DefaultURL).ByID)
		if n > 0 {
			err = errors.Join(err, in.Store.Erase(t.Context()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const days = 24 * time.Hour
	erase(8*days - time.Hour)
	if list, err := in.Store.Overdue(t.Context(), time.Now().Add(8*days), 2); err != nil || len(list) != 1 {
		t.Fatalf("%d accounts are left before the time, %v", len(list), err)
	}
	erase(8 * days)
}
