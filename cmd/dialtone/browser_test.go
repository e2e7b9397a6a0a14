package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"dialtone/internal/test/headless"
	"dialtone/internal/test/process"
)

const (
	// secretWords is the password of the person in the browser. Its characters expose code that takes
	// bytes or UTF-16 units for characters.
	secretWords = `sieben Zwölftel: "grün" 🔐 & mehr`
	// goodWords is a password that the meter calls good, and not strong.
	goodWords = "lesagrumakhizotepu"
)

// TestBrowser uses the program as a person does, in real browsers: signing up, activating the account
// and signing in. All bytes that the browser sends are recorded, to prove that no password is in them.
// Chromium without a window and Firefox see every state of the pages. The Chromium that people use has the
// engine of the former and takes several times its processor time, so it only goes the straight way.
func TestBrowser(t *testing.T) {
	t.Parallel()
	t.Run("chromium without a window", func(t *testing.T) {
		t.Parallel()
		testBrowser(t, newBrowser)
	})
	for name, c := range map[string]struct {
		open func(t *testing.T, base string) *browser
		test func(t *testing.T, open func(t *testing.T, base string) *browser) *browser
	}{"chromium": {newWindow, testStraightWay}, "firefox": {newFirefox, testBrowser}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := c.test(t, c.open)
			t.Run("credentials", func(t *testing.T) {
				b.t = t
				testCredentials(t, b)
			})
			t.Run("link page", func(t *testing.T) {
				b.t = t
				testLinkPage(t, b)
			})
		})
	}
}

// openSite starts a server that allows three signups per hour, and opens it in a browser through a tap. It returns
// the data directory of the server too.
func openSite(t *testing.T, open func(t *testing.T, base string) *browser) (*browser, *tap, *serverProcess, string) {
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	tap := newTap(t, p.address)
	// The browser connects through the tap, so the links in messages must lead there too.
	command(t, "tenant", "set", "localhost", "--public-url", tap.base, "--product",
		"Example Phones", "--signups-per-hour", "3", "--data", data)
	waitUntil(t, func() bool { return strings.Contains(tap.page(t, "/"), "Example Phones") })
	return open(t, tap.base), tap, p, data
}

// testStraightWay signs up, activates the account, signs in and signs out. It returns the browser that it has opened.
func testStraightWay(t *testing.T, open func(t *testing.T, base string) *browser) *browser {
	b, tap, p, _ := openSite(t, open)
	b.signUp("alex")
	b.until(`!sent.hidden`)
	b.signIn("alex", "not the pass phrase")
	b.until(`!summary.hidden`)
	if n := b.prompts(); n != 0 {
		t.Errorf("the browser opened its password prompt %d times", n)
	}
	b.visit("/dev/mail")
	b.do(messageWith("alex@example.org") + `.querySelector("a").click()`)
	b.until(`document.getElementById("submit")?.disabled === false && document.activeElement.id === "password"`)
	b.fill("password", secretWords)
	b.click("#submit")
	b.until(`location.pathname === "/account.html" && document.activeElement.id === "phone"`)
	b.want(`document.cookie`, "") // scripts cannot read the session
	b.click(`form[action="/signout.ashx"] button`)
	b.until(`location.pathname === "/login.html" && document.getElementById("signed-out").checkVisibility()`)
	b.end()
	tap.neverCarried(t, secretWords, "not the pass phrase")
	p.mustStop(t)
	return b
}

// testBrowser sees all states of the pages. It returns the browser that it has opened.
func testBrowser(t *testing.T, open func(t *testing.T, base string) *browser) *browser {
	b, tap, p, data := openSite(t, open)

	b.step("The start page links to the form", func() {
		b.visit("/")
		b.check("home")
		b.click(`a[href="/signup.html"]`)
		b.until(`document.getElementById("submit")?.disabled === false && /What is/.test(question.textContent)`)
		b.check("signup")
		b.shot("signup")
	})
	b.step("An empty form shows an error next to each field", func() {
		b.click("#submit")
		b.until(`!summary.hidden && document.activeElement.id === "summary"`)
		b.want(`document.querySelectorAll("#summary-list li").length`, "5")
		b.want(`document.title.startsWith("Error: ")`, "true")
		b.want(`[...document.querySelectorAll("[aria-invalid=true]")].map(e => e.id).join()`,
			"user,name,email,password,captcha_answer")
		b.check("signup-empty")
	})
	b.step("The server refuses a common password, which it does not receive", func() {
		b.fill("user", "alex", "name", "Älex 🙂", "email", "alex@example.org", "password",
			"qazwsxedcrfv")
		b.answer()
		b.click("#submit")
		b.until(`!document.getElementById("password-error").hidden`)
		b.want(`user.value + "|" + email.value`, "alex|alex@example.org")
		b.check("signup-common")
	})
	b.step("A good password is called good, and the meter has the colour of a good value", func() {
		b.fill("password", goodWords)
		b.until(`document.getElementById("strength-word").textContent === "Good"`)
		b.want(meterRegion, "")
	})
	b.step("After a wrong captcha answer there is a new question, and the other fields are kept", func() {
		b.fill("password", secretWords)
		b.do(`captcha_answer.value = "99"`)
		before := b.get(`question.textContent`)
		b.click("#submit")
		b.until(`!document.getElementById("captcha_answer-error").hidden`)
		b.want(`password.value`, secretWords)
		b.until(fmt.Sprintf(`/What is/.test(question.textContent) && question.textContent !== %q ||
			summary.innerText.includes("new one")`, before))
		b.check("signup-captcha")
	})
	b.step("After signup, the page says where to look for the message, who sends it and when it expires", func() {
		b.answer()
		b.shot("signup-filled")
		b.click("#submit")
		b.until(`!sent.hidden && document.activeElement.id === "sent-title"`)
		b.want(`sent.innerText.includes("alex@example.org") && sent.innerText.includes("no-reply@localhost")`, "true")
		b.want(`document.getElementById("sent-until").textContent.includes(
			new Date(Date.now() + 7*864e5).getFullYear())`, "true")
		b.check("signup-sent")
		b.shot("sent")
	})
	b.step("Before the link is opened, signing in says that the account is not active", func() {
		b.signIn("alex", secretWords)
		b.until(`!inactive.hidden`)
		b.want(`document.getElementById("inactive-email").textContent`, "a***@example.org")
		b.check("login-inactive")
	})
	b.step("The address can be corrected there, and only the newest link works", func() {
		b.click("#wrong summary")
		b.fill("correct-email", "no address")
		b.click("#correct button")
		b.until(`!document.getElementById("correct-email-error").hidden &&
			document.activeElement.id === "correct-email"`)
		b.check("login-correct")
		b.fill("correct-email", "-f@example.org")
		b.click("#correct button")
		b.until(`document.getElementById("correct-email-error").textContent.includes("We cannot send email")`)
		b.fill("correct-email", "right@example.org")
		b.click("#correct button")
		b.until(`document.getElementById("again-note").textContent.includes("right@example.org") &&
			document.activeElement.id === "again"`)
		b.want(`document.getElementById("inactive-email").textContent`, "right@example.org")
		b.want(`again.getAttribute("aria-disabled")`, "true")
		b.check("login-resent")
		b.visit("/dev/mail")
		b.until(`document.body.innerText.includes("right@example.org")`)
		b.do(messageWith("alex@example.org") + `.querySelector("a").click()`)
		b.until(`document.querySelector("h1").textContent === "There is a newer link"`)
		b.check("replaced")
	})
	b.step("A wrong password and an unknown name get the same answer, and no prompt of the browser", func() {
		b.signIn("alex", "not the pass phrase")
		b.until(`!summary.hidden`)
		wrong := b.get(`summary.innerText`)
		b.check("login-wrong")
		b.signIn("nobody.here", secretWords)
		b.until(`!summary.hidden`)
		b.want(`summary.innerText`, wrong)
		if n := b.prompts(); n != 0 {
			t.Errorf("the browser opened its password prompt %d times", n)
		}
	})
	b.step("The link in the message activates the account, and its token disappears from the address bar", func() {
		b.visit("/dev/mail")
		b.check("devmail")
		b.visit(strings.TrimPrefix(linkTo(t, "right@example.org", filepath.Join(data, "pickup")), tap.base))
		b.until(`document.querySelector("h1").textContent === "Account activated" &&
			!location.href.includes("token")`)
		b.check("activated")
		b.shot("activated")
		b.visit("/dev/mail")
		b.do(messageWith("right@example.org") + `.querySelector("a").click()`)
		b.until(`/already/i.test(document.querySelector("h1").textContent)`)
		b.check("already")
	})
	b.step("Signing in where the link was opened confirms the account, and setting up the phone is next", func() {
		shown := command(t, "account", "show", "alex", "--tenant", "localhost", "--data", data)
		if !hasLine(shown, "confirmed not yet") {
			t.Errorf("before the sign-in: %s", shown)
		}
		b.until(`document.getElementById("submit")?.disabled === false && document.activeElement.id === "password"`)
		b.want(`user.value + " " + user.autocomplete + " " + password.autocomplete`, "alex username current-password")
		b.fill("password", "not the pass phrase")
		b.click("#submit")
		b.until(`!summary.hidden`)
		b.check("activated-wrong")
		b.fill("password", secretWords)
		b.click("#submit")
		b.until(`location.pathname === "/account.html" && document.activeElement.id === "phone" &&
			document.activeElement.innerText === "Next: set up your phone" && location.hash === ""`)
		b.want(`document.querySelector(".qr").checkVisibility()`, "true")
		b.check("account-next")
		b.shots("account-next")
		b.click(".manual summary")
		text := b.get(`document.querySelector("main").innerText`)
		for _, part := range []string{"alex@localhost", "Älex 🙂", "TLS"} {
			if !strings.Contains(text, part) {
				t.Errorf("the account page does not say %q:\n%s", part, text)
			}
		}
		b.want(`document.cookie`, "") // scripts cannot read the session
		shown = command(t, "account", "show", "alex", "--tenant", "localhost", "--data", data)
		if !hasLine(shown, "confirmed 2") {
			t.Errorf("after the sign-in: %s", shown)
		}
		b.check("account")
		b.shot("account")
	})
	if _, draws := b.engine.(*firefox); draws { // TestPhones reads the code in Chromium
		b.step("A phone is set up by a QR code", func() {
			b.program("linphone")
			link := b.get(`document.getElementById("v-link").textContent`)
			if got := b.scan("light"); got != link || !strings.HasPrefix(link, tap.base+"/provision/") {
				t.Errorf("the code contains %q, want the link %q", got, link)
			}
		})
	}
	b.step("When an operator disables the account, the session ends with the next request", func() {
		command(t, "account", "disable", "alex", "--tenant", "localhost", "--data", data)
		b.visit("/account.html")
		b.until(`location.pathname === "/login.html" && ended.checkVisibility()`)
		b.check("session-ended")
		command(t, "account", "enable", "--activate", "alex", "--tenant", "localhost", "--data", data)
	})
	b.step("Signing out ends the session", func() {
		b.signIn("alex", secretWords)
		b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
		for _, path := range []string{"/", "/signup.html", "/login.html"} {
			b.visit(path)
			b.until(`document.querySelector('main a[href="/account.html"]')`)
			b.check("signed in " + path)
		}
		b.click(`form[action="/signout.ashx"] button`)
		b.until(`location.pathname === "/login.html" && document.getElementById("signed-out").checkVisibility()`)
		b.until(`document.activeElement.id === "user"`)
		b.check("signed-out")
		b.visit("/account.html")
		b.until(`location.pathname === "/login.html"`)
	})
	b.step("For a taken name, the form offers three others", func() {
		b.visit("/signup.html")
		b.until(`/What is/.test(question.textContent)`)
		b.fill("user", "alex", "name", "Another Alex", "email", "another@example.org", "password",
			secretWords)
		b.answer()
		b.click("#submit")
		b.until(`document.querySelectorAll("#user-offers button").length === 3`)
		b.check("signup-taken")
	})
	b.step("Without the pickup directory nothing is saved, and the same form works once it is back", func() {
		b.fill("user", "sam")
		b.answer()
		box := filepath.Join(data, "pickup")
		if err := os.Rename(box, box+"-gone"); err != nil {
			t.Fatal(err)
		}
		b.click("#submit")
		b.until(`/Nothing was saved/.test(summary.innerText)`)
		b.check("signup-trouble")
		if err := os.Rename(box+"-gone", box); err != nil {
			t.Fatal(err)
		}
		b.click("#submit")
		b.until(`!sent.hidden`)
	})
	b.step("A signup beyond the tenant's limit is refused, and the page says when to try again", func() {
		b.signUp("third")
		b.until(`!sent.hidden`)
		b.signUp("fourth")
		b.until(`!summary.hidden && /Try again/.test(summary.innerText)`)
		b.check("signup-limited")
	})
	b.step("A missing page has an error page in HTML", func() {
		b.visit("/nothing/here")
		b.until(`/does not exist/.test(document.querySelector("h1").textContent)`)
		b.check("404")
	})
	b.step("If the server does not answer, the form says so and keeps its fields", func() {
		b.visit("/signup.html")
		b.until(`/What is/.test(question.textContent)`)
		b.fill("user", "late", "name", "Late", "email", "late@example.org", "password", secretWords)
		b.answer()
		tap.cut()
		b.click("#submit")
		b.until(`/did not answer/.test(summary.innerText)`)
		b.want(`password.value`, secretWords)
		b.check("signup-offline")
	})
	b.end()
	tap.neverCarried(t, secretWords, goodWords, "qazwsxedcrfv", "not the pass phrase")
	p.mustStop(t)
	return b
}

// TestBrowserDecline acts as a person who gets an activation message without having signed up, with
// the keyboard.
func TestBrowserDecline(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	b := newBrowser(t, p.base)
	b.signUp("mallory")
	b.until(`!sent.hidden`)
	link := linkTo(t, "mallory@example.org", filepath.Join(data, "pickup"))
	decline := strings.Replace(link, "/activate.ashx?token=", "/decline.html?link=", 1)
	b.visit(strings.TrimPrefix(decline, p.base))
	b.until(`document.querySelector("h1").textContent === "Remove this account?"`)
	b.check("decline")
	b.shots("decline")
	b.do(`document.querySelector("main button").focus()`)
	b.run(chromedp.KeyEvent("\r"))
	b.until(`document.querySelector("h1").textContent === "The account is removed"`)
	b.check("declined")
	b.visit(strings.TrimPrefix(link, p.base))
	b.until(`document.querySelector("h1").textContent === "This link does not work"`)
	b.signUp("mallory")
	b.until(
		`!summary.hidden && summary.innerText.includes("This email address gets no more messages about signing up")`)
	b.end()
	p.mustStop(t)
}

// meterRegion is a JavaScript expression for the region of the meter's value, which decides its
// colour: "" is green, "sub-" is amber, and "sub-sub-" is red. Firefox has a pseudo-class for each.
// Chromium has none, so there it is calculated as the HTML standard specifies.
const meterRegion = `CSS.supports("selector(:-moz-meter-optimum)") ?
	["", "sub-", "sub-sub-"].find((region) => meter.matches(":-moz-meter-" + region + "optimum")) :
	meter.value >= meter.high ? "" : meter.value >= meter.low ? "sub-" : "sub-sub-"`

// linkTo returns the activation link of the message to an address in a pickup directory.
func linkTo(t *testing.T, address, pickup string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(pickup, "*.eml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := mail.ReadMessage(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if link := activationLink.Find(text); link != nil && m.Header.Get("To") == address {
			return string(bytes.TrimSpace(link))
		}
	}
	t.Fatalf("none of %d messages is to %s and has a link", len(files), address)
	return ""
}

// testCredentials checks an assumption of the sign-in page: a browser that knows credentials for a
// site, as from a link with a name and a password in it, adds them to the requests of a script, but
// not to one with its own Authorization header. It also proves that testBrowser would notice a
// password prompt of the browser.
func testCredentials(t *testing.T, b *browser) {
	b.base = start(t, launch{data: t.TempDir()}).base
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proof := r.Header.Get("Authorization")
		if r.URL.Path == "/signin.ashx" && proof == "" {
			w.Header().Set("WWW-Authenticate", `Digest realm="x", nonce="n", qop="auth", algorithm=MD5`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		scheme, _, _ := strings.Cut(proof, " ")
		io.WriteString(w, scheme)
	}))
	defer site.Close()
	b.step("A script that does not send X-Digest causes a password prompt, which is noticed", func() {
		before := b.prompts()
		b.visit("/login.html")
		b.do(`void fetch("/signin.ashx").then(r => document.title = "status " + r.status)`)
		b.until(`document.title === "status 401"`)
		if b.prompts() == before {
			t.Error("the test does not notice a password prompt")
		}
	})
	b.step("Credentials that it knows are sent, but not instead of those of the script", func() {
		b.base = site.URL
		b.visit("/")
		for _, c := range []struct{ request, want string }{
			{`new Promise(done => {
				const r = new XMLHttpRequest();
				r.open("GET", "/signin.ashx", true, "mallory", "secret");
				r.onloadend = () => done({ text: () => r.responseText });
				r.send();
			})`, "Digest"},
			{`fetch("/signin.ashx")`, "Digest"},
			{`fetch("/signin.ashx", { headers: { Authorization: "X-Digest" } })`, "X-Digest"},
		} {
			b.do(`document.title = "waiting"; void ` + c.request +
				`.then(r => r.text()).then(text => document.title = "sent " + text)`)
			b.until(`document.title.startsWith("sent")`)
			if got := b.get(`document.title`); got != "sent "+c.want {
				t.Errorf("the server got the scheme of %q, want %q", got, c.want)
			}
		}
	})
}

// command runs a command of the program and returns its output.
func command(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary(t), args...)
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("dialtone %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// waitUntil waits until a condition holds, and fails after process.Timeout.
func waitUntil(t testing.TB, holds func() bool) {
	t.Helper()
	process.Eventually(t, "the condition", process.Holds(holds))
}

// tap is a TCP proxy that records what the browser sends.
type tap struct {
	base     string
	listener net.Listener

	mu    sync.Mutex
	sent  bytes.Buffer
	conns []net.Conn
}

func newTap(t *testing.T, target string) *tap {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	p := &tap{base: "http://localhost:" + port, listener: l}
	t.Cleanup(p.cut)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			go func() {
				io.Copy(io.MultiWriter(out, p), in)
				out.Close()
			}()
			go func() {
				io.Copy(in, out)
				in.Close()
			}()
		}
	}()
	return p
}

// Write records bytes that the browser sent.
func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent.Write(b)
}

// cut closes all connections and accepts no new ones, as if the network were down.
func (p *tap) cut() {
	p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
}

// page returns a page of the server, or an empty string if the server does not answer.
func (p *tap) page(t *testing.T, path string) string {
	_, body, err := newVisitor("127.0.0.1"+strings.TrimPrefix(p.base, "http://localhost"),
		"127.0.0.1").send("GET", path, nil, "")
	if err != nil {
		return ""
	}
	return string(body)
}

// neverCarried checks that the bytes from the browser contain none of the passwords, in any
// encoding that a browser uses.
func (p *tap) neverCarried(t *testing.T, passwords ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent := p.sent.String()
	if !strings.Contains(sent, "POST /signup.ashx") || !strings.Contains(sent, "ha1=") {
		t.Fatal("the tap recorded no signup")
	}
	for _, word := range passwords {
		quoted, _ := json.Marshal(word)
		for _, form := range []string{word, url.QueryEscape(word), url.PathEscape(word),
			strings.Trim(string(quoted), `"`)} {
			if strings.Contains(sent, form) {
				t.Errorf("the browser sent a password, as %q", form)
			}
		}
	}
}

// browserEngine drives one tab of a browser.
type browserEngine interface {
	visit(url string) error
	// evaluate returns the value of an expression, which is text or a promise of text.
	evaluate(expression string) (string, error)
	click(selector string) error
	// typeText enters text into the element with the focus.
	typeText(text string) error
	resize(width, height int) error
	setScheme(scheme string) error
	// screenshot returns a picture of the whole page, in PNG.
	screenshot() ([]byte, error)
}

// browser is one tab of a real browser. Every error in its console is a fault.
type browser struct {
	t       *testing.T
	engine  browserEngine
	ctx     context.Context // in Chromium, of the tab
	base    string
	axe     string   // the accessibility rules; empty in Firefox
	schemes []string // the colour schemes to check them in

	mu     sync.Mutex
	faults []string
	asked  int // how often the browser itself asked for a password
}

// chromiums are the browsers that the package's tests share, by program, since starting one costs
// more processor time than many tests.
var chromiums = map[string]*sharedChromium{headless.Chromium: {}, headless.Shell: {}}

type sharedChromium struct {
	once  sync.Once
	ctx   context.Context
	close func()
	err   error
}

// closeChromiums ends the browsers that were started.
func closeChromiums() {
	for _, c := range chromiums {
		if c.close != nil {
			c.close()
		}
	}
}

// startChromium starts a program of package headless, unless another test has done so, and returns
// its context. Tests of TURN need allow-loopback-in-peer-connection.
func startChromium(t *testing.T, program string) context.Context {
	t.Helper()
	c := chromiums[program]
	c.once.Do(func() {
		flags := []chromedp.ExecAllocatorOption{chromedp.Flag("allow-loopback-in-peer-connection", true)}
		if program == headless.Shell && os.Getenv("DIALTONE_TEST_SHOTS") == "" {
			flags = append(flags, headless.NoFrames...)
		}
		c.ctx, c.close, c.err = headless.Start(program, flags...)
	})
	if c.err != nil {
		t.Fatal(c.err)
	}
	return c.ctx
}

// newBrowser opens a tab of Chromium without a window for the site at base. It shares no cookies, cache or
// credentials with other tabs. It draws no frames and takes no screenshots, except those of shot.
func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	return newTab(t, headless.Shell, base)
}

// newWindow is like newBrowser, but in the Chromium that people use, which draws frames.
func newWindow(t *testing.T, base string) *browser {
	t.Helper()
	return newTab(t, headless.Chromium, base)
}

// newTab is like newBrowser, in a program of package headless.
func newTab(t *testing.T, program, base string) *browser {
	t.Helper()
	ctx, cancel := chromedp.NewContext(startChromium(t, program), chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(cancel)
	b := &browser{
		t: t, engine: chromium{ctx}, ctx: ctx, base: base, axe: accessibilityRules(t),
		schemes: []string{"light", "dark"},
	}
	b.run(chromedp.Navigate("about:blank"))
	if err := chromedp.Listen(ctx, b.event); err != nil {
		t.Fatal(err)
	}
	yes := true
	if _, err := chromedp.Call(ctx, fetch.Enable, fetch.EnableParams{
		HandleAuthRequests: &yes, Patterns: []*fetch.RequestPattern{{URLPattern: "*/signin.ashx"}},
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

// accessibilityRules returns the script of axe-core.
func accessibilityRules(t *testing.T) string {
	t.Helper()
	axe, err := filepath.Glob("../../.tools/axe-core-*/axe.min.js")
	if err != nil || len(axe) != 1 {
		t.Fatal("this test needs axe-core: make test fetches it")
	}
	rules, err := os.ReadFile(axe[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(rules)
}

// event handles an event of Chromium.
func (b *browser) event(event any) {
	switch e := event.(type) {
	case *fetch.EventRequestPaused:
		go chromedp.Call(b.ctx, fetch.ContinueRequest,
			fetch.ContinueRequestParams{RequestID: e.RequestID})
	case *fetch.EventAuthRequired:
		b.mu.Lock()
		b.asked++
		b.mu.Unlock()
		go chromedp.Call(b.ctx, fetch.ContinueWithAuth, fetch.ContinueWithAuthParams{
			RequestID: e.RequestID,
			AuthChallengeResponse: &fetch.AuthChallengeResponse{
				Response: fetch.AuthChallengeResponseResponseCancelAuth,
			},
		})
	case *runtime.EventExceptionThrown:
		b.fault("exception: %+v", e.ExceptionDetails)
	case *log.EventEntryAdded:
		// The console also lists responses with an error status, which some steps cause.
		if e.Entry.Source != "network" {
			b.fault("%s: %s at %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *page.EventJavascriptDialogOpening:
		b.fault("dialog: %s", e.Message)
	}
}

func (b *browser) fault(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, fmt.Sprintf(format, args...))
}

// prompts returns how often the browser itself asked for a password.
func (b *browser) prompts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

// end reports the faults.
func (b *browser) end() {
	b.get("1") // a round trip, so that all earlier events have arrived
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.faults {
		b.t.Error(f)
	}
}

func (b *browser) step(name string, do func()) {
	b.t.Helper()
	b.t.Log(name)
	do()
}

// run runs actions in Chromium.
func (b *browser) run(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	b.succeed(chromedp.Do(b.ctx, steps...))
}

func (b *browser) succeed(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatalf("%v\n%s", err, b.text())
	}
}

func (b *browser) text() string {
	text, err := b.engine.evaluate(
		`location.href + "\n" + document.title + "\n" + document.body?.innerText`)
	if err != nil {
		return err.Error()
	}
	return text
}

// visit loads a page and waits for its load event. It first waits until the current page has
// loaded, whose load event would otherwise end the wait too early.
func (b *browser) visit(path string) {
	b.t.Helper()
	b.until(`document.readyState === "complete"`)
	b.succeed(b.engine.visit(b.base + path))
}

// reload reloads the page, and waits until an expression is true there, even after further
// redirects.
func (b *browser) reload(expression string) {
	b.t.Helper()
	b.do(`window.before = true`)
	b.do(`setTimeout(() => location.reload(), 0)`)
	b.until("!window.before && document.readyState === 'complete' && (" + expression + ")")
}

// reloadUntil reloads the page until an expression is true there. When it returns, no page is being
// loaded.
func (b *browser) reloadUntil(expression string) {
	b.t.Helper()
	b.until(`document.readyState === "complete"`)
	for end := time.Now().Add(process.Timeout); b.get("Boolean("+expression+")") != "true"; {
		if time.Now().After(end) {
			b.t.Fatalf("never true: %s\n%s", expression, b.text())
		}
		b.reload("true")
	}
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.succeed(b.engine.click(selector))
}

// get returns the value of an expression as text.
func (b *browser) get(expression string) string {
	b.t.Helper()
	text, err := b.engine.evaluate("String(" + expression + ")")
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", expression, err, b.text())
	}
	return text
}

func (b *browser) do(statement string) {
	b.t.Helper()
	b.get("(() => { " + statement + " })()")
}

func (b *browser) want(expression, value string) {
	b.t.Helper()
	if got := b.get(expression); got != value {
		b.t.Errorf("%s is %q, want %q\n%s", expression, got, value, b.text())
	}
}

// until waits until an expression is true, also across navigations.
func (b *browser) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, process.Timeout)
	defer cancel()
	ticker := time.NewTicker(30 * time.Millisecond)
	defer ticker.Stop()
	for {
		// During a navigation the expression may fail, because elements are missing.
		ok, err := b.engine.evaluate(
			"(() => { try { return String(Boolean(" + expression + ")) } catch { return `` } })()")
		if err == nil && ok == "true" {
			return
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("never true: %s\n%s", expression, b.text())
		case <-ticker.C:
		}
	}
}

// fill types into fields, given as pairs of id and text.
func (b *browser) fill(fields ...string) {
	b.t.Helper()
	for i := 0; i < len(fields); i += 2 {
		b.do(`document.getElementById("` + fields[i] + `").focus(); document.activeElement.select()`)
		b.succeed(b.engine.typeText(fields[i+1]))
	}
}

// answer answers the captcha.
func (b *browser) answer() {
	b.t.Helper()
	b.until(`/\d+ \+ \d+/.test(question.textContent)`)
	b.do(`captcha_answer.value = /(\d+) \+ (\d+)/.exec(question.textContent).slice(1).
		map(Number).reduce((x, y) => x + y)`)
}

func (b *browser) signUp(user string) {
	b.t.Helper()
	b.visit("/signup.html")
	b.fill("user", user, "name", "Somebody", "email", user+"@example.org", "password", secretWords)
	b.answer()
	b.click("#submit")
}

func (b *browser) signIn(user, password string) {
	b.t.Helper()
	b.visit("/login.html")
	b.until(`document.getElementById("submit")?.disabled === false`)
	b.fill("user", user, "password", password)
	b.click("#submit")
}

// allRules are the accessibility rules for WCAG 2.2 AA and best practice, and colourRules those of them
// whose result depends on colours.
const (
	allRules    = `["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]`
	colourRules = `{type: "rule", values: ["color-contrast", "link-in-text-block"]}`
)

// check checks the page in its current state: that it fits a width of 320 pixels and, in Chromium,
// all accessibility rules in the first colour scheme of b, and those about colours in the others.
// The schemes differ only in colours. "preload" would fetch media files, and style sheets for a
// rule that is not among them. "iframes" would run the rules in frames, where they are not loaded.
func (b *browser) check(state string) {
	b.t.Helper()
	if b.axe != "" && b.get(`typeof axe`) != "object" {
		b.do(b.axe)
	}
	rules := allRules
	for _, scheme := range b.schemes {
		b.succeed(b.engine.setScheme(scheme))
		found, err := b.engine.evaluate(`
			axe.run(document, {runOnly: ` + rules + `, resultTypes: ["violations"], preload: false, elementRef: false,
				iframes: false})
			.then(r => r.violations.map(v => v.id + ": " + v.help + "\n  " +
				v.nodes.map(n => n.html + " " + n.failureSummary).join("\n  ")).join("\n"))`)
		if err != nil {
			b.t.Fatalf("%s: %v", state, err)
		}
		if found != "" {
			b.t.Errorf("%s, %s: %s", state, scheme, found)
		}
		rules = colourRules
	}
	b.resize(320)
	b.want(`document.documentElement.scrollWidth <= innerWidth`, "true")
	b.resize(1280)
	b.want(`((box) => Math.abs(box.left - (document.documentElement.clientWidth - box.right)) < 1)(
		document.querySelector("main").getBoundingClientRect())`, "true")
}

func (b *browser) resize(width int) { b.resizeTo(width, 900) }

func (b *browser) resizeTo(width, height int) {
	b.t.Helper()
	b.succeed(b.engine.resize(width, height))
}

// shot saves a screenshot of the page if DIALTONE_TEST_SHOTS names a directory. signup is the picture of
// the README.
func (b *browser) shot(name string) { b.picture(name, 1280, "light") }

// shots saves screenshots of the page on a wide and on a narrow screen, light and dark.
func (b *browser) shots(name string) {
	for _, width := range []int{320, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			b.picture(fmt.Sprintf("%s-%d-%s", name, width, scheme), width, scheme)
		}
	}
}

func (b *browser) picture(name string, width int, scheme string) {
	b.t.Helper()
	dir := os.Getenv("DIALTONE_TEST_SHOTS")
	if _, ok := b.engine.(chromium); dir == "" || !ok {
		return
	}
	b.resize(width)
	defer b.resize(1280)
	b.succeed(b.engine.setScheme(scheme))
	// Chromium shifts a screenshot that is larger than the screen if the page is right-to-left, so
	// the screen is made as large as the page.
	height, err := strconv.Atoi(b.get(`document.documentElement.scrollHeight`))
	if err != nil {
		b.t.Fatal(err)
	}
	b.resizeTo(width, height)
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// messageWith returns a JavaScript expression for the message that contains words, on the page of
// messages.
func messageWith(words string) string {
	return `[...document.querySelectorAll("article")].find(e => e.innerText.includes(` + quoted(words) + `))`
}

// chromium drives the tab of a context of chromedp.
type chromium struct{ ctx context.Context }

func (c chromium) visit(url string) error { return chromedp.Do(c.ctx, chromedp.Navigate(url)) }

func (c chromium) evaluate(expression string) (string, error) {
	return chromedp.Run(c.ctx, chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise))
}

func (c chromium) click(selector string) error {
	return chromedp.Do(c.ctx, chromedp.Click(selector, chromedp.NodeVisible))
}

func (c chromium) typeText(text string) error {
	_, err := chromedp.Call(c.ctx, input.InsertText, input.InsertTextParams{Text: text})
	return err
}

func (c chromium) resize(width, height int) error {
	_, err := chromedp.Call(c.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(width), Height: int64(height), DeviceScaleFactor: 1,
	})
	return err
}

func (c chromium) setScheme(scheme string) error {
	_, err := chromedp.Call(c.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		},
	})
	return err
}

func (c chromium) screenshot() ([]byte, error) {
	return chromedp.Run(c.ctx, chromedp.FullScreenshot(100))
}

// hasLine reports whether a line of a command's output begins with a label and a value.
func hasLine(shown, want string) bool {
	for line := range strings.Lines(shown) {
		if strings.HasPrefix(strings.Join(strings.Fields(line), " "), want) {
			return true
		}
	}
	return false
}
