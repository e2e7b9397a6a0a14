package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
)

type accountBulk struct {
	tenantFlag
	Action string `arg:"" enum:"disable,enable,delete" help:"disable, enable or delete."`
	accountFilter
	reasonFlag
	Count *int64 `placeholder:"N" help:"Do not ask, and do it only if this many accounts are found."`
	Yes   bool   `help:"Do not ask, however many accounts are found."`
	JSON  bool   `name:"json" help:"Print JSON."`
}

// Help is what "dialtone account bulk --help" adds.
func (accountBulk) Help() string {
	return "The accounts that the filters select are counted first, and the newest are listed. On a terminal, their " +
		"number has to be typed; elsewhere it has to be given with --count. Accounts that sign up meanwhile are left " +
		"out, and so are those with the role admin unless --role names it. Running servers help with the work and " +
		"continue it if this command is killed; if it is interrupted, it cancels the rest. " + timeHelp
}

// bulkView is a bulk change as commands print it.
type bulkView struct {
	ID      string              `json:"bulk"`
	Action  operator.BulkAction `json:"action"`
	Tenant  string              `json:"tenant"`
	State   operator.BulkState  `json:"state"`
	Found   int64               `json:"found"`
	Changed int64               `json:"changed"`
	Failure string              `json:"failure"`
	Reason  string              `json:"reason"`
	Started time.Time           `json:"started"`
}

// bulk is a bulk change that a command makes.
type bulk struct {
	p       *program
	in      *installation
	service *operator.Service
	caller  operator.Caller
	tenant  *tenant.Tenant
	operator.Bulk
}

func (c *accountBulk) Run(p *program) error {
	q, err := c.query(time.Now())
	if err != nil {
		return err
	}
	if q.Empty() {
		return usageError{fault.New(fault.Invalid,
			"this would change all accounts; choose some by at least one filter")}
	}
	if err := audit.CheckReason(c.Reason); err != nil {
		return usageError{err}
	}
	return p.at(c.Tenant, func(in *installation, _ *account.Service, t *tenant.Tenant) error {
		b := &bulk{p: p, in: in, tenant: t, service: p.operators(in), caller: p.caller()}
		var err error
		b.Bulk, err = b.service.StartBulk(p.ctx, b.caller, t, operator.BulkAction(c.Action), q, c.Reason)
		if err != nil {
			return err
		}
		if err := errors.Join(b.run(c), b.service.Flush()); err != nil {
			return b.cancel(err)
		}
		return b.print(c)
	})
}

// run counts the accounts, asks, and changes them.
func (b *bulk) run(c *accountBulk) error {
	if err := b.work(operator.BulkCounting); err != nil {
		return err
	}
	if !c.JSON {
		if err := b.preview(); err != nil {
			return err
		}
	}
	switch terminal := b.p.atTerminal(); {
	case c.Count != nil && *c.Count != b.Found:
		return fault.New(fault.Conflict, "%s found, and not %d; nothing was changed",
			counted(b.Found, "account"), *c.Count)
	case c.Count != nil, c.Yes, b.Found == 0:
	case !terminal:
		return fault.New(fault.Conflict, "%s found; nothing was changed; to %s them, add --count %d",
			counted(b.Found, "account"), c.Action, b.Found)
	default:
		number := strconv.FormatInt(b.Found, 10)
		question := fmt.Sprintf("Type the number of accounts, %s, to %s them", number, c.Action)
		if b.Action == operator.BulkDelete {
			question = "This cannot be undone. " + question
		}
		if err := b.p.ask(question, number); err != nil {
			return err
		}
	}
	var err error
	if b.Bulk, err = b.service.RunBulk(b.p.ctx, b.caller, b.tenant, b.ID, b.Found); err != nil {
		return err
	}
	return b.work(operator.BulkRunning)
}

// work waits until the bulk change leaves a state, and does what no server does.
func (b *bulk) work(state operator.BulkState) error {
	const interval = 50 * time.Millisecond
	for {
		_, err := b.service.WorkBulk(b.p.ctx)
		idle := errors.Is(err, operator.ErrNoBulk)
		if err != nil && !idle {
			return err
		}
		if b.Bulk, err = b.service.Bulk(b.p.ctx, b.caller, b.tenant, b.ID); err != nil || b.State != state {
			return err
		}
		if idle {
			if err := b.p.wait(interval); err != nil {
				return err
			}
		}
	}
}

// preview prints how many accounts were found, and the newest.
func (b *bulk) preview() error {
	const newest = 10
	list, err := b.service.PreviewBulk(b.p.ctx, b.caller, b.tenant, b.ID, newest)
	if err != nil {
		return err
	}
	if err := b.p.say("%s found at %s", counted(b.Found, "account"), b.tenant.Host); err != nil || len(list) == 0 {
		return err
	}
	err = b.p.printAccounts(func(each func(account.Account) error) error {
		for _, a := range list {
			if err := each(a); err != nil {
				return err
			}
		}
		return nil
	})
	if more := b.Found - int64(len(list)); err == nil && more > 0 {
		err = b.p.say("and %d more", more)
	}
	return err
}

// cancel cancels the bulk change after an error, which it returns.
func (b *bulk) cancel(err error) error {
	ctx := context.WithoutCancel(b.p.ctx)
	after, cancelErr := b.service.CancelBulk(ctx, b.caller, b.tenant, b.ID)
	if after.Done > 0 {
		err = fmt.Errorf("%w; the bulk change was cancelled after %s", err, counted(after.Done, "account"))
	}
	if after.Action == operator.BulkDelete && after.Done > 0 {
		b.p.eraseDeleted(b.in)
	}
	return errors.Join(err, cancelErr)
}

// print prints the outcome. It fails if not all accounts were changed.
func (b *bulk) print(c *accountBulk) error {
	if b.Action == operator.BulkDelete && b.Done > 0 {
		b.p.eraseDeleted(b.in)
	}
	var err error
	if c.JSON {
		err = json.NewEncoder(b.p.stdout).Encode(bulkView{
			b.ID.String(), b.Action, b.tenant.Host, b.State, b.Found, b.Done, b.Failure, b.Cause.Reason, b.Made,
		})
	} else {
		err = b.p.say("%sd %s", c.Action, counted(b.Done, "account"))
	}
	switch {
	case err != nil:
		return err
	case b.State == operator.BulkFailed:
		return errors.New(b.Failure)
	case b.State == operator.BulkCancelled:
		return fault.New(fault.Conflict, "somebody cancelled the bulk change")
	}
	return nil
}
