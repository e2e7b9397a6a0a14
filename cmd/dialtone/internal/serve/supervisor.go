package serve

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"dialtone/internal/outage"
)

// supervisor reports the state of the server to systemd, or to another supervisor that sets NOTIFY_SOCKET, as
// sd_notify(3) describes. Without that variable its methods do nothing.
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

// ready reports that the server serves requests, after the start and after reloading.
func (v *supervisor) ready() { v.tell(daemon.SdNotifyReady) }

// reloading reports that the server reads its configuration again. A call of ready must follow.
func (v *supervisor) reloading() {
	v.tell(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// stopping reports that the server is ending.
func (v *supervisor) stopping() { v.tell(daemon.SdNotifyStopping) }

// watchdog returns a task that notifies the supervisor while progress returns nil, four times per watchdog interval.
// Without notifications, the supervisor kills and restarts the server. It returns nil if the supervisor has no
// watchdog.
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
