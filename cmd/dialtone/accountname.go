package main

import (
	"errors"
	"fmt"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/tenant"
)

type accountNames struct {
	tenantFlag
	JSON bool `name:"json" help:"Print one JSON array."`
}

func (c *accountNames) Run(p *program) error {
	return p.atTenant(c.Tenant, func(in *installation.Installation, _ *account.Service, t *tenant.Tenant) error {
		if c.JSON {
			return array(p.stdout, func(each func(any) error) error {
				return in.Store.ClosedNames(p.ctx, t.ID, func(n account.ClosedName) error {
					return each(opjson.OfClosedName(n))
				})
			})
		}
		out := p.table()
		out.Row("USER", "DELETED")
		err := in.Store.ClosedNames(p.ctx, t.ID, func(n account.ClosedName) error {
			return out.Row(n.User, n.Closed.Format(time.RFC3339))
		})
		return errors.Join(err, out.Flush())
	})
}

type accountFreeName struct {
	tenantFlag
	User string `arg:"" help:"The user name."`
	reasonFlag
}

// Help is what "dialtone account free-name --help" adds.
func (accountFreeName) Help() string {
	return "The next person who takes the name gets calls that were meant for the person who had it."
}

func (c *accountFreeName) Run(p *program) error {
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		err := o.FreeName(p.ctx, o.caller, o.tenant, c.User, c.Reason)
		if fault.Is(err, fault.NotFound) {
			return fault.New(fault.NotFound, "no deleted account at %s keeps the name %s; see: "+
				"dialtone account names --tenant %s", o.tenant.Host, c.User, o.tenant.Host)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.stdout, "the name %s is free\n", c.User)
		return err
	})
}
