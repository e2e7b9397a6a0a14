package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"dialtone/internal/digest"
)

const (
	realm    = "localhost"
	password = "a password of some length"
	// perAddress is how many signups one address may make, and so how many each connection makes.
	perAddress = 3
)

// process is a server under measurement.
type process struct {
	cmd    *exec.Cmd
	target string
	data   string
	first  time.Duration // from start to the first answer
}

// start starts a server and waits until it answers 200 to a GET of the path probe.
func start(ctx context.Context, args, environ []string, target, probe string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, args[0], args[1:]...), target: target}
	p.cmd.Stdout, p.cmd.Stderr = io.Discard, io.Discard
	p.cmd.Env = append(os.Environ(), environ...)
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for time.Since(began) < time.Minute {
		c := &client{target: target}
		if c.connect() == nil {
			status, err := c.do(get(host(target), probe, ""))
			c.close()
			if err == nil && status == http.StatusOK {
				p.first = time.Since(began)
				return p, nil
			}
		}
	}
	p.stop()
	return nil, errors.New("the server does not answer")
}

func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	return p.cmd.Wait()
}

// memory returns a field of /proc/PID/status in MiB: VmHWM for the peak, VmRSS for now.
func (p *process) memory(field string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, _ := strconv.Atoi(strings.Fields(value)[0])
			return float64(kib) / 1024
		}
	}
	return 0
}

// freeAddress returns a loopback address with a free port.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// startDialtone runs the binary on a data directory, with additional environment variables.
func startDialtone(ctx context.Context, binary, data string, environ ...string) (*process, error) {
	target, err := freeAddress()
	if err != nil {
		return nil, err
	}
	args := []string{binary, "serve", "--data", data, "--listen", target, "--log-format", "json"}
	environ = append([]string{"DIALTONE_OPS_LISTEN=127.0.0.1:0"}, environ...) // which may override it
	p, err := start(ctx, args, environ, target, "/captcha.ashx")
	if err != nil {
		return nil, err
	}
	p.data = data
	return p, nil
}

func startEmpty(ctx context.Context) (*process, error) {
	target, err := freeAddress()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(ctx, []string{self, "-empty", target}, nil, target, "/")
}

// serveEmpty runs the empty handler: it reads the request and its body, and responds with as many bytes
// as a captcha has.
func serveEmpty(addr string) error {
	answer := []byte(strings.Repeat("x", 100))
	return http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header()["Content-Type"] = []string{"application/json"}
		w.Write(answer)
	}))
}

// solved is a captcha with its answer.
type solved struct{ token, answer string }

func fetchCaptcha(c *client, request []byte) (solved, error) {
	status, err := c.do(request)
	if err != nil {
		return solved{}, err
	}
	if status != http.StatusOK {
		return solved{}, fmt.Errorf("captcha: %d %s", status, c.body.Bytes())
	}
	body := c.body.Bytes()
	_, rest, _ := bytes.Cut(body, []byte(`"question":"`))
	question, rest, _ := bytes.Cut(rest, []byte(`"`))
	_, rest, _ = bytes.Cut(rest, []byte(`"token":"`))
	token, _, ok := bytes.Cut(rest, []byte(`"`))
	x, y, _ := bytes.Cut(question, []byte(" + "))
	a, errA := strconv.Atoi(string(x))
	b, errB := strconv.Atoi(string(y))
	if err := errors.Join(errA, errB); err != nil || !ok {
		return solved{}, fmt.Errorf("captcha: cannot read %s", body)
	}
	return solved{string(token), strconv.Itoa(a + b)}, nil
}

// names counts the user names in use. Accounts that exist from the start have smaller numbers.
var names atomic.Uint64

func init() { names.Store(1 << 31) }

func signupForm(user string, s solved) []byte {
	return fmt.Appendf(nil, "user=%s&name=Alex+Example&email=%s%%40example.org&ha1=%s&ha1b=%s&ha1_sha256=%s"+
		"&captcha_token=%s&captcha_answer=%s",
		user, user, digest.Compute(user, realm, password).Hex(), digest.ComputeB(user, realm, password).Hex(),
		digest.ComputeSHA256(user, realm, password).Hex(), s.token, s.answer)
}

func newName() string { return userName(names.Add(1)) }

// userName returns a user name of eight letters for a number. Names of successive numbers are in
// random order, as those of people are, so that each changes a different page of an index. Numbers
// below 2^32 have different names.
func userName(n uint64) string {
	n = n * 2654435761 % (1 << 32) // a prime number
	name := make([]byte, 8)
	for i := range name {
		name[i] = 'a' + byte(n%16)
		n /= 16
	}
	return string(name)
}

// host returns the Host header of the tenant localhost, for the port of the target.
func host(target string) string {
	_, port, _ := net.SplitHostPort(target)
	return "localhost:" + port
}

// signups posts forms, each with a captcha from the channel. It uses a new address after every third.
func signups(captchas <-chan solved) func(*client) func() error {
	return func(c *client) func() error {
		return func() error {
			s, ok := <-captchas
			if !ok {
				return io.EOF
			}
			if err := c.readyToSignUp(); err != nil {
				return err
			}
			return wantOK(c, post(host(c.target), "/signup.ashx", signupForm(newName(), s)))
		}
	}
}

func wantOK(c *client, request []byte) error {
	status, err := c.do(request)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%d %s", status, bytes.TrimSpace(c.body.Bytes()))
	}
	return nil
}

// visits makes the requests of a browser: it fetches a captcha, then posts the signup.
func visits(c *client) func() error {
	ask := get(host(c.target), "/captcha.ashx", "")
	return func() error {
		if err := c.readyToSignUp(); err != nil {
			return err
		}
		s, err := fetchCaptcha(c, ask)
		if err != nil {
			return err
		}
		return wantOK(c, post(host(c.target), "/signup.ashx", signupForm(newName(), s)))
	}
}

// emptyVisits sends the same requests to the empty handler.
func emptyVisits(c *client) func() error {
	ask := get(host(c.target), "/captcha.ashx", "")
	form := signupForm("bench1234567", solved{strings.Repeat("t", 76), "12"})
	return func() error {
		if err := c.readyToSignUp(); err != nil {
			return err
		}
		if err := wantOK(c, ask); err != nil {
			return err
		}
		return wantOK(c, post(host(c.target), "/signup.ashx", form))
	}
}

// repeat sends the same request repeatedly on one connection.
func repeat(path string) func(*client) func() error {
	return func(c *client) func() error {
		request := get(host(c.target), path, "")
		return func() error {
			if err := c.ready(); err != nil {
				return err
			}
			return wantOK(c, request)
		}
	}
}

// links returns the tokens of the messages in the pickup directory.
func links(data string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(data, "pickup", "*.eml"))
	if err != nil {
		return nil, err
	}
	tokens := make([]string, 0, len(files))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		_, rest, ok := bytes.Cut(text, []byte("token="))
		if !ok || len(rest) < 43 {
			return nil, fmt.Errorf("%s: no link", f)
		}
		tokens = append(tokens, string(rest[:43]))
	}
	return tokens, nil
}

// activations opens links, and sends the user of each to done.
func activations(tokens <-chan string, done chan<- string) func(*client) func() error {
	return func(c *client) func() error {
		return func() error {
			token, ok := <-tokens
			if !ok {
				return io.EOF
			}
			if err := c.ready(); err != nil {
				return err
			}
			if err := wantOK(c, get(host(c.target), "/activate.ashx?token="+token, "")); err != nil {
				return err
			}
			_, rest, _ := bytes.Cut(c.body.Bytes(), []byte(`data-user="`))
			user, _, _ := bytes.Cut(rest, []byte(`"`))
			select {
			case done <- string(user):
			default:
			}
			return nil
		}
	}
}

// signins makes whole Digest exchanges: the challenge, then the proof.
func signins(users []string) func(*client) func() error {
	var turn atomic.Uint64
	return func(c *client) func() error {
		ask := get(host(c.target), "/signin.ashx", "")
		return func() error {
			user := users[turn.Add(1)%uint64(len(users))]
			if err := c.ready(); err != nil {
				return err
			}
			status, err := c.do(ask)
			if err != nil {
				return err
			}
			_, rest, ok := bytes.Cut(c.header, []byte(`nonce="`))
			nonce, _, _ := bytes.Cut(rest, []byte(`"`))
			if status != http.StatusUnauthorized || !ok {
				return fmt.Errorf("no challenge: %d %s", status, c.body.Bytes())
			}
			return wantOK(c, get(host(c.target), "/signin.ashx", authorization(user, string(nonce))))
		}
	}
}

// emptySignins sends the same requests to the empty handler, with the same work in the client.
func emptySignins(users []string) func(*client) func() error {
	var turn atomic.Uint64
	nonce := strings.Repeat("n", 43) // as long as a real nonce
	return func(c *client) func() error {
		ask := get(host(c.target), "/signin.ashx", "")
		return func() error {
			user := users[turn.Add(1)%uint64(len(users))]
			if err := c.ready(); err != nil {
				return err
			}
			if err := wantOK(c, ask); err != nil {
				return err
			}
			return wantOK(c, get(host(c.target), "/signin.ashx", authorization(user, nonce)))
		}
	}
}

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

func authorization(user, nonce string) string {
	ha1 := digest.Compute(user, realm, password).Hex()
	ha2 := md5Hex("GET:/signin.ashx")
	response := md5Hex(ha1 + ":" + nonce + ":00000001:c0ffee00c0ffee00:auth:" + ha2)
	return fmt.Sprintf("Authorization: Digest username=%q, realm=%q, nonce=%q, uri=\"/signin.ashx\", "+
		"algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c0ffee00c0ffee00\", response=%q\r\n",
		user, realm, nonce, response)
}
