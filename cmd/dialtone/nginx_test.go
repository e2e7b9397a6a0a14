package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/process"
)

// newVisitorOfProxy returns a visitor that reaches the server through nginx. It sends headers with
// every request, as names and values.
func newVisitorOfProxy(nginx *phonetest.ProxyServer, from string, headers ...string) *visitor {
	v := newVisitor(nginx.Address(), from)
	transport := v.http.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return tls.Client(conn, &tls.Config{ServerName: "localhost", RootCAs: nginx.Roots}), nil
	}
	v.http.Transport = withHeaders{transport, headers}
	return v
}

type withHeaders struct {
	*http.Transport
	headers []string
}

func (w withHeaders) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for i := 0; i < len(w.headers); i += 2 {
		r.Header.Set(w.headers[i], w.headers[i+1])
	}
	return w.Transport.RoundTrip(r)
}

// wantStatus signs up through nginx and checks the status.
func wantStatus(t *testing.T, v *visitor, user string, want int) {
	t.Helper()
	defer v.leave()
	a, err := v.signup(user)
	if err != nil || a.Status != want {
		t.Errorf("signup of %s: %v, %v, want %d", user, a, err, want)
	}
}

// The example for nginx forwards the host and the client's address, and nothing that the client
// claims about it.
func TestNginx(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	server := start(t, launch{data: data, flags: []string{"--http-trusted-proxies=127.0.0.1"}})
	nginx := phonetest.Nginx(t, server.address)
	from, other := nextAddress(), nextAddress()
	v := newVisitorOfProxy(nginx, from)
	for i := range 3 {
		wantStatus(t, v, fmt.Sprint("user", i), http.StatusOK)
	}
	wantStatus(t, v, "user3", http.StatusTooManyRequests)
	wantStatus(t, newVisitorOfProxy(nginx, from, "X-Forwarded-For", "192.0.2.1", "Forwarded", "for=192.0.2.1",
		"X-Real-IP", "192.0.2.1"), "user3", http.StatusTooManyRequests)
	wantStatus(t, newVisitorOfProxy(nginx, other), "user3", http.StatusOK)

	messages, err := messagesIn(filepath.Join(data, "pickup"))
	if err != nil {
		t.Fatal(err)
	}
	if len(messages) != 4 {
		t.Fatalf("%d messages, want 4", len(messages))
	}
	for _, m := range messages {
		if status, _, err := v.open(m.link); err != nil || status != http.StatusOK {
			t.Errorf("the link to %s: %d, %v", m.to, status, err)
		}
	}
	if a, err := v.signIn("user0", password("user0")); err != nil || !a.OK {
		t.Errorf("sign-in: %v, %v", a, err)
	}
	process.Eventually(t, "nginx logs the requests", func() error {
		log := nginx.AccessLog(t)
		if strings.Count(log, from+" ") < 4 || !strings.Contains(log, `"GET /activate.ashx" 200`) {
			return errors.New(log)
		}
		return nil
	})
	if strings.Contains(nginx.AccessLog(t), "token") {
		t.Error("the log of nginx has tokens")
	}
	network := from[:strings.LastIndex(from, ".")] + ".0/24"
	if log := server.stderr.String(); !strings.Contains(log, `"net":"`+network+`"`) ||
		strings.Contains(log, `"net":"127.0.0.0/24"`) || strings.Contains(log, "forwarded address") {
		t.Errorf("the log does not have the client's network %s alone:\n%s", network, log)
	}

	stranger := newVisitorOfProxy(nginx, "")
	stranger.host = "other.test"
	a, _, err := stranger.ask("GET", "/captcha.ashx", nil, "")
	if err != nil || a.Status != http.StatusMisdirectedRequest {
		t.Errorf("another host: %v, %v", a, err)
	}
	two := rawThroughTLS(t, nginx, "POST /signup.ashx HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"+
		"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	if response, err := http.ReadResponse(two, nil); err != nil || response.StatusCode != http.StatusBadRequest {
		t.Errorf("a request with two lengths: %v, %v", response, err)
	}
	plain := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := plain.Get("http://" + nginx.Plain + "/signup.html?lang=de")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if to := response.Header.Get("Location"); response.StatusCode != http.StatusPermanentRedirect ||
		to != "https://127.0.0.1/signup.html?lang=de" {
		t.Errorf("without TLS: %d, to %s", response.StatusCode, to)
	}
	server.mustStop(t)
	if a, _, err := v.ask("GET", "/captcha.ashx", nil, ""); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("without a server: %v, %v, want 502", a, err)
	}
}

// The example for Caddy forwards the host and the client's address, and nothing that the client
// claims about it.
func TestCaddy(t *testing.T) {
	server := start(t, launch{
		data: filepath.Join(t.TempDir(), "data"), flags: []string{"--http-trusted-proxies=127.0.0.1"},
	})
	caddy := phonetest.Caddy(t, server.address)
	from, other := nextAddress(), nextAddress()
	for i := range 3 {
		wantStatus(t, newVisitorOfProxy(caddy, from), fmt.Sprint("user", i), http.StatusOK)
	}
	wantStatus(t, newVisitorOfProxy(caddy, from, "X-Forwarded-For", "192.0.2.1", "Forwarded", "for=192.0.2.1",
		"X-Real-IP", "192.0.2.1"), "user3", http.StatusTooManyRequests)
	wantStatus(t, newVisitorOfProxy(caddy, other), "user3", http.StatusOK)
	if log := server.stderr.String(); strings.Contains(log, `"net":"127.0.0.0/24"`) ||
		strings.Contains(log, "forwarded address") {
		t.Errorf("the log does not have the client's network alone:\n%s", log)
	}
	server.mustStop(t)
	v := newVisitorOfProxy(caddy, from)
	if a, _, err := v.ask("GET", "/captcha.ashx", nil, ""); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("without a server: %v, %v, want 502", a, err)
	}
}

// Without trusted_proxies all visitors share the limits of nginx, and the log says why.
func TestNginxNotTrusted(t *testing.T) {
	server := start(t, launch{data: filepath.Join(t.TempDir(), "data")})
	nginx := phonetest.Nginx(t, server.address)
	for i := range 3 {
		wantStatus(t, newVisitorOfProxy(nginx, ""), fmt.Sprint("user", i), http.StatusOK)
	}
	wantStatus(t, newVisitorOfProxy(nginx, ""), "user3", http.StatusTooManyRequests)
	const warning = `"forwarded address ignored; the peer counts as the client because it is not in trusted_proxies",` +
		`"peer":"127.0.0.1"`
	if log := server.stderr.String(); strings.Count(log, warning) != 1 {
		t.Errorf("the log does not have the warning once:\n%s", log)
	}
}

// nginx aborts incomplete requests, and answers itself if the server does not.
func TestNginxTimeouts(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections wait in its queue
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	nginx := phonetest.Nginx(t, silent.Addr().String(),
		"client_header_timeout 10s;", "client_header_timeout 1s;", "proxy_read_timeout 30s;", "proxy_read_timeout 1s;")
	if b, err := rawThroughTLS(t, nginx, "GET / HTTP/1.1\r\n").ReadByte(); err == nil {
		t.Errorf("half a request is answered with %q", b)
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		t.Error("nginx waits for the rest of a request for ever")
	}
	whole := rawThroughTLS(t, nginx, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if response, err := http.ReadResponse(whole, nil); err != nil || response.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("a server that does not answer: %v, %v", response, err)
	}
}

// The script of docs/integrating.md signs up with any password, even one that begins and ends with
// blanks.
func TestSignupScript(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "integrating.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```bash\n(host=.*?)```").FindSubmatch(doc)
	if block == nil {
		t.Fatal("docs/integrating.md has no script")
	}
	server := start(t, launch{data: filepath.Join(t.TempDir(), "data"),
		flags: []string{"--http-trusted-proxies=127.0.0.1"}})
	nginx := phonetest.Nginx(t, server.address)
	script := string(block[1])
	for documented, here := range map[string]string{
		"host=phone.example.org": "host=localhost", "https://$host/": "https://" + nginx.Host() + "/",
		"IFS= read -rp \"What is $question? \" answer": "answer=$(($question))",
	} {
		if !strings.Contains(script, documented) {
			t.Fatalf("the script does not have %s", documented)
		}
		script = strings.ReplaceAll(script, documented, here)
	}
	const secret = `  correct \horse 'battery' "staple" `
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "CURL_CA_BUNDLE=" + nginx.Certificate}
	cmd.Stdin = strings.NewReader(secret + "\n")
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != `{"ok":true,"user":"alex"}` {
		t.Errorf("the script printed %q: %v", out, err)
	}
	v := newVisitorOfProxy(nginx, "")
	defer v.leave()
	// The password is right, and the link has not been opened.
	if a, err := v.signIn("alex", secret); err != nil || a.Error != "not_activated" {
		t.Errorf("sign-in: %v, %v", a, err)
	}
}

// rawThroughTLS sends a text to nginx and returns a reader of what it answers.
func rawThroughTLS(t *testing.T, nginx *phonetest.ProxyServer, text string) *bufio.Reader {
	t.Helper()
	conn, err := tls.Dial("tcp", nginx.Address(), &tls.Config{ServerName: "localhost", RootCAs: nginx.Roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(process.Timeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(conn)
}
