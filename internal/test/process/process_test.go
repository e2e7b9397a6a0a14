package process_test

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"dialtone/internal/test/process"
)

// start runs a shell script whose output goes to the log.
func start(t *testing.T, script string) (*process.Process, *process.Log) {
	t.Helper()
	log := new(process.Log)
	p := process.Run(t, exec.Command("sh", "-c", script), log, func() error {
		if log.Count("ready") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	return p, log
}

func TestStop(t *testing.T) {
	t.Run("by the signal", func(t *testing.T) {
		p, log := start(t, `trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.01; done`)
		if err := p.Stop(syscall.SIGTERM, process.Timeout); err != nil {
			t.Error(err)
		}
		if !p.Ended() || log.Count("bye") != 1 {
			t.Errorf("ended: %v, output: %s", p.Ended(), log)
		}
		if err := p.Stop(syscall.SIGTERM, process.Timeout); err != nil {
			t.Errorf("stopped twice: %v", err)
		}
	})
	t.Run("kills the process group after the timeout", func(t *testing.T) {
		// Stop returns only when the child, too, has closed its end of the output.
		p, _ := start(t, `trap '' TERM; (trap '' TERM; sleep 600) & echo ready; wait`)
		err := p.Stop(syscall.SIGTERM, 50*time.Millisecond)
		if err == nil || !strings.Contains(err.Error(), "was killed") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWaitReady(t *testing.T) {
	p, err := process.Start(exec.Command("sh", "-c", "exit 3"), syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	notReady := errors.New("no answer")
	err = p.WaitReady(t.Context(), func() error { return notReady })
	if !errors.Is(err, notReady) || !strings.Contains(err.Error(), "the process has ended") {
		t.Errorf("a process that ended: %v", err)
	}
	if <-p.Done(); p.ExitCode() != 3 {
		t.Errorf("exit code %d", p.ExitCode())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = process.Poll(ctx, func() error { return notReady })
	if !errors.Is(err, notReady) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the timeout: %v", err)
	}
}

func TestFreePort(t *testing.T) {
	address := process.Address(t)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := process.Answers(address)(); err != nil {
		t.Error(err)
	}
}

func TestTail(t *testing.T) {
	var log process.Log
	log.Write([]byte("short\n"))
	if got := log.Tail(); got != "short\n" {
		t.Errorf("got %q", got)
	}
	for range 2000 {
		log.Write([]byte("line\n"))
	}
	if got := log.Tail(); len(got) > 8<<10 || !strings.HasPrefix(got, "line\nline\n") {
		t.Errorf("got %d bytes that begin with %q", len(got), got[:10])
	}
}
