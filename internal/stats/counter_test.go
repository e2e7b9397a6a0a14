package stats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// store keeps counts in memory, and fails with err if it is set.
type store struct {
	stats.Store
	err    error
	writes [][]stats.Count
}

func (s *store) AddCounts(_ context.Context, list []stats.Count) error {
	if s.err == nil {
		s.writes = append(s.writes, slices.Clone(list))
	}
	return s.err
}

// last returns the last write in a short form.
func (s *store) last() (list []string) {
	for _, c := range s.writes[len(s.writes)-1] {
		list = append(list, fmt.Sprint(c.Tenant, " ", c.Day, " ", c.Kind, " ", c.N))
	}
	return list
}

func newCounter(s *store, now *time.Time) *stats.Counter {
	hosts := map[string]*tenant.Tenant{"one.test": {ID: 1}, "two.test": {ID: 2}}
	return stats.NewCounter(s, func(host string) (*tenant.Tenant, bool) {
		t, ok := hosts[host]
		return t, ok
	}, func() time.Time { return *now })
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestObserve(t *testing.T) {
	for _, c := range []struct {
		action          audit.Action
		outcome, detail string
		want            []stats.Kind
	}{
		{audit.Signup, "ok", "", []stats.Kind{stats.Signup}},
		{audit.Signup, "repeated", "", nil},
		{audit.Signup, "captcha_failed", "", []stats.Kind{stats.SignupCaptcha}},
		{audit.Signup, "conflict", "", []stats.Kind{stats.SignupTaken}},
		{audit.Signup, "rate_limited", "address", []stats.Kind{stats.SignupLimit}},
		{audit.Signup, "invalid_request", "user", []stats.Kind{stats.SignupInvalid}},
		{audit.Signup, "signups_closed", "", []stats.Kind{stats.SignupClosed}},
		{audit.Signup, "overloaded", "", []stats.Kind{stats.SignupFailed}},
		{audit.Signup, "server_error", "", []stats.Kind{stats.SignupFailed}},
		{audit.Activate, "ok", "", []stats.Kind{stats.Activation}},
		{audit.Activate, "opened", "", nil},
		{audit.Activate, "already_active", "", nil},
		{audit.Confirm, "ok", "", []stats.Kind{stats.Confirmation}},
		{audit.Confirm, "ok", stats.Activated, []stats.Kind{stats.Activation, stats.Confirmation}},
		{audit.Confirm, "ok", stats.Repeated, nil},
		{audit.Confirm, "denied", "", nil},
		{audit.SignIn, "ok", "", []stats.Kind{stats.SignIn}},
		{audit.SignIn, "denied", "", []stats.Kind{stats.SignInRefused}},
		{audit.SignIn, "rate_limited", "", []stats.Kind{stats.SignInRefused}},
		{audit.SignIn, "code_wrong", "", []stats.Kind{stats.SignInRefused}},
		{audit.SignIn, "code_needed", "", nil},
		{audit.SignIn, "passkey_needed", "", nil},
		{audit.SignOut, "ok", "", nil},
	} {
		s, now := new(store), noon
		counter := newCounter(s, &now)
		counter.Observe(audit.Event{Action: c.action, Outcome: c.outcome, Detail: c.detail, Tenant: "one.test"})
		if err := counter.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []stats.Kind
		for _, w := range s.writes {
			for _, n := range w {
				got = append(got, n.Kind)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s %s %s counts as %v, want %v", c.action, c.outcome, c.detail, got, c.want)
		}
	}
}

// Events of tenants that do not exist are not counted.
func TestObserveUnknownTenant(t *testing.T) {
	s, now := new(store), noon
	c := newCounter(s, &now)
	for _, host := range []string{"", "three.test", "ONE.TEST", "one.test.", "one.test:80"} {
		c.Observe(audit.Event{Action: audit.Signup, Outcome: "ok", Tenant: host})
	}
	if err := c.Flush(t.Context()); err != nil || len(s.writes) != 0 {
		t.Errorf("%v, %v", s.writes, err)
	}
}

func TestFlush(t *testing.T) {
	s, now := new(store), time.Date(2026, 3, 1, 23, 59, 59, 0, time.UTC)
	c := newCounter(s, &now)
	c.Add(2, stats.SignIn)
	c.Add(1, stats.Lookup)
	for range 3 {
		c.Add(1, stats.Signup)
	}
	flush := func() {
		t.Helper()
		if err := c.Flush(t.Context()); !errors.Is(err, s.err) {
			t.Fatal(err)
		}
	}
	flush()
	want(t, s.last(), "1 2026-03-01 lookup 1", "1 2026-03-01 signup 3", "2 2026-03-01 signin 1")
	if flush(); len(s.writes) != 1 {
		t.Error("a flush without new counts writes")
	}
	// While the store fails, counts are kept separately for each day.
	s.err = errors.New("the store is gone")
	c.Add(1, stats.Signup)
	flush()
	now = now.Add(time.Second)
	c.Add(1, stats.Signup)
	c.Add(1, stats.Signup)
	flush()
	s.err = nil
	flush()
	want(t, s.last(), "1 2026-03-01 signup 1", "1 2026-03-02 signup 2")
	// Counts that may have been written are not written again.
	s.err = fault.ErrInDoubt
	c.Add(1, stats.Signup)
	flush()
	s.err = nil
	if flush(); len(s.writes) != 2 {
		t.Errorf("written again: %v", s.last())
	}
}

func TestNilCounter(t *testing.T) {
	var c *stats.Counter
	c.Add(1, stats.Signup)
}

func TestSeries(t *testing.T) {
	day := stats.DayOf(noon)
	days, total := stats.Series([]stats.Count{
		{1, day, stats.Signup, 3}, {1, day - 2, stats.Signup, 1}, {1, day - 3, stats.Signup, 100},
		{1, day, "of a later version", 7},
	}, day-2, day)
	var got []string
	for _, d := range days {
		got = append(got, fmt.Sprint(d.Day, " ", d.Counts[stats.Signup], " ", len(d.Counts)))
	}
	want(t, got, "2026-02-27 1 15", "2026-02-28 0 15", "2026-03-01 3 15")
	if total[stats.Signup] != 4 || len(total) != len(stats.Kinds) {
		t.Errorf("the sums are %v", total)
	}
}

func TestDay(t *testing.T) {
	for text, at := range map[string]time.Time{
		"1970-01-01": time.Unix(0, 0), "1969-12-31": time.Unix(-1, 0), "2026-03-01": noon,
		"2024-02-29": time.Date(2024, 2, 29, 23, 59, 59, 999, time.UTC),
		"2026-11-28": time.Date(2026, 11, 29, 1, 0, 0, 0, time.FixedZone("", 2*60*60)),
	} {
		d := stats.DayOf(at)
		if d.String() != text {
			t.Errorf("the day of %v is %v, want %v", at, d, text)
		}
		var read stats.Day
		b, err := json.Marshal(d)
		if err != nil || json.Unmarshal(b, &read) != nil || read != d {
			t.Errorf("%s as JSON: %s, %v", text, b, err)
		}
	}
}

func TestBounded(t *testing.T) {
	for n, want := range map[stats.Bounded]string{0: "0", 1000: "1000", 1001: "more than 1000"} {
		if n.String() != want {
			t.Errorf("%d: %s", int64(n), n)
		}
	}
}

func TestKinds(t *testing.T) {
	if len(stats.Kinds) != 15 { // numKinds
		t.Errorf("%d kinds", len(stats.Kinds))
	}
}

// BenchmarkObserve measures the cost of counting an event.
func BenchmarkObserve(b *testing.B) {
	now := time.Now()
	c := newCounter(new(store), &now)
	e := audit.Event{Action: audit.Signup, Outcome: "ok", Tenant: "one.test"}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			c.Observe(e)
		}
	})
}
