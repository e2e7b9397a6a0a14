package bulk

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"dialtone/internal/account"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
)

// fakeService is a Service with one bulk change, of ten accounts. Each call of WorkBulk counts or changes one account,
// but every second call fails with operator.ErrNoBulk, as if a server held the lease.
type fakeService struct {
	b       operator.Bulk
	calls   int
	flushed bool
	fail    error  // of WorkBulk, after three changes
	stop    func() // called after three changes
}

func (f *fakeService) StartBulk(_ context.Context, _ operator.Caller, _ *tenant.Tenant, action operator.BulkAction,
	_ account.Query, _ string) (operator.Bulk, error) {
	f.b = operator.Bulk{Action: action, State: operator.BulkCounting}
	return f.b, nil
}

func (f *fakeService) Bulk(ctx context.Context, _ operator.Caller, _ *tenant.Tenant, _ operator.BulkID) (
	operator.Bulk, error) {
	return f.b, ctx.Err()
}

func (f *fakeService) RunBulk(_ context.Context, _ operator.Caller, _ *tenant.Tenant, _ operator.BulkID, _ int64) (
	operator.Bulk, error) {
	f.b.State = operator.BulkRunning
	return f.b, nil
}

func (f *fakeService) WorkBulk(ctx context.Context) (operator.Bulk, error) {
	if f.calls++; f.calls%2 == 0 {
		return operator.Bulk{}, operator.ErrNoBulk
	}
	switch f.b.State {
	case operator.BulkCounting:
		if f.b.Found++; f.b.Found == 10 {
			f.b.State = operator.BulkReady
		}
	case operator.BulkRunning:
		if f.b.Done == 3 && f.fail != nil {
			return f.b, f.fail
		}
		if f.b.Done++; f.b.Done == 3 && f.stop != nil {
			f.stop()
		}
		if f.b.Done == f.b.Found {
			f.b.State = operator.BulkDone
		}
	}
	return f.b, ctx.Err()
}

func (f *fakeService) CancelBulk(ctx context.Context, _ operator.Caller, _ *tenant.Tenant, _ operator.BulkID) (
	operator.Bulk, error) {
	f.b.State = operator.BulkCancelled
	return f.b, ctx.Err()
}

func (f *fakeService) Flush() error {
	f.flushed = true
	return nil
}

// A bulk change changes all accounts once it has been confirmed. After a failure or an interruption, the rest is
// cancelled.
func TestRun(t *testing.T) {
	refused, broken := errors.New("refused"), errors.New("broken")
	const after = "; the bulk change was cancelled after 3 accounts"
	for name, c := range map[string]struct {
		refuse, fail error
		interrupt    bool
		state        operator.BulkState
		done         int64
		want         string
	}{
		"whole":       {state: operator.BulkDone, done: 10},
		"refused":     {refuse: refused, state: operator.BulkCancelled, want: "refused"},
		"failure":     {fail: broken, state: operator.BulkCancelled, done: 3, want: "broken" + after},
		"interrupted": {interrupt: true, state: operator.BulkCancelled, done: 3, want: "context canceled" + after},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s := &fakeService{fail: c.fail}
				if c.interrupt {
					s.stop = cancel
				}
				var asked []int64
				b, err := Run(ctx, s, Options{Action: operator.BulkDisable, Confirm: func(b operator.Bulk) error {
					asked = append(asked, b.Found)
					return c.refuse
				}})
				if err == nil && c.want != "" || err != nil && err.Error() != c.want {
					t.Errorf("got %v, want %q", err, c.want)
				}
				if b.State != c.state || b.Done != c.done || s.b.State != c.state || !s.flushed {
					t.Errorf("got %+v, flushed: %v", b, s.flushed)
				}
				if !slices.Equal(asked, []int64{10}) {
					t.Errorf("asked with the numbers %v", asked)
				}
			})
		})
	}
}
