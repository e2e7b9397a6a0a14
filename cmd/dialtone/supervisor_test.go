package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"dialtone/internal/test/process"
)

// notifications is the socket of a supervisor.
type notifications struct {
	*net.UnixConn
	path string
}

func listenForNotifications(t *testing.T) notifications {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return notifications{socket, path}
}

// next returns the next notification that is not one of the watchdog.
func (n notifications) next(t *testing.T) string {
	t.Helper()
	for {
		if text := n.any(t); text != daemon.SdNotifyWatchdog {
			return text
		}
	}
}

func (n notifications) any(t *testing.T) string {
	t.Helper()
	text := make([]byte, 1024)
	if err := n.SetReadDeadline(time.Now().Add(process.Timeout)); err != nil {
		t.Fatal(err)
	}
	size, err := n.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(text[:size])
}

// A supervisor learns that the server serves, reloads and stops, and that it makes progress.
func TestSupervisor(t *testing.T) {
	t.Parallel()
	socket := listenForNotifications(t)
	p := start(t, launch{
		data: filepath.Join(t.TempDir(), "data"),
		env:  []string{"NOTIFY_SOCKET=" + socket.path, "WATCHDOG_USEC=400000"},
	})
	if got := socket.next(t); got != "READY=1" {
		t.Fatalf("the first notification is %q", got)
	}
	for range 3 {
		if got := socket.any(t); got != "WATCHDOG=1" {
			t.Errorf("a server that makes progress reports %q", got)
		}
	}

	before := monotonic(t)
	if err := syscall.Kill(p.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=(\d+)\n$`).FindStringSubmatch(socket.next(t))
	if m == nil {
		t.Fatal("a reload is not notified as sd_notify(3) wants it")
	}
	if at, err := strconv.ParseInt(m[1], 10, 64); err != nil || at < before || at > monotonic(t) {
		t.Errorf("the reload was at %s, and not after %d: %v", m[1], before, err)
	}
	if got := socket.next(t); got != "READY=1" {
		t.Errorf("after the reload comes %q", got)
	}

	p.mustStop(t)
	if got := socket.next(t); got != "STOPPING=1" {
		t.Errorf("at the end comes %q", got)
	}
}

// A server that makes no progress does not notify the watchdog.
func TestWatchdogWithoutProgress(t *testing.T) {
	socket := listenForNotifications(t)
	t.Setenv("NOTIFY_SOCKET", socket.path)
	t.Setenv("WATCHDOG_USEC", "8000")
	const stalled = 20
	var asked atomic.Int64
	var logged process.Log
	log := slog.New(slog.NewTextHandler(&logged, nil))
	task := newSupervisor(log).watchdog(log, func() error {
		if asked.Add(1) <= stalled {
			return errors.New("the store hangs")
		}
		return nil
	})
	go task(t.Context())
	if got := socket.any(t); got != "WATCHDOG=1" || asked.Load() <= stalled {
		t.Errorf("%q came at attempt %d; the first %d found no progress", got, asked.Load(), stalled)
	}
	if text := logged.String(); !strings.Contains(text, "no progress") || !strings.Contains(text, "the store hangs") {
		t.Errorf("the log has %s", text)
	}

	t.Setenv("WATCHDOG_USEC", "")
	if newSupervisor(log).watchdog(log, nil) != nil {
		t.Error("there is a task for a supervisor without a watchdog")
	}
}

// monotonic returns the time of the clock that systemd uses, in microseconds.
func monotonic(t *testing.T) int64 {
	t.Helper()
	text := strings.TrimSpace(strings.TrimPrefix(daemon.SdNotifyMonotonicUsec(), "MONOTONIC_USEC="))
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// A supervisor that has exited does not disturb the server.
func TestSupervisorGone(t *testing.T) {
	t.Parallel()
	socket := listenForNotifications(t)
	socket.Close()
	p := start(t, launch{
		data: filepath.Join(t.TempDir(), "data"),
		env:  []string{"NOTIFY_SOCKET=" + socket.path, "WATCHDOG_USEC=400000"},
	})
	p.stderr.Wait(t, "supervisor not notified")
	p.mustStop(t)
}

// dialtone health asks the server that the configuration names.
func TestHealthCommand(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p := start(t, launch{data: data})
	address := strings.TrimPrefix(p.operators, "http://")
	health := func(environ ...string) (status int, stdout, stderr string) {
		var out, err bytes.Buffer
		status = run(t.Context(), []string{"health"}, environ, &out, &err)
		return status, out.String(), err.String()
	}
	ready := func(status int, says string) {
		t.Helper()
		process.Eventually(t, "dialtone health", func() error {
			got, out, err := health("DIALTONE_OPS_LISTEN=" + address)
			if got != status || !strings.Contains(out+err, says) {
				return &exec.Error{Name: "health", Err: os.ErrInvalid}
			}
			return nil
		})
	}
	ready(0, "ready\n")
	pickup := filepath.Join(data, "pickup")
	if err := os.Rename(pickup, pickup+".away"); err != nil {
		t.Fatal(err)
	}
	ready(exitFailed, "pickup: ")
	if err := os.Rename(pickup+".away", pickup); err != nil {
		t.Fatal(err)
	}
	ready(0, "ready\n")

	// Another program on the port, and none.
	if status, out, err := health("DIALTONE_OPS_LISTEN=" + p.address); status != exitFailed ||
		!strings.Contains(err, "is not Dialtone") {
		t.Errorf("status %d, %s%s", status, out, err)
	}
	p.mustStop(t)
	if status, out, err := health("DIALTONE_OPS_LISTEN=" + address); status != exitFailed ||
		!strings.Contains(err, "does not answer") {
		t.Errorf("status %d, %s%s", status, out, err)
	}
}

func TestReachable(t *testing.T) {
	for listen, want := range map[string]string{
		":8081": "127.0.0.1:8081", "0.0.0.0:8081": "127.0.0.1:8081", "[::]:8081": "[::1]:8081",
		"127.0.0.1:8081": "127.0.0.1:8081", "ops.example.org:8081": "ops.example.org:8081",
	} {
		if got := reachable(listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}
