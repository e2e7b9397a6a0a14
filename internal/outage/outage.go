// Package outage logs the failures of work that is repeated at short intervals.
//
// A database that is unavailable for an hour would otherwise fill the log with one line per attempt.
// A Log writes a line when the work begins to fail, one each minute while it fails, and one when it
// succeeds again. It does not repeat the work itself.
package outage

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// reminderInterval is the time between two lines about the same outage.
const reminderInterval = time.Minute

// Log logs the outages of one kind of work. It is safe for concurrent use.
type Log struct {
	log               *slog.Logger
	failed, recovered string
	level             slog.Level // of the lines while the work fails
	now               func() time.Time

	mu       sync.Mutex
	since    time.Time // zero while the work succeeds
	logged   time.Time
	failures int
}

// New returns a Log. The events are logged when the work fails, and when it succeeds after that.
func New(log *slog.Logger, failed, recovered string, now func() time.Time) *Log {
	return &Log{log: log, failed: failed, recovered: recovered, level: slog.LevelError, now: now}
}

// NewWarning is New for work whose failures do not affect the server. They are logged at the level WARN.
func NewWarning(log *slog.Logger, failed, recovered string, now func() time.Time) *Log {
	return &Log{log: log, failed: failed, recovered: recovered, level: slog.LevelWarn, now: now}
}

// Report must be called with the outcome of each attempt. The attributes are added to each
// line, except that retry_in is only added to lines about failures. An error after ctx is done
// is not a failure.
func (l *Log) Report(ctx context.Context, err error, attrs ...any) {
	if err != nil && ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	switch {
	case err == nil && l.since.IsZero():
	case err == nil:
		// It is logged at the level WARN, so that every log that contains the failure also contains the recovery.
		l.log.WarnContext(ctx, l.recovered, append(withoutRetry(attrs),
			"after", now.Sub(l.since).Round(time.Millisecond).String(), "failures", l.failures)...)
		l.since, l.failures = time.Time{}, 0
	case l.since.IsZero():
		l.since, l.logged, l.failures = now, now, 1
		l.log.Log(ctx, l.level, l.failed, append(attrs, "err", err)...)
	default:
		l.failures++
		// A clock that was set back must not silence the log.
		if wait := now.Sub(l.logged); wait >= reminderInterval || wait < 0 {
			l.logged = now
			l.log.Log(ctx, l.level, l.failed, append(attrs,
				"since", l.since.UTC().Format(time.RFC3339), "failures", l.failures, "err", err)...)
		}
	}
}

// withoutRetry returns attributes without retry_in.
func withoutRetry(attrs []any) []any {
	for i := 0; i+1 < len(attrs); i += 2 {
		if attrs[i] == "retry_in" {
			return slices.Concat(attrs[:i], attrs[i+2:])
		}
	}
	return attrs
}
