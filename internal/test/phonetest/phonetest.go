// Package phonetest runs phone servers for tests: Kamailio, coturn and Apache, as Debian has them, with the files of deploy/, and
// phones that register with them.
//
// A server is given a configuration of deploy/ in which a test has put its own ports and paths in place of the examples (Config): a
// file that has not what is to be replaced is a fault, so that what the tests run is what an operator copies. Servers listen on
// 127.0.0.1 alone, on ports below those that the system gives to clients. Where root runs the tests they run as the user "nobody",
// since what they may read is a part of what is tested. They end with the test, and on Linux with the process that started them,
// however that ends.
package phonetest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything is waited for.
const patience = 20 * time.Second

// Folder is one that the servers can get into. It is gone when the test is over.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dialtone-phonetest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Config reads a file below deploy/ and replaces texts in it: old, new, old, new…
func Config(t testing.TB, name string, replace ...string) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "..", "..", "deploy", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	s := string(text)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(s, replace[i]) {
			t.Fatalf("deploy/%s has no %q to put %q in place of", name, replace[i], replace[i+1])
		}
		s = strings.ReplaceAll(s, replace[i], replace[i+1])
	}
	return s
}

// Unprivileged is whom servers run as; nil where that is ourselves.
func Unprivileged(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// Group makes a file, or a folder and what will be in it, readable by the servers' group.
func Group(t testing.TB, path string) {
	t.Helper()
	if as := Unprivileged(t); as != nil {
		if err := os.Chown(path, -1, int(as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// Port is one that nobody listens on, by UDP or TCP.
func Port(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10000 + rand.IntN(20000)
		at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := net.Listen("tcp", at)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", at)
		l.Close()
		if err == nil {
			u.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// Server is a server that runs.
type Server struct {
	Name string
	Dir  string
	Port int

	cmd   *exec.Cmd
	ended chan struct{}
	log   *journal
}

// journal is what a server says.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// Logs is what the server has said.
func (s *Server) Logs() string {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.text.String()
}

// prepared is a server's folder, which is the server's own.
func prepared(t testing.TB, name string) *Server {
	t.Helper()
	s := &Server{Name: name, Dir: filepath.Join(Folder(t), name), Port: Port(t), log: new(journal)}
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.give(t, s.Dir)
	return s
}

func (s *Server) give(t testing.TB, path string) {
	t.Helper()
	if as := Unprivileged(t); as != nil {
		if err := os.Chown(path, int(as.Uid), int(as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// write puts a file into the server's folder.
func (s *Server) write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.give(t, path)
	return path
}

// start runs the program until the test is over, and returns when ready says nothing any more.
func (s *Server) start(t testing.TB, ready func() error, program string, args ...string) {
	t.Helper()
	path, err := find(program)
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(path, args...)
	s.cmd.Dir = s.Dir
	s.cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: Unprivileged(t), Setpgid: true}
	endWithUs(s.cmd.SysProcAttr)
	s.ended = make(chan struct{})
	started := make(chan error)
	go func() {
		// To the system, we have ended when the thread has that started the server.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			s.cmd.Wait()
			close(s.ended)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			logs := s.Logs()
			t.Logf("%s said last:\n%s", s.Name, logs[max(0, len(logs)-6000):])
		}
	})
	Eventually(t, s.Name+" is ready", func() error {
		select {
		case <-s.ended:
			t.Fatalf("%s has ended:\n%s", s.Name, s.Logs())
		default:
		}
		return ready()
	})
}

// Stop ends the server, with what it has started.
func (s *Server) Stop() {
	select {
	case <-s.ended:
		return
	default:
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(5 * time.Second):
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.ended
	}
}

// find is where a program is: servers are not in everybody's PATH.
func find(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	path, err := exec.LookPath("/usr/sbin/" + program)
	if err != nil {
		return "", fmt.Errorf("%s is not installed; tools/need %s installs it: %w", program, program, err)
	}
	return path, nil
}

// Eventually waits until try has no error.
func Eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not in %v: %v", what, patience, err)
		}
	}
}
