// Package process runs server programs for tests and for the benchmark program.
//
// This package ends a process that it has started by its process ID, together with its process
// group if it leads one. On Linux it also ends when the process that started it ends, even by
// SIGKILL; on other systems it keeps running then. A test that fails shows the end of the process's
// output.
//
// FreePort returns ports below the range that the system gives to clients, so that no client takes
// a server's port while the server is down. Every wait ends after Timeout.
package process

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Timeout is the longest that anything waits for a server. It allows for a busy machine.
const Timeout = time.Minute

// stopTimeout is how long Run waits for a process to end after SIGTERM.
const stopTimeout = 5 * time.Second

// Process is a process that was started.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts cmd. On Linux, the kernel sends the signal onParentExit to cmd when the calling
// process has ended.
func Start(cmd *exec.Cmd, onParentExit syscall.Signal) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	signalOnParentExit(cmd.SysProcAttr, onParentExit)
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// To Linux, the parent is the thread that started the process. Go ends the threads of
		// goroutines that end while they are locked, so this goroutine keeps its thread until the
		// process has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
			close(p.done)
		}
	}()
	return p, <-started
}

// Pid returns the process ID.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the process has ended and its output was read.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode returns the exit status of a process that has ended, and -1 if a signal ended it.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Ended reports whether the process has ended and its output was read.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Stop sends a signal and waits until the process has ended. A process that has not ended within
// timeout is killed, and Stop returns an error. It does nothing to a process that has ended.
func (p *Process) Stop(signal os.Signal, timeout time.Duration) error {
	if p.Ended() {
		return nil
	}
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(timeout):
		p.Kill()
		return fmt.Errorf("%s did not end within %v after the signal %v, and was killed",
			filepath.Base(p.cmd.Path), timeout, signal)
	}
}

// Kill ends the process by SIGKILL, with its process group where it leads one, and waits until it
// has ended.
func (p *Process) Kill() {
	if p.Ended() {
		return
	}
	if p.cmd.SysProcAttr.Setpgid {
		syscall.Kill(-p.Pid(), syscall.SIGKILL)
	} else {
		p.cmd.Process.Kill()
	}
	<-p.done
}

// WaitReady calls ready until it returns nil. It fails when the process ends before, or when ctx is
// done.
func (p *Process) WaitReady(ctx context.Context, ready func() error) error {
	return poll(ctx, p.done, ready)
}

// Poll calls try until it returns nil or ctx is done.
func Poll(ctx context.Context, try func() error) error { return poll(ctx, nil, try) }

// poll waits at least 10 ms between two calls of try, and twice as long as the last one took: a try that
// runs a command must not keep a processor from what it waits for.
func poll(ctx context.Context, ended <-chan struct{}, try func() error) error {
	for {
		start := time.Now()
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(max(10*time.Millisecond, 2*time.Since(start))):
		case <-ended:
			return fmt.Errorf("the process has ended; before that: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("%w; last error: %w", ctx.Err(), err)
		}
	}
}

// Holds returns a function for Poll and Eventually that fails while a condition is false.
func Holds(condition func() bool) func() error {
	return func() error {
		if !condition() {
			return errors.New("it does not hold")
		}
		return nil
	}
}

// Eventually calls try until it returns nil, and fails the test after Timeout.
func Eventually(t testing.TB, condition string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	if err := Poll(ctx, try); err != nil {
		t.Fatalf("%s: %v", condition, err)
	}
}

// Run starts cmd in a new process group, with its output in log, and waits until ready returns nil.
// It stops the process when the test is over.
func Run(t testing.TB, cmd *exec.Cmd, log *Log, ready func() error) *Process {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Stdout, cmd.Stderr = log, log
	name := filepath.Base(cmd.Path)
	p, err := Start(cmd, syscall.SIGTERM)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() {
		p.Stop(syscall.SIGTERM, stopTimeout) // some programs do not end by SIGTERM while they are busy
		if t.Failed() {
			t.Logf("the end of the output of %s:\n%s", name, log.Tail())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	if err := p.WaitReady(ctx, ready); err != nil {
		t.Fatalf("%s is not ready: %v", name, err)
	}
	return p
}

// Answers returns a condition for Run: something accepts TCP connections at address.
func Answers(address string) func() error {
	return func() error {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	}
}

// Find returns the path of a program. It also looks where servers are, which is not in the PATH of
// every user.
func Find(t testing.TB, program string) string {
	t.Helper()
	for _, name := range []string{program, "/usr/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed; make test installs it", program)
	return ""
}

// FreePort returns a port of 127.0.0.1 on which nothing listens, by TCP or UDP.
func FreePort() (int, error) {
	const lowest, highest = 10000, 32767
	var err error
	for range 100 {
		port := lowest + rand.IntN(highest-lowest+1)
		if err = portIsFree(net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, nil
		}
	}
	return 0, err
}

func portIsFree(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

// Port is FreePort for tests.
func Port(t testing.TB) int {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Address returns an address of 127.0.0.1 with a free port.
func Address(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(Port(t)))
}

// Unprivileged returns the first user that exists, for programs that must not or cannot run as
// root. It returns nil if the caller is not root: programs then run as the caller.
func Unprivileged(users ...string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	var u *user.User
	var err error
	for _, name := range users {
		if u, err = user.Lookup(name); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// Chown gives a file to the user that Unprivileged returned. It does nothing where that is nil.
func Chown(path string, owner *syscall.Credential) error {
	if owner == nil {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}
