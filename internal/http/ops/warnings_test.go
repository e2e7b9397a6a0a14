package ops

import (
	"strings"
	"testing"
	"time"

	"dialtone/internal/operator"
	"dialtone/internal/stats"
)

func TestHooksWarning(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		h     operator.HookBacklog
		warns bool
	}{
		"nothing waits": {operator.HookBacklog{}, false},
		"young":         {operator.HookBacklog{Waiting: 1000, Oldest: now.Add(-time.Minute)}, false},
		"old":           {operator.HookBacklog{Waiting: 1, Oldest: now.Add(-61 * time.Second)}, true},
		"many":          {operator.HookBacklog{Waiting: stats.MaxCounted + 1, Oldest: now}, true},
	} {
		err := Hooks([]operator.HookBacklog{c.h}, now)
		if _, warns := err.(Warning); warns != c.warns {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClockWarning(t *testing.T) {
	before := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	after := before.Add(3 * time.Second) // a slow query
	for theirs, says := range map[time.Time]string{
		before: "", after: "", before.Add(-2 * time.Second): "", after.Add(2 * time.Second): "",
		before.Add(-2001 * time.Millisecond): "is ahead of that of the database by 2.001s;",
		after.Add(time.Hour):                 "is behind that of the database by 1h0m0s;",
	} {
		got := ""
		if err := Clock(before, theirs, after); err != nil {
			got = err.Error()
		}
		if (got == "") != (says == "") || !strings.Contains(got, says) {
			t.Errorf("%v: %q", theirs, got)
		}
	}
}
