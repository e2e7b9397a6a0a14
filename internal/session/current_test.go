package session_test

import (
	"testing"
	"time"

	"dialtone/internal/session"
	"dialtone/internal/test/world"
)

func TestFresh(t *testing.T) {
	now := world.Noon
	for name, c := range map[string]struct {
		how  session.How
		age  time.Duration
		want bool
	}{
		"password, just now":         {session.ByPassword, 0, true},
		"password, almost 15 min":    {session.ByPassword, session.FreshFor - time.Second, true},
		"password, 15 min":           {session.ByPassword, session.FreshFor, false},
		"password, days":             {session.ByPassword, 72 * time.Hour, false},
		"code, days":                 {session.ByCode, 72 * time.Hour, true},
		"passkey, days":              {session.ByPasskey, 72 * time.Hour, true},
		"password, a clock is ahead": {session.ByPassword, -30 * time.Second, true},
	} {
		if got := (session.Current{How: c.how, Began: now.Add(-c.age)}).Fresh(now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
