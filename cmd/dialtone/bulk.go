package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/tenant"
)

type accountBulk struct {
	tenantFlag
	Action string `arg:"" enum:"disable,enable,delete,list,cancel" help:"disable, enable, delete, list or cancel."`
	ID     string `arg:"" optional:"" help:"For cancel: which bulk change, as list prints it."`
	accountFilter
	stateReasonFlag
	Count *int64 `placeholder:"N" help:"Do not ask, and do it only if this many accounts are found."`
	Yes   bool   `help:"Do not ask, however many accounts are found."`
	JSON  bool   `name:"json" help:"Print JSON."`
}

// Help is what "dialtone account bulk --help" adds.
func (accountBulk) Help() string {
	return "The command first counts the accounts that the filters select, and lists some. On a terminal, you have " +
		"to type their number; elsewhere, give it with --count. Accounts that sign up after that are left out, and " +
		"so are those with the role admin unless --role names it. Running servers help with the work and continue " +
		"it if this command is killed; if it is interrupted, it cancels the rest. " + timeHelp +
		" The action list prints the newest bulk changes. cancel ID ends one, but does not undo what it has done."
}

// bulk is a bulk change that a command makes.
type bulk struct {
	p       *program
	in      *installation.Installation
	service *operator.Service
	caller  operator.Caller
	tenant  *tenant.Tenant
	operator.Bulk
}

func (c *accountBulk) Run(p *program) error {
	switch {
	case (c.Action == "cancel") != (c.ID != ""):
		return usageError{fault.New(fault.Invalid, "cancel takes the ID of a bulk change, and nothing else does")}
	case c.Action == "list":
		return c.list(p)
	case c.Action == "cancel":
		return c.cancel(p)
	}
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
	return p.atTenant(c.Tenant, func(in *installation.Installation, _ *account.Service, t *tenant.Tenant) error {
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

// newestBulks is how many bulk changes list prints.
const newestBulks = 100

func (c *accountBulk) list(p *program) error {
	return p.atTenant(c.Tenant, func(in *installation.Installation, _ *account.Service, t *tenant.Tenant) error {
		list, err := p.operators(in).Bulks(p.ctx, p.caller(), t, newestBulks)
		if err != nil {
			return err
		}
		if c.JSON {
			views := []opjson.Bulk{}
			for _, b := range list {
				views = append(views, opjson.OfBulk(b, t.Host))
			}
			return json.NewEncoder(p.stdout).Encode(views)
		}
		out := p.table()
		fmt.Fprintln(out, "BULK\tACTION\tSTATE\tFOUND\tCHANGED\tSTARTED\tBY\tREASON")
		for _, b := range list {
			fmt.Fprintf(out, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", b.ID, b.Action, b.State, b.Found, b.Done,
				formatTime(&b.Made), b.Cause.Actor.Words(), b.Cause.Reason)
		}
		return out.Flush()
	})
}

func (c *accountBulk) cancel(p *program) error {
	id, err := operator.ParseBulkID(c.ID)
	if err != nil {
		return fault.New(fault.NotFound, "%q is not the ID of a bulk change; see: dialtone account bulk list", c.ID)
	}
	return p.atTenant(c.Tenant, func(in *installation.Installation, _ *account.Service, t *tenant.Tenant) error {
		b, err := p.operators(in).CancelBulk(p.ctx, p.caller(), t, id)
		switch {
		case errors.Is(err, operator.ErrNoBulk):
			return fault.New(fault.NotFound, "there is no bulk change %s at %s; "+
				"see: dialtone account bulk list --tenant %s",
				c.ID, t.Host, t.Host)
		case err != nil:
			return err
		case b.Action == operator.BulkDelete && b.Done > 0:
			p.eraseDeleted(in)
		}
		if c.JSON {
			return json.NewEncoder(p.stdout).Encode(opjson.OfBulk(b, t.Host))
		}
		if b.State == operator.BulkUnconfirmed {
			return p.printf("the bulk change was not confirmed, and has changed nothing")
		}
		return p.printf("the bulk change is %s, after %s", b.State, terminal.Counted(b.Done, "account"))
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
	if err := b.printLeftOut(c.Action); err != nil {
		return err
	}
	switch interactive := terminal.Interactive(b.p.stdin); {
	case c.Count != nil && *c.Count != b.Found:
		return fault.New(fault.Conflict, "%s found, and not %d; nothing was changed",
			terminal.Counted(b.Found, "account"), *c.Count)
	case c.Count != nil, c.Yes, b.Found == 0:
	case !interactive:
		return fault.New(fault.Conflict, "%s found; nothing was changed; to %s them, add --count %d",
			terminal.Counted(b.Found, "account"), c.Action, b.Found)
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

// work works on the bulk change, together with running servers, until it leaves a state.
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
			if err := b.p.sleep(interval); err != nil {
				return err
			}
		}
	}
}

// preview prints how many accounts were found, and some of them.
func (b *bulk) preview() error {
	const some = 10
	page, err := b.service.PreviewBulk(b.p.ctx, b.caller, b.tenant, b.ID, "", some)
	if err != nil {
		return err
	}
	err = b.p.printf("%s found at %s", terminal.Counted(b.Found, "account"), b.tenant.Host)
	if err != nil || len(page.Accounts) == 0 {
		return err
	}
	err = b.p.printAccounts(func(each func(account.Account) error) error {
		for _, a := range page.Accounts {
			if err := each(a); err != nil {
				return err
			}
		}
		return nil
	})
	if more := b.Found - int64(len(page.Accounts)); err == nil && more > 0 {
		err = b.p.printf("and %d more", more)
	}
	return err
}

// printLeftOut prints how many accounts are left out because of the role admin, if no filter names roles.
func (b *bulk) printLeftOut(action string) error {
	if len(b.Query.Roles) > 0 {
		return nil
	}
	admins := b.Bulk
	admins.Query.Roles = []account.Role{account.Admin}
	var n int64
	err := b.p.eachAccount(b.in, b.tenant, admins.Query, func(a account.Account) error {
		if admins.Includes(a) {
			n++
		}
		return nil
	})
	if err == nil && n > 0 {
		_, err = fmt.Fprintf(b.p.stderr, "dialtone: left out %s with the role admin; to %s only those, "+
			"add --role admin\n", terminal.Counted(n, "account"), action)
	}
	return err
}

// cancel cancels the bulk change after an error, which it returns.
func (b *bulk) cancel(err error) error {
	ctx := context.WithoutCancel(b.p.ctx)
	after, cancelErr := b.service.CancelBulk(ctx, b.caller, b.tenant, b.ID)
	if after.Done > 0 {
		err = fmt.Errorf("%w; the bulk change was cancelled after %s", err, terminal.Counted(after.Done, "account"))
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
		err = json.NewEncoder(b.p.stdout).Encode(opjson.OfBulk(b.Bulk, b.tenant.Host))
	} else {
		err = b.p.printf("%sd %s", c.Action, terminal.Counted(b.Done, "account"))
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
