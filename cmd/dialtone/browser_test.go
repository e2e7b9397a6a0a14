package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
)

// secretWords is the password of the person in the browser. It has characters that go wrong where
// somebody takes bytes for letters.
const secretWords = `sieben Zwölftel: "grün" 🔐 & mehr`

// TestBrowser is the whole main job as a person does it: the real program, a real browser, every
// byte between them recorded.
func TestBrowser(t *testing.T) {
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	tap := newTap(t, p.address)
	// People come through the tap, so links lead there too.
	command(t, "tenant", "set", "localhost", "--public-url", tap.base, "--product",
		"Example Phones", "--data", data)
	waitUntil(t, func() bool { return strings.Contains(tap.page(t, "/"), "Example Phones") })
	b := newBrowser(t, tap.base)

	b.step("The start page leads to the form", func() {
		b.visit("/")
		b.check("home")
		b.click(`a[href="/signup.html"]`)
		b.until(`document.getElementById("submit")?.disabled === false && /What is/.test(question.textContent)`)
		b.check("signup")
	})
	b.step("An empty form says what is missing, beside each field", func() {
		b.click("#submit")
		b.until(`!summary.hidden && document.activeElement.id === "summary"`)
		b.want(`document.querySelectorAll("#summary-list li").length`, "5")
		b.want(`document.title.startsWith("Error: ")`, "true")
		b.want(`[...document.querySelectorAll("[aria-invalid=true]")].map(e => e.id).join()`,
			"user,name,email,password,captcha_answer")
		b.check("signup-empty")
	})
	b.step("A common password is refused by the server, which never saw it", func() {
		b.fill("user", "alex", "name", "Älex 🙂", "email", "alex@example.org", "password",
			"qazwsxedcrfv")
		b.answer()
		b.click("#submit")
		b.until(`!document.getElementById("password-error").hidden`)
		b.want(`user.value + "|" + email.value`, "alex|alex@example.org")
		b.check("signup-common")
	})
	b.step("A wrong sum gets a new question, and the rest is kept", func() {
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
	b.step("The right form is followed by where to look, from whom and until when", func() {
		b.answer()
		b.shot("signup")
		b.click("#submit")
		b.until(`!sent.hidden && document.activeElement.id === "sent-title"`)
		b.want(`sent.innerText.includes("alex@example.org") && sent.innerText.includes("no-reply@localhost")`, "true")
		b.want(`document.getElementById("sent-until").textContent.includes(
			new Date(Date.now() + 7*864e5).getFullYear())`, "true")
		b.check("signup-sent")
		b.shot("sent")
	})
	b.step("Before the link, the right password is told that the account waits", func() {
		b.signIn("alex", secretWords)
		b.until(`!inactive.hidden`)
		b.want(`document.getElementById("inactive-email").textContent`, "a***@example.org")
		b.check("login-inactive")
	})
	b.step("There the address can be corrected, and the newest link is the one that counts", func() {
		b.click("#wrong summary")
		b.fill("correct-email", "no address")
		b.click("#correct button")
		b.until(`!document.getElementById("correct-email-error").hidden &&
			document.activeElement.id === "correct-email"`)
		b.check("login-correct")
		b.fill("correct-email", "-f@example.org")
		b.click("#correct button")
		b.until(`document.getElementById("correct-email-error").textContent.includes("No mail can be sent")`)
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
	b.step("A wrong password and an unknown name are told the same, and the browser opens no box of its own", func() {
		b.signIn("alex", "not the pass phrase")
		b.until(`!summary.hidden`)
		wrong := b.get(`summary.innerText`)
		b.check("login-wrong")
		b.signIn("nobody.here", secretWords)
		b.until(`!summary.hidden`)
		b.want(`summary.innerText`, wrong)
		if n := b.boxes(); n != 0 {
			t.Errorf("the browser wanted to open its password box %d times", n)
		}
	})
	b.step("The link in the message activates the account, and leaves the address bar", func() {
		b.visit("/dev/mail")
		b.check("devmail")
		b.do(messageWith("right@example.org") + `.querySelector("a").click()`)
		b.until(`document.querySelector("h1").textContent === "Account activated" &&
			!location.href.includes("token")`)
		b.check("activated")
		b.shot("activated")
		b.visit("/dev/mail")
		b.do(messageWith("right@example.org") + `.querySelector("a").click()`)
		b.until(`/already/i.test(document.querySelector("h1").textContent)`)
		b.check("already")
	})
	b.step("Signing in where the link was opened confirms the account and shows the phone settings", func() {
		shown := command(t, "account", "show", "alex", "--tenant", "localhost", "--data", data)
		if !strings.Contains(shown, "confirmed  not yet") {
			t.Errorf("after the link alone: %s", shown)
		}
		b.click(`a[href="/login.html"]`)
		b.until(`document.getElementById("submit")?.disabled === false`)
		b.want(`user.value`, "alex")
		b.check("login")
		b.fill("password", secretWords)
		b.click("#submit")
		b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
		text := b.get(`document.querySelector("main").innerText`)
		for _, part := range []string{"alex", "Älex 🙂", "localhost", "TLS"} {
			if !strings.Contains(text, part) {
				t.Errorf("the account page does not say %q:\n%s", part, text)
			}
		}
		b.want(`document.cookie`, "") // scripts do not see the session
		shown = command(t, "account", "show", "alex", "--tenant", "localhost", "--data", data)
		if !strings.Contains(shown, "confirmed  2") {
			t.Errorf("after link and password: %s", shown)
		}
		b.check("account")
		b.shot("account")
	})
	b.step("An operator's disable ends it with the next request", func() {
		command(t, "account", "disable", "alex", "--tenant", "localhost", "--data", data)
		b.visit("/account.html")
		b.until(`location.pathname === "/login.html"`)
		command(t, "account", "enable", "alex", "--tenant", "localhost", "--data", data)
	})
	b.step("Signing out ends the session", func() {
		b.signIn("alex", secretWords)
		b.until(`location.pathname === "/account.html" && document.readyState === "complete"`)
		b.click(`form[action="/signout.ashx"] button`)
		b.until(`location.pathname === "/login.html"`)
		b.visit("/account.html")
		b.until(`location.pathname === "/login.html"`)
	})
	b.step("A taken name gets three others to choose from", func() {
		b.visit("/signup.html")
		b.until(`/What is/.test(question.textContent)`)
		b.fill("user", "alex", "name", "Another Alex", "email", "another@example.org", "password",
			secretWords)
		b.answer()
		b.click("#submit")
		b.until(`document.querySelectorAll("#user-offers button").length === 3`)
		b.check("signup-taken")
	})
	b.step("When the pickup directory is gone nothing was saved, and the same form works once it is back", func() {
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
	b.step("The fourth signup of an hour is told when to come back", func() {
		b.signUp("third")
		b.until(`!sent.hidden`)
		b.signUp("fourth")
		b.until(`/Try again/.test(summary.innerText)`)
		b.check("signup-limited")
	})
	b.step("A page that is not there says so to a person", func() {
		b.visit("/nothing/here")
		b.until(`/no such page/.test(document.querySelector("h1").textContent)`)
		b.check("404")
	})
	b.step("Without the server the form says so, and keeps what was typed", func() {
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
	tap.neverCarried(t, secretWords, "qazwsxedcrfv", "not the pass phrase")
	p.mustStop(t)
}

// TestBrowserWithoutXDigest shows that the test above can see a password box: a script that does
// not ask for X-Digest gets one.
func TestBrowserWithoutXDigest(t *testing.T) {
	p := start(t, launch{data: t.TempDir()})
	b := newBrowser(t, p.base)
	b.visit("/login.html")
	b.do(`void fetch("/signin.ashx").then(r => document.title = "status " + r.status)`)
	b.until(`document.title === "status 401"`)
	if b.boxes() == 0 {
		t.Error("the browser opened no box, so nobody knows whether it would have")
	}
}

// command runs the program's own command line, and gives all that it prints.
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

func waitUntil(t testing.TB, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatal("it did not come about in 10 s")
		case <-ticker.C:
		}
	}
}

// tap passes every byte on and remembers those that the browser sent.
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

func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent.Write(b)
}

// cut is the moment when the network goes away.
func (p *tap) cut() {
	p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
}

func (p *tap) page(t *testing.T, path string) string {
	_, body, err := newVisitor("127.0.0.1"+strings.TrimPrefix(p.base, "http://localhost"),
		"127.0.0.1").send("GET", path, nil, "")
	if err != nil {
		return ""
	}
	return string(body)
}

// neverCarried wants none of the passwords in anything that was sent, in any way that a browser
// writes text.
func (p *tap) neverCarried(t *testing.T, passwords ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent := p.sent.String()
	if !strings.Contains(sent, "POST /signup.ashx") || !strings.Contains(sent, "ha1=") {
		t.Fatal("the tap saw no signup, so it proves nothing")
	}
	for _, word := range passwords {
		quoted, _ := json.Marshal(word)
		for _, form := range []string{word, url.QueryEscape(word), url.PathEscape(word),
			strings.Trim(string(quoted), `"`)} {
			if strings.Contains(sent, form) {
				t.Errorf("a password went over the wire, as %q", form)
			}
		}
	}
}

// browser is one tab of a real Chromium. Whatever its console complains of is a fault.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string
	axe  string

	mu     sync.Mutex
	faults []string
	asked  int // for a password, by the browser itself
}

func newBrowser(t *testing.T, base string, further ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("this test needs a real browser: make test installs chromium")
	}
	axe, err := filepath.Glob("../../.tools/axe-core-*/axe.min.js")
	if err != nil || len(axe) != 1 {
		t.Fatal("this test needs the accessibility rules: make test fetches axe-core")
	}
	rules, err := os.ReadFile(axe[0])
	if err != nil {
		t.Fatal(err)
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1280, 900))
	options = append(options, further...)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, base: base, axe: string(rules)}
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

// event hears what the browser has to say.
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
		// A refusal of the server is logged as well, and is what some steps are about.
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

func (b *browser) boxes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

// end reports what the console complained of.
func (b *browser) end() {
	b.get("1") // a round trip, so that what the page said before has come
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

func (b *browser) run(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatalf("%v\n%s", err, b.text())
	}
}

func (b *browser) text() string {
	text, err := chromedp.Run(b.ctx,
		chromedp.Evaluate[string](`location.href + "\n" + document.title + "\n" + document.body?.innerText`))
	if err != nil {
		return err.Error()
	}
	return text
}

func (b *browser) visit(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.base + path))
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.run(chromedp.Click(selector, chromedp.NodeVisible))
}

// get is an expression's value as text.
func (b *browser) get(expression string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("String("+expression+")"))
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

// until waits for an expression to be true, over a navigation too.
func (b *browser) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(30 * time.Millisecond)
	defer ticker.Stop()
	for {
		// While a page goes away or has not its elements yet, the expression fails, and is asked
		// again.
		ok, err := chromedp.Run(ctx,
			chromedp.Evaluate[bool]("(() => { try { return Boolean("+expression+") } catch { return false } })()"))
		if err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("it never came to %s\n%s", expression, b.text())
		case <-ticker.C:
		}
	}
}

// fill types into fields, given as pairs of id and text.
func (b *browser) fill(fields ...string) {
	b.t.Helper()
	for i := 0; i < len(fields); i += 2 {
		b.do(`document.getElementById("` + fields[i] + `").select()`)
		if _, err := chromedp.Call(b.ctx, input.InsertText,
			input.InsertTextParams{Text: fields[i+1]}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// answer does the sum, as a person reads it.
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

// check runs every accessibility rule of WCAG 2.2 AA and of good practice on the page as it is now,
// in both colour schemes, and wants it to fit a screen of 320 pixels.
func (b *browser) check(state string) {
	b.t.Helper()
	if b.get(`typeof axe`) != "object" {
		b.do(b.axe)
	}
	for _, scheme := range []string{"light", "dark"} {
		if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme},
				{Name: "prefers-reduced-motion", Value: "reduce"}},
		}); err != nil {
			b.t.Fatal(err)
		}
		found, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`
			axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
			.then(r => r.violations.map(v => v.id + ": " + v.help + "\n  " +
				v.nodes.map(n => n.html + " " + n.failureSummary).join("\n  ")).join("\n"))`,
			chromedp.EvalAwaitPromise))
		if err != nil {
			b.t.Fatalf("%s: %v", state, err)
		}
		if found != "" {
			b.t.Errorf("%s, %s: %s", state, scheme, found)
		}
	}
	b.resize(320)
	b.want(`document.documentElement.scrollWidth <= innerWidth`, "true")
	b.resize(1280)
	b.want(`((box) => Math.abs(box.left - (document.documentElement.clientWidth - box.right)) < 1)(
		document.querySelector("main").getBoundingClientRect())`, "true")
}

func (b *browser) resize(width int) { b.resizeTo(width, 900) }

func (b *browser) resizeTo(width, height int) {
	if _, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride,
		emulation.SetDeviceMetricsOverrideParams{Width: int64(width), Height: int64(height),
			DeviceScaleFactor: 1}); err != nil {
		b.t.Fatal(err)
	}
}

// shot saves a picture of the page if DIALTONE_TEST_SHOTS names a folder; the README's
// are made so.
func (b *browser) shot(name string) { b.picture(name, 1280, "light") }

// shots are pictures of the page on a wide and on a narrow screen, light and dark.
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
	if dir == "" {
		return
	}
	b.resize(width)
	defer b.resize(1280)
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme},
			{Name: "prefers-reduced-motion", Value: "reduce"}},
	}); err != nil {
		b.t.Fatal(err)
	}
	// A picture of what is beyond the screen is moved aside where the page reads from right to
	// left, so the screen is made large.
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

// messageWith returns JavaScript for the message on the page of messages whose text contains words.
func messageWith(words string) string {
	return `[...document.querySelectorAll("article")].find(e => e.innerText.includes(` + quoted(words) + `))`
}
