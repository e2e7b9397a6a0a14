package main

import (
	"crypto/sha256"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/process"
)

// newWords is a new password, as difficult as secretWords.
const newWords = `"neun" Übungen \ für 🐪 & Co.`

// TestChangePassword tests all steps of a person who changes the password, with real browsers, a
// real softphone, and the Kamailio of deploy/kamailio.
func TestChangePassword(t *testing.T) {
	t.Parallel()
	data, operators := t.TempDir(), process.Address(t)
	f := &hookFixture{T: t, dir: data, environ: []string{}}
	p := start(t, launch{data: data, flags: []string{"--dev", "--ops-listen", operators}})
	tap := newTap(t, p.address)
	token := secrets(t, data, "directory", "token", "add", "sip", "--tenant", "localhost")
	k := newDeployedKamailio(t, operators, token[0])
	f.command("directory", "hook", "add", "sip", "--kamailio", k.Control.URL, "--bearer",
		k.Write(t, "token", k.Control.Token+"\n"))
	f.command("directory", "export", "enable")
	f.command("tenant", "set", "localhost", "--public-url", tap.base, "--product", "Example Phones",
		"--sip-server", fmt.Sprintf("127.0.0.1:%d", k.Port), "--sip-transport", "UDP")
	waitUntil(t, func() bool { return strings.Contains(tap.page(t, "/"), "Example Phones") })
	b, other := newBrowser(t, tap.base), newBrowser(t, tap.base)
	var line string

	b.step("A person has an account, two browsers, and a phone", func() {
		b.signUp("alex")
		b.until(`!sent.hidden`)
		b.visit("/dev/mail")
		b.click(`a[href*="/activate.ashx?token="]`)
		b.until(`document.querySelector("h1").textContent === "Account activated"`)
		for _, b := range []*browser{b, other} {
			b.signIn("alex", secretWords)
			b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
		}
		line = string(mustOutput(t, "provision", "alex", "--tenant", "localhost", "--format", "baresip",
			"--data", data))
		if said := baresip(t, line, secretWords); !strings.Contains(said, "200 OK") || !k.registered() {
			t.Fatalf("the phone is not registered: %s", said)
		}
		if got, want := f.exportedHA1(), digestOf("alex", "localhost", secretWords); got != want {
			t.Errorf("the exported HA1 is %s, want %s", got, want)
		}
	})
	b.step("Password managers, and the account page, lead to the form", func() {
		b.visit("/.well-known/change-password")
		b.until(`location.pathname === "/password.html"`)
		b.visit("/account.html")
		b.click(`a[href="/password.html"]`)
		b.until(`document.getElementById("submit")?.disabled === false`)
		b.want(`user.value + " " + user.readOnly`, "alex true")
		b.check("password")
		b.shot("password")
	})
	b.step("The form says what is wrong, next to the field", func() {
		b.click("#submit")
		b.until(`document.querySelectorAll("#summary-list li").length === 2`)
		b.check("password-empty")
		b.fill("current", "not the pass phrase", "password", newWords)
		b.click("#submit")
		b.until(`/not your current password/.test(document.getElementById("current-error").textContent)`)
		b.check("password-wrong")
		b.fill("current", secretWords, "password", "qazwsxedcrfv")
		b.click("#submit")
		b.until(`/too easy to guess/.test(document.getElementById("password-error").textContent)`)
		if n := b.prompts(); n != 0 {
			t.Errorf("the browser opened its password prompt %d times", n)
		}
		if !k.registered() {
			t.Error("the phone is gone without a change")
		}
	})
	b.step("After the change, the phone is gone within two seconds", func() {
		b.fill("password", newWords)
		b.click("#submit")
		b.until(`location.pathname === "/account.html" && document.activeElement.id === "phone" &&
			changed.checkVisibility() && document.querySelector(".qr").checkVisibility()`)
		f.within(offlineTime, "the phone is gone", func() bool { return !k.registered() })
		b.check("password-changed")
		b.shot("password-changed")
	})
	b.step("The session of the other browser has ended, and this one continues", func() {
		other.visit("/account.html")
		other.until(`location.pathname === "/login.html" && ended.checkVisibility()`)
		b.visit("/account.html")
		b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
		b.want(`String(document.getElementById("changed"))`, "null")
	})
	b.step("The phone is refused with the old password, and registers with the new one", func() {
		if said := baresip(t, line, secretWords); !strings.Contains(said, "401 Unauthorized") || k.registered() {
			t.Errorf("with the old password, baresip prints %s", said)
		}
		if said := baresip(t, line, newWords); !strings.Contains(said, "200 OK") || !k.registered() {
			t.Errorf("with the new password, baresip prints %s", said)
		}
		want := digestOf("alex", "localhost", newWords)
		f.within(offlineTime, "the exported tables have the new HA1", func() bool { return f.exportedHA1() == want })
	})
	b.step("A message tells the owner, and has a link for one who did not do it", func() {
		var notice string
		waitUntil(t, func() bool {
			files, _ := filepath.Glob(filepath.Join(data, "pickup", "*.eml"))
			for _, file := range files {
				text, _ := os.ReadFile(file)
				if strings.Contains(string(text), tap.base+"/not-me.html?token=") {
					notice = string(text)
				}
			}
			return notice != ""
		})
		if !strings.Contains(notice, "\nTo: alex@example.org\r\n") || strings.Contains(notice, "activate.ashx") {
			t.Errorf("the message is %s", notice)
		}
	})
	b.step("After signing out, the old password is refused, and the new one accepted", func() {
		b.click(`form[action="/signout.ashx"] button`)
		b.until(`location.pathname === "/login.html" && document.getElementById("signed-out").checkVisibility()`)
		b.signIn("alex", secretWords)
		b.until(`/user name or password is wrong/.test(summary.innerText)`)
		for _, b := range []*browser{b, other} {
			b.signIn("alex", newWords)
			b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
		}
	})
	b.end()
	other.end()
	tap.neverCarried(t, secretWords, newWords, "not the pass phrase", "qazwsxedcrfv")
	p.mustStop(t)
}

// TestConcurrentPasswordChanges checks that exactly one of two concurrent changes succeeds, and
// that the other gets the answer for a wrong password.
func TestConcurrentPasswordChanges(t *testing.T) {
	t.Parallel()
	f := &hookFixture{T: t, dir: t.TempDir(), environ: []string{}}
	p := start(t, launch{data: f.dir})
	f.addActive(p, "ann")
	present := password("ann")
	for round := range 10 {
		tries := []string{fmt.Sprint("canary one ", round), fmt.Sprint("canary two ", round)}
		statuses := make([]int, len(tries))
		var all sync.WaitGroup
		for i := range tries {
			all.Go(func() {
				v := newVisitor(p.address, "")
				defer v.leave()
				a, err := v.changePassword("ann", present, tries[i])
				if err != nil {
					t.Error(err)
				}
				statuses[i] = a.Status
			})
		}
		all.Wait()
		switch fmt.Sprint(statuses) {
		case "[200 401]":
			present = tries[0]
		case "[401 200]":
			present = tries[1]
		default:
			t.Fatalf("the changes got %v, want one 200 and one 401", statuses)
		}
	}
	v := newVisitor(p.address, "")
	defer v.leave()
	if a, err := v.signIn("ann", present); err != nil || !a.OK {
		t.Errorf("the last password is refused: %v, %v", a, err)
	}
	// When the server logs a later change of the trail, it has already read the password changes.
	f.command("account", "role", "ann", "user")
	f.within(10*time.Second, "the server logs the command", func() bool {
		return strings.Contains(p.stderr.String(), `"msg":"account.role"`)
	})
	if n := strings.Count(p.stderr.String(), `"msg":"password.change","outcome":"ok"`); n != 10 {
		t.Errorf("the log has %d changes, want 10", n)
	}
	p.mustStop(t)
}

// changePassword changes the password of a user.
func (v *visitor) changePassword(user, current, fresh string) (answer, error) {
	a, _, err := v.prove(user, current, "POST", "/password.ashx", url.Values{
		"ha1":        {digestOf(user, realm, fresh)},
		"ha1b":       {digestOf(user+"@"+realm, realm, fresh)},
		"ha1_sha256": {fmt.Sprintf("%x", sha256.Sum256([]byte(user+":"+realm+":"+fresh)))},
	})
	return a, err
}

// exportedHA1 returns the HA1 of alex in the exported tables.
func (f *hookFixture) exportedHA1() (ha1 string) {
	f.Helper()
	db, err := sql.Open("sqlite", filepath.Join(f.dir, "directory", "directory.db"))
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(`SELECT ha1 FROM subscriber WHERE username = 'alex'`).Scan(&ha1); err != nil {
		f.Fatal(err)
	}
	return ha1
}

// deployedKamailio is a Kamailio with deploy/kamailio/http.cfg and rpc.cfg.
type deployedKamailio struct{ *phonetest.Server }

func newDeployedKamailio(t *testing.T, operators, token string) deployedKamailio {
	t.Helper()
	port, bearer := process.Port(t), "of-the-tests"
	hooks := phonetest.Config(t, "kamailio/rpc.cfg",
		`include_file "rpc-token.cfg"`, `#!define RPC_TOKEN "Bearer `+bearer+`"`,
		"RPC_PORT 5065", "RPC_PORT "+strconv.Itoa(port))
	s := phonetest.DeployedKamailio(t, "http.cfg",
		`include_file "directory.cfg"`, `#!define DIRECTORY "dialtone=>http://kamailio:`+token+`@`+operators+`"`,
		`alias="phone.example.org"`, `alias="localhost"`,
		"##!define HOOKS", "#!define HOOKS", `include_file "rpc.cfg"`, hooks,
		`"connection_timeout", 2`, `"connection_timeout", 30`)
	s.Control = phonetest.RPC{URL: fmt.Sprintf("http://127.0.0.1:%d/RPC", port), Token: bearer}
	return deployedKamailio{s}
}

// registered reports whether a phone of alex is registered.
func (k deployedKamailio) registered() bool {
	_, err := k.Control.Call("ul.lookup", "location", "alex@localhost")
	return err == nil
}
