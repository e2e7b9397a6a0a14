package main

import (
	"errors"
	"slices"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/tenant"
)

// accountFilter are the flags that select accounts.
type accountFilter struct {
	State []string `placeholder:"STATE" help:"waiting, active, disabled or leaving (all)."`
	Role  []string `enum:"guest,user,siponly,admin" placeholder:"ROLE" help:"${enum} (all)."`
	Text  string   `placeholder:"TEXT" help:"Only if the user name, address, name or a word of it begins with this."`
	Net   string   `placeholder:"NETWORK" help:"Only signups from this network, or that of this address."`

	Since  string `placeholder:"TIME" help:"Only signups since a time, or since a duration before now."`
	Before string `placeholder:"TIME" help:"Only signups before a time, or before a duration before now."`

	Confirmed   bool `xor:"confirmed" help:"Only confirmed accounts."`
	Unconfirmed bool `xor:"confirmed" help:"Only accounts that are not confirmed."`
}

// query returns the query of the flags.
func (f accountFilter) query(now time.Time) (account.Query, error) {
	filter := operator.AccountFilter{Text: f.Text, Network: f.Net, Since: f.Since, Before: f.Before}
	if slices.Contains(f.State, string(account.Closed)) {
		return account.Query{}, usageError{fault.Field("state", "deleted accounts are not listed with others; "+
			"for the names that they keep, run: dialtone account names")}
	}
	for _, state := range f.State {
		filter.States = append(filter.States, account.State(state))
	}
	for _, role := range f.Role {
		filter.Roles = append(filter.Roles, account.Role(role))
	}
	if f.Confirmed || f.Unconfirmed {
		filter.Confirmed = &f.Confirmed
	}
	q, err := filter.Query(now)
	if err != nil {
		return q, usageError{err}
	}
	return q, nil
}

type accountList struct {
	tenantFlag
	accountFilter
	Limit int  `placeholder:"N" help:"List at most this many accounts (all)."`
	JSON  bool `name:"json" help:"Print one JSON array."`
}

// Help is what "dialtone account list --help" adds.
func (accountList) Help() string {
	return "Without a filter, accounts are sorted by user name. With a filter, the newest are first; with --text, " +
		"first those whose user name begins with it, sorted by user name, then those whose address does, and then " +
		"those whose name does. " + timeHelp
}

func (c *accountList) Run(p *program) error {
	q, err := c.query(time.Now())
	if err != nil {
		return err
	}
	if c.Limit < 0 {
		return usageError{fault.Field("limit", "the limit must not be negative; 0 lists all accounts")}
	}
	return p.operate(c.Tenant, "", func(o operation) error {
		o.Listed(p.ctx, o.caller, o.tenant)
		if c.JSON {
			return array(p.stdout, func(each func(any) error) error {
				return c.each(p, o.in, o.tenant, q, func(a account.Account) error { return each(opjson.OfAccount(a)) })
			})
		}
		return p.printAccounts(func(each func(account.Account) error) error {
			return c.each(p, o.in, o.tenant, q, each)
		})
	})
}

// errLimit stops a listing at its limit.
var errLimit = errors.New("the limit is reached")

// each calls do for each account of the list.
func (c *accountList) each(p *program, in *installation.Installation, t *tenant.Tenant, q account.Query,
	do func(account.Account) error) error {
	n := 0
	one := func(a account.Account) error {
		if err := do(a); err != nil {
			return err
		}
		if n++; n == c.Limit {
			return errLimit
		}
		return nil
	}
	err := p.eachAccount(in, t, q, one)
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// eachAccount calls do for each account that a query selects.
func (p *program) eachAccount(in *installation.Installation, t *tenant.Tenant, q account.Query,
	do func(account.Account) error) error {
	if q.Empty() {
		return in.Store.List(p.ctx, t.ID, time.Now(), do)
	}
	const pageSize = 500
	for next := ""; ; {
		page, err := in.Store.Page(p.ctx, t.ID, q, next, pageSize, time.Now())
		if err != nil {
			return err
		}
		for _, a := range page.Accounts {
			if err := do(a); err != nil {
				return err
			}
		}
		if next = page.Next; next == "" {
			return nil
		}
	}
}

// printAccounts prints a table of accounts. It aligns a few hundred rows at a time, so that memory does not grow with
// the table.
func (p *program) printAccounts(all func(each func(account.Account) error) error) error {
	const aligned = 500
	out, n := p.table(), 0
	out.Row("USER", "ROLE", "STATE", "CREATED", "ACTIVATED", "EMAIL", "NAME")
	err := all(func(a account.Account) error {
		v := opjson.OfAccount(a)
		err := out.Row(v.User, v.Role, v.State, v.Created.Format(time.RFC3339), formatTime(v.Activated), v.Email,
			v.Name)
		if n++; err == nil && n%aligned == 0 {
			err = out.Flush()
		}
		return err
	})
	if err != nil {
		return err
	}
	return out.Flush()
}
