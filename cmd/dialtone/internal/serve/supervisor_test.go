package serve

import (
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"dialtone/internal/test/process"
)

// The watchdog hears nothing of a server that makes no progress.
func TestWatchdogWithoutProgress(t *testing.T) {
	socket := process.ListenForNotifications(t)
	t.Setenv("NOTIFY_SOCKET", socket.Path)
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
	if got := socket.Any(t); got != "WATCHDOG=1" || asked.Load() <= stalled {
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
