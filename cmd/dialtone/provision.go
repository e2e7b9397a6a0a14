package main

import (
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/provision"
	"dialtone/internal/tenant"
)

type provisionCommand struct {
	tenantFlag
	User   string `arg:"" help:"The user name."`
	Format string `default:"text" enum:"text,linphone,zoiper,acrobits,baresip,jssip" help:"The format (text)."`
}

// Help is what "dialtone provision --help" adds.
func (provisionCommand) Help() string {
	return "The format is text, linphone, zoiper, acrobits, baresip or jssip."
}

func (c *provisionCommand) Run(p *program) error {
	return p.atTenant(c.Tenant, func(in *installation.Installation, _ *account.Service, t *tenant.Tenant) error {
		a, err := p.operators(in).Find(p.ctx, p.caller(), t, c.User)
		if fault.Is(err, fault.NotFound) {
			return noAccount(c.User, c.Tenant, err)
		}
		if err != nil {
			return err
		}
		file, err := provision.New(t, a).In(provision.Format(c.Format))
		if err != nil {
			return err
		}
		_, err = p.stdout.Write(file.Text)
		return err
	})
}
