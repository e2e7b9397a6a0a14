package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/tenant"
)

type accountCommand struct {
	List    accountList    `cmd:"" help:"List all accounts of a tenant."`
	Show    accountShow    `cmd:"" help:"Show one account."`
	Enable  accountEnable  `cmd:"" help:"Activate an account, or undo a disable."`
	Disable accountDisable `cmd:"" help:"Block an account at once; no link undoes this."`
	Role    accountRole    `cmd:"" help:"Change an account's role."`
	Delete  accountDelete  `cmd:"" help:"Delete an account; its name stays reserved."`
}

// tenantFlag selects a tenant.
type tenantFlag struct {
	Tenant string `placeholder:"HOST" help:"The tenant's host name (the only tenant)."`
}

// accountArg selects an account.
type accountArg struct {
	tenantFlag
	User string `arg:"" help:"The user name."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// accountView is an account as commands print it, without secrets.
type accountView struct {
	User      string       `json:"user"`
	Name      string       `json:"name"`
	Email     string       `json:"email"`
	Role      account.Role `json:"role"`
	Disabled  bool         `json:"disabled"`
	Created   time.Time    `json:"created"`
	Activated *time.Time   `json:"activated"`
	Confirmed *time.Time   `json:"confirmed"`
	Lang      i18n.Tag     `json:"lang"`
}

func viewAccount(a account.Account) accountView {
	v := accountView{
		User:     a.User,
		Name:     a.Name,
		Email:    a.Email,
		Role:     a.Role,
		Disabled: a.Disabled,
		Created:  a.Created,
		Lang:     a.Lang,
	}
	if !a.Pending() {
		v.Activated = &a.Activated
	}
	if !a.Confirmed.IsZero() {
		v.Confirmed = &a.Confirmed
	}
	return v
}

// formatTime formats a time that may be missing.
func formatTime(at *time.Time) string {
	if at == nil {
		return "not yet"
	}
	return at.Format(time.RFC3339)
}

// at opens the installation and runs a function for a tenant: the only one if host is empty.
func (p *program) at(host string, do func(*installation, *account.Service, *tenant.Tenant) error) error {
	return p.with(func(in *installation) error {
		t, err := in.tenantOrOnly(p.ctx, host)
		if err != nil {
			return err
		}
		return do(in, p.accounts(in), t)
	})
}

// print prints an account, or returns the error of looking it up.
func (c accountArg) print(p *program, a account.Account, err error) error {
	if fault.Is(err, fault.NotFound) {
		return noAccount(c.User, c.Tenant)
	}
	if err != nil {
		return err
	}
	v := viewAccount(a)
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(v)
	}
	out := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"user", v.User},
		{"name", v.Name},
		{"email", v.Email},
		{"role", string(v.Role)},
		{"disabled", strconv.FormatBool(v.Disabled)},
		{"created", v.Created.Format(time.RFC3339)},
		{"activated", formatTime(v.Activated)},
		{"confirmed", formatTime(v.Confirmed)},
	} {
		fmt.Fprintf(out, "%s\t%s\n", line[0], line[1])
	}
	return out.Flush()
}

// noAccount is the error of a command for an account that does not exist. The host is empty if the
// command line has none.
func noAccount(user, host string) error {
	if host == "" {
		return fault.New(fault.NotFound, "there is no account %s; see: dialtone account list", user)
	}
	return fault.New(fault.NotFound,
		"there is no account %s at %s; see: dialtone account list --tenant %s", user, host, host)
}

type accountList struct {
	tenantFlag
	JSON bool `name:"json" help:"Print one JSON array."`
}

func (c *accountList) Run(p *program) error {
	return p.at(c.Tenant, func(in *installation, _ *account.Service, t *tenant.Tenant) error {
		if c.JSON {
			return array(p.stdout, func(each func(any) error) error {
				return in.store.List(p.ctx, t.ID, time.Now(), func(a account.Account) error {
					return each(viewAccount(a))
				})
			})
		}
		out := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(out, "USER\tROLE\tDISABLED\tCREATED\tACTIVATED\tEMAIL\tNAME")
		err := in.store.List(p.ctx, t.ID, time.Now(), func(a account.Account) error {
			v := viewAccount(a)
			_, err := fmt.Fprintf(out, "%s\t%s\t%t\t%s\t%s\t%s\t%s\n",
				v.User, v.Role, v.Disabled, v.Created.Format(time.RFC3339), formatTime(v.Activated),
				v.Email, v.Name)
			return err
		})
		if err != nil {
			return err
		}
		return out.Flush()
	})
}

// array prints a JSON array, element by element, so that memory does not grow with the array.
func array(to io.Writer, all func(each func(any) error) error) error {
	before, end := "[\n  ", "[]\n"
	err := all(func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(to, "%s%s", before, b)
		before, end = ",\n  ", "\n]\n"
		return err
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(to, end)
	return err
}

// arrayOf prints a list as a JSON array.
func arrayOf[T any](to io.Writer, list []T) error {
	return array(to, func(each func(any) error) error {
		for _, v := range list {
			if err := each(v); err != nil {
				return err
			}
		}
		return nil
	})
}

// indented prints a list as a JSON array with one member on a line.
func indented[T any](to io.Writer, list []T) error {
	out := json.NewEncoder(to)
	out.SetIndent("", "  ")
	return out.Encode(list)
}

type accountShow struct{ accountArg }

func (c *accountShow) Run(p *program) error {
	return p.at(c.Tenant, func(in *installation, _ *account.Service, t *tenant.Tenant) error {
		a, err := in.store.Find(p.ctx, t.ID, c.User, time.Now())
		return c.print(p, a, err)
	})
}

type accountEnable struct{ accountArg }

func (c *accountEnable) Run(p *program) error {
	return p.at(c.Tenant, func(_ *installation, accounts *account.Service, t *tenant.Tenant) error {
		a, err := accounts.Enable(p.ctx, t, c.User)
		return c.print(p, a, err)
	})
}

type accountDisable struct{ accountArg }

func (c *accountDisable) Run(p *program) error {
	return p.at(c.Tenant, func(_ *installation, accounts *account.Service, t *tenant.Tenant) error {
		a, err := accounts.Disable(p.ctx, t, c.User)
		return c.print(p, a, err)
	})
}

type accountRole struct {
	accountArg
	Role string `arg:"" enum:"guest,user,siponly,admin" help:"guest, user, siponly or admin."`
}

func (c *accountRole) Run(p *program) error {
	return p.at(c.Tenant, func(_ *installation, accounts *account.Service, t *tenant.Tenant) error {
		a, err := accounts.SetRole(p.ctx, t, c.User, account.Role(c.Role))
		return c.print(p, a, err)
	})
}

type accountDelete struct{ accountArg }

func (c *accountDelete) Run(p *program) error {
	return p.at(c.Tenant, func(in *installation, accounts *account.Service, t *tenant.Tenant) error {
		a, err := in.store.Find(p.ctx, t.ID, c.User, time.Now())
		if err == nil {
			err = accounts.Delete(p.ctx, t, c.User)
		}
		return c.print(p, a, err)
	})
}
