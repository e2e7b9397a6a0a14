package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"dialtone/internal/outage"
)

// supervisor tells systemd, or another supervisor that sets NOTIFY_SOCKET, about the state of the
// server, as sd_notify(3) describes. Without that variable its methods do nothing.
type supervisor struct {
	failed *outage.Log
}

func newSupervisor(log *slog.Logger) *supervisor {
	return &supervisor{outage.New(log, "supervisor not notified", "supervisor notified again", time.Now)}
}

func (v *supervisor) tell(state string) {
	_, err := daemon.SdNotify(false, state)
	v.failed.Report(context.Background(), err)
}

// ready says that the server serves, at the start and after reloading.
func (v *supervisor) ready() { v.tell(daemon.SdNotifyReady) }

// reloading says that the server reads its configuration again. A call of ready must follow.
func (v *supervisor) reloading() {
	v.tell(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// stopping says that the server ends.
func (v *supervisor) stopping() { v.tell(daemon.SdNotifyStopping) }

// watchdog returns a task that reports while progress returns nil, four times in the time within which the
// supervisor wants a report. If the reports stay away, the supervisor kills the server and starts it again.
// It returns nil where the supervisor has no watchdog.
func (v *supervisor) watchdog(log *slog.Logger, progress func() error) func(context.Context) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("watchdog of the supervisor not used", "err", err)
	}
	if limit <= 0 {
		return nil
	}
	stalled := outage.New(log, "no progress; supervisor not notified", "progress again", time.Now)
	return every(limit/4, func(ctx context.Context) {
		err := progress()
		stalled.Report(ctx, err)
		if err == nil {
			v.tell(daemon.SdNotifyWatchdog)
		}
	})
}
