package outage_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/outage"
)

func TestReport(t *testing.T) {
	var text strings.Builder
	options := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	l := outage.New(slog.New(slog.NewTextHandler(&text, options)), "refresh failed", "refresh works again",
		func() time.Time { return now })
	ctx := t.Context()
	down := errors.New("down")
	l.Report(ctx, nil)
	for range 400 { // two minutes
		l.Report(ctx, down, "retry_in", "300ms")
		now = now.Add(300 * time.Millisecond)
	}
	l.Report(ctx, nil, "retry_in", "300ms", "hook", "crm")
	l.Report(ctx, nil)
	l.Report(ctx, down)
	now = now.Add(-time.Hour) // the clock is set back
	l.Report(ctx, down)
	l.Report(ctx, nil)
	ended, end := context.WithCancel(ctx)
	end()
	l.Report(ended, down)
	want := []string{
		`level=ERROR msg="refresh failed" retry_in=300ms err=down`,
		`level=ERROR msg="refresh failed" retry_in=300ms since=2026-03-01T12:00:00Z failures=201 err=down`,
		`level=WARN msg="refresh works again" hook=crm after=2m0s failures=400`,
		`level=ERROR msg="refresh failed" err=down`,
		`level=ERROR msg="refresh failed" since=2026-03-01T12:02:00Z failures=2 err=down`,
		`level=WARN msg="refresh works again" after=-1h0m0s failures=2`,
	}
	if got := strings.Split(strings.TrimSpace(text.String()), "\n"); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
