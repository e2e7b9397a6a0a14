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
	"dialtone/internal/captcha"
	"dialtone/internal/delivery"
	"dialtone/internal/http/server"
	"dialtone/internal/http/web"
	"dialtone/internal/mailmsg"
	"dialtone/internal/operator"
	"dialtone/internal/provision"
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
	"dialtone/internal/turn"
)

// testServer is the site with all its dependencies: a World with three tenants, and a listener on
// loopback. At the end of the test, its log lines must be JSON with known keys.
type testServer struct {
	*world.World
	options options
	turn    atomic.Pointer[secret.Ring] // nil until a test sets it
	handled atomic.Int64                // requests that reached the site

	listener net.Listener
	addr     string // of listener
	stop     func()
	db       *sql.DB // a second connection, for inspection and injected faults
	count    *sql.Stmt

	mu            sync.Mutex
	mail          map[string]message // parsed, by file name
	authenticator *session.Authenticator
	phones        *sipserver.Registry
}

// options are the changes that a test makes to a server.
type options struct {
	proxies []netip.Prefix
	tenants func(*tenant.Tenant)
	store   func(account.Store) account.Store
	captcha func(*captcha.Issuer) *captcha.Issuer
	devMail func() ([]web.DevMessage, error)
	ceiling int

	delivery func(context.Context, account.Account) (delivery.State, error)
	web      func(*web.Deps) // the last change to the dependencies
}

func startServer(t testing.TB) *testServer { return startServerWith(t, options{}) }

func startServerWith(t testing.TB, o options) *testServer {
	t.Helper()
	s := &testServer{options: o, mail: make(map[string]message)}
	var tenants []tenant.Tenant
	for _, host := range []string{"a.test", "b.test", "localhost"} {
		x := tenant.Tenant{Host: host}
		if o.tenants != nil {
			o.tenants(&x)
		}
		tenants = append(tenants, must[tenant.Tenant](t)(tenant.New(x)))
	}
	s.listen(t)
	s.World = world.New(t, world.Options{
		Tenants: tenants, JSON: true,
		PublicURL: func(host string) string {
			_, port, _ := net.SplitHostPort(s.addr)
			return tenant.DefaultURL(host, port, false)
		},
	})
	s.start(t)
	t.Cleanup(func() {
		s.stop()
		s.checkLog(t)
	})
	return s
}

// listen opens the listener of the next start.
func (s *testServer) listen(t testing.TB) {
	t.Helper()
	s.listener = must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	s.addr = s.listener.Addr().String()
}

// must returns a function that returns its first argument, and fails the test if the second is an
// error.
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

// start starts the server on its World and listener.
func (s *testServer) start(t testing.TB) {
	t.Helper()
	ctx := context.Background()
	s.db = must[*sql.DB](t)(sql.Open("sqlite", "file:"+s.DatabaseFile()+"?_pragma=busy_timeout(5000)"))
	s.count = must[*sql.Stmt](t)(s.db.Prepare(`SELECT (SELECT count(*) FROM account),
		(SELECT count(*) FROM taken), (SELECT count(*) FROM outbox)`))
	if s.options.captcha != nil {
		issuer := s.AccountDeps.Captcha
		s.AccountDeps.Captcha = func() *captcha.Issuer { return s.options.captcha(issuer()) }
	}
	if s.options.store != nil {
		s.AccountDeps.Store = s.options.store(s.Store)
	}
	s.AccountDeps.AddressCeiling = s.options.ceiling
	s.Rebuild()
	s.Must(s.Outbox.Recover(ctx))
	s.authenticator = session.NewAuthenticator(session.Deps{
		Accounts: s.Accounts, Store: s.Store, Passwords: s.AccountDeps.Passwords, Audit: s.Audit,
		Now:        s.Now,
		Signatures: func() *session.Signatures { return session.NewSignatures(s.SignRing) },
	})
	s.phones = sipserver.NewRegistry(s.RegistryDeps())
	deps := web.Deps{
		Tenants:        s.Tenants,
		Accounts:       s.Accounts,
		Authenticator:  s.authenticator,
		Phones:         s.phones,
		Captcha:        s.AccountDeps.Captcha,
		TrustedProxies: s.options.proxies,
		Log:            s.Logger,
		DevMail:        s.options.devMail,
		Delivery:       s.options.delivery,
		Links: provision.NewLinks(provision.Deps{
			Accounts: s.Accounts, Store: s.Store, Audit: s.Audit, Now: s.Now,
			Tickets: func() *provision.Tickets { return provision.NewTickets(s.SignRing, s.Now) },
		}),
		TURN: func() *turn.Issuer {
			if r := s.turn.Load(); r != nil {
				return turn.NewIssuer(r, s.Now)
			}
			return nil
		},
	}
	deps.Operators = operator.NewService(operator.Deps{Accounts: s.Accounts, Store: s.Store, Now: s.Now})
	if s.options.web != nil {
		s.options.web(&deps)
	}
	site := must[*web.Site](t)(web.New(deps))
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handled.Add(1)
		site.ServeHTTP(w, r)
	})
	serving, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		limits := server.Limits{Connections: 4096, ConnectionsPerAddress: 512}
		done <- server.Serve(serving, s.listener, counted, limits, s.Logger)
	}()
	s.stop = sync.OnceFunc(func() {
		end()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
		if err := s.db.Close(); err != nil {
			t.Error(err)
		}
		s.Close()
	})
}

// restart stops the server and starts it again, as a new process, with the same files.
func (s *testServer) restart(t testing.TB) {
	t.Helper()
	s.stop()
	s.listen(t)
	s.Restart()
	s.start(t)
}

// hide adds a text that the log must not contain.
func (s *testServer) hide(text string) {
	if len(text) >= 8 { // a shorter one may occur by chance
		s.Log.Hide(text)
	}
}

// logKeys are the attributes that a log line may have.
var logKeys = []string{
	"time", "level", "msg", "outcome", "tenant", "user", "email", "net", "request", "detail",
	"audit", "path", "err", "stack", "peer", "value",
}

// checkLog fails the test if its log has a line that is not JSON with known keys.
func (s *testServer) checkLog(t testing.TB) {
	for line := range strings.Lines(s.Log.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Errorf("the log has a line that is not JSON: %q", line)
			continue
		}
		for key := range fields {
			if !slices.Contains(logKeys, key) {
				t.Errorf("the log has an unknown key %q: %s", key, line)
			}
		}
	}
}

// state describes everything that a signup changes, except spent captchas.
func (s *testServer) state(t testing.TB) string {
	t.Helper()
	var accounts, limits, pending int
	if err := s.count.QueryRow().Scan(&accounts, &limits, &pending); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d accounts, %d rows of limits, %d outbox entries, files %v",
		accounts, limits, pending, s.Files("pickup"))
}

func (s *testServer) spentCaptchas(t testing.TB) (n int) {
	t.Helper()
	if err := s.db.QueryRow(`SELECT count(*) FROM spent`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// changesNothing checks that try does not change the state, and that the name can be signed up
// after it.
func (s *testServer) changesNothing(t *testing.T, host, user string, try func()) {
	t.Helper()
	before := s.state(t)
	try()
	if after := s.state(t); after != before {
		t.Errorf("the state changed:\n before %s\n after  %s", before, after)
	}
	if _, err := s.Store.Find(t.Context(), s.At(host).Tenant.ID, user, s.Now()); err == nil {
		t.Errorf("there is an account %q", user)
	}
	if account.CheckUser(user, account.Reserved{}) == nil {
		who := s.newPerson(host)
		who.user = user
		s.signUp(t, who)
	}
}

// exec runs a statement on the database.
func (s *testServer) exec(t testing.TB, statement string) {
	t.Helper()
	if _, err := s.db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// breakStore makes the store fail to add accounts until repair is called. No answer may show the
// error.
func (s *testServer) breakStore(t testing.TB) (repair func()) {
	t.Helper()
	s.exec(t, `CREATE TRIGGER broken BEFORE INSERT ON account
			BEGIN SELECT RAISE(ABORT, 'pq: disk /var/lib/secret.go: I/O error'); END`)
	return func() { t.Helper(); s.exec(t, `DROP TRIGGER broken`) }
}

// person is someone who signs up.
type person struct{ host, user, name, email, password string }

var people atomic.Int64

// newPerson returns a person with names that no other test uses.
func (s *testServer) newPerson(host string) person {
	n := people.Add(1)
	who := person{
		host: host, user: fmt.Sprintf("visitor-%d", n), name: fmt.Sprintf("Visitor Number %d", n),
		email: fmt.Sprintf("canary-mailbox-%d@mail.test", n), password: fmt.Sprintf("canary-password-%d", n),
	}
	s.hide(who.email)
	s.hide(who.password)
	s.hide(who.ha1())
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

// form is a body as its fields in order, percent-encoded.
type form [][2]string

func (f form) String() string {
	var pairs []string
	for _, field := range f {
		pairs = append(pairs, field[0]+"="+field[1])
	}
	return strings.Join(pairs, "&")
}

// with returns the form with fields replaced or added, each given as name=value in
// percent-encoding.
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
	return slices.DeleteFunc(slices.Clone(f),
		func(field [2]string) bool { return slices.Contains(names, field[0]) })
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

// form returns a valid signup of a person, with a new captcha and its answer.
func (s *testServer) form(t testing.TB, who person) form {
	t.Helper()
	token, answer := s.captcha(t, who.host)
	var f form
	for _, field := range [][2]string{
		{"user", who.user}, {"name", who.name}, {"email", who.email}, {"ha1", who.ha1()},
		{"captcha_token", token}, {"captcha_answer", answer},
	} {
		f = append(f, [2]string{field[0], url.QueryEscape(field[1])})
	}
	return f
}

// captcha returns the token of a new captcha and its answer.
func (s *testServer) captcha(t testing.TB, host string) (token, answer string) {
	t.Helper()
	var got struct{ Question, Token string }
	a := s.visitor(host).get(t, "/captcha.ashx")
	a.wantStatus(t, 200)
	a.decode(t, &got)
	s.hide(got.Token)
	return got.Token, solve(t, got.Question)
}

func solve(t testing.TB, question string) string {
	t.Helper()
	m := regexp.MustCompile(`^([1-9]) \+ ([1-9])$`).FindStringSubmatch(question)
	if m == nil {
		t.Fatalf("the question %q is not a sum", question)
	}
	x, _ := strconv.Atoi(m[1])
	y, _ := strconv.Atoi(m[2])
	return strconv.Itoa(x + y)
}

// visitor is a client with its own address in 127/8.
type visitor struct {
	s    *testServer
	host string
	from netip.Addr
}

var addresses atomic.Uint32

func (s *testServer) visitor(host string) *visitor {
	n := addresses.Add(1)
	return &visitor{s, host, netip.AddrFrom4([4]byte{127, byte(16 + n>>16), byte(n >> 8), byte(n)})}
}

// at returns the same client for another host.
func (v *visitor) at(host string) *visitor { return &visitor{v.s, host, v.from} }

func (v *visitor) dial(t testing.TB) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(v.from, 0))}
	return must[net.Conn](t)(d.DialContext(t.Context(), "tcp", v.s.addr))
}

// answer is a response with its whole body.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends one request on its own connection and does not follow redirects. Headers alternate
// between name and value.
func (v *visitor) do(t testing.TB, method, target, body string, headers ...string) answer {
	t.Helper()
	url := "http://" + v.s.addr + target
	r := must[*http.Request](t)(
		http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body)))
	r.Host = v.host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
		if headers[i] == "Authorization" || headers[i] == "Cookie" {
			v.s.hide(headers[i+1])
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
		v.s.hide(c.Value)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

// slowly posts a form, and calls between when the server waits for its last byte.
func (v *visitor) slowly(t testing.TB, target, body string, between func(), headers ...string) answer {
	t.Helper()
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nConnection: close\r\n", target, v.host,
		len(body))
	for i := 0; i < len(headers); i += 2 {
		head += headers[i] + ": " + headers[i+1] + "\r\n"
	}
	conn := v.dial(t)
	defer conn.Close()
	last, answers := len(body)-1, bufio.NewReader(conn)
	must[int](t)(io.WriteString(conn, head+"Expect: 100-continue\r\n\r\n"))
	// net/http says this when a handler begins to read the body.
	if r := must[*http.Response](t)(http.ReadResponse(answers, nil)); r.StatusCode != http.StatusContinue {
		t.Fatalf("the server does not wait for the body: %s", r.Status)
	}
	must[int](t)(io.WriteString(conn, body[:last]))
	between()
	must[int](t)(io.WriteString(conn, body[last:]))
	response := must[*http.Response](t)(http.ReadResponse(answers, nil))
	defer response.Body.Close()
	return answer{response.StatusCode, response.Header, string(must[[]byte](t)(io.ReadAll(response.Body)))}
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

func (a answer) wantStatus(t testing.TB, status int) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d; body %q", a.status, status, a.body)
	}
}

// wantJSON checks the status and the headers that every answer of an endpoint has.
func (a answer) wantJSON(t testing.TB, status int) {
	t.Helper()
	a.wantStatus(t, status)
	for name, want := range map[string]string{
		"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store",
		"X-Content-Type-Options": "nosniff",
	} {
		if got := a.header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func (a answer) decode(t testing.TB, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("body %q continues after its object", a.body)
	}
}

// wantError checks an error answer: the status, the code and a description, and no other member
// unless the code is not_activated or leaving. It returns the description.
func (a answer) wantError(t testing.TB, status int, code string) string {
	t.Helper()
	a.wantJSON(t, status)
	var got map[string]any
	a.decode(t, &got)
	description, ok := got["error_description"].(string)
	more := code == "not_activated" || code == "leaving"
	if got["error"] != code || !ok || description == "" || len(got) != 2 && !more {
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

// retryAfter returns the Retry-After of a 429, which must be 1 to 3600 seconds.
func (a answer) retryAfter(t testing.TB) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || n < 1 || n > 3600 {
		t.Fatalf("Retry-After is %q, want 1 to 3600", a.header.Get("Retry-After"))
	}
	return time.Duration(n) * time.Second
}

// pending signs up a new person. The account is not active yet.
func (s *testServer) pending(t testing.TB, host string) person {
	t.Helper()
	who := s.newPerson(host)
	s.signUp(t, who)
	return who
}

func (s *testServer) signUp(t testing.TB, who person) {
	t.Helper()
	s.visitor(who.host).post(t, s.form(t, who)).wantStatus(t, 200)
}

// active signs up a new person and activates the account.
func (s *testServer) active(t testing.TB, host string) person {
	t.Helper()
	who := s.pending(t, host)
	s.visitor(host).get(t, s.link(t, who.email)).wantStatus(t, 200)
	return who
}

func (s *testServer) find(t testing.TB, who person) account.Account {
	t.Helper()
	return must[account.Account](t)(s.Store.Find(t.Context(), s.At(who.host).Tenant.ID, who.user, s.Now()))
}

type message struct {
	raw, text, html string
	header          mail.Header
}

// messages returns the published messages to an address.
func (s *testServer) messages(t testing.TB, email string) (list []message) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.Files("pickup") {
		m, read := s.mail[name]
		if !read {
			raw := must[[]byte](t)(os.ReadFile(filepath.Join(s.Pickup.Path(), name)))
			parsed := must[*mail.Message](t)(mail.ReadMessage(bytes.NewReader(raw)))
			m = message{string(raw), must[string](t)(mailmsg.Text(parsed)), htmlOf(t, raw), parsed.Header}
			s.mail[name] = m
		}
		if m.header.Get("To") == email {
			list = append(list, m)
		}
	}
	return list
}

// htmlOf returns the second part of a message, decoded.
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

// link returns the path and query of the activation link in the only message to an address.
func (s *testServer) link(t testing.TB, email string) string {
	t.Helper()
	_, target := s.linkParts(t, email)
	return target
}

func (s *testServer) linkParts(t testing.TB, email string) (origin, target string) {
	t.Helper()
	list := s.messages(t, email)
	if len(list) != 1 {
		t.Fatalf("%d messages to %s, want one", len(list), email)
	}
	m := linkInText.FindAllStringSubmatch(list[0].text, -1)
	if len(m) != 1 {
		t.Fatalf("the message does not have exactly one link: %q", list[0].text)
	}
	s.hide(m[0][3])
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
	a.wantStatus(t, 401)
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

// proof returns the Authorization header of RFC 7616 section 3.4. Changes replace parameters or, with an
// empty value, remove them after the response was computed.
func (c challenge) proof(user, password, method, uri string, changes map[string]string) string {
	const cnonce, nc = "0a4f113b7d21", "00000001"
	ha1 := md5Hex(user + ":" + c.param["realm"] + ":" + password)
	ha2 := md5Hex(method + ":" + uri)
	hashed := []string{ha1, c.param["nonce"], nc, cnonce, "auth", ha2}
	param := map[string]string{
		"username": `"` + user + `"`, "realm": `"` + c.param["realm"] + `"`,
		"nonce": `"` + c.param["nonce"] + `"`, "uri": `"` + uri + `"`, "algorithm": "MD5",
		"qop": "auth", "nc": nc, "cnonce": `"` + cnonce + `"`,
		"response": `"` + md5Hex(strings.Join(hashed, ":")) + `"`,
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

// signInProof returns the Authorization header of a GET of /signin.ashx.
func (c challenge) signInProof(who person) string {
	return c.proof(who.user, who.password, "GET", "/signin.ashx", nil)
}

// signIn sends both requests of a sign-in.
func (v *visitor) signIn(t testing.TB, user, password string, headers ...string) answer {
	t.Helper()
	c := v.get(t, "/signin.ashx").challenge(t)
	proof := c.proof(user, password, "GET", "/signin.ashx", nil)
	return v.get(t, "/signin.ashx", append([]string{"Authorization", proof}, headers...)...)
}

// cookies returns the Cookie header that a browser would send back.
func (a answer) cookies() string {
	var list []string
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if c.MaxAge >= 0 && c.Value != "" {
			list = append(list, c.Name+"="+c.Value)
		}
	}
	return strings.Join(list, "; ")
}

// atOnce calls do n times concurrently and waits for all.
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
