package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dialtone/internal/operator/opjson"
	"dialtone/internal/test/process"
)

// The times that docs/operating.md allows for starting, and for stopping after SIGTERM.
const (
	startWithin = 20 * time.Second
	stopWithin  = 10 * time.Second
)

// binary returns the path of the program that all tests run. It is the test binary, under the name
// that makes TestMain run the program, so that nothing else has to be compiled and linked.
func binary(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("dialtone")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// serverProcess is a server in its own process.
type serverProcess struct {
	*process.Process
	// address is the address of its listener, base the URL of its first tenant.
	address, base string
	// operators is the URL of its ops listener.
	operators      string
	stdout, stderr *process.Log
}

// launch describes how a server is started. Its environment is exactly env.
type launch struct {
	data   string
	listen string // 127.0.0.1:0 if empty
	flags  []string
	env    []string
	stderr *os.File // if nil, process.stderr collects it
}

// start runs the built server and waits until it answers.
func start(t testing.TB, l launch) *serverProcess {
	t.Helper()
	listen := l.listen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	cmd := exec.Command(binary(t),
		append([]string{"serve", "--data", l.data, "--listen", listen, "--ops-listen",
			"127.0.0.1:0"}, l.flags...)...)
	cmd.Env = append([]string{"TZ=Pacific/Auckland"}, l.env...)
	p, err := launched(cmd, l.stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// launched starts a server and waits until it answers.
func launched(cmd *exec.Cmd, stderr *os.File) (*serverProcess, error) {
	p := &serverProcess{stdout: new(process.Log), stderr: new(process.Log)}
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	if stderr != nil {
		cmd.Stderr = stderr
	}
	var err error
	if p.Process, err = process.Start(cmd, syscall.SIGKILL); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	if err := p.WaitReady(ctx, p.answers); err != nil {
		p.Kill()
		return nil, fmt.Errorf("the server does not answer: %w\n%s%s", err, p.stdout, p.stderr)
	}
	return p, nil
}

// answers returns nil if the server has printed its addresses and answers.
func (p *serverProcess) answers() error {
	lines := p.stdout.Lines()
	// This is the last line that a server prints when it starts.
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "  pickup ") }) {
		return errors.New("it has not printed its addresses")
	}
	for _, line := range lines {
		if address, ok := strings.CutPrefix(line, "Dialtone listens on "); ok {
			p.address = address
		} else if base, ok := strings.CutPrefix(line, "  internal   "); ok {
			p.operators = base
		}
	}
	_, port, err := net.SplitHostPort(p.address)
	if err != nil {
		return err
	}
	p.base = "http://localhost:" + port
	v := newVisitor(p.address, "")
	defer v.leave()
	_, err = v.captcha()
	return err
}

// ready returns the body of /readyz. It fails if the status differs.
func (p *serverProcess) ready(status int) (body string, err error) {
	resp, err := http.Get(p.operators + "/readyz")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("/readyz answers %d, want %d: %s", resp.StatusCode, status, text)
	}
	return string(text), err
}

// readiness waits until /readyz has a status and a text.
func (p *serverProcess) readiness(t testing.TB, status int, says string) {
	t.Helper()
	process.Eventually(t, "/readyz", func() error {
		text, err := p.ready(status)
		if err == nil && !strings.Contains(text, says) {
			err = fmt.Errorf("/readyz does not say %s: %s", says, text)
		}
		return err
	})
}

// stop sends SIGTERM and returns the exit status.
func (p *serverProcess) stop() (int, error) {
	if p.Ended() {
		return -1, fmt.Errorf("the server has ended before SIGTERM\n%s", p.stderr)
	}
	if err := p.Stop(syscall.SIGTERM, stopWithin); err != nil {
		return -1, fmt.Errorf("%w\n%s", err, p.stderr)
	}
	return p.ExitCode(), nil
}

// mustStop is like stop, for a server that must exit with status 0.
func (p *serverProcess) mustStop(t testing.TB) {
	t.Helper()
	status, err := p.stop()
	if err != nil {
		t.Fatal(err)
	}
	if status != 0 {
		t.Fatalf("exit status %d after SIGTERM, want 0\n%s", status, p.stderr)
	}
}

// checkLog checks that every complete line of the log is a JSON object with a time in UTC, a level
// and a message.
func (p *serverProcess) checkLog() error {
	for _, line := range p.stderr.Lines() {
		var entry struct {
			Time  time.Time
			Level string
			Msg   string
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			return fmt.Errorf("a log line is not JSON: %w\n%s", err, line)
		}
		if entry.Time.IsZero() || entry.Time.Location() != time.UTC || entry.Level == "" ||
			entry.Msg == "" {
			return fmt.Errorf("a log line has no time in UTC, no level or no message:\n%s", line)
		}
	}
	return nil
}

// shownAccounts returns what dialtone account list --json prints.
func shownAccounts(t testing.TB, data string) []opjson.Account {
	t.Helper()
	cmd := exec.Command(binary(t), "account", "list", "--tenant", "localhost", "--json", "--data", data)
	cmd.Env = []string{}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("account list: %v\n%s", err, out)
	}
	var list []opjson.Account
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("account list: %v\n%s", err, out)
	}
	return list
}
