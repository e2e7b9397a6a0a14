package web_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/delivery"
	"dialtone/internal/http/server"
	"dialtone/internal/http/web"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/provision"
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/sqlstore"
	"dialtone/internal/tenant"
	"dialtone/internal/turn"
)

// platform is a whole server: a SQLite file, a pickup directory, three tenants and a listener on loopback. Its clock
// stands still until a test moves it. Whatever a test does with it, its log must not hold a secret (see wary).
type platform struct {
	choice  choice
	dir     string
	clock   clock
	log     logBuffer
	seal    *secret.Ring
	sign    atomic.Pointer[secret.Ring]
	turn    atomic.Pointer[secret.Ring] // nil until a test sets it
	handled atomic.Int64                // requests that reached the site

	addr    string
	stop    func()
	store   *sqlstore.Store
	db      *sql.DB // beside the server, to look and to break
	count   *sql.Stmt
	tenants *tenant.Table
	desk    *account.Service

	mu      sync.Mutex
	secrets map[string]string
	mail    map[string]message // by file, as a message never changes
}

// choice is what a test wants otherwise than usual.
type choice struct {
	proxies []netip.Prefix
	tenants func(*tenant.Tenant)
	mailbox func(outbox.Pickup) outbox.Pickup
	store   func(account.Store) account.Store
	captcha func(*captcha.Issuer) *captcha.Issuer
	devMail func() ([]web.DevMessage, error)
	ceiling int

	delivery func(context.Context, account.Account) (delivery.State, error)
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type logBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

func open(t testing.TB) *platform { return openWith(t, choice{}) }

func openWith(t testing.TB, c choice) *platform {
	t.Helper()
	p := &platform{choice: c, dir: t.TempDir(), secrets: make(map[string]string), mail: make(map[string]message)}
	p.clock.now = time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
	p.seal = secret.NewRing(p.clock.Now())
	p.sign.Store(secret.NewRing(p.clock.Now()))
	p.start(t)
	t.Cleanup(func() {
		p.stop()
		p.wary(t)
	})
	return p
}

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// start starts the server on its folder. After a stop it is what a restart of the program is.
func (p *platform) start(t testing.TB) {
	t.Helper()
	ctx := context.Background()
	file := filepath.Join(p.dir, "dialtone.db")
	p.store = must[*sqlstore.Store](t)(sqlstore.Open(ctx, file, p.seal))
	p.db = must[*sql.DB](t)(sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(5000)"))
	p.count = must[*sql.Stmt](t)(p.db.Prepare(`SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM taken), (SELECT count(*) FROM outbox)`))
	listener := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	p.addr = listener.Addr().String()

	for _, host := range []string{"a.test", "b.test", "localhost"} {
		x := tenant.Tenant{Host: host, Created: p.clock.Now()}
		if p.choice.tenants != nil {
			p.choice.tenants(&x)
		}
		p.store.AddTenant(ctx, must[tenant.Tenant](t)(tenant.New(x))) // a second start finds them there
	}
	_, port, _ := net.SplitHostPort(p.addr)
	p.tenants = tenant.NewTable(p.store, func(host string) string { return tenant.DefaultURL(host, port) })
	if err := p.tenants.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	var mailbox outbox.Pickup = must[*pickup.Dir](t)(pickup.Open(p.pickup()))
	if p.choice.mailbox != nil {
		mailbox = p.choice.mailbox(mailbox)
	}
	log := slog.New(slog.NewJSONHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	issuer := func() *captcha.Issuer {
		i := captcha.NewIssuer(p.sign.Load(), p.clock.Now)
		if p.choice.captcha != nil {
			i = p.choice.captcha(i)
		}
		return i
	}
	events := audit.Log{Logger: log}
	messages := outbox.New(outbox.Deps{
		Store: p.store, Pickup: mailbox, Tenant: p.tenants.ByID, SealRing: p.seal,
		Audit: events, Log: log, Now: p.clock.Now,
	})
	var accounts account.Store = p.store
	if p.choice.store != nil {
		accounts = p.choice.store(accounts)
	}
	p.desk = account.NewService(account.Deps{
		Store: accounts, Outbox: messages, Captcha: issuer, SealRing: p.seal,
		Audit: events, Log: log, Now: p.clock.Now, AddressCeiling: p.choice.ceiling,
	})
	if err := messages.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	authenticator := session.NewAuthenticator(session.Deps{
		Accounts: p.desk, Store: p.store, SealRing: p.seal, Audit: audit.Log{Logger: log}, Now: p.clock.Now,
		Signatures: func() *session.Signatures { return session.NewSignatures(p.sign.Load()) },
	})
	site := must[*web.Site](t)(web.New(web.Deps{
		Tenants: p.tenants, Accounts: p.desk, Authenticator: authenticator, Captcha: issuer, TrustedProxies: p.choice.proxies, Log: log,
		DevMail: p.choice.devMail, Delivery: p.choice.delivery,
		Links: &provision.Links{
			Accounts: p.store, Store: p.store, Audit: audit.Log{Logger: log}, Now: p.clock.Now,
			Tickets: func() *provision.Tickets { return provision.NewTickets(p.sign.Load(), p.clock.Now) },
		},
		TURN: func() *turn.Issuer {
			if r := p.turn.Load(); r != nil {
				return turn.NewIssuer(r, p.clock.Now)
			}
			return nil
		},
	}))
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.handled.Add(1)
		site.ServeHTTP(w, r)
	})
	serving, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- server.Serve(serving, listener, counted, server.Limits{Connections: 4096, ConnectionsPerAddress: 512}, log)
	}()
	p.stop = sync.OnceFunc(func() {
		end()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
		if err := p.db.Close(); err != nil {
			t.Error(err)
		}
		if err := p.store.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (p *platform) restart(t testing.TB) {
	t.Helper()
	p.stop()
	p.start(t)
}

func (p *platform) pickup() string { return filepath.Join(p.dir, "pickup") }

func (p *platform) tenant(t testing.TB, host string) *tenant.Tenant {
	t.Helper()
	x, ok := p.tenants.Lookup(host)
	if !ok {
		t.Fatalf("no tenant %s", host)
	}
	return x
}

// hide notes what no log may ever hold.
func (p *platform) hide(what, text string) {
	if len(text) < 8 { // would be found in anything
		return
	}
	p.mu.Lock()
	p.secrets[text] = what
	p.mu.Unlock()
}

// logKeys are all names of fields that a line of the log may have.
var logKeys = []string{
	"time", "level", "msg", "outcome", "tenant", "user", "email", "net", "request", "detail", "audit", "path", "err", "stack",
}

// wary fails a test in whose log a secret stands, or a line that is none.
func (p *platform) wary(t testing.TB) {
	text := p.log.String()
	for secret, what := range p.secrets {
		if strings.Contains(text, secret) {
			t.Errorf("the log holds a secret: the %s %q", what, secret)
		}
	}
	for line := range strings.Lines(text) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Errorf("the log has a line that is none: %q", line)
			continue
		}
		for key := range fields {
			if !slices.Contains(logKeys, key) {
				t.Errorf("the log has a field %q that nobody expected: %s", key, line)
			}
		}
	}
}

// state is everything that a signup could leave behind. Spent captchas are counted apart.
func (p *platform) state(t testing.TB) string {
	t.Helper()
	var accounts, places, waiting int
	if err := p.count.QueryRow().Scan(&accounts, &places, &waiting); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d accounts, %d places, %d waiting, files %v", accounts, places, waiting, p.files(t))
}

func (p *platform) spent(t testing.TB) (n int) {
	t.Helper()
	if err := p.db.QueryRow(`SELECT count(*) FROM spent`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// files are all names in the pickup directory, hidden ones too.
func (p *platform) files(t testing.TB) (names []string) {
	t.Helper()
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(p.pickup())) {
		names = append(names, e.Name())
	}
	return names
}

// leavesNothing checks that what try does leaves nothing behind, and that the name is free after it.
func (p *platform) leavesNothing(t *testing.T, host, user string, try func()) {
	t.Helper()
	before := p.state(t)
	try()
	if after := p.state(t); after != before {
		t.Errorf("something was left behind:\n before %s\n after  %s", before, after)
	}
	if _, err := p.store.Find(t.Context(), p.tenant(t, host).ID, user, p.clock.Now()); err == nil {
		t.Errorf("there is an account %q", user)
	}
	if account.CheckUser(user, account.Reserved{}) == nil {
		who := p.person(host)
		who.user = user
		p.signUp(t, who)
	}
}

// exec changes the database beside the server.
func (p *platform) exec(t testing.TB, statement string) {
	t.Helper()
	if _, err := p.db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// breakStore makes the store refuse new accounts, and mend undoes it. What the database says then is for nobody's eyes.
func (p *platform) breakStore(t testing.TB) (mend func()) {
	t.Helper()
	p.exec(t, `CREATE TRIGGER broken BEFORE INSERT ON account BEGIN SELECT RAISE(ABORT, 'pq: disk /var/lib/secret.go: I/O error'); END`)
	return func() { t.Helper(); p.exec(t, `DROP TRIGGER broken`) }
}

// person is somebody who wants an account.
type person struct{ host, user, name, email, password string }

var people atomic.Int64

// person is somebody new.
func (p *platform) person(host string) person {
	n := people.Add(1)
	who := person{
		host: host, user: fmt.Sprintf("visitor-%d", n), name: fmt.Sprintf("Visitor Number %d", n),
		email: fmt.Sprintf("canary-mailbox-%d@mail.test", n), password: fmt.Sprintf("canary-password-%d", n),
	}
	p.hide("e-mail address", who.email)
	p.hide("password", who.password)
	p.hide("HA1", who.ha1())
	return who
}

func (who person) ha1() string { return md5Hex(who.user + ":" + who.host + ":" + who.password) }

func md5Hex(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

func sha256Hex(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// form is a body field by field, percent-encoded as it stands.
type form [][2]string

func (f form) String() string {
	var pairs []string
	for _, field := range f {
		pairs = append(pairs, field[0]+"="+field[1])
	}
	return strings.Join(pairs, "&")
}

// with is the form with fields replaced or added, each given as name=value in percent-encoding.
func (f form) with(changes ...string) form {
	f = slices.Clone(f)
	for _, change := range changes {
		name, value, _ := strings.Cut(change, "=")
		i := slices.IndexFunc(f, func(field [2]string) bool { return field[0] == name })
		if i < 0 {
			f = append(f, [2]string{name, value})
		} else {
			f[i][1] = value
		}
	}
	return f
}

func (f form) without(names ...string) form {
	return slices.DeleteFunc(slices.Clone(f), func(field [2]string) bool { return slices.Contains(names, field[0]) })
}

func (f form) get(t testing.TB, name string) string {
	t.Helper()
	for _, field := range f {
		if field[0] == name {
			return must[string](t)(url.QueryUnescape(field[1]))
		}
	}
	t.Fatalf("no field %s", name)
	return ""
}

// form is a valid signup of a person, with a captcha that is fresh and solved.
func (p *platform) form(t testing.TB, who person) form {
	t.Helper()
	token, answer := p.question(t, who.host)
	var f form
	for _, field := range [][2]string{
		{"user", who.user}, {"name", who.name}, {"email", who.email}, {"ha1", who.ha1()},
		{"captcha_token", token}, {"captcha_answer", answer},
	} {
		f = append(f, [2]string{field[0], url.QueryEscape(field[1])})
	}
	return f
}

// question is a fresh captcha and its answer.
func (p *platform) question(t testing.TB, host string) (token, answer string) {
	t.Helper()
	var got struct{ Question, Token string }
	a := p.visitor(host).get(t, "/captcha.ashx")
	a.is(t, 200)
	a.json(t, &got)
	p.hide("captcha token", got.Token)
	return got.Token, solve(t, got.Question)
}

func solve(t testing.TB, question string) string {
	t.Helper()
	m := regexp.MustCompile(`^([1-9]) \+ ([1-9])$`).FindStringSubmatch(question)
	if m == nil {
		t.Fatalf("the question %q is no sum", question)
	}
	x, _ := strconv.Atoi(m[1])
	y, _ := strconv.Atoi(m[2])
	return strconv.Itoa(x + y)
}

// visitor is a client with an address of its own: all of 127/8 is this machine.
type visitor struct {
	p    *platform
	host string
	from netip.Addr
}

var addresses atomic.Uint32

func (p *platform) visitor(host string) *visitor {
	n := addresses.Add(1)
	return &visitor{p, host, netip.AddrFrom4([4]byte{127, byte(16 + n>>16), byte(n >> 8), byte(n)})}
}

// at is the same client asking for another host.
func (v *visitor) at(host string) *visitor { return &visitor{v.p, host, v.from} }

func (v *visitor) dial(t testing.TB) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(v.from, 0))}
	return must[net.Conn](t)(d.DialContext(t.Context(), "tcp", v.p.addr))
}

// answer is a response, read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends one request on a connection of its own, and follows nothing. Headers are given as name and value in turn.
func (v *visitor) do(t testing.TB, method, target, body string, headers ...string) answer {
	t.Helper()
	r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), method, "http://"+v.p.addr+target, strings.NewReader(body)))
	r.Host = v.host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
		if headers[i] == "Authorization" || headers[i] == "Cookie" {
			v.p.hide(headers[i], headers[i+1])
		}
	}
	conn := v.dial(t)
	defer conn.Close()
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer response.Body.Close()
	text := must[[]byte](t)(io.ReadAll(response.Body))
	for _, c := range response.Cookies() {
		v.p.hide("cookie", c.Value)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

func (v *visitor) get(t testing.TB, target string, headers ...string) answer {
	t.Helper()
	return v.do(t, "GET", target, "", headers...)
}

const formType = "application/x-www-form-urlencoded"

// post sends a signup.
func (v *visitor) post(t testing.TB, f form, headers ...string) answer {
	t.Helper()
	return v.postBody(t, f.String(), headers...)
}

func (v *visitor) postBody(t testing.TB, body string, headers ...string) answer {
	t.Helper()
	return v.do(t, "POST", "/signup.ashx", body, append([]string{"Content-Type", formType}, headers...)...)
}

func (a answer) is(t testing.TB, status int) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d; body %q", a.status, status, a.body)
	}
}

// isJSON checks what every answer of the endpoints has.
func (a answer) isJSON(t testing.TB, status int) {
	t.Helper()
	a.is(t, status)
	for name, want := range map[string]string{
		"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	} {
		if got := a.header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func (a answer) json(t testing.TB, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("body %q goes on behind its object", a.body)
	}
}

// fails checks an error answer: the status, the code, two strings and nothing else, save where a proved password is told which address
// its account has. It returns the description.
func (a answer) fails(t testing.TB, status int, code string) string {
	t.Helper()
	a.isJSON(t, status)
	var got map[string]any
	a.json(t, &got)
	description, ok := got["error_description"].(string)
	if got["error"] != code || !ok || description == "" || len(got) != 2 && code != "not_activated" {
		t.Fatalf("body %q, want the error %q, its description and nothing else", a.body, code)
	}
	if _, set := a.header["Set-Cookie"]; set {
		t.Errorf("an error sets a cookie: %v", a.header)
	}
	for name := range a.header {
		if strings.HasPrefix(strings.ToLower(name), "ratelimit") {
			t.Errorf("there is a %s header", name)
		}
	}
	return description
}

// retryAfter is the header of a 429, which must be whole seconds of at most an hour.
func (a answer) retryAfter(t testing.TB) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || n < 1 || n > 3600 {
		t.Fatalf("Retry-After is %q, want 1 to 3600", a.header.Get("Retry-After"))
	}
	return time.Duration(n) * time.Second
}

// member signs a person up, from an address of their own.
func (p *platform) member(t testing.TB, host string) person {
	t.Helper()
	who := p.person(host)
	p.signUp(t, who)
	return who
}

func (p *platform) signUp(t testing.TB, who person) {
	t.Helper()
	p.visitor(who.host).post(t, p.form(t, who)).is(t, 200)
}

// active is a person whose account is open.
func (p *platform) active(t testing.TB, host string) person {
	t.Helper()
	who := p.member(t, host)
	p.visitor(host).get(t, p.link(t, who.email)).is(t, 200)
	return who
}

func (p *platform) find(t testing.TB, who person) account.Account {
	t.Helper()
	return must[account.Account](t)(p.store.Find(t.Context(), p.tenant(t, who.host).ID, who.user, p.clock.Now()))
}

type message struct {
	raw, text, html string
	header          mail.Header
}

// messages are the published ones to an address.
func (p *platform) messages(t testing.TB, email string) (list []message) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range p.files(t) {
		m, read := p.mail[name]
		if !read {
			raw := must[[]byte](t)(os.ReadFile(filepath.Join(p.pickup(), name)))
			parsed := must[*mail.Message](t)(mail.ReadMessage(bytes.NewReader(raw)))
			m = message{string(raw), must[string](t)(mailmsg.Text(parsed)), htmlOf(t, raw), parsed.Header}
			p.mail[name] = m
		}
		if m.header.Get("To") == email {
			list = append(list, m)
		}
	}
	return list
}

// htmlOf is the second part of a message, decoded.
func htmlOf(t testing.TB, raw []byte) string {
	t.Helper()
	m := must[*mail.Message](t)(mail.ReadMessage(bytes.NewReader(raw)))
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	must[*multipart.Part](t)(parts.NextPart())
	html := must[*multipart.Part](t)(parts.NextPart())
	if got := html.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Fatalf("the second part is %s", got)
	}
	return string(must[[]byte](t)(io.ReadAll(base64.NewDecoder(base64.StdEncoding, html))))
}

var linkInText = regexp.MustCompile(`(?m)^(\S+)(/activate\.ashx\?token=([A-Za-z0-9_-]{43}))$`)

// link is the path and query of the activation link in the last message to an address.
func (p *platform) link(t testing.TB, email string) string {
	t.Helper()
	_, target := p.wholeLink(t, email)
	return target
}

func (p *platform) wholeLink(t testing.TB, email string) (origin, target string) {
	t.Helper()
	list := p.messages(t, email)
	if len(list) != 1 {
		t.Fatalf("%d messages to %s, want one", len(list), email)
	}
	m := linkInText.FindAllStringSubmatch(list[0].text, -1)
	if len(m) != 1 {
		t.Fatalf("the message has not one link: %q", list[0].text)
	}
	p.hide("activation token", m[0][3])
	return m[0][1], m[0][2]
}

// challenge is a parsed WWW-Authenticate header.
type challenge struct {
	scheme string
	param  map[string]string
}

var authParam = regexp.MustCompile(`(\w+)=(?:"([^"]*)"|([^,\s]+))`)

func (a answer) challenge(t testing.TB) challenge {
	t.Helper()
	a.is(t, 401)
	list := a.header.Values("WWW-Authenticate")
	if len(list) != 1 {
		t.Fatalf("WWW-Authenticate is %q, want one", list)
	}
	scheme, rest, _ := strings.Cut(list[0], " ")
	c := challenge{scheme, make(map[string]string)}
	for _, m := range authParam.FindAllStringSubmatch(rest, -1) {
		c.param[m[1]] = m[2] + m[3]
	}
	return c
}

// proof is the Authorization header of RFC 7616 §3.4, computed here by the letter. Changes replace or, with an empty
// value, remove parameters after the response was computed.
func (c challenge) proof(user, password, method, uri string, changes map[string]string) string {
	const cnonce, nc = "0a4f113b7d21", "00000001"
	ha1 := md5Hex(user + ":" + c.param["realm"] + ":" + password)
	ha2 := md5Hex(method + ":" + uri)
	param := map[string]string{
		"username": `"` + user + `"`, "realm": `"` + c.param["realm"] + `"`, "nonce": `"` + c.param["nonce"] + `"`, "uri": `"` + uri + `"`,
		"algorithm": "MD5", "qop": "auth", "nc": nc, "cnonce": `"` + cnonce + `"`,
		"response": `"` + md5Hex(strings.Join([]string{ha1, c.param["nonce"], nc, cnonce, "auth", ha2}, ":")) + `"`,
	}
	maps.Copy(param, changes)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(param)) {
		if param[name] != "" {
			list = append(list, name+"="+param[name])
		}
	}
	return "Digest " + strings.Join(list, ", ")
}

// signIn is both rounds of the exchange.
func (v *visitor) signIn(t testing.TB, user, password string, headers ...string) answer {
	t.Helper()
	c := v.get(t, "/signin.ashx").challenge(t)
	proof := c.proof(user, password, "GET", "/signin.ashx", nil)
	return v.get(t, "/signin.ashx", append([]string{"Authorization", proof}, headers...)...)
}

// cookies are what a browser would send back.
func (a answer) cookies() string {
	var list []string
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if c.MaxAge >= 0 && c.Value != "" {
			list = append(list, c.Name+"="+c.Value)
		}
	}
	return strings.Join(list, "; ")
}

// atOnce calls do n times at the same moment and waits for all.
func atOnce(n int, do func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	all.Wait()
}
