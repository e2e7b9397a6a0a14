package hook_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/hook"
	"dialtone/internal/store"
)

// faultyQueue is a store whose methods fail while its fields are set.
type faultyQueue struct {
	*store.Store
	due, claim, report        atomic.Bool
	dueCalls, claims, reports atomic.Int64
}

var errBroken = errors.New("broken by the test")

func (q *faultyQueue) Due(ctx context.Context, now time.Time) ([]hook.Hook, error) {
	q.dueCalls.Add(1)
	if q.due.Load() {
		return nil, errBroken
	}
	return q.Store.Due(ctx, now)
}

func (q *faultyQueue) Claim(
	ctx context.Context, id hook.ID, now, until time.Time, limit int,
) ([]hook.Notification, error) {
	q.claims.Add(1)
	if q.claim.Load() {
		return nil, errBroken
	}
	return q.Store.Claim(ctx, id, now, until, limit)
}

func (q *faultyQueue) Report(ctx context.Context, results []hook.Result, now time.Time) error {
	q.reports.Add(1)
	if q.report.Load() {
		return errBroken
	}
	return q.Store.Report(ctx, results, now)
}

// sendFunc is a hook.Transport that calls a function.
type sendFunc func(hook.Notification) error

func (f sendFunc) Send(_ context.Context, _ hook.Hook, _ hook.Secret, n hook.Notification) error {
	return f(n)
}

func (f sendFunc) Test(context.Context, hook.Hook, hook.Secret) (string, error) { return "", nil }

// startOn runs a Dispatcher on a queue, with a transport that calls send, until the test ends.
func (f *fixture) startOn(q hook.Queue, send sendFunc, forget func(account.UID)) {
	d := hook.NewDispatcher(hook.Deps{
		Queue:      q,
		Transports: map[hook.Kind]hook.Transport{hook.Webhook: send},
		SealRing:   f.SealRing,
		Log:        slog.New(slog.NewTextHandler(f.Log, nil)),
		Now:        f.Now,
		Forget:     forget,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	f.Cleanup(func() { cancel(); <-done })
}

// TestQueueFaults checks that a Dispatcher continues after each fault of the store, and logs it.
func TestQueueFaults(t *testing.T) {
	f := newFixture(t)
	q := &faultyQueue{Store: f.Store}
	f.addHook("a", "http://127.0.0.1:1/")
	f.addActive("ann", "bob", "cid")
	var sent atomic.Int64
	f.startOn(q, func(hook.Notification) error { sent.Add(1); return nil }, nil)

	f.Disable("ann")
	f.delivered("a")
	if n := f.Log.Count("level="); n != 0 {
		t.Errorf("without a fault, there are %d lines in the log:\n%s", n, f.Log)
	}

	q.due.Store(true)
	calls := q.dueCalls.Load()
	f.Eventually("the queue is read again", func() bool { return q.dueCalls.Load() >= calls+3 })
	if n := f.Log.Count(`level=ERROR msg="hook queue read failed"`); n != 1 {
		t.Errorf("several failed reads were logged %d times, want once", n)
	}
	q.due.Store(false)

	q.claim.Store(true)
	f.Disable("bob")
	f.Eventually("the failed claim is logged", func() bool {
		return f.Log.Count(`level=ERROR msg="hook claim failed" hook=a`) > 0
	})
	q.claim.Store(false)
	f.delivered("a")

	q.report.Store(true)
	before := sent.Load()
	f.Disable("cid")
	f.Eventually("the failed report is logged", func() bool {
		return f.Log.Count(`level=ERROR msg="hook results not saved`) == 1
	})
	q.report.Store(false)
	f.Advance(time.Minute) // past the end of the claim
	f.delivered("a")
	if n := sent.Load() - before; n != 2 {
		t.Errorf("the notification was sent %d times, want twice", n)
	}
}

// TestForgetBeforeCall checks that an account is forgotten before the server is called.
func TestForgetBeforeCall(t *testing.T) {
	f := newFixture(t)
	f.addHook("a", "http://127.0.0.1:1/")
	f.addActive("ann")
	var forgotten atomic.Value
	var early atomic.Bool
	f.startOn(f.Store, func(n hook.Notification) error {
		uid, _ := forgotten.Load().(account.UID)
		early.Store(uid == n.Account && uid != account.UID{})
		return nil
	}, func(uid account.UID) { forgotten.Store(uid) })
	f.Disable("ann")
	f.delivered("a")
	if !early.Load() {
		t.Error("the account was not forgotten before the call")
	}
}

// TestFailureIsLoggedOnce checks that the failure and the recovery of a hook are each logged once.
func TestFailureIsLoggedOnce(t *testing.T) {
	f := newFixture(t)
	f.addHook("a", "http://127.0.0.1:1/")
	f.addActive("ann", "bob", "cid")
	var fails atomic.Bool
	var sent atomic.Int64
	fails.Store(true)
	f.startOn(f.Store, func(hook.Notification) error {
		sent.Add(1)
		if fails.Load() {
			return errBroken
		}
		return nil
	}, nil)
	f.Disable("ann", "bob")
	for i := range 3 {
		before := sent.Load()
		f.Eventually("both are sent again", func() bool { return sent.Load() >= before+2 })
		f.Eventually("both wait", func() bool { return !f.dueIn(0) })
		f.Eventually("the failure is logged", func() bool { return f.Log.Count(`level=WARN msg="hook failing`) > 0 })
		if n := f.Log.Count(`level=WARN msg="hook failing`); n > i+1 {
			t.Errorf("the failures were logged %d times within %d hours", n, i)
		}
		f.Advance(time.Hour)
	}
	if n := f.Log.Count(`back-off" hook=a err=`); n != 1 {
		t.Errorf("the start of the outage was logged %d times, want once", n)
	}
	fails.Store(false)
	f.Advance(time.Hour)
	f.delivered("a")
	f.Eventually("the recovery is logged", func() bool { return f.Log.Count("hook recovered") == 1 })
	f.Disable("cid")
	f.delivered("a")
	if n := f.Log.Count("hook recovered"); n != 1 {
		t.Errorf("the recovery was logged %d times, want once", n)
	}
}

// TestBatches checks that the next batch follows immediately if the server is available, and
// that none follows otherwise.
func TestBatches(t *testing.T) {
	for _, c := range []struct {
		name    string
		err     error
		waiting int64 // at the end
		claims  int64
	}{
		{"follow each other", nil, 0, 3},
		{"end with an unavailable server", hook.ErrUnavailable, 40, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			q := &faultyQueue{Store: f.Store}
			f.addHook("a", "http://127.0.0.1:1/")
			users := userNames(40) // a batch has 32
			f.addActive(users...)
			f.Disable(users...)
			f.startOn(q, func(hook.Notification) error {
				q.due.Store(true) // no other delivery begins
				return c.err
			}, nil)
			f.Eventually("the deliveries have ended", func() bool {
				return q.claims.Load() == c.claims && q.reports.Load() > 0 && f.state("a").Waiting == c.waiting
			})
		})
	}
}
