package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
)

type directoryCommand struct {
	Token    directoryToken  `cmd:"" help:"Manage the tokens that phone servers look accounts up with."`
	Export   exportCommand   `cmd:"" help:"Manage the tables of active accounts that phone servers read."`
	Hook     hookCommand     `cmd:"" help:"Manage hooks: phone servers that are notified of changes."`
	Htdigest htdigestCommand `cmd:"" help:"Write the active accounts of a tenant to a file for Apache, once."`
}

type directoryToken struct {
	Add    tokenAdd    `cmd:"" help:"Allow a phone server to look accounts up. Its token is printed once."`
	List   tokenList   `cmd:"" help:"List the phone servers. Their tokens are not stored and cannot be shown."`
	Remove tokenRemove `cmd:"" help:"Remove a phone server. Its token is refused within a second."`
}

type tokenAdd struct {
	Name   string   `arg:"" help:"A name for the phone server: letters, digits, hyphens, dots and underscores."`
	Tenant []string `required:"" placeholder:"HOST" help:"A tenant that it may ask about. May be repeated."`
}

func (c *tokenAdd) Run(p *program) error {
	if err := sipserver.CheckName(c.Name); err != nil {
		return err
	}
	return p.with(func(in *installation) error {
		token := secret.NewToken()
		s := sipserver.Server{
			Name:  c.Name,
			Token: token.Hash(),
			// The precision of the store.
			Created: time.Now().UTC().Truncate(time.Microsecond),
		}
		for _, host := range c.Tenant {
			t, err := in.tenantOf(p.ctx, host)
			if err != nil {
				return err
			}
			if !slices.Contains(s.Tenants, t.ID) {
				s.Tenants = append(s.Tenants, t.ID)
			}
		}
		event := audit.Event{Action: audit.DirectoryTokenAdd, Server: c.Name}
		if err := p.recorded(in, event, func() error { return in.store.AddServer(p.ctx, s) }); err != nil {
			return err
		}
		_, err := fmt.Fprintln(p.stdout, token.Text())
		return err
	})
}

type tokenRemove struct {
	Name string `arg:"" help:"The name of the phone server."`
}

func (c *tokenRemove) Run(p *program) error {
	return p.with(func(in *installation) error {
		event := audit.Event{Action: audit.DirectoryTokenRemove, Server: c.Name}
		return p.recorded(in, event, func() error { return in.store.RemoveServer(p.ctx, c.Name) })
	})
}

type tokenList struct {
	JSON bool `name:"json" help:"Print a JSON array."`
}

// serverView is a phone server as commands print it.
type serverView struct {
	Name    string    `json:"name"`
	Tenants []string  `json:"tenants"` // by host, without removed ones
	Created time.Time `json:"created"`
}

func (c *tokenList) Run(p *program) error {
	return p.with(func(in *installation) error {
		servers, _, err := in.store.Servers(p.ctx)
		if err != nil {
			return err
		}
		tenants, _, err := in.store.Tenants(p.ctx)
		if err != nil {
			return err
		}
		list := make([]serverView, len(servers))
		for i, s := range servers {
			list[i] = serverView{s.Name, hostsOf(tenants, s.Tenants), s.Created}
		}
		if c.JSON {
			out := json.NewEncoder(p.stdout)
			out.SetIndent("", "  ")
			return out.Encode(list)
		}
		out := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(out, "NAME\tCREATED\tTENANTS")
		for _, s := range list {
			fmt.Fprintf(out, "%s\t%s\t%s\n", s.Name, s.Created.Format(time.RFC3339), strings.Join(s.Tenants, " "))
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
