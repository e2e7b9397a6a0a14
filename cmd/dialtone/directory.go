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
	Token    directoryToken  `cmd:"" help:"The tokens that phone servers look accounts up with."`
	Export   exportCommand   `cmd:"" help:"The directory of active accounts that phone servers read as tables."`
	Hook     hookCommand     `cmd:"" help:"Phone servers that are told at once when an account or a tenant changes."`
	Htdigest htdigestCommand `cmd:"" help:"Write the active accounts of a tenant to a file for Apache."`
}

type directoryToken struct {
	Add    tokenAdd    `cmd:"" help:"Let a phone server look accounts up. Its token is printed, once."`
	List   tokenList   `cmd:"" help:"List the phone servers. Their tokens are not known any more."`
	Remove tokenRemove `cmd:"" help:"Remove a phone server: its token is refused within a second."`
}

type tokenAdd struct {
	Name   string   `arg:"" help:"What the phone server is called here: letters, digits, hyphens, dots and underscores."`
	Tenant []string `required:"" placeholder:"HOST" help:"A tenant that it may ask about. May be repeated."`
}

func (c *tokenAdd) Run(p *program) error {
	if err := sipserver.CheckName(c.Name); err != nil {
		return err
	}
	return p.with(func(f *folder) error {
		token := secret.NewToken()
		// As the store keeps it: an answer that was lost is recognised by the token.
		s := sipserver.Server{Name: c.Name, Token: token.Hash(), Created: time.Now().UTC().Truncate(time.Microsecond)}
		for _, host := range c.Tenant {
			t, err := f.tenantOf(p.ctx, host)
			if err != nil {
				return err
			}
			if !slices.Contains(s.Tenants, t.ID) {
				s.Tenants = append(s.Tenants, t.ID)
			}
		}
		err := p.recorded(f, audit.Event{Action: audit.DirectoryTokenAdd, Server: c.Name}, func() error { return f.store.AddServer(p.ctx, s) })
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(p.stdout, token.Text())
		return err
	})
}

type tokenRemove struct {
	Name string `arg:"" help:"The phone server's name."`
}

func (c *tokenRemove) Run(p *program) error {
	return p.with(func(f *folder) error {
		return p.recorded(f, audit.Event{Action: audit.DirectoryTokenRemove, Server: c.Name}, func() error {
			return f.store.RemoveServer(p.ctx, c.Name)
		})
	})
}

type tokenList struct {
	JSON bool `name:"json" help:"Print one JSON array."`
}

type shownServer struct {
	Name    string    `json:"name"`
	Tenants []string  `json:"tenants"` // by host; one that was removed is not among them
	Created time.Time `json:"created"`
}

func (c *tokenList) Run(p *program) error {
	return p.with(func(f *folder) error {
		servers, _, err := f.store.Servers(p.ctx)
		if err != nil {
			return err
		}
		tenants, _, err := f.store.Tenants(p.ctx)
		if err != nil {
			return err
		}
		shown := make([]shownServer, len(servers))
		for i, s := range servers {
			shown[i] = shownServer{s.Name, hostsOf(tenants, s.Tenants), s.Created}
		}
		if c.JSON {
			out := json.NewEncoder(p.stdout)
			out.SetIndent("", "  ")
			return out.Encode(shown)
		}
		out := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(out, "NAME\tCREATED\tTENANTS")
		for _, s := range shown {
			fmt.Fprintf(out, "%s\t%s\t%s\n", s.Name, s.Created.Format(time.RFC3339), strings.Join(s.Tenants, " "))
		}
		return out.Flush()
	})
}

// hostsOf are the hosts of those tenants that have one of the ids.
func hostsOf(tenants []tenant.Tenant, ids []int64) []string {
	hosts := []string{}
	for _, t := range tenants {
		if slices.Contains(ids, t.ID) {
			hosts = append(hosts, t.Host)
		}
	}
	return hosts
}
