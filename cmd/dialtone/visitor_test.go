package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// visitor is a client that was written from the published contract. Each has its own address in
// 127.0.0.0/8, so no limit has to be disabled.
type visitor struct {
	address string // of the server
	host    string
	http    *http.Client
	// session is the cookie of a sign-in, or empty.
	session string
	// began means that the first byte of a response has arrived.
	began atomic.Bool
}

// visitors counts the addresses that are in use.
var visitors atomic.Uint32

// nextAddress returns an unused loopback address.
func nextAddress() string {
	n := visitors.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 16+n>>16&0x3f, n>>8&0xff, n&0xff)
}

// newVisitor returns a visitor with an address, or with an unused one if from is empty.
func newVisitor(address, from string) *visitor {
	if from == "" {
		from = nextAddress()
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	_, port, _ := net.SplitHostPort(address)
	return &visitor{
		address: address,
		host:    "localhost:" + port,
		http: &http.Client{
			Timeout: 30 * time.Second,
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return dialer.DialContext(ctx, "tcp", address)
				},
			},
		},
	}
}

// useNewConnections makes the visitor open a new connection for every request.
func (v *visitor) useNewConnections() *visitor {
	v.http.Transport.(*http.Transport).DisableKeepAlives = true
	return v
}

func (v *visitor) leave() { v.http.CloseIdleConnections() }

// answer is any JSON response of the contract.
type answer struct {
	Status      int    `json:"-"`
	RetryAfter  string `json:"-"`
	OK          bool   `json:"ok"`
	User        string `json:"user"`
	Role        string `json:"role"`
	Question    string `json:"question"`
	Token       string `json:"token"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Email       string `json:"email"`
	Delivery    string `json:"delivery"`
}

func (a answer) String() string { return fmt.Sprintf("%d %s %s", a.Status, a.Error, a.Description) }

func (v *visitor) send(
	method, path string, form url.Values, authorization string,
) (*http.Response, []byte, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequest(method, "http://"+v.host+path, body)
	if err != nil {
		return nil, nil, err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	if v.session != "" {
		r.Header.Set("Cookie", v.session)
	}
	v.began.Store(false)
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotFirstResponseByte: func() { v.began.Store(true) },
	}))
	resp, err := v.http.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, text, err
}

func (v *visitor) ask(
	method, path string, form url.Values, authorization string,
) (answer, *http.Response, error) {
	resp, text, err := v.send(method, path, form, authorization)
	if err != nil {
		return answer{}, nil, err
	}
	a := answer{Status: resp.StatusCode, RetryAfter: resp.Header.Get("Retry-After")}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, resp, fmt.Errorf("%s %s: %d, not JSON: %q", method, path, resp.StatusCode, text)
	}
	return a, resp, nil
}

func (v *visitor) captcha() (answer, error) {
	a, _, err := v.ask("GET", "/captcha.ashx", nil, "")
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("captcha: %s", a)
	}
	return a, err
}

// form returns a valid signup form of a user, with a new captcha. The password is password(user),
// the address email(user).
func (v *visitor) form(user string) (url.Values, error) {
	q, err := v.captcha()
	if err != nil {
		return nil, err
	}
	var x, y int
	if _, err := fmt.Sscanf(q.Question, "%d + %d", &x, &y); err != nil {
		return nil, fmt.Errorf("question %q: %w", q.Question, err)
	}
	return url.Values{
		"user": {user}, "name": {"Someone of " + user}, "email": {email(user)}, "ha1": {ha1(user)},
		"captcha_token": {q.Token}, "captcha_answer": {fmt.Sprint(x + y)},
	}, nil
}

func (v *visitor) post(form url.Values) (answer, error) {
	a, _, err := v.ask("POST", "/signup.ashx", form, "")
	return a, err
}

// signup posts the form of a user.
func (v *visitor) signup(user string) (answer, error) {
	form, err := v.form(user)
	if err != nil {
		return answer{}, err
	}
	return v.post(form)
}

const realm = "localhost"

func email(user string) string    { return user + "@example.test" }
func password(user string) string { return "the pass phrase of " + user }
func ha1(user string) string      { return digestOf(user, realm, password(user)) }

func digestOf(parts ...string) string {
	sum := md5.Sum([]byte(strings.Join(parts, ":")))
	return hex.EncodeToString(sum[:])
}

var nonce = regexp.MustCompile(`\bnonce="([^"]*)"`)

func (v *visitor) signIn(user, password string) (answer, error) {
	a, resp, err := v.prove(user, password, "GET", "/signin.ashx", nil)
	if err == nil && a.OK {
		v.session = strings.Split(resp.Header.Get("Set-Cookie"), ";")[0]
	}
	return a, err
}

// prove sends a request with a digest (RFC 7616 section 3.4, qop=auth, MD5).
func (v *visitor) prove(
	user, password, method, path string, form url.Values,
) (answer, *http.Response, error) {
	first, resp, err := v.ask(method, path, nil, "")
	if err != nil {
		return first, resp, err
	}
	m := nonce.FindStringSubmatch(resp.Header.Get("WWW-Authenticate"))
	if first.Status != http.StatusUnauthorized || m == nil {
		return first, resp, fmt.Errorf("%s does not send a challenge: %s", path, first)
	}
	response := digestOf(digestOf(user, realm, password), m[1], "00000001", "c0ffee", "auth",
		digestOf(method, path))
	return v.ask(method, path, form, fmt.Sprintf(
		`Digest username=%q, realm=%q, nonce=%q, uri=%q, qop=auth, nc=00000001, cnonce="c0ffee", `+
			`response=%q, algorithm=MD5`,
		user, realm, m[1], path, response))
}

// open opens the link of a message.
func (v *visitor) open(link string) (status int, page string, err error) {
	u, err := url.Parse(link)
	if err != nil {
		return 0, "", err
	}
	resp, text, err := v.send("GET", u.RequestURI(), nil, "")
	if err != nil {
		return 0, "", err
	}
	return resp.StatusCode, string(text), nil
}

// message is a message in the pickup directory.
type message struct {
	id, to, link, token string
	raw                 string
}

// messageHeaders are the header fields that every message contains exactly once.
var messageHeaders = []string{
	"Date", "From", "To", "Subject", "Message-Id", "Mime-Version", "Content-Type", "Content-Language",
	"Auto-Submitted", "X-Auto-Response-Suppress",
}

var activationLink = regexp.MustCompile(`(?m)^https?://\S+/activate\.ashx\?token=([A-Za-z0-9_-]{43})\r$`)

// linksIn returns the matches of activationLink in a text. Matching the whole text at once takes thirty
// times as long.
func linksIn(text string) (links [][]string) {
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "http") {
			links = append(links, activationLink.FindAllStringSubmatch(line, -1)...)
		}
	}
	return links
}

// parseMessage parses a message and checks that it is complete: every header field, one link, and
// the end of both parts.
func parseMessage(raw string) (m message, err error) {
	parsed, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		return m, err
	}
	for _, name := range messageHeaders {
		if n := len(parsed.Header[name]); n != 1 || parsed.Header.Get(name) == "" {
			return m, fmt.Errorf("the header field %s occurs %d times", name, n)
		}
	}
	if len(parsed.Header) != len(messageHeaders) {
		return m, fmt.Errorf("there are other header fields: %v", parsed.Header)
	}
	if _, err := parsed.Header.Date(); err != nil {
		return m, err
	}
	body, err := io.ReadAll(parsed.Body)
	if err != nil {
		return m, err
	}
	links := linksIn(string(body))
	if len(links) != 1 {
		return m, fmt.Errorf("there are %d links", len(links))
	}
	_, params, err := mime.ParseMediaType(parsed.Header.Get("Content-Type"))
	if err != nil {
		return m, err
	}
	if !strings.Contains(string(body), "/decline.html?link="+links[0][1]+"\r\n") ||
		!strings.HasSuffix(string(body), "\r\n--"+params["boundary"]+"--\r\n") {
		return m, fmt.Errorf("the text is not complete: %q", body)
	}
	return message{
		id: parsed.Header.Get("Message-Id"), to: parsed.Header.Get("To"),
		link: strings.TrimSuffix(links[0][0], "\r"), token: links[0][1], raw: raw,
	}, nil
}

// messagesIn parses the messages in a pickup directory. It fails if a file is not a complete
// message or is not named after its Message-ID.
func messagesIn(dir string) ([]message, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []message
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".eml")
		if !ok {
			return nil, fmt.Errorf("%s is left in the pickup directory", e.Name())
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		m, err := parseMessage(string(raw))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		if !strings.HasPrefix(m.id, "<"+id+"@") {
			return nil, fmt.Errorf("%s has the Message-ID %s", e.Name(), m.id)
		}
		list = append(list, m)
	}
	return list, nil
}
