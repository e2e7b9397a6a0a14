package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
)

type directoryCommand struct {
	Token    directoryToken  `cmd:"" help:"Manage the tokens of phone servers."`
	Export   exportCommand   `cmd:"" help:"Manage the tables that phone servers read."`
	Hook     hookCommand     `cmd:"" help:"Manage the phone servers that are notified."`
	Htdigest htdigestCommand `cmd:"" help:"Write a tenant's accounts to a file for Apache."`
}

type directoryToken struct {
	Add    directoryTokenAdd    `cmd:"" help:"Let a phone server look up accounts."`
	List   directoryTokenList   `cmd:"" help:"List the phone servers, without their tokens."`
	Remove directoryTokenRemove `cmd:"" help:"Remove a phone server and its token."`
}

type directoryTokenAdd struct {
	Name   string   `arg:"" help:"A name for the phone server: letters, digits, hyphens, dots and underscores."`
	Tenant []string `placeholder:"HOST" help:"A tenant that it may ask about (the only tenant). Can be repeated."`
}

// Help is what "dialtone directory token add --help" adds.
func (directoryTokenAdd) Help() string {
	return "The token is printed once. The store contains only its hash, so it cannot be shown again. " +
		"People see the name of the phone server on their account page."
}

func (c *directoryTokenAdd) Run(p *program) error {
	if err := sipserver.CheckName(c.Name); err != nil {
		return err
	}
	return p.with(func(in *installation.Installation) error {
		token := secret.NewToken()
		s := sipserver.Server{
			Name:  c.Name,
			Token: token.Hash(),
			// The precision of the store.
			Created: time.Now().UTC().Truncate(time.Microsecond),
		}
		hosts := c.Tenant
		if len(hosts) == 0 {
			hosts = []string{""}
		}
		for _, host := range hosts {
			t, err := tenantOrOnly(p.ctx, in, host)
			if err != nil {
				return err
			}
			if !slices.Contains(s.Tenants, t.ID) {
				s.Tenants = append(s.Tenants, t.ID)
			}
		}
		if err := in.Store.AddServer(p.ctx, s); err != nil {
			return err
		}
		_, err := fmt.Fprintln(p.stdout, token.Text())
		return err
	})
}

type directoryTokenRemove struct {
	Name string `arg:"" help:"The name of the phone server."`
}

// Help is what "dialtone directory token remove --help" adds.
func (directoryTokenRemove) Help() string { return "Servers refuse the token within a second." }

func (c *directoryTokenRemove) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		if err := in.Store.RemoveServer(p.ctx, c.Name); err != nil {
			return err
		}
		return p.printf("removed the phone server %s and its token", c.Name)
	})
}

type directoryTokenList struct {
	JSON bool `name:"json" help:"Print a JSON array."`
}

// serverView is the JSON form of a phone server.
type serverView struct {
	Name    string    `json:"name"`
	Tenants []string  `json:"tenants"` // by host, without removed ones
	Created time.Time `json:"created"`
}

func (c *directoryTokenList) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		servers, _, err := in.Store.Servers(p.ctx)
		if err != nil {
			return err
		}
		tenants, _, err := in.Store.Tenants(p.ctx)
		if err != nil {
			return err
		}
		list := make([]serverView, len(servers))
		for i, s := range servers {
			list[i] = serverView{s.Name, hostsOf(tenants, s.Tenants), s.Created}
		}
		if c.JSON {
			return indented(p.stdout, list)
		}
		out := p.table()
		out.Row("NAME", "CREATED", "TENANTS")
		for _, s := range list {
			out.Row(s.Name, s.Created.Format(time.RFC3339), strings.Join(s.Tenants, " "))
		}
		return out.Flush()
	})
}

// hostsOf returns the hosts of the tenants that have one of the ids.
func hostsOf(tenants []tenant.Tenant, ids []int64) []string {
	hosts := []string{}
	for _, t := range tenants {
		if slices.Contains(ids, t.ID) {
			hosts = append(hosts, t.Host)
		}
	}
	return hosts
}
