package web

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"dialtone/internal/i18n"
	"dialtone/internal/provision"
	"dialtone/internal/session"
	"dialtone/internal/test/headless"
)

// The pages are tested in Chromium, against a server with the real pages and static files and fake
// endpoints. Starting a browser and opening a tab cost more processor time than a test, so all
// tests share one browser, one tab and one origin, whose cache keeps the modules.

const (
	testHost     = "phone.test"
	testPassword = `Zwölf: "Boxkämpfer" \ 🔐`
)

// blankPath is an empty page of the shared server. Between tests, the shared tab has this address, so
// that the next test loads its page afresh instead of restoring it. The tab stays at one origin, and so
// in one process.
const blankPath = "/blank"

var browser struct {
	once   sync.Once
	tab    context.Context
	site   *httptest.Server
	server atomic.Pointer[pageServer] // of the running test, or nil
	close  func()
	err    error
}

// drawing is a second browser, for tests of what changes from frame to frame. The first one draws no
// frames (see headless.NoFrames).
var drawing struct {
	once  sync.Once
	tab   context.Context
	close func()
	err   error
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, end := range []func(){browser.close, drawing.close} {
		if end != nil {
			end()
		}
	}
	os.Exit(code)
}

// openDrawing opens a page in a tab of the browser that draws frames.
func openDrawing(t *testing.T, s *pageServer, path string, width, height int64) *tab {
	t.Helper()
	drawing.once.Do(func() { drawing.tab, drawing.close, drawing.err = headless.Start(headless.Shell) })
	if drawing.err != nil {
		t.Fatal(drawing.err)
	}
	return openTabOf(t, drawing.tab, s, path, chromedp.EmulateViewport(width, height))
}

// startBrowser starts the browser and the shared server, unless another test has done so, and
// returns the context of the shared tab.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	browser.once.Do(func() {
		browser.site = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == blankPath {
				w.Header().Set("Content-Type", "text/html")
				return
			}
			if s := browser.server.Load(); s != nil {
				s.ServeHTTP(w, r)
				return
			}
			http.Error(w, "the test of this page has ended", http.StatusServiceUnavailable)
		}))
		var end func()
		browser.tab, end, browser.err = headless.Start(headless.Shell, headless.NoFrames...)
		if browser.err != nil {
			return
		}
		browser.close = func() {
			end()
			browser.site.Close()
		}
		browser.err = chromedp.Do(browser.tab, holdTimers)
	})
	if browser.err != nil {
		t.Fatal(browser.err)
	}
	return browser.tab
}

// modulePath is where the modules of scripts are, for tests of one of them.
const modulePath = "/modules/"

// pageServer serves the real pages and static files, and endpoints whose answers a test sets.
type pageServer struct {
	URL string

	mu       sync.Mutex
	posts    []string // bodies of signups
	captchas int
	signIns  []string
	handlers map[string]http.HandlerFunc
	received chan string
}

// testSite is everything that all page servers share.
type testSite struct {
	assets *assets
	pages  *pages
	views  map[string]view
}

var loadTestSite = sync.OnceValues(func() (*testSite, error) {
	a, err := newAssets()
	if err != nil {
		return nil, err
	}
	pseudo, err := pseudoWords()
	if err != nil {
		return nil, err
	}
	p, err := newPages(a, append(allLanguages(), pseudo)...)
	if err != nil {
		return nil, err
	}
	link := "https://phone.test/provision/linphone.xml?token=" + strings.Repeat("abcdefgh", 11)
	drawn, err := newQR(link)
	if err != nil {
		return nil, err
	}
	f := frame{
		Product: "Dialtone", Host: testHost, Realm: testHost, Switch: true,
	}
	linphone := setup{
		Program: "linphone", Code: drawn, Link: link, Open: opener(provision.Linphone, link),
		Stores: stores[provision.Linphone], Seconds: 840,
	}
	in := f
	in.SignedIn = "alex"
	views := map[string]view{
		"/":            {"home", homePage{f}},
		"/signup.html": {"signup", signupPage{frame: f, MailFrom: "phones@phone.test"}},
		"/login.html":  {"login", loginPage{frame: f, Next: "/account.html", Passkeys: true}},
		"/account.html": {"account", accountPage{
			frame: in, Name: "Álex 🙂", Email: "alex@example.org",
			SIP:   sipSettings{User: "alex", Domain: testHost, Server: "sip.phone.test:5061", Transport: "TLS"},
			Phone: &linphone, Others: []string{"zoiper"}, Tools: []string{"baresip", "jssip"},
			Asked: &phoneLookups{[]listedPhoneServer{
				{"kamailio-1", time.Now().Add(-20 * time.Minute)}, {"pbx.example.org", time.Now().Add(-50 * time.Hour)},
			}},
			TwoStep: true, Passkeys: 2, Operator: true,
		}},
		"/password.html": {"password", passwordPage{frame: in, Name: "Álex 🙂", Email: "alex@example.org"}},

		"/two-step.html": {"two-step", twoStepView{frame: in}},
		"/two-step/on": {"two-step", twoStepView{
			frame: in, On: true, Since: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Codes: 7,
		}},
		"/two-step/required": {"two-step", twoStepView{frame: in, Required: true}},
		"/passkeys.html": {"passkeys", passkeysView{frame: in, Offered: true, Passkeys: []listedPasskey{
			{
				ID: "AQ", Name: "Chrome (Linux)", Added: time.Now().Add(-time.Hour), Used: time.Now(),
				Synced: true, Usable: true,
			},
			{ID: "Ag", Name: "Álex’ 🔑", Added: time.Now().Add(-72 * time.Hour)},
		}, Suggested: "Firefox (Linux)"}},
		"/passkeys/none": {"passkeys", passkeysView{frame: in}},

		"/sessions.html": {"sessions", sessionsView{in, []listedSession{
			{
				ID: "01", Browser: "Firefox", System: "Linux", Net: "192.0.2.0/24",
				Began: time.Now().Add(-time.Hour), Seen: time.Now(), Current: true, How: session.ByPasskey,
			},
			{
				ID: "02", Browser: "Safari", System: "iPhone", Net: "2001:db8:1::/48",
				Began: time.Now().Add(-72 * time.Hour), Seen: time.Now().Add(-5 * time.Minute), How: session.ByCode,
			},
			{
				ID: "03", Net: "198.51.100.0/24", Began: time.Now().Add(-26 * time.Hour),
				Seen: time.Now().Add(-3 * time.Hour), How: session.ByPassword,
			},
		}}},
		"/in":     {"home", homePage{in}},
		"/signed": {"signedin", signedInPage{in}},
		"/error":  {"error", errorPage{frame: f, Status: 404, Key: "error.not_found", Request: "x"}},
		"/nowhere": {"error", errorPage{
			frame: frame{Product: "Dialtone"}, Status: 421, Key: "error.misdirected_request", Request: "x",
		}},
		"/scan": {"provision", provisionPage{
			frame: in, setup: linphone,
		}},
		"/scan/zoiper": {"provision", provisionPage{
			frame: in, setup: setup{
				Program: "zoiper", Code: drawn, Link: link, Stores: stores[provision.Zoiper], Seconds: 840,
			},
		}},
		"/copied": {"provision", provisionPage{
			frame: in, setup: setup{Program: "baresip"},
			Text: "\"Álex 🙂\" <sip:alex@phone.test;transport=tls>;auth_user=alex;" +
				"outbound=\"sip:sip.phone.test:5061;transport=tls\";regint=600\n",
		}},
		"/devmail": {"devmail", devMailPage{f, []devMail{{
			File: "1733000000.eml", From: "phones@phone.test", To: "alex@example.org",
			Date: "Sat, 28 Nov 2026 21:10:00 +0000", Subject: "Activate your account",
			Text: "Hello,\n\nopen this link within 7 days:\n\n" +
				"https://phone.test/activate.ashx?token=" + strings.Repeat("abcdefgh", 6) + "\n",
			Link: "/activate/done?token=secret", Button: "Activate the account",
		}}}},
		"/devmail/none": {"devmail", devMailPage{frame: f}},
	}
	next := views["/account.html"].data.(accountPage)
	next.Next = true
	views["/account.html?"+nextPhone] = view{"account", next}
	changed := next
	changed.Changed = true
	views["/account/changed"] = view{"account", changed}
	views["/profile.html"] = view{"profile", profilePage{
		frame: in, Name: "Álex 🙂", Email: "alex@example.org", Lang: i18n.English,
	}}
	views["/profile.html?saved"] = view{"profile", profilePage{
		frame: in, Name: "Alex", Email: "alex@example.org", Lang: i18n.German, Saved: true,
	}}
	views["/confirm-email.html"] = view{"confirmemail", confirmEmailPage{
		frame: f, User: "alex", Email: "new@example.org",
	}}
	views["/confirm-email/lost"] = view{"confirmemail", confirmEmailPage{frame: f}}
	views["/forgot.html"] = view{"forgot", forgotPage{f}}
	views["/reset.html"] = view{"reset", resetPage{frame: f, Users: []string{"alex"}}}
	views["/reset/several"] = view{"reset", resetPage{frame: f, Users: []string{"alex", "bea"}}}
	views["/reset/kept"] = view{"reset", resetPage{
		frame: f, Users: []string{"alex", "bea"}, Kept: []string{"bea"},
	}}
	views["/reset/kept-one"] = view{"reset", resetPage{frame: f, Users: []string{"bea"}, Kept: []string{"bea"}}}
	views["/reset/first"] = view{"reset", resetPage{frame: f, Users: []string{"alex"}, First: true}}
	views["/signup/closed"] = view{"closed", closedPage{f, ""}}
	views["/signup/closed-note"] = view{"closed", closedPage{f, "Back on Monday.\nSee https://status.test/incident/" +
		strings.Repeat("0123456789", 10)}}
	views["/reset/lost"] = view{"reset", resetPage{frame: f}}
	cut := f
	cut.CutLink = true
	views["/reset/cut"] = view{"reset", resetPage{frame: cut}}
	views["/not-me/cut"] = view{"notme", notMePage{frame: cut}}
	views["/stay/cut"] = view{"stay", stayPage{frame: cut}}
	views["/confirm-email/cut"] = view{"confirmemail", confirmEmailPage{frame: cut}}
	views["/leave.html"] = view{"leave", leavePage{frame: in, Email: "alex@example.org", Days: 400}}
	views["/stay.html"] = view{"stay", stayPage{
		frame: f, User: "alex", Until: time.Date(2026, 3, 8, 12, 0, 0, 0, time.UTC),
	}}
	views["/stay/lost"] = view{"stay", stayPage{frame: f}}
	views["/not-me.html"] = view{"notme", notMePage{
		frame: f, User: "alex", Email: "alex@example.org", Stays: true, App: true, Passkeys: 2, Codes: true,
	}}
	views["/not-me/lost"] = view{"notme", notMePage{frame: f}}
	signedIn := activationPage{frame: in, State: activationAlready, User: "alex", Confirmed: true}
	views["/activate/signed-in"] = view{"activation", signedIn}
	views["/forgot/signed-in"] = view{"forgot", forgotPage{in}}
	views["/activated.html"] = view{"activation", activationPage{frame: f, State: activationDone}}
	for _, state := range activationStates {
		data := activationPage{frame: f, State: state, Expired: "Friday, 27 November 2026"}
		if slices.Contains(statesWithUser, state) {
			data.User = "alex"
		}
		views["/activate/"+string(state)] = view{"activation", data}
	}
	for _, state := range declineStates {
		views["/decline/"+string(state)] = view{"decline", declinePage{frame: f, State: state, Token: "token"}}
	}
	for name, v := range adminViews(in, "alex@example.org") {
		views["/"+strings.ReplaceAll(name, " ", "-")] = v
	}
	for name, v := range allPages(hostile) {
		views["/hostile/"+strings.ReplaceAll(name, " ", "-")] = v
	}
	return &testSite{a, p, views}, nil
})

// newPageServer makes the shared server answer for this test, with only the captcha's endpoint.
func newPageServer(t *testing.T) *pageServer {
	t.Helper()
	startBrowser(t)
	if _, err := loadTestSite(); err != nil {
		t.Fatal(err)
	}
	s := &pageServer{
		URL:      browser.site.URL,
		handlers: map[string]http.HandlerFunc{},
		received: make(chan string, 200),
	}
	s.handle("/captcha.ashx", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.captchas++
		writeReply(w, 200, fmt.Sprintf(`{"question":"3 + %d","token":"token-%d"}`, s.captchas, s.captchas))
	})
	browser.server.Store(s)
	return s
}

func (s *pageServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	site, _ := loadTestSite()
	setHeaders(w.Header())
	if name, ok := strings.CutPrefix(r.URL.Path, modulePath); ok {
		w.Header().Set("Content-Type", contentTypes[".js"])
		http.ServeFileFS(w, r, staticFiles, "static/"+name)
		return
	}
	if x, ok := site.assets.lookup(r.URL.Path); ok {
		x.serve(w, r)
		return
	}
	s.mu.Lock()
	handler := s.handlers[r.URL.Path]
	s.mu.Unlock()
	if handler != nil {
		handler(w, r)
		return
	}
	if r.URL.Path == adminPreview { // the frame in the page of the settings
		w.Header()["Content-Security-Policy"] = previewPolicy
		writePage(w, http.StatusOK, []byte("<!doctype html><title>Preview</title>"))
		return
	}
	v, ok := site.views[r.URL.Path]
	if asks(&request{Request: r}, passwordChanged) {
		v, ok = site.views["/account/changed"]
	} else if asks(&request{Request: r}, nextPhone) {
		v, ok = site.views[r.URL.Path+"?"+nextPhone]
	} else if asks(&request{Request: r}, "saved") {
		v, ok = site.views[r.URL.Path+"?saved"]
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	tag := i18n.English
	if asked := r.URL.Query().Get("lang"); asked != "" {
		tag = i18n.Tag(asked)
	}
	out, err := site.pages.render(tag, v.page, v.data)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if v.page == "admin-settings" {
		w.Header()["Content-Security-Policy"] = settingsPolicy
	}
	writePage(w, http.StatusOK, out)
}

func (s *pageServer) handle(path string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[path] = h
}

// onSignup makes the signup endpoint give these answers one after another, and then repeat the last
// one.
func (s *pageServer) onSignup(answers ...http.HandlerFunc) {
	s.handle("/signup.ashx", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		s.mu.Lock()
		s.posts = append(s.posts, string(body))
		answer := answers[min(len(s.posts), len(answers))-1]
		s.mu.Unlock()
		s.received <- r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get("Content-Type")
		answer(w, r)
	})
}

// sent returns the bodies of all signup requests.
func (s *pageServer) sent() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.posts)
}

func writeReply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeReply(w, status, body) }
}

func replyError(status int, code, text string) http.HandlerFunc {
	body, err := json.Marshal(map[string]string{"error": code, "error_description": text})
	if err != nil {
		panic(err)
	}
	return reply(status, string(body))
}

// replyRule is the answer to a form that breaks a rule.
func replyRule(field, rule string) http.HandlerFunc {
	answer := replyError(400, "invalid_request", field+": in English")
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(ruleHeader, field+"."+rule)
		answer(w, r)
	}
}

func withRetryAfter(seconds string, h http.HandlerFunc) http.HandlerFunc {
	return withHeader("Retry-After", seconds, h)
}

func withHeader(name, value string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(name, value)
		h(w, r)
	}
}

// hangUp closes the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func hexDigest(algorithm, text string) string {
	if algorithm == "SHA-256" {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

var digestParameter = regexp.MustCompile(`(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^,\s]+))`)

// onSignIn makes the sign-in endpoint require a proof of testPassword, and answer a right one with
// success and any other with a new challenge. The first stale nonces count as expired.
func (s *pageServer) onSignIn(algorithm string, stale int, success http.HandlerFunc) {
	realm, count := `phone "test" \ x`, 0
	s.handle("/signin.ashx", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		proof := r.Header.Get("Authorization")
		s.signIns = append(s.signIns, r.Method+" "+r.Header.Get("X-Requested-With")+" "+proof)
		given := map[string]string{}
		for _, m := range digestParameter.FindAllStringSubmatch(proof, -1) {
			given[m[1]] = m[3]
			if m[3] == "" {
				given[m[1]] = regexp.MustCompile(`\\(.)`).ReplaceAllString(m[2], "$1")
			}
		}
		nonce := fmt.Sprintf("nonce-%d", count)
		want := hexDigest(algorithm, strings.Join([]string{
			hexDigest(algorithm, "alex:"+realm+":"+testPassword), nonce, "00000001", given["cnonce"], "auth",
			hexDigest(algorithm, "GET:/signin.ashx"),
		}, ":"))
		ok := given["response"] == want && given["username"] == "alex" && given["realm"] == realm &&
			given["qop"] == "auth" && given["uri"] == "/signin.ashx" && given["opaque"] == `o,p="q` &&
			given["algorithm"] == algorithm && len(given["cnonce"]) == 32
		if ok && stale == 0 {
			success(w, r)
			return
		}
		expired := ""
		if ok {
			stale--
			expired = ", stale=true"
		}
		count++
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(
			`Other abc==, X-Digest realm="phone \"test\" \\ x", qop="auth-int, auth",algorithm=%s , `+
				`nonce="nonce-%d", opaque="o,p=\"q"%s`, algorithm, count, expired))
		writeReply(w, 401,
			`{"error":"unauthorized","error_description":"The user name or the password is wrong."}`)
	})
}

// heldTimers replaces setTimeout so that timers of 10 seconds and more run only when a test calls
// fireTimers with their duration, which returns their number.
const heldTimers = `
const setNow = setTimeout, clearNow = clearTimeout, held = new Map();
let last = 1e9;
window.setTimeout = (f, ms, ...rest) => {
  if (ms < 10_000) return setNow(f, ms, ...rest);
  held.set(++last, { f, ms });
  return last;
};
window.clearTimeout = (id) => held.delete(id) || clearNow(id);
window.fireTimers = (ms) => {
  const due = [...held].filter(([, timer]) => timer.ms === ms);
  for (const [id, timer] of due) { held.delete(id); timer.f(); }
  return due.length;
};`

// holdTimers makes each page of a tab begin with heldTimers.
var holdTimers = onEachPage(heldTimers)

// onEachPage makes each page of a tab begin with a script.
func onEachPage(script string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument,
			page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
		return err
	})
}

// tab is the page under test. At its end it fails the test if the page violated its content
// security policy, threw an exception, or opened a dialog.
type tab struct {
	t   *testing.T
	ctx context.Context
	s   *pageServer
}

// openTab opens a page in the shared tab, or in its own tab if further actions prepare it.
func openTab(t *testing.T, s *pageServer, path string, prepare ...chromedp.Action[chromedp.Void]) *tab {
	t.Helper()
	return openTabOf(t, startBrowser(t), s, path, prepare...)
}

// openTabOf is openTab in a browser with a tab.
func openTabOf(
	t *testing.T, ctx context.Context, s *pageServer, path string, prepare ...chromedp.Action[chromedp.Void],
) *tab {
	t.Helper()
	shared := len(prepare) == 0
	if !shared {
		own, cancel := chromedp.NewContext(ctx, chromedp.WithNewBrowserContext())
		t.Cleanup(cancel)
		ctx, prepare = own, append(prepare, holdTimers)
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute) // of the whole test, on a busy machine
	t.Cleanup(cancel)
	browser.server.Store(s)
	p := &tab{t, ctx, s}
	var mu sync.Mutex
	var faults []string
	err := chromedp.Listen(ctx, func(event any) {
		fault := ""
		switch event := event.(type) {
		case *runtime.EventExceptionThrown:
			fault = fmt.Sprintf("exception: %+v", event.ExceptionDetails)
		case *log.EventEntryAdded:
			// Responses with an error status are logged too, but many tests cause them on purpose.
			if event.Entry.Source != "network" {
				fault = fmt.Sprintf("%s: %s at %s", event.Entry.Source, event.Entry.Text, event.Entry.URL)
			}
		case *page.EventJavascriptDialogOpening:
			fault = "dialog: " + event.Message
		}
		if fault != "" {
			mu.Lock()
			faults = append(faults, fault)
			mu.Unlock()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end := `sessionStorage.clear()`
		if shared {
			// The page stays until the next test loads one, since loading a blank one takes as long as many a test.
			end += `, stop(), history.replaceState(null, "", "` + blankPath + `")`
			browser.server.CompareAndSwap(s, nil)
		}
		// The round trip also waits until everything that the page reported has arrived.
		_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](
			`(location.origin === "null" || (`+end+`), true)`))
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Errorf("the page is gone: %v", err)
		}
		for _, fault := range faults {
			t.Error(fault)
		}
	})
	p.do(prepare...)
	p.do(chromedp.Navigate(s.URL + path))
	return p
}

// show puts another page in the place of the one in the tab. Its script does not run, and that takes a fraction of the
// time of loading it. show returns the address of the script.
func (p *tab) show(path string) (script string) {
	p.t.Helper()
	return eval[string](p, `new Promise((done, fail) => {
		const request = new XMLHttpRequest();
		request.open("GET", "`+path+`");
		request.responseType = "document";
		request.onload = done;
		request.onerror = fail;
		request.send();
	}).then(({ target: { response: page, responseURL } }) => {
		const { lang, dir } = page.documentElement;
		Object.assign(document.documentElement, { lang, dir });
		document.title = page.title;
		// What shows only if the script does not run in time.
		page.getElementById("stalled")?.remove();
		page.querySelectorAll(".late").forEach((e) => e.classList.remove("late"));
		document.body.replaceWith(page.body);
		history.replaceState(null, "", responseURL);
		return page.querySelector("script[type=module]")?.src ?? "";
	})`)
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatalf("%v\nthe page says:\n%s", err, p.body())
	}
}

func (p *tab) body() string {
	text, err := chromedp.Run(p.ctx,
		chromedp.Evaluate[string]("location.href + '\\n' + document.title + '\\n' + document.body?.innerText"))
	if err != nil {
		return err.Error()
	}
	return text
}

// wait returns when the expression is true, even if the tab loads another page in the meantime.
func (p *tab) wait(expression string) {
	p.t.Helper()
	for {
		// Longer timers of the page are held back, see heldTimers.
		_, err := chromedp.Run(p.ctx, chromedp.Poll[bool](
			"(() => { try { return Boolean("+expression+") } catch { return false } })()",
			chromedp.WithPollingInterval(5*time.Millisecond), chromedp.WithPollingTimeout(9*time.Second)))
		if err == nil {
			return
		}
		if text := err.Error(); p.ctx.Err() != nil ||
			!strings.Contains(text, "navigated or closed") && !strings.Contains(text, "Cannot find context") {
			p.t.Fatalf("waiting for %s: %v\nthe page says:\n%s", expression, err, p.body())
		}
	}
}

func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// ready waits until the form can be sent and its sum has been loaded.
func (p *tab) ready() {
	p.t.Helper()
	p.wait(
		`!document.getElementById("submit").disabled &&
			(!document.getElementById("question") || document.querySelector("#question bdi"))`,
	)
}

// fill puts text into fields, given as pairs of id and text, as if a person pasted it.
func (p *tab) fill(fields ...string) {
	p.t.Helper()
	for i := 0; i < len(fields); i += 2 {
		eval[bool](p, `(document.getElementById("`+fields[i]+`").select(), true)`)
		if _, err := chromedp.Call(p.ctx, input.InsertText, input.InsertTextParams{Text: fields[i+1]}); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *tab) fillAll() {
	p.t.Helper()
	p.ready()
	p.fill("user", "alex", "name", "Álex Müller", "email", "alex@example.org", "password", testPassword,
		"captcha_answer", "4")
}

func (p *tab) submit() {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.ID("submit")))
}

// received waits for the next request to sign up, and returns its first line and type.
func (p *tab) received() string {
	p.t.Helper()
	select {
	case request := <-p.s.received:
		return request
	case <-p.ctx.Done():
		p.t.Fatalf("no request came: %v", p.ctx.Err())
		return ""
	}
}

// problems waits for problems and returns the lines of the summary, or the text next to the only
// field that has one.
func (p *tab) problems() []string {
	p.t.Helper()
	p.wait(`(!document.getElementById("summary").hidden || document.querySelector("[aria-invalid]")) &&
		!document.querySelector("form[aria-busy]")`)
	return eval[[]string](p, `document.getElementById("summary").hidden
		? [...document.querySelectorAll(".error:not([hidden])")].map((e) => e.lastChild.textContent)
		: [...document.querySelectorAll("#summary-list li")].map((item) => item.innerText)`)
}

func (p *tab) focused() string {
	p.t.Helper()
	return eval[string](p, `document.activeElement.id`)
}
