// Package phonetest runs phone servers and phones for tests: Kamailio, coturn, Apache and nginx with
// the configurations of deploy/, a SIP phone, and sipp.
//
// The servers listen on 127.0.0.1 only. If the tests run as root, the servers run as the user
// "nobody", since what they may read is part of what is tested. They end with the test, and on Linux
// with the test process, even when that is killed.
package phonetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"dialtone/internal/test/process"
)

// TempDir returns a directory that the servers can enter. It is removed when the test is over.
func TempDir(t testing.TB) string {
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

// Config returns a file of deploy/ with some texts replaced. replace is old, new, old, new. If the
// file does not contain a text, the test fails.
func Config(t testing.TB, name string, replace ...string) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	deploy := filepath.Join(filepath.Dir(here), "..", "..", "..", "deploy")
	text, err := os.ReadFile(filepath.Join(deploy, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	s := string(text)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(s, replace[i]) {
			t.Fatalf("deploy/%s does not have %q, to be replaced by %q", name, replace[i], replace[i+1])
		}
		s = strings.ReplaceAll(s, replace[i], replace[i+1])
	}
	return s
}

// Unprivileged returns the user that the servers run as, or nil for the user of the tests.
func Unprivileged(t testing.TB) *syscall.Credential {
	t.Helper()
	as, err := process.Unprivileged("nobody")
	if err != nil {
		t.Fatal(err)
	}
	return as
}

// Chgrp gives a file to the group of the servers.
func Chgrp(t testing.TB, path string) {
	t.Helper()
	if as := Unprivileged(t); as != nil {
		if err := os.Chown(path, -1, int(as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// Server is a phone server with its own directory.
type Server struct {
	Name string
	Dir  string
	Port int
	// Control is how Server.RPC reaches a Kamailio. Its caller sets it.
	Control RPC

	log process.Log
}

// Logs returns the output of the server.
func (s *Server) Logs() string { return s.log.String() }

// WaitLog waits until the output of the server contains a text.
func (s *Server) WaitLog(t testing.TB, text string) {
	t.Helper()
	s.log.Wait(t, text)
}

// newServer makes the directory of a server and chooses its port.
func newServer(t testing.TB, name string) *Server {
	t.Helper()
	s := &Server{Name: name, Dir: filepath.Join(TempDir(t), name), Port: process.Port(t)}
	s.mkdir(t, "")
	return s
}

// chown gives a file to the server.
func (s *Server) chown(t testing.TB, path string) {
	t.Helper()
	if err := process.Chown(path, Unprivileged(t)); err != nil {
		t.Fatal(err)
	}
}

// mkdir makes a directory below the server's directory.
func (s *Server) mkdir(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	s.chown(t, path)
	return path
}

// Write writes a file in the server's directory, which only the server can read, and returns its
// path.
func (s *Server) Write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.chown(t, path)
	return path
}

// run runs the server until the test is over. It returns when ready returns nil.
func (s *Server) run(t testing.TB, ready func() error, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(process.Find(t, program), args...)
	cmd.Dir = s.Dir
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: Unprivileged(t)}
	process.Run(t, cmd, &s.log, ready)
}

// address returns the address that the server listens on.
func (s *Server) address() string { return "127.0.0.1:" + strconv.Itoa(s.Port) }
