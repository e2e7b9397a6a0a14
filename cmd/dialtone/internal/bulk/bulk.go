// Package bulk makes a bulk change for the command account bulk, together with the servers that run.
//
// Nothing is changed until the accounts have been counted and the number has been confirmed. If the command is
// interrupted, or anything fails, the rest of the bulk change is cancelled. If it is killed, servers continue the
// change.
//
// Run counts and changes accounts as servers do, in the same short transactions (operator.Service.WorkBulk). While
// servers do the work, it waits.
//
// The package neither asks nor prints.
package bulk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
)

// Service is what Run needs of *operator.Service.
type Service interface {
	StartBulk(context.Context, operator.Caller, *tenant.Tenant, operator.BulkAction, account.Query,
		string) (operator.Bulk, error)
	Bulk(context.Context, operator.Caller, *tenant.Tenant, operator.BulkID) (operator.Bulk, error)
	RunBulk(context.Context, operator.Caller, *tenant.Tenant, operator.BulkID, int64) (operator.Bulk, error)
	WorkBulk(context.Context) (operator.Bulk, error)
	CancelBulk(context.Context, operator.Caller, *tenant.Tenant, operator.BulkID) (operator.Bulk, error)
	Flush() error
}

// Options are the options of Run.
type Options struct {
	Caller operator.Caller
	Tenant *tenant.Tenant
	Action operator.BulkAction
	Query  account.Query
	Reason string
	// Confirm is called once the accounts have been counted. If it fails, nothing is changed.
	Confirm func(operator.Bulk) error
}

// Run makes a bulk change. If it returns an error, the bulk change has been cancelled, and its result tells how many
// accounts had been changed. Without an error, it has ended, maybe in the state operator.BulkFailed.
func Run(ctx context.Context, s Service, o Options) (operator.Bulk, error) {
	b, err := s.StartBulk(ctx, o.Caller, o.Tenant, o.Action, o.Query, o.Reason)
	if err != nil {
		return b, err
	}
	r := run{s, o, b}
	if err := errors.Join(r.run(ctx), s.Flush()); err != nil {
		return r.cancel(context.WithoutCancel(ctx), err)
	}
	return r.bulk, nil
}

// run is a call of Run.
type run struct {
	service Service
	o       Options
	bulk    operator.Bulk
}

func (r *run) run(ctx context.Context) error {
	if err := r.work(ctx, operator.BulkCounting); err != nil {
		return err
	}
	if err := r.o.Confirm(r.bulk); err != nil {
		return err
	}
	var err error
	if r.bulk, err = r.service.RunBulk(ctx, r.o.Caller, r.o.Tenant, r.bulk.ID, r.bulk.Found); err != nil {
		return err
	}
	return r.work(ctx, operator.BulkRunning)
}

// work works on the bulk change, together with running servers, until it leaves a state.
func (r *run) work(ctx context.Context, state operator.BulkState) error {
	const interval = 50 * time.Millisecond
	for {
		_, err := r.service.WorkBulk(ctx)
		idle := errors.Is(err, operator.ErrNoBulk)
		if err != nil && !idle {
			return err
		}
		if r.bulk, err = r.service.Bulk(ctx, r.o.Caller, r.o.Tenant, r.bulk.ID); err != nil || r.bulk.State != state {
			return err
		}
		if idle {
			select {
			case <-time.After(interval):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// cancel cancels the bulk change after an error, which it returns.
func (r *run) cancel(ctx context.Context, err error) (operator.Bulk, error) {
	after, cancelErr := r.service.CancelBulk(ctx, r.o.Caller, r.o.Tenant, r.bulk.ID)
	if after.Done > 0 {
		err = fmt.Errorf("%w; the bulk change was cancelled after %s", err, terminal.Counted(after.Done, "account"))
	}
	return after, errors.Join(err, cancelErr)
}
