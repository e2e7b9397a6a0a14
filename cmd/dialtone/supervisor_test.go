package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/coreos/go-systemd/v22/daemon"

	"dialtone/internal/test/process"
)

// A supervisor learns that the server serves, reloads and stops, and that it makes progress.
func TestSupervisor(t *testing.T) {
	t.Parallel()
	socket := process.ListenForNotifications(t)
	p := start(t, launch{
		data: filepath.Join(t.TempDir(), "data"),
		env:  []string{"NOTIFY_SOCKET=" + socket.Path, "WATCHDOG_USEC=400000"},
	})
	if got := socket.Next(t); got != "READY=1" {
		t.Fatalf("the first notification is %q", got)
	}
	for range 3 {
		if got := socket.Any(t); got != "WATCHDOG=1" {
			t.Errorf("a server that makes progress reports %q", got)
		}
	}

	before := monotonic(t)
	if err := syscall.Kill(p.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=(\d+)\n$`).FindStringSubmatch(socket.Next(t))
	if m == nil {
		t.Fatal("a reload is not notified as sd_notify(3) wants it")
	}
	if at, err := strconv.ParseInt(m[1], 10, 64); err != nil || at < before || at > monotonic(t) {
		t.Errorf("the reload was at %s, and not after %d: %v", m[1], before, err)
	}
	if got := socket.Next(t); got != "READY=1" {
		t.Errorf("after the reload comes %q", got)
	}

	p.mustStop(t)
	if got := socket.Next(t); got != "STOPPING=1" {
		t.Errorf("at the end comes %q", got)
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
	socket := process.ListenForNotifications(t)
	socket.Close()
	p := start(t, launch{
		data: filepath.Join(t.TempDir(), "data"),
		env:  []string{"NOTIFY_SOCKET=" + socket.Path, "WATCHDOG_USEC=400000"},
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
