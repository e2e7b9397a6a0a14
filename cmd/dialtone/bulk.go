package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dialtone/cmd/dialtone/internal/bulk"
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
		service, caller := p.operators(in), p.caller()
		b, err := bulk.Run(p.ctx, service, bulk.Options{
			Caller: caller, Tenant: t, Action: operator.BulkAction(c.Action), Query: q, Reason: c.Reason,
			Confirm: func(b operator.Bulk) error {
				if !c.JSON {
					page, err := service.PreviewBulk(p.ctx, caller, t, b.ID, "", previewed)
					if err == nil {
						err = c.preview(p, t, b, page.Accounts)
					}
					if err != nil {
						return err
					}
				}
				if err := c.printLeftOut(p, in, t, b); err != nil {
					return err
				}
				return c.confirm(p, b)
			},
		})
		if b.Action == operator.BulkDelete && b.Done > 0 {
			p.eraseDeleted(in)
		}
		if err != nil {
			return err
		}
		return c.print(p, t, b)
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
		out.Row("BULK", "ACTION", "STATE", "FOUND", "CHANGED", "STARTED", "BY", "REASON")
		for _, b := range list {
			out.Row(b.ID, b.Action, b.State, b.Found, b.Done, formatTime(&b.Made), b.Cause.Actor.Words(),
				b.Cause.Reason)
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

// confirm asks whether to change the accounts that were found, unless the flags say so. It fails if the answer is no.
func (c *accountBulk) confirm(p *program, b operator.Bulk) error {
	switch interactive := terminal.Interactive(p.stdin); {
	case c.Count != nil && *c.Count != b.Found:
		return fault.New(fault.Conflict, "%s found, and not %d; nothing was changed",
			terminal.Counted(b.Found, "account"), *c.Count)
	case c.Count != nil, c.Yes, b.Found == 0:
		return nil
	case !interactive:
		return fault.New(fault.Conflict, "%s found; nothing was changed; to %s them, add --count %d",
			terminal.Counted(b.Found, "account"), c.Action, b.Found)
	}
	number := strconv.FormatInt(b.Found, 10)
	question := fmt.Sprintf("Type the number of accounts, %s, to %s them", number, c.Action)
	if b.Action == operator.BulkDelete {
		question = "This cannot be undone. " + question
	}
	return p.ask(question, number)
}

// previewed is how many of the accounts that were found are printed.
const previewed = 10

// preview prints how many accounts were found, and the first of them.
func (c *accountBulk) preview(p *program, t *tenant.Tenant, b operator.Bulk, first []account.Account) error {
	err := p.printf("%s found at %s", terminal.Counted(b.Found, "account"), t.Host)
	if err != nil || len(first) == 0 {
		return err
	}
	err = p.printAccounts(func(each func(account.Account) error) error {
		for _, a := range first {
			if err := each(a); err != nil {
				return err
			}
		}
		return nil
	})
	if more := b.Found - int64(len(first)); err == nil && more > 0 {
		err = p.printf("and %d more", more)
	}
	return err
}

// printLeftOut prints how many accounts are left out because of the role admin, if no filter names roles.
func (c *accountBulk) printLeftOut(
	p *program, in *installation.Installation, t *tenant.Tenant, b operator.Bulk,
) error {
	if len(b.Query.Roles) > 0 {
		return nil
	}
	b.Query.Roles = []account.Role{account.Admin}
	var n int64
	err := p.eachAccount(in, t, b.Query, func(a account.Account) error {
		if b.Includes(a) {
			n++
		}
		return nil
	})
	if err == nil && n > 0 {
		_, err = fmt.Fprintf(p.stderr, "dialtone: left out %s with the role admin; to %s only those, "+
			"add --role admin\n", terminal.Counted(n, "account"), c.Action)
	}
	return err
}

// bulkDone are the words for what each action has done.
var bulkDone = map[operator.BulkAction]string{
	operator.BulkDisable: "disabled", operator.BulkEnable: "enabled", operator.BulkDelete: "deleted",
}

// print prints the outcome. It fails if not all accounts were changed.
func (c *accountBulk) print(p *program, t *tenant.Tenant, b operator.Bulk) error {
	var err error
	if c.JSON {
		err = json.NewEncoder(p.stdout).Encode(opjson.OfBulk(b, t.Host))
	} else {
		err = p.printf("%s %s", bulkDone[b.Action], terminal.Counted(b.Done, "account"))
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
