package main

import (
	"context"
	"fmt"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/operator"
)

type tokenCommand struct {
	Add    apiTokenAdd    `cmd:"" help:"Make a token of the API for operators."`
	List   apiTokenList   `cmd:"" help:"List the tokens, without their secrets."`
	Remove apiTokenRemove `cmd:"" help:"Remove a token; servers refuse it at once."`
}

// operatorTokens returns what makes tokens, and the caller who runs this process.
func (p *program) operatorTokens(in *installation) (*operator.Tokens, operator.Caller) {
	log := p.logger(in.Log)
	tokens := operator.NewTokens(operator.TokensDeps{
		Store: in.store, SealRing: in.seal, Audit: audit.Log{}, Log: log, Now: time.Now,
	})
	return tokens, operator.Caller{Actor: audit.CauseOf(p.ctx).Actor, Scopes: operator.Scopes}
}

type apiTokenAdd struct {
	Name    string         `arg:"" help:"A name for the token: letters, digits, hyphens, dots and underscores."`
	Tenant  string         `placeholder:"HOST" help:"The only tenant at which it may act (all tenants)."`
	Scope   []string       `required:"" placeholder:"SCOPE" help:"What it may do. Can be repeated."`
	Expires operatorPeriod `placeholder:"TIME" help:"When it ends, such as 90d or 12h (never)."`
}

// Help is what "dialtone token add --help" adds.
func (apiTokenAdd) Help() string {
	return "The scopes are " + operator.Words(operator.Scopes) +
		". The token is printed once. The store has its hash " +
		"only, so it cannot be shown again. The audit trail has the name of the token with all that it changes."
}

// operatorPeriod is a duration that may be in days.
type operatorPeriod time.Duration

// UnmarshalText implements encoding.TextUnmarshaler, for kong.
func (d *operatorPeriod) UnmarshalText(text []byte) error {
	var days int
	var rest string
	n, _ := fmt.Sscanf(string(text), "%dd%s", &days, &rest)
	if n == 1 && string(text) == fmt.Sprintf("%dd", days) && days > 0 && days <= 36500 {
		*d = operatorPeriod(time.Duration(days) * 24 * time.Hour)
		return nil
	}
	period, err := time.ParseDuration(string(text))
	if err != nil || period <= 0 {
		return fmt.Errorf("%q is not a time such as 90d or 12h", text)
	}
	*d = operatorPeriod(period)
	return nil
}

func (c *apiTokenAdd) Run(p *program) error {
	return p.with(func(in *installation) error {
		n := operator.NewToken{Name: c.Name}
		if c.Tenant != "" {
			t, err := in.tenantOf(p.ctx, c.Tenant)
			if err != nil {
				return err
			}
			n.Tenant = t.ID
		}
		for _, s := range c.Scope {
			n.Scopes = append(n.Scopes, operator.Scope(s))
		}
		if c.Expires > 0 {
			n.Expires = time.Now().Add(time.Duration(c.Expires))
		}
		tokens, caller := p.operatorTokens(in)
		_, text, err := tokens.Add(p.ctx, caller, time.Time{}, n)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(p.stdout, text)
		return err
	})
}

type apiTokenRemove struct {
	Name string `arg:"" help:"The name of the token."`
}

func (c *apiTokenRemove) Run(p *program) error {
	return p.with(func(in *installation) error {
		tokens, caller := p.operatorTokens(in)
		if err := tokens.Remove(p.ctx, caller, c.Name); err != nil {
			return err
		}
		return p.say("removed the token %s", c.Name)
	})
}

type apiTokenList struct {
	JSON bool `name:"json" help:"Print one JSON array."`
}

// apiTokenView is a token as commands print it.
type apiTokenView struct {
	ID      string           `json:"id"`
	Name    string           `json:"name"`
	Tenant  *string          `json:"tenant"` // nil for all
	Scopes  []operator.Scope `json:"scopes"`
	Created time.Time        `json:"created"`
	By      string           `json:"created_by"`
	Expires *time.Time       `json:"expires"`
	Used    *time.Time       `json:"used"`
}

func (p *program) apiTokens(ctx context.Context, in *installation) ([]apiTokenView, error) {
	tokens, caller := p.operatorTokens(in)
	list, err := tokens.List(ctx, caller)
	if err != nil {
		return nil, err
	}
	tenants, _, err := in.store.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	views := make([]apiTokenView, len(list))
	for i, t := range list {
		v := apiTokenView{ID: t.ID, Name: t.Name, Scopes: t.Scopes, Created: t.Made, By: t.MadeBy}
		if t.Tenant != 0 {
			for _, host := range hostsOf(tenants, []int64{t.Tenant}) {
				v.Tenant = &host
			}
		}
		if !t.Expires.IsZero() {
			v.Expires = &t.Expires
		}
		if !t.Used.IsZero() {
			v.Used = &t.Used
		}
		views[i] = v
	}
	return views, nil
}

func (c *apiTokenList) Run(p *program) error {
	return p.with(func(in *installation) error {
		list, err := p.apiTokens(p.ctx, in)
		if err != nil {
			return err
		}
		if c.JSON {
			return indented(p.stdout, list)
		}
		out := p.table()
		fmt.Fprintln(out, "NAME\tTENANT\tSCOPES\tCREATED\tEXPIRES\tUSED")
		for _, t := range list {
			tenant, expires := "all", "never"
			if t.Tenant != nil {
				tenant = *t.Tenant
			}
			if t.Expires != nil {
				expires = t.Expires.Format(time.RFC3339)
			}
			fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, tenant, operator.Words(t.Scopes),
				t.Created.Format(time.RFC3339), expires, formatTime(t.Used))
		}
		return out.Flush()
	})
}
