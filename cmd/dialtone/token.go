package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/audit"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
)

type tokenCommand struct {
	Add    tokenAdd    `cmd:"" help:"Create a token of the API for operators."`
	List   tokenList   `cmd:"" help:"List the tokens, without their secrets."`
	Remove tokenRemove `cmd:"" help:"Remove a token; servers refuse it at once."`
}

// operatorTokens returns the token service, and the caller who runs this process.
func (p *program) operatorTokens(in *installation.Installation) (*operator.Tokens, operator.Caller) {
	log := p.logger(in.Log)
	tokens := operator.NewTokens(operator.TokensDeps{
		Store: in.Store, SealRing: in.Seal, Audit: audit.Log{}, Log: log, Now: time.Now,
	})
	return tokens, operator.Caller{Actor: audit.CauseOf(p.ctx).Actor, Scopes: operator.Scopes}
}

type tokenAdd struct {
	Name    string   `arg:"" help:"A name for the token: letters, digits, hyphens, dots and underscores."`
	Tenant  string   `placeholder:"HOST" help:"The only tenant at which it may act (all tenants)."`
	Scope   []string `required:"" placeholder:"SCOPE" help:"What it may do. Can be repeated."`
	Expires string   `placeholder:"TIME" help:"When it ends: 90d, 12h, a date or a time (never)."`
	JSON    bool     `name:"json" help:"Print JSON."`
	reasonFlag
}

// Help is what "dialtone token add --help" adds.
func (tokenAdd) Help() string {
	return "The scopes are " + operator.Words(operator.Scopes) +
		". The token is printed once. The store contains only its hash, so it cannot be shown again. The audit trail " +
		"records the name of the token with every change that it makes."
}

func (c *tokenAdd) Run(p *program) error {
	expires, err := operator.ParseEnd("expires", c.Expires, time.Now())
	if err != nil {
		return usageError{err}
	}
	if err := audit.CheckReason(c.Reason); err != nil {
		return usageError{err}
	}
	return p.with(func(in *installation.Installation) error {
		n := operator.NewToken{Name: c.Name, Expires: expires, Reason: c.Reason}
		if c.Tenant != "" {
			t, err := in.TenantOf(p.ctx, c.Tenant)
			if err != nil {
				return err
			}
			n.Tenant = t.ID
		}
		for _, s := range c.Scope {
			n.Scopes = append(n.Scopes, operator.Scope(s))
		}
		tokens, caller := p.operatorTokens(in)
		made, text, err := tokens.Add(p.ctx, caller, time.Time{}, n)
		if err != nil {
			return err
		}
		if c.JSON {
			hosts, err := hostsByID(p.ctx, in)
			if err != nil {
				return err
			}
			return json.NewEncoder(p.stdout).Encode(opjson.MadeToken{Token: viewToken(made, hosts), Secret: text})
		}
		_, err = fmt.Fprintln(p.stdout, text)
		return err
	})
}

type tokenRemove struct {
	Name string `arg:"" help:"The name of the token."`
	reasonFlag
}

func (c *tokenRemove) Run(p *program) error {
	if err := audit.CheckReason(c.Reason); err != nil {
		return usageError{err}
	}
	return p.with(func(in *installation.Installation) error {
		tokens, caller := p.operatorTokens(in)
		if err := tokens.Remove(p.ctx, caller, c.Name, c.Reason); err != nil {
			return err
		}
		return p.printf("removed the token %s", c.Name)
	})
}

type tokenList struct {
	JSON bool `name:"json" help:"Print one JSON array."`
}

// viewToken returns the JSON form of a token. hosts maps the IDs of tenants to their hosts.
func viewToken(t operator.Token, hosts map[int64]string) opjson.Token {
	return opjson.OfToken(t, time.Now(), func(id int64) string { return hosts[id] })
}

func (p *program) listTokens(ctx context.Context, in *installation.Installation) ([]opjson.Token, error) {
	tokens, caller := p.operatorTokens(in)
	list, err := tokens.List(ctx, caller)
	if err != nil {
		return nil, err
	}
	hosts, err := hostsByID(ctx, in)
	return opjson.All(list, func(t operator.Token) opjson.Token { return viewToken(t, hosts) }), err
}

func (c *tokenList) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		list, err := p.listTokens(p.ctx, in)
		if err != nil {
			return err
		}
		if c.JSON {
			return indented(p.stdout, list)
		}
		out := p.table()
		out.Row("NAME", "TENANT", "SCOPES", "CREATED", "EXPIRES", "USED")
		for _, t := range list {
			tenant, expires := "all", "never"
			if t.Tenant != nil {
				tenant = *t.Tenant
			}
			if t.Expires != nil {
				expires = t.Expires.Format(time.RFC3339)
			}
			if t.Expired {
				expires += " (expired)"
			}
			out.Row(t.Name, tenant, operator.Words(t.Scopes),
				t.Created.Format(time.RFC3339), expires, formatTime(t.Used))
		}
		return out.Flush()
	})
}
