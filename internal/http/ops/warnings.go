package ops

import (
	"fmt"
	"strings"
	"time"

	"dialtone/internal/operator"
	"dialtone/internal/stats"
)

// SilentProxy begins the warning about a proxy that does not say where requests come from.
const SilentProxy = "the proxy sends no X-Forwarded-For"

// maxHookDelay is the age of the oldest notification above which a hook has a backlog.
const maxHookDelay = time.Minute

// Hooks returns a Warning if hooks have a backlog at a time.
func Hooks(list []operator.HookBacklog, now time.Time) error {
	var late []string
	for _, h := range list {
		if h.Waiting > stats.MaxCounted || h.Waiting > 0 && now.Sub(h.Oldest) > maxHookDelay {
			late = append(late, fmt.Sprintf("%s: %s, the oldest from %s", h.Name, h.Waiting,
				h.Oldest.UTC().Format(time.RFC3339)))
		}
	}
	if late != nil {
		return Warning("notifications wait for hooks: " + strings.Join(late, "; "))
	}
	return nil
}

// maxClockDifference is how much the clocks of this machine and of the database may differ.
const maxClockDifference = 2 * time.Second

// Clock returns a Warning if the clock of the database, which was read between before and after, differs from that of
// this machine.
func Clock(before, theirs, after time.Time) error {
	const text = "the clock is %s that of the database by %v; correct one of them"
	if ahead := before.Round(0).Sub(theirs); ahead > maxClockDifference {
		return Warning(fmt.Sprintf(text, "ahead of", ahead.Round(time.Millisecond)))
	}
	if behind := theirs.Sub(after.Round(0)); behind > maxClockDifference {
		return Warning(fmt.Sprintf(text, "behind", behind.Round(time.Millisecond)))
	}
	return nil
}
