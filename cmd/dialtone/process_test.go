package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The times that docs/operating.md allows for starting, and for stopping after SIGTERM.
const (
	startWithin = 20 * time.Second
	stopWithin  = 10 * time.Second
)

// built is the program that all tests run.
var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// binary returns the path of the program. It is built once.
func binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.path = os.Getenv("DIALTONE_TEST_BINARY"); built.path != "" {
			return
		}
		if built.dir, built.err = os.MkdirTemp("", "dialtone-built-"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "dialtone")
		out, err := exec.Command("go", "build", "-o", built.path, ".").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// serverProcess is a server in its own process.
type serverProcess struct {
	cmd *exec.Cmd
	// address is the address of its listener, base the URL of its first tenant.
	address, base string
	// operators is the URL of its ops listener.
	operators string
	stdout    *lines
	stderr    *lines
	ended     chan struct{}
}

// launch describes how a server is started. Its environment is env and nothing else.
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
	t.Cleanup(p.kill)
	return p
}

// launched starts a server and waits until it answers.
func launched(cmd *exec.Cmd, stderr *os.File) (*serverProcess, error) {
	p := &serverProcess{cmd: cmd, stdout: newLines(), stderr: newLines(), ended: make(chan struct{})}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	readers := new(sync.WaitGroup)
	if stderr != nil {
		cmd.Stderr = stderr
	} else {
		pipe, err := cmd.StderrPipe()
		if err != nil {
			return nil, err
		}
		readers.Go(func() { p.stderr.read(pipe) })
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	readers.Go(func() { p.stdout.read(stdout) })
	go func() {
		readers.Wait() // Cmd.Wait closes the pipes
		cmd.Wait()
		close(p.ended)
	}()
	deadline := time.Now().Add(startWithin)
	err = p.answers(deadline)
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("the server does not answer: %w\n%s%s", err, p.stdout, p.stderr)
	}
	return p, nil
}

// answers waits until the server has printed its address and answers there.
func (p *serverProcess) answers(deadline time.Time) error {
	line, err := p.stdout.find("Dialtone listens on ", p.ended, deadline)
	if err != nil {
		return err
	}
	// This is the last line that a server prints when it starts.
	if _, err := p.stdout.find("  pickup ", p.ended, deadline); err != nil {
		return err
	}
	p.address = strings.TrimPrefix(line, "Dialtone listens on ")
	for _, line := range p.stdout.complete() {
		if base, ok := strings.CutPrefix(line, "  operators  "); ok {
			p.operators = base
		}
	}
	_, port, err := net.SplitHostPort(p.address)
	if err != nil {
		return err
	}
	p.base = "http://localhost:" + port
	for {
		v := newVisitor(p.address, "")
		_, err := v.captcha()
		v.leave()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended with status %d", p.cmd.ProcessState.ExitCode())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// kill kills the server.
func (p *serverProcess) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// stop sends SIGTERM and returns the exit status.
func (p *serverProcess) stop() (int, error) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return -1, err
	}
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(stopWithin):
		p.kill()
		return -1, fmt.Errorf("the server did not end within %v of SIGTERM\n%s", stopWithin, p.stderr)
	}
}

// mustStop is stop for a server that must exit with status 0.
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
	for _, line := range p.stderr.complete() {
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

// lines collects what a process writes to a pipe.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // closed and replaced with every line
}

func newLines() *lines { return &lines{more: make(chan struct{})} }

func (l *lines) read(from io.Reader) {
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadString('\n')
		l.mu.Lock()
		l.text.WriteString(line)
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// complete returns the complete lines.
func (l *lines) complete() []string {
	list := strings.Split(l.String(), "\n")
	return list[:len(list)-1]
}

func (l *lines) count(part string) int { return strings.Count(l.String(), part) }

// find waits for a line with a prefix.
func (l *lines) find(prefix string, ended <-chan struct{}, deadline time.Time) (string, error) {
	for over := false; ; {
		l.mu.Lock()
		more := l.more
		l.mu.Unlock()
		for _, line := range l.complete() {
			if strings.HasPrefix(line, prefix) {
				return line, nil
			}
		}
		if over {
			return "", fmt.Errorf("no line begins with %q", prefix)
		}
		select {
		case <-more:
		case <-ended:
			over = true
		case <-time.After(time.Until(deadline)):
			over = true
		}
	}
}

// shownAccounts returns what dialtone account list --json prints.
func shownAccounts(t testing.TB, data string) []accountView {
	t.Helper()
	cmd := exec.Command(binary(t), "account", "list", "--tenant", "localhost", "--json", "--data", data)
	cmd.Env = []string{}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("account list: %v\n%s", err, out)
	}
	var list []accountView
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("account list: %v\n%s", err, out)
	}
	return list
}
