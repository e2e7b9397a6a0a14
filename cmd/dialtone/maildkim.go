package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/mail/dkim"
	"dialtone/internal/mail/maildns"
	"dialtone/internal/mailmsg"
	"dialtone/internal/tenant"
)

type mailDKIM struct {
	Add    dkimAdd    `cmd:"" help:"Create a key and print its DNS record."`
	List   dkimList   `cmd:"" help:"List a tenant's keys and their DNS records."`
	Remove dkimRemove `cmd:"" help:"Remove a key."`
}

// dkimKeyView is the JSON form of a DKIM key, without its private part.
type dkimKeyView struct {
	Selector  string         `json:"selector"`
	Algorithm dkim.Algorithm `json:"algorithm"`
	Created   time.Time      `json:"created"`
	Name      string         `json:"name"`
	Record    string         `json:"record"`
}

func viewDKIMKey(t *tenant.Tenant, k dkim.PublicKey) dkimKeyView {
	return dkimKeyView{
		Selector:  k.Selector,
		Algorithm: k.Algorithm,
		Created:   k.Created,
		Name:      k.Selector + "._domainkey." + mailmsg.Domain(t.Sender()),
		Record:    k.Record,
	}
}

// tenantArg selects a tenant.
type tenantArg struct {
	Host string `arg:"" optional:"" help:"The tenant's host name (the only tenant)."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c tenantArg) with(p *program, do func(*installation.Installation, *tenant.Tenant, *dkim.Keys) error) error {
	return p.with(func(in *installation.Installation) error {
		t, err := tenantOrOnly(p.ctx, in, c.Host)
		if err != nil {
			return err
		}
		return do(in, t, dkim.NewKeys(in.Store, in.Seal))
	})
}

type dkimAdd struct {
	tenantArg
	Selector  string `required:"" help:"Name of the key in the DNS, such as dialtone2026."`
	Algorithm string `enum:"rsa,ed25519" default:"rsa" help:"rsa, or ed25519 in addition to an rsa key (rsa)."`
}

// Help is what "dialtone mail dkim add --help" adds.
func (dkimAdd) Help() string {
	return "Every receiver can check rsa signatures, but only some can check ed25519."
}

func (c *dkimAdd) Run(p *program) error {
	return c.with(p, func(in *installation.Installation, t *tenant.Tenant, keys *dkim.Keys) error {
		k, err := keys.Add(p.ctx, t.ID, c.Selector, dkim.Algorithm(c.Algorithm), time.Now())
		if err != nil {
			return err
		}
		s := viewDKIMKey(t, k)
		if c.JSON {
			return json.NewEncoder(p.stdout).Encode(s)
		}
		_, err = fmt.Fprintln(p.stdout, maildns.ZoneLine(s.Name, s.Record))
		return err
	})
}

type dkimList struct{ tenantArg }

func (c *dkimList) Run(p *program) error {
	return c.with(p, func(_ *installation.Installation, t *tenant.Tenant, keys *dkim.Keys) error {
		list, err := keys.List(p.ctx, t.ID)
		if err != nil {
			return err
		}
		views := make([]dkimKeyView, len(list))
		for i, k := range list {
			views[i] = viewDKIMKey(t, k)
		}
		if c.JSON {
			return arrayOf(p.stdout, views)
		}
		for _, s := range views {
			fmt.Fprintf(terminal.To(p.stdout), "; %s, %s, created %s\n%s\n",
				terminal.OneLine(s.Selector), s.Algorithm, s.Created.Format(time.RFC3339),
				maildns.ZoneLine(s.Name, s.Record))
		}
		return nil
	})
}

type dkimRemove struct {
	Host     string `arg:"" optional:"" help:"The tenant's host name (the only tenant)."`
	Selector string `required:"" help:"Name of the key in the DNS."`
	Yes      bool   `help:"Do not ask for confirmation on a terminal."`
}

// Help is what "dialtone mail dkim remove --help" adds.
func (dkimRemove) Help() string {
	return "Servers stop signing with the key within seconds. Keep its DNS record for a week: receivers need it " +
		"for messages in transit."
}

func (c *dkimRemove) Run(p *program) error {
	arg := tenantArg{Host: c.Host}
	return arg.with(p, func(in *installation.Installation, t *tenant.Tenant, keys *dkim.Keys) error {
		list, err := keys.List(p.ctx, t.ID)
		if err != nil {
			return err
		}
		has := slices.ContainsFunc(list, func(k dkim.PublicKey) bool { return k.Selector == c.Selector })
		what := fmt.Sprintf("the DKIM key %s of %s", c.Selector, t.Host)
		if has && !c.Yes { // without the key, the store reports the error
			if err := p.confirm("remove " + what); err != nil {
				return err
			}
		}
		if err := in.Store.RemoveSigningKey(p.ctx, t.ID, c.Selector); err != nil {
			return err
		}
		return p.printf("removed %s; keep its DNS record for a week", what)
	})
}
