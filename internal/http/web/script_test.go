package web

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"dialtone/internal/i18n"
)

const (
	testRealm    = "phone.test"
	testPolicy   = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
	testPassword = `Zwölf: "Boxkämpfer" \ 🔐`
)

// stage is a server with the real pages and files, and with endpoints that answer as a test says.
type stage struct {
	*httptest.Server

	mu       sync.Mutex
	posts    []string
	sums     int
	sign     []string
	answers  map[string]http.HandlerFunc
	received chan string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	a := mustAssets(t)
	p, err := newPages(a, append(everyLanguage(), pseudo(t))...)
	if err != nil {
		t.Fatal(err)
	}
	link := "https://phone.test/provision/linphone.xml?token=" + strings.Repeat("abcdefgh", 11)
	drawn, err := newQR(link)
	if err != nil {
		t.Fatal(err)
	}
	f := frame{Product: "Dialtone", Host: testRealm, Realm: testRealm, Contact: "desk@phone.test", Switch: true}
	views := map[string]view{
		"/":             {"home", homePage{f}},
		"/signup.html":  {"signup", signupPage{f, "phones@phone.test"}},
		"/login.html":   {"login", loginPage{f}},
		"/account.html": {"account", accountPage{f, "alex", "Álex 🙂", "alex@example.org", "user", sipSettings{"alex", testRealm, testRealm, "sip.phone.test:5061", "TLS", "turns:turn.phone.test:5349?transport=tcp"}, []string{"linphone", "zoiper", "baresip", "jssip"}}},
		"/error":        {"error", errorPage{f, 404, "error.not_found", "x"}},
		"/scan":         {"provision", provisionPage{f, "linphone", drawn, link, ""}},
		"/copied":       {"provision", provisionPage{f, "baresip", nil, "", "\"Álex 🙂\" <sip:alex@phone.test;transport=tls>;auth_user=alex;outbound=\"sip:sip.phone.test:5061;transport=tls\";regint=600\n"}},
		"/devmail":      {"devmail", devMailPage{f, []devMail{{"1733000000.eml", "phones@phone.test", "alex@example.org", "Sat, 28 Nov 2026 21:10:00 +0000", "Activate your account", "Hello,\n\nopen this link within 7 days:\n\nhttps://phone.test/activate.ashx?token=" + strings.Repeat("abcdefgh", 6) + "\n", "/activate/done?token=secret"}}}},
		"/devmail/none": {"devmail", devMailPage{f, nil}},
	}
	for _, state := range activationStates {
		data := activationPage{frame: f, State: state, Expired: "Friday, 27 November 2026"}
		if slices.Contains(named, state) {
			data.User = "alex"
		}
		views["/activate/"+string(state)] = view{"activation", data}
	}
	for name, v := range everyPage(hostile) {
		views["/hostile/"+strings.ReplaceAll(name, " ", "-")] = v
	}
	s := &stage{answers: map[string]http.HandlerFunc{}, received: make(chan string, 200)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", testPolicy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		if x, ok := a.lookup(r.URL.Path); ok {
			x.serve(w, r)
			return
		}
		h.Set("Cache-Control", "no-store")
		s.mu.Lock()
		answer := s.answers[r.URL.Path]
		s.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		v, ok := views[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		tag := i18n.English
		if asked := r.URL.Query().Get("lang"); asked != "" {
			tag = i18n.Tag(asked)
		}
		out, err := p.render(tag, v.page, v.data)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		h.Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(out)
	}))
	t.Cleanup(s.Close)
	s.on("/captcha.ashx", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sums++
		writeReply(w, 200, fmt.Sprintf(`{"question":"3 + %d","token":"token-%d"}`, s.sums, s.sums))
	})
	return s
}

func (s *stage) on(path string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = h
}

// signups makes the sign-up endpoint give these answers in turn, the last one for ever.
func (s *stage) signups(answers ...http.HandlerFunc) {
	s.on("/signup.ashx", func(w http.ResponseWriter, r *http.Request) {
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

func (s *stage) sent() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.posts)
}

func writeReply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeReply(w, status, body) }
}

func refuses(status int, code, text string) http.HandlerFunc {
	body, err := json.Marshal(map[string]string{"error": code, "error_description": text})
	if err != nil {
		panic(err)
	}
	return says(status, string(body))
}

// breaks is the answer to a form that breaks a rule.
func breaks(field, rule string) http.HandlerFunc {
	answer := refuses(400, "invalid_request", field+": in English")
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(ruleHeader, field+"."+rule)
		answer(w, r)
	}
}

func retryAfter(seconds string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", seconds)
		h(w, r)
	}
}

// hangUp ends the connection without an answer.
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

// signins makes the sign-in endpoint ask for proof of testPassword, and answer it with right or with a fresh challenge.
// The first stale nonces are called old.
func (s *stage) signins(algorithm string, stale int, right http.HandlerFunc) {
	realm, count := `phone "test" \ x`, 0
	s.on("/signin.ashx", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		proof := r.Header.Get("Authorization")
		s.sign = append(s.sign, r.Method+" "+r.Header.Get("X-Requested-With")+" "+proof)
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
		ok := given["response"] == want && given["username"] == "alex" && given["realm"] == realm && given["qop"] == "auth" &&
			given["uri"] == "/signin.ashx" && given["opaque"] == `o,p="q` && given["algorithm"] == algorithm && len(given["cnonce"]) == 32
		if ok && stale == 0 {
			right(w, r)
			return
		}
		old := ""
		if ok {
			stale--
			old = ", stale=true"
		}
		count++
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(
			`Other abc==, X-Digest realm="phone \"test\" \\ x", qop="auth-int, auth",algorithm=%s , nonce="nonce-%d", opaque="o,p=\"q"%s`,
			algorithm, count, old))
		writeReply(w, 401, `{"error":"unauthorized","error_description":"The user name or the password is not right."}`)
	})
}

// browser starts Chromium once for a test and its subtests.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("these tests drive the pages in a real browser: install chromium, so that it is found in PATH")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1280, 900))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("chromium does not start: %v", err)
	}
	return ctx
}

// tab is one page under test. At its end it fails the test if the page broke its policy, threw, or opened a dialog.
type tab struct {
	t   *testing.T
	ctx context.Context
	s   *stage
}

// clockwork holds long timers back, so that a test can let them ring when it wants.
const clockwork = `
const soon = setTimeout, forget = clearTimeout, held = new Map();
let last = 1e9;
window.setTimeout = (f, ms, ...rest) => {
  if (ms < 10_000) return soon(f, ms, ...rest);
  held.set(++last, { f, ms });
  return last;
};
window.clearTimeout = (id) => held.delete(id) || forget(id);
window.ring = (ms) => {
  const due = [...held].filter(([, timer]) => timer.ms === ms);
  for (const [id, timer] of due) { held.delete(id); timer.f(); }
  return due.length;
};`

func openTab(t *testing.T, browser context.Context, s *stage, path string, first ...chromedp.Action[chromedp.Void]) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancel)
	p := &tab{t, ctx, s}
	var mu sync.Mutex
	var faults []string
	err := chromedp.Listen(ctx, func(event any) {
		fault := ""
		switch event := event.(type) {
		case *runtime.EventExceptionThrown:
			fault = fmt.Sprintf("exception: %+v", event.ExceptionDetails)
		case *log.EventEntryAdded:
			// A refusal by the server is logged too, and is what many tests are about.
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
		// One more round trip, so that what the page reported before it has arrived.
		_, err := chromedp.Run(ctx, chromedp.Evaluate[int]("1"))
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Errorf("the page is gone: %v", err)
		}
		for _, fault := range faults {
			t.Error(fault)
		}
	})
	if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: clockwork}); err != nil {
		t.Fatal(err)
	}
	p.do(first...)
	p.do(chromedp.Navigate(s.URL + path))
	return p
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatalf("%v\nthe page says:\n%s", err, p.body())
	}
}

func (p *tab) body() string {
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.title + '\\n' + document.body?.innerText"))
	if err != nil {
		return err.Error()
	}
	return text
}

// wait returns when the expression is true. A page that goes away in the meantime is waited for too.
func (p *tab) wait(expression string) {
	p.t.Helper()
	for {
		// Longer timers of the page are held back, see clockwork.
		_, err := chromedp.Run(p.ctx, chromedp.Poll[bool]("(() => { try { return Boolean("+expression+") } catch { return false } })()", chromedp.WithPollingTimeout(9*time.Second)))
		if err == nil {
			return
		}
		if text := err.Error(); p.ctx.Err() != nil || !strings.Contains(text, "navigated or closed") && !strings.Contains(text, "Cannot find context") {
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

// ready waits until the form can be sent and its sum is there.
func (p *tab) ready() {
	p.t.Helper()
	p.wait(`!document.getElementById("submit").disabled && (!document.getElementById("question") || document.querySelector("#question bdi"))`)
}

// fill puts text into fields, given as pairs of id and text, as a person's paste would.
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
	p.fill("user", "alex", "name", "Álex Müller", "email", "alex@example.org", "password", testPassword, "captcha_answer", "4")
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

// problems waits for the summary and returns its lines.
func (p *tab) problems() []string {
	p.t.Helper()
	p.wait(`!document.getElementById("summary").hidden && !document.querySelector("form").hasAttribute("aria-busy")`)
	return eval[[]string](p, `[...document.querySelectorAll("#summary-list li")].map((item) => item.innerText)`)
}

func (p *tab) focused() string {
	p.t.Helper()
	return eval[string](p, `document.activeElement.id`)
}

func TestKeysEqualThoseOfTheServer(t *testing.T) {
	s := newStage(t)
	const rounds, each = 10, 10_000
	type triple struct {
		User, Realm, Password string
	}
	r := rand.New(rand.NewChaCha8([32]byte{7}))
	alphabets := [][]rune{
		[]rune("abcdefghijklmnopqrstuvwxyz0123456789_.-"),
		[]rune(`AaZz09:::: "\'%&+=;/?` + "\t~"),
		[]rune("äßéñøŞıİΩжשع"),
		[]rune("漢字かな한글\u200d\u0301\ufeff\u00a0"),
		[]rune("🔐🙂👩‍👩‍👧𝔘𐍈\U0010fffd"),
	}
	text := func(length int, alphabets ...[]rune) string {
		var b strings.Builder
		for range length {
			a := alphabets[r.IntN(len(alphabets))]
			b.WriteRune(a[r.IntN(len(a))])
		}
		return b.String()
	}
	triples := make([][]triple, rounds)
	for i := range triples {
		for range each {
			triples[i] = append(triples[i], triple{text(1+r.IntN(64), alphabets[0]), text(1+r.IntN(30), alphabets[0]), text(r.IntN(129), alphabets...)})
		}
	}
	s.on("/triples", func(w http.ResponseWriter, r *http.Request) {
		var round int
		if _, err := fmt.Sscan(r.URL.Query().Get("round"), &round); err != nil {
			t.Error(err)
			return
		}
		if r.Method == http.MethodGet {
			if err := json.NewEncoder(w).Encode(triples[round]); err != nil {
				t.Error(err)
			}
			return
		}
		lines := bufio.NewScanner(r.Body)
		for _, x := range triples[round] {
			lines.Scan()
			want := hexDigest("MD5", x.User+":"+x.Realm+":"+x.Password) + " " +
				hexDigest("MD5", x.User+"@"+x.Realm+":"+x.Realm+":"+x.Password) + " " +
				hexDigest("SHA-256", x.User+":"+x.Realm+":"+x.Password)
			if got := lines.Text(); got != want {
				t.Errorf("keys of %+q\n got %s\nwant %s", x, got, want)
				return
			}
		}
		writeReply(w, 200, `{}`)
	})
	p := openTab(t, startBrowser(t), s, "/error")
	module := mustAssets(t).url("keys.js")
	done := eval[int](p, `(async () => {
		const { keys, sound } = await import("`+module+`");
		if (!sound) return -1;
		let done = 0;
		for (let round = 0; round < `+fmt.Sprint(rounds)+`; round++) {
			const triples = await (await fetch("/triples?round=" + round)).json();
			const lines = triples.map(({ User, Realm, Password }) => Object.values(keys(User, Realm, Password)).join(" "));
			const answer = await fetch("/triples?round=" + round, { method: "POST", body: lines.join("\n") });
			if (answer.ok) done += lines.length;
		}
		return done;
	})()`)
	if done != rounds*each {
		t.Errorf("%d triples were computed, want %d", done, rounds*each)
	}
}

func TestLongMessages(t *testing.T) {
	p := openTab(t, startBrowser(t), newStage(t), "/error")
	got := eval[[]string](p, `(async () => {
		const { hashes } = await import("`+mustAssets(t).url("keys.js")+`");
		const out = [];
		for (let n = 0; n < 300; n++) out.push(hashes["MD5"]("x".repeat(n)) + hashes["SHA-256"]("x".repeat(n)));
		return out;
	})()`)
	for n, sums := range got {
		text := strings.Repeat("x", n)
		if want := hexDigest("MD5", text) + hexDigest("SHA-256", text); sums != want {
			t.Errorf("%d bytes: %s, want %s", n, sums, want)
		}
	}
	if len(got) != 300 {
		t.Errorf("%d lengths, want 300", len(got))
	}
}

func TestDigestModule(t *testing.T) {
	p := openTab(t, startBrowser(t), newStage(t), "/error")
	module := mustAssets(t).url("digest.js")

	t.Run("answers as the example of RFC 7616 section 3.9.1", func(t *testing.T) {
		for algorithm, want := range map[string]string{
			"MD5":     "8ca523f5e9506fed4657c9700eebdbec",
			"SHA-256": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
		} {
			got := eval[string](p, `(async () => {
				const { digestChallenge, authorization } = await import("`+module+`");
				const params = digestChallenge('Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=`+algorithm+`, ' +
					'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"');
				return authorization(params, { user: "Mufasa", password: "Circle of Life", method: "GET", uri: "/dir/index.html",
					cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ" });
			})()`)
			if !strings.Contains(got, `response="`+want+`"`) || !strings.Contains(got, "algorithm="+algorithm+", qop=auth, nc=00000001") {
				t.Errorf("%s: %s", algorithm, got)
			}
		}
	})

	t.Run("reads challenges", func(t *testing.T) {
		tests := []struct{ field, want string }{
			{`Digest realm="a", nonce="n", qop="auth"`, `a`},
			{`x-DIGEST REALM="a", NoNce="n", QOP="auth"`, `a`},
			{`Digest realm="a \"b\" \\ c", nonce="n", qop=auth`, `a "b" \ c`},
			{`Digest realm="a, nonce=\"x\"",nonce="n",qop="auth"`, `a, nonce="x"`},
			{`Basic realm="b", Digest realm="d", nonce="n", qop="auth"`, `d`},
			{`Negotiate aGVsbG8==, Digest realm="d", nonce="n", qop="auth"`, `d`},
			{`Digest realm="s", nonce="n", qop="auth", algorithm=SHA-512-256, Digest realm="m", nonce="n", qop="auth", algorithm=md5`, `m`},
			{`Digest realm = "a" , nonce = "n" , , qop="auth-int,auth"`, `a`},
			{`Digest realm="first", realm="second", nonce="n", qop="auth"`, `first`},
			{`Digest realm="a", nonce="n", qop="auth-int"`, ``},
			{`Digest realm="a", nonce="n"`, ``},
			{`Digest nonce="n", qop="auth"`, ``},
			{`Digest realm="a`, ``},
			{`"=,=Digest`, ``},
			{``, ``},
		}
		for _, tt := range tests {
			field, err := json.Marshal(tt.field)
			if err != nil {
				t.Fatal(err)
			}
			got := eval[string](p, `import("`+module+`").then(({ digestChallenge }) => digestChallenge(`+string(field)+`)?.get("realm") ?? "")`)
			if got != tt.want {
				t.Errorf("%s: realm %q, want %q", tt.field, got, tt.want)
			}
		}
	})
}

func TestSignUpPage(t *testing.T) {
	b := startBrowser(t)
	good := says(200, `{"ok":true,"user":"alex"}`)

	t.Run("sends the keys and never the password", func(t *testing.T) {
		s := newStage(t)
		s.signups(good)
		p := openTab(t, b, s, "/signup.html")
		p.fillAll()
		p.do(chromedp.Click(chromedp.ID("reveal")))
		p.wait(`document.getElementById("password").type === "text"`)
		p.fill("user", "alexa")
		p.submit()
		p.wait(`!document.getElementById("sent").hidden`)
		if got, want := p.received(), "POST /signup.ashx application/x-www-form-urlencoded;charset=UTF-8"; got != want {
			t.Errorf("request %q, want %q", got, want)
		}
		fields, err := url.ParseQuery(s.sent()[0])
		if err != nil {
			t.Fatal(err)
		}
		want := url.Values{
			"user": {"alexa"}, "name": {"Álex Müller"}, "email": {"alex@example.org"},
			"ha1":           {hexDigest("MD5", "alexa:"+testRealm+":"+testPassword)},
			"ha1b":          {hexDigest("MD5", "alexa@"+testRealm+":"+testRealm+":"+testPassword)},
			"ha1_sha256":    {hexDigest("SHA-256", "alexa:"+testRealm+":"+testPassword)},
			"captcha_token": {"token-1"}, "captcha_answer": {"4"}, "lang": {"en"},
		}
		if fields.Encode() != want.Encode() {
			t.Errorf("sent %s\nwant %s", fields.Encode(), want.Encode())
		}
		if got := p.focused(); got != "sent-title" {
			t.Errorf("focus is on %q", got)
		}
		body := p.body()
		for _, part := range []string{"#sent\n", "\nCheck your e-mail – Dialtone\n", "alex@example.org", "phones@phone.test", time.Now().Add(7 * 24 * time.Hour).Format("2006")} {
			if !strings.Contains(body, part) {
				t.Errorf("the page does not say %q:\n%s", part, body)
			}
		}
		if got := eval[string](p, `[...document.querySelectorAll("input")].map((input) => input.id + input.value).join()`); got != "mend-email" {
			t.Errorf("these inputs are left in the page: %s", got)
		}
		if got := eval[string](p, `document.getElementById("again").getAttribute("aria-disabled")`); got != "true" {
			t.Error("the message can be asked for again at once")
		}
		p.do(chromedp.NavigateBack())
		p.ready()
	})

	t.Run("works by keyboard alone, in the order that is seen", func(t *testing.T) {
		s := newStage(t)
		s.signups(good)
		p := openTab(t, b, s, "/signup.html")
		p.ready()
		var stops []string
		for _, text := range []string{"", "alex", "Alex", "a@b.test", "correct horse battery", "", "4", "", "", ""} {
			p.do(chromedp.KeyEvent(kb.Tab))
			stops = append(stops, p.focused())
			if text != "" {
				p.do(chromedp.KeyEvent(text))
			}
			if ring := eval[string](p, `getComputedStyle(document.activeElement).outlineWidth`); ring != "3px" {
				t.Errorf("the ring around %q is %s wide", p.focused(), ring)
			}
		}
		if got, want := strings.Join(stops, " "), "language user name email password reveal captcha_answer another submit "; got != want {
			t.Errorf("stops: %q, want %q", got, want)
		}
		p.do(chromedp.Focus(chromedp.ID("captcha_answer")), chromedp.KeyEvent(kb.Enter))
		p.wait(`!document.getElementById("sent").hidden`)
	})

	t.Run("hides the password before it sends", func(t *testing.T) {
		s := newStage(t)
		s.signups(refuses(500, "server_error", "x"))
		p := openTab(t, b, s, "/signup.html")
		p.fillAll()
		name := `document.getElementById("reveal").innerText.replace(/\s+/g, " ")`
		if got := eval[string](p, name); got != "Show password" {
			t.Errorf("the button is called %q", got)
		}
		p.do(chromedp.Click(chromedp.ID("reveal")))
		p.wait(`document.getElementById("status").textContent === "Your password is visible"`)
		if got := eval[string](p, name); got != "Hide password" {
			t.Errorf("the button is called %q", got)
		}
		p.submit()
		p.problems()
		if got := eval[string](p, `document.getElementById("password").type`); got != "password" {
			t.Errorf("the field has the type %q", got)
		}
	})

	t.Run("says all that is missing at once", func(t *testing.T) {
		s := newStage(t)
		p := openTab(t, b, s, "/signup.html")
		p.ready()
		p.submit()
		want := []string{"Enter a user name", "Enter your name", "Enter your e-mail address", "Enter a password", "Answer the sum with a number"}
		if got := p.problems(); !slices.Equal(got, want) {
			t.Errorf("problems %q", got)
		}
		if got := p.focused(); got != "summary" {
			t.Errorf("focus is on %q", got)
		}
		if got := eval[string](p, `document.title`); got != "Error: Create an account – Dialtone" {
			t.Errorf("title %q", got)
		}
		inline := eval[[]string](p, `[...document.querySelectorAll("input[aria-invalid=true]")].map((input) =>
			document.getElementById(input.getAttribute("aria-describedby").split(" ")[0]).textContent)`)
		for i := range want {
			want[i] = "Error: " + want[i]
		}
		if !slices.Equal(inline, want) {
			t.Errorf("texts beside the fields: %q", inline)
		}
		p.do(chromedp.Click(chromedp.CSS(`#summary a[href="#email"]`)))
		if got := p.focused(); got != "email" {
			t.Errorf("the link leads to %q", got)
		}
	})

	t.Run("checks each field", func(t *testing.T) {
		s := newStage(t)
		p := openTab(t, b, s, "/signup.html")
		p.fillAll()
		tests := []struct{ field, value, want string }{
			{"user", "Alex", "Use small letters only: a user name has no capitals"},
			{"user", "álex", "Use only the letters a to z, digits, dots, hyphens and underscores"},
			{"user", "al ex", "Use only the letters a to z, digits, dots, hyphens and underscores"},
			{"user", "\u212aarl", "Use only the letters a to z, digits, dots, hyphens and underscores"},
			{"user", strings.Repeat("a", 65), "Use at most 64 characters for the user name"},
			{"name", "   ", "Enter your name"},
			{"name", strings.Repeat("漢", 121), "Use at most 120 characters for your name"},
			{"email", "alex", "Enter an e-mail address in the form name@example.org"},
			{"email", "alex@", "Enter an e-mail address in the form name@example.org"},
			{"password", "elevenchars", "Make the password at least 12 characters long. It has 11 now"},
			{"password", "🔐🔐🔐🔐🔐🔐", "Make the password at least 12 characters long. It has 6 now"},
			{"password", "my name is ALEX!", "Choose a password that does not contain the user name"},
			{"captcha_answer", "four", "Answer the sum with a number"},
		}
		for _, tt := range tests {
			before := eval[string](p, `document.getElementById("`+tt.field+`").value`)
			value, err := json.Marshal(tt.value)
			if err != nil {
				t.Fatal(err)
			}
			set := func(quoted string) {
				eval[bool](p, `(document.getElementById("`+tt.field+`").value = `+quoted+`, document.getElementById("summary").hidden = true)`)
			}
			set(string(value))
			p.submit()
			if got := p.problems(); len(got) != 1 || got[0] != tt.want {
				t.Errorf("%s %q: %q, want %q", tt.field, tt.value, got, tt.want)
			}
			quoted, err := json.Marshal(before)
			if err != nil {
				t.Fatal(err)
			}
			set(string(quoted))
		}
		if len(s.sent()) != 0 {
			t.Errorf("%d requests went out", len(s.sent()))
		}
	})

	t.Run("offers small letters and takes them on one click", func(t *testing.T) {
		s := newStage(t)
		s.signups(good)
		p := openTab(t, b, s, "/signup.html")
		p.fillAll()
		p.fill("user", "Alex.M")
		p.submit()
		p.problems()
		if got := eval[string](p, `document.getElementById("user").value`); got != "Alex.M" {
			t.Errorf("the name became %q by itself", got)
		}
		p.do(chromedp.Click(chromedp.CSS("#user-offers button")))
		if got := eval[string](p, `document.getElementById("user").value`); got != "alex.m" {
			t.Errorf("the offer gave %q", got)
		}
		p.submit()
		p.wait(`!document.getElementById("sent").hidden`)
	})

	t.Run("answers each refusal in its own words", func(t *testing.T) {
		tests := []struct {
			name     string
			answer   http.HandlerFunc
			problem  string
			field    string
			focus    string
			newSum   bool
			retry    bool
			contains string
		}{
			{name: "captcha", answer: refuses(400, "captcha_failed", "x"), problem: "That answer was wrong", field: "captcha_answer", focus: "captcha_answer", newSum: true},
			{name: "taken", answer: refuses(409, "conflict", "x"), problem: "That user name is taken", field: "user", focus: "summary", newSum: true},
			{name: "limited", answer: retryAfter("1500", refuses(429, "rate_limited", "x")), problem: "Try again in 25 minutes, at ", focus: "summary"},
			{name: "limited to tomorrow", answer: retryAfter("86000", refuses(429, "rate_limited", "x")), problem: "Try again in 24 hours, at ", focus: "summary"},
			{name: "limited without end", answer: refuses(429, "rate_limited", "x"), problem: "Try again later", focus: "summary"},
			{name: "trouble", answer: refuses(500, "server_error", "x"), problem: "Nothing was saved", focus: "summary", retry: true},
			{name: "too many", answer: refuses(503, "overloaded", "x"), problem: "Too many people are waiting", focus: "summary", retry: true},
			{name: "a kept name", answer: breaks("user", "kept"), problem: "That name is reserved for the platform itself", field: "user", focus: "summary"},
			{name: "a common password", answer: breaks("ha1", "common"), problem: "That password is one of the first", field: "password", focus: "summary"},
			{name: "a rule that the page does not know", answer: breaks("name", "new"), problem: "The server did not accept this", field: "name", focus: "summary"},
			{name: "a field that the page does not have", answer: breaks("constructor", "kept"), problem: "The server did not accept the form", focus: "summary"},
			{name: "a description alone", answer: refuses(400, "invalid_request", "user: is kept"), problem: "The server did not accept the form", focus: "summary"},
			{name: "no contract at all", answer: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<b>gateway</b>", http.StatusBadGateway) }, problem: "check your e-mail first", focus: "summary", retry: true},
			{name: "a lie about success", answer: says(200, `null`), problem: "check your e-mail first", focus: "summary", retry: true},
			{name: "silence", answer: hangUp, problem: "check your e-mail first", focus: "summary", retry: true},
			{name: "markup", answer: breaks("name", hostile), problem: "The server did not accept this", field: "name", focus: "summary"},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				s := newStage(t)
				s.signups(tt.answer)
				p := openTab(t, b, s, "/signup.html")
				p.fillAll()
				p.submit()
				problems := p.problems()
				if len(problems) != 1 || !strings.Contains(problems[0], tt.problem) {
					t.Errorf("problems %q", problems)
				}
				if got := p.focused(); got != tt.focus {
					t.Errorf("focus is on %q", got)
				}
				if got := eval[[]string](p, `[...document.querySelectorAll("[aria-invalid]")].map((input) => input.id)`); strings.Join(got, " ") != tt.field {
					t.Errorf("marked fields: %q", got)
				}
				if got := eval[bool](p, `document.getElementById("retry").checkVisibility()`); got != tt.retry {
					t.Errorf("a button to try again: %v", got)
				}
				sum := "What is 3 + 1?"
				left := "4"
				if tt.newSum {
					sum, left = "What is 3 + 2?", ""
				}
				if got := eval[string](p, `document.getElementById("question").innerText`); got != sum {
					t.Errorf("the sum is %q, want %q", got, sum)
				}
				kept := eval[string](p, `["user", "name", "email", "password", "captcha_answer"].map((id) => document.getElementById(id).value).join("|")`)
				if want := "alex|Álex Müller|alex@example.org|" + testPassword + "|" + left; kept != want {
					t.Errorf("the fields hold %q, want %q", kept, want)
				}
				if eval[int](p, `document.querySelectorAll("main img:not(.badge), main b").length`) != 0 {
					t.Error("markup from the server came to life")
				}
				if tt.newSum {
					p.fill("captcha_answer", "5")
				}
				tries := len(s.sent())
				s.signups(good)
				if tt.retry {
					p.do(chromedp.Click(chromedp.ID("retry")))
				} else {
					p.submit()
				}
				p.wait(`!document.getElementById("sent").hidden`)
				if sent := s.sent(); tt.newSum && !strings.Contains(sent[tries], "captcha_token=token-2") {
					t.Errorf("the second try was %s", sent[tries])
				}
			})
		}
	})

	t.Run("suggests three names when one is taken", func(t *testing.T) {
		s := newStage(t)
		s.signups(refuses(409, "conflict", "x"))
		p := openTab(t, b, s, "/signup.html")
		p.fillAll()
		p.submit()
		p.problems()
		offers := eval[[]string](p, `[...document.querySelectorAll("#user-offers button")].map((button) => button.innerText)`)
		if len(offers) != 3 || offers[0] != "Use alex.muller" || offers[1] != "Use a.muller" {
			t.Errorf("offers %q", offers)
		}
		p.do(chromedp.Click(chromedp.CSS("#user-offers button:nth-of-type(2)")))
		if got := eval[string](p, `document.getElementById("user").value`); got != "a.muller" {
			t.Errorf("the offer gave %q", got)
		}
		if n := len(s.sent()); n != 1 {
			t.Errorf("%d requests: names are probed", n)
		}
	})

	t.Run("sends once in a storm of clicks, and says that it is busy", func(t *testing.T) {
		s := newStage(t)
		release := make(chan struct{})
		s.signups(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
				good(w, r)
			case <-r.Context().Done():
			}
		})
		p := openTab(t, b, s, "/signup.html")
		p.fillAll()
		eval[bool](p, `(() => { for (let i = 0; i < 100; i++) document.getElementById("submit").click(); return true; })()`)
		p.received()
		if got := eval[string](p, `[document.querySelector("form").getAttribute("aria-busy"), document.getElementById("submit").innerText].join(" ")`); got != "true Creating your account…" {
			t.Errorf("meanwhile the form is %q", got)
		}
		eval[bool](p, `(document.getElementById("submit").click(), true)`)
		close(release)
		p.wait(`!document.getElementById("sent").hidden`)
		if n := len(s.sent()); n != 1 {
			t.Errorf("%d requests", n)
		}
	})

	t.Run("gives up after 15 seconds", func(t *testing.T) {
		s := newStage(t)
		s.signups(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		p := openTab(t, b, s, "/signup.html")
		p.fillAll()
		p.submit()
		p.received()
		if n := eval[int](p, `ring(15000)`); n != 1 {
			t.Fatalf("%d timers of 15 seconds", n)
		}
		if got := p.problems(); len(got) != 1 || !strings.Contains(got[0], "check your e-mail first") {
			t.Errorf("problems %q", got)
		}
	})

	t.Run("changes the sum after 13 minutes and on demand", func(t *testing.T) {
		s := newStage(t)
		p := openTab(t, b, s, "/signup.html")
		p.ready()
		if n := eval[int](p, `ring(13 * 60 * 1000)`); n != 1 {
			t.Fatalf("%d timers of 13 minutes", n)
		}
		p.wait(`document.getElementById("question").innerText === "What is 3 + 2?"`)
		if got := eval[string](p, `document.getElementById("status").textContent`); got != "" {
			t.Errorf("nobody had answered, and the page said %q", got)
		}
		p.fill("captcha_answer", "5")
		eval[int](p, `ring(13 * 60 * 1000)`)
		p.wait(`document.getElementById("question").innerText === "What is 3 + 3?" && document.getElementById("captcha_answer").value === ""`)
		p.wait(`document.getElementById("status").textContent.startsWith("The first sum was too old")`)
		p.do(chromedp.Click(chromedp.ID("another")))
		p.wait(`document.getElementById("question").innerText === "What is 3 + 4?" && document.activeElement.id === "captcha_answer"`)
	})

	t.Run("lives through a sum that does not come", func(t *testing.T) {
		s := newStage(t)
		s.mu.Lock()
		works := s.answers["/captcha.ashx"]
		s.mu.Unlock()
		s.on("/captcha.ashx", hangUp)
		p := openTab(t, b, s, "/signup.html")
		p.wait(`!document.getElementById("submit").disabled`)
		p.fill("user", "alex", "name", "Alex", "email", "a@b.test", "password", testPassword)
		p.submit()
		if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], "The sum could not be loaded") {
			t.Errorf("problems %q", got)
		}
		s.on("/captcha.ashx", works)
		p.do(chromedp.Click(chromedp.ID("another")))
		p.wait(`document.getElementById("question").innerText === "What is 3 + 1?"`)
	})

	t.Run("measures the password", func(t *testing.T) {
		p := openTab(t, b, newStage(t), "/signup.html")
		p.ready()
		if eval[bool](p, `document.getElementById("strength").checkVisibility()`) {
			t.Error("the meter shows before anything is typed")
		}
		for _, tt := range []struct{ password, want string }{
			{"short", "Too short: 7 to go"},
			{"password1234", "Weak: easy to guess"},
			{"aaaaaaaaaaaaaaaa", "Weak: easy to guess"},
			{"abcdefghijklmnop", "Weak: easy to guess"},
			{"maple!maple!maple!", "Weak: easy to guess"},
			{"phone.testphone.test", "Weak: easy to guess"},
			{"correct horse battery staple", "Strong"},
			{"kX9$vQ2!mZ7&pL4", "Strong"},
		} {
			p.fill("password", tt.password)
			p.wait(`document.getElementById("strength-word").textContent === "` + tt.want + `"`)
		}
		p.wait(`document.getElementById("status").textContent === "Strong"`)
		if got := eval[int](p, `document.getElementById("meter").value`); got != 4 {
			t.Errorf("the meter stands at %d", got)
		}
	})

	t.Run("refuses where the functions are wrong", func(t *testing.T) {
		s := newStage(t)
		p := openTab(t, b, s, "/signup.html", chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
				Source: `const sin = Math.sin; Math.sin = (x) => sin(x) + 1e-6;`})
			return err
		}))
		p.wait(`!document.getElementById("summary").hidden`)
		if !eval[bool](p, `document.getElementById("submit").disabled`) {
			t.Error("the form can be sent")
		}
		if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], "This browser could not make the one-way key correctly") {
			t.Errorf("problems %q", got)
		}
	})

	t.Run("explains itself without scripts", func(t *testing.T) {
		for _, path := range []string{"/signup.html", "/login.html"} {
			p := openTab(t, b, newStage(t), path, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
				_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
				return err
			}))
			if !eval[bool](p, `document.getElementById("submit").disabled`) {
				t.Errorf("%s can be sent", path)
			}
			if body := p.body(); !strings.Contains(body, "This page needs JavaScript") || !strings.Contains(body, "desk@phone.test") || strings.Contains(body, "still loading") {
				t.Errorf("%s says %s", path, body)
			}
		}
	})
}

func TestSignInPage(t *testing.T) {
	b := startBrowser(t)
	good := says(200, `{"ok":true,"user":"alex","role":"user"}`)

	for _, algorithm := range []string{"MD5", "SHA-256"} {
		for stale := range 2 {
			t.Run(fmt.Sprintf("proves the password by %s after %d old nonces", algorithm, stale), func(t *testing.T) {
				s := newStage(t)
				s.signins(algorithm, stale, good)
				p := openTab(t, b, s, "/login.html")
				p.ready()
				p.fill("user", " alex ", "password", testPassword)
				p.submit()
				p.wait(`location.pathname === "/account.html" && document.querySelector("h1") !== null`)
				s.mu.Lock()
				defer s.mu.Unlock()
				if len(s.sign) != 2+stale {
					t.Errorf("%d requests: %q", len(s.sign), s.sign)
				}
				for _, request := range s.sign {
					if !strings.HasPrefix(request, "GET fetch ") {
						t.Errorf("request %q", request)
					}
				}
			})
		}
	}

	tests := []struct {
		name    string
		stage   func(*stage)
		fields  []string
		problem []string
		retry   bool
	}{
		{"a wrong password", func(s *stage) { s.signins("MD5", 0, good) }, []string{"user", "alex", "password", "something else"}, []string{"The user name or the password is not right"}, false},
		{"an unknown name", func(s *stage) { s.signins("MD5", 0, good) }, []string{"user", "nobody", "password", testPassword}, []string{"The user name or the password is not right"}, false},
		{"a nonce that is always old", func(s *stage) { s.signins("MD5", 9, good) }, []string{"user", "alex", "password", testPassword}, []string{"The user name or the password is not right"}, false},
		{"nothing typed", func(*stage) {}, nil, []string{"Enter your user name", "Enter your password"}, false},
		{"capitals", func(*stage) {}, []string{"user", "Alex", "password", "x"}, []string{"Use small letters only: a user name has no capitals"}, false},
		{"a name in no header's alphabet", func(*stage) {}, []string{"user", "а🙂", "password", "x"}, []string{"A user name has only the letters a to z, digits, dots, hyphens and underscores"}, false},
		{"too many tries", func(s *stage) { s.on("/signin.ashx", retryAfter("60", refuses(429, "rate_limited", "x"))) }, []string{"user", "alex", "password", "x"}, []string{"Too many attempts from here. Try again in 1 minute, at "}, false},
		{"trouble", func(s *stage) { s.on("/signin.ashx", refuses(500, "server_error", "x")) }, []string{"user", "alex", "password", "x"}, []string{"Something went wrong on our side. Try again in a moment"}, true},
		{"too many people", func(s *stage) { s.on("/signin.ashx", refuses(503, "overloaded", "x")) }, []string{"user", "alex", "password", "x"}, []string{"Too many people are waiting right now. Try again in a moment"}, true},
		{"success without a question", func(s *stage) { s.on("/signin.ashx", good) }, []string{"user", "alex", "password", "x"}, []string{"Something went wrong on our side. Try again in a moment"}, true},
		{"a question in no known scheme", func(s *stage) {
			s.on("/signin.ashx", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("WWW-Authenticate", `Other realm="x"`)
				writeReply(w, 401, `{}`)
			})
		}, []string{"user", "alex", "password", "x"}, []string{"Something went wrong on our side. Try again in a moment"}, true},
		{"silence", func(s *stage) { s.on("/signin.ashx", hangUp) }, []string{"user", "alex", "password", "x"}, []string{"The server did not answer. Check your connection and try again"}, true},
	}
	for _, tt := range tests {
		t.Run("explains "+tt.name, func(t *testing.T) {
			s := newStage(t)
			tt.stage(s)
			p := openTab(t, b, s, "/login.html")
			p.ready()
			p.fill(tt.fields...)
			p.submit()
			got := p.problems()
			if !slices.EqualFunc(got, tt.problem, strings.HasPrefix) {
				t.Errorf("problems %q", got)
			}
			if retry := eval[bool](p, `document.getElementById("retry").checkVisibility()`); retry != tt.retry {
				t.Errorf("a button to try again: %v", retry)
			}
			if focus := p.focused(); focus != "summary" {
				t.Errorf("focus is on %q", focus)
			}
		})
	}

	t.Run("shows the way when the account is not active", func(t *testing.T) {
		s := newStage(t)
		s.signins("MD5", 0, refuses(403, "not_activated", "x"))
		p := openTab(t, b, s, "/login.html")
		p.ready()
		p.fill("user", "alex", "password", testPassword)
		p.submit()
		p.wait(`document.activeElement.id === "inactive-title"`)
		if body := p.body(); !strings.Contains(body, "\nActivate your account first – Dialtone\n") || strings.Contains(body, "New here?") {
			t.Errorf("the page says %s", body)
		}
	})
}

func TestActivationPageForgetsTheToken(t *testing.T) {
	b := startBrowser(t)
	for _, state := range activationStates {
		t.Run(string(state), func(t *testing.T) {
			p := openTab(t, b, newStage(t), "/activate/"+string(state)+"?token=secret")
			if state == activationTrouble || state == activationUnopened {
				if got := eval[string](p, `document.querySelector("main .button").href`); got != p.s.URL+"/activate/"+string(state)+"?token=secret" {
					t.Errorf("the button leads to %s", got)
				}
				return
			}
			if state == activationConfirm {
				return // which needs the token still; see TestConfirmPage
			}
			p.wait(`location.search === ""`)
			if state != activationDone {
				return
			}
			p.do(chromedp.Click(chromedp.CSS("main .button")))
			p.wait(`location.pathname === "/login.html" && document.getElementById("user")?.value === "alex" && location.search === ""`)
		})
	}
}

func TestAccountPageCopies(t *testing.T) {
	p := openTab(t, startBrowser(t), newStage(t), "/account.html")
	p.wait(`document.querySelectorAll("[data-copy]:not([hidden])").length === 6`)
	p.do(chromedp.Click(chromedp.CSS(`[data-copy="v-server"]`)))
	p.wait(`document.getElementById("status").textContent === "Server copied" && document.querySelector("[data-copy=v-server]").innerText === "Copied"`)
}

// TestPagesFit opens every page, with plain and with hostile text, on a very small screen. The tab reports what breaks the
// policy.
func TestPagesFit(t *testing.T) {
	s := newStage(t)
	paths := []string{"/", "/signup.html", "/login.html", "/account.html", "/scan", "/copied", "/error", "/devmail", "/devmail/none"}
	for _, state := range activationStates {
		paths = append(paths, "/activate/"+string(state))
	}
	for name := range everyPage("") {
		paths = append(paths, "/hostile/"+strings.ReplaceAll(name, " ", "-"))
	}
	for _, path := range slices.Clone(paths) {
		if !strings.HasPrefix(path, "/hostile") {
			paths = append(paths, path+"?lang="+string(pseudoTag), path+"?lang=de", path+"?lang=ar")
		}
	}
	p := openTab(t, startBrowser(t), s, "/", chromedp.EmulateViewport(320, 640))
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			p.t = t
			p.do(chromedp.Navigate(s.URL + path))
			if got := eval[int](p, `document.documentElement.scrollWidth`); got > 320 {
				t.Errorf("the page is %d pixels wide", got)
			}
			if strings.Contains(path, "lang=") { // everything that may ever be shown
				eval[bool](p, `(document.querySelectorAll("details").forEach((e) => { e.open = true; }),
					document.querySelectorAll("[hidden]").forEach((e) => { e.hidden = false; }), true)`)
				if got := eval[int](p, `document.documentElement.scrollWidth`); got > 320 {
					t.Errorf("with all that may be shown, the page is %d pixels wide", got)
				}
				if cut := eval[[]string](p, `[...document.querySelectorAll("body *:not(input, pre, .unseen)")].filter((e) => e.checkVisibility())
					.filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).display !== "inline").map((e) => e.outerHTML)`); len(cut) > 0 {
					t.Errorf("text is wider than its place: %q", cut)
				}
			}
			if small := eval[[]string](p, `[...document.querySelectorAll("button, input, .button")].filter((e) => e.checkVisibility())
				.filter((e) => Math.min(e.offsetHeight, e.offsetWidth) < 44).map((e) => e.outerHTML)`); len(small) > 0 {
				t.Errorf("targets below 44 pixels: %q", small)
			}
			if eval[int](p, `document.querySelectorAll("img[src=x], [onerror]").length`) != 0 {
				t.Error("markup came to life")
			}
			if got := eval[int](p, `performance.getEntriesByType("resource").filter(({ name }) => !name.startsWith(location.origin)).length`); got != 0 {
				t.Errorf("%d requests went elsewhere", got)
			}
		})
	}
}

// TestTabsReportBrokenPolicy is the proof that the silence of the others means something.
func TestTabsReportBrokenPolicy(t *testing.T) {
	s := newStage(t)
	violations := make(chan string, 1)
	ctx, cancel := chromedp.NewContext(startBrowser(t))
	defer cancel()
	if err := chromedp.Listen(ctx, func(event any) {
		if event, ok := event.(*log.EventEntryAdded); ok && event.Entry.Source != "network" {
			select {
			case violations <- string(event.Entry.Source):
			default:
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(s.URL+"/error"),
		chromedp.Evaluate[chromedp.Void](`void document.querySelector("main").setAttribute("style", "color: red")`)); err != nil {
		t.Fatal(err)
	}
	select {
	case source := <-violations:
		if source != "security" {
			t.Errorf("the source is %q", source)
		}
	case <-ctx.Done():
		t.Error("nothing was reported")
	}
}
