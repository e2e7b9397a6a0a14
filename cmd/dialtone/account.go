package main

import (
	"encoding/json"
	"fmt"
	"io"
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
	Enable  accountEnable  `cmd:"" help:"Let an account sign in: ends an operator's disable, and the wait for the link."`
	Disable accountDisable `cmd:"" help:"Keep an account from signing in, at once; no link undoes it."`
	Role    accountRole    `cmd:"" help:"Change an account's role."`
	Delete  accountDelete  `cmd:"" help:"Delete an account. The name of one that was active stays taken."`
}

// where says which tenant is meant.
type where struct {
	Tenant string `required:"" placeholder:"HOST" help:"The tenant's host name."`
}

// who says which account is meant.
type who struct {
	where
	User string `arg:"" help:"The user name."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// shown is an account as commands print it. There is no secret in it.
type shown struct {
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

func show(a account.Account) shown {
	s := shown{User: a.User, Name: a.Name, Email: a.Email, Role: a.Role, Lang: a.Lang, Disabled: a.Disabled, Created: a.Created}
	if !a.Pending() {
		s.Activated = &a.Activated
	}
	if !a.Confirmed.IsZero() {
		s.Confirmed = &a.Confirmed
	}
	return s
}

// since is a time that may not have come.
func since(at *time.Time) string {
	if at == nil {
		return "not yet"
	}
	return at.Format(time.RFC3339)
}

// desk opens the folder and gives the desk, the tenant and the folder to do.
func (p *program) at(host string, do func(*folder, *account.Service, *tenant.Tenant) error) error {
	return p.with(func(f *folder) error {
		t, err := f.tenantOf(p.ctx, host)
		if err != nil {
			return err
		}
		return do(f, p.desk(f), t)
	})
}

// result prints the account that a command ends with.
func (w who) result(p *program, a account.Account, err error) error {
	if fault.Is(err, fault.NotFound) {
		return noAccount(w.User, w.Tenant)
	}
	if err != nil {
		return err
	}
	s := show(a)
	if w.JSON {
		return json.NewEncoder(p.stdout).Encode(s)
	}
	out := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "user\t%s\nname\t%s\nemail\t%s\nrole\t%s\ndisabled\t%t\ncreated\t%s\nactivated\t%s\nconfirmed\t%s\n",
		s.User, s.Name, s.Email, s.Role, s.Disabled, s.Created.Format(time.RFC3339), since(s.Activated), since(s.Confirmed))
	return out.Flush()
}

func noAccount(user, host string) error {
	return fault.New(fault.NotFound, "there is no account %s at %s; see: dialtone account list --tenant %s", user, host, host)
}

type accountList struct {
	where
	JSON bool `name:"json" help:"Print one JSON array."`
}

func (c *accountList) Run(p *program) error {
	return p.at(c.Tenant, func(f *folder, _ *account.Service, t *tenant.Tenant) error {
		if c.JSON {
			return array(p.stdout, func(each func(any) error) error {
				return f.store.List(p.ctx, t.ID, time.Now(), func(a account.Account) error { return each(show(a)) })
			})
		}
		out := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(out, "USER\tROLE\tDISABLED\tCREATED\tACTIVATED\tEMAIL\tNAME")
		err := f.store.List(p.ctx, t.ID, time.Now(), func(a account.Account) error {
			s := show(a)
			_, err := fmt.Fprintf(out, "%s\t%s\t%t\t%s\t%s\t%s\t%s\n",
				s.User, s.Role, s.Disabled, s.Created.Format(time.RFC3339), since(s.Activated), s.Email, s.Name)
			return err
		})
		if err != nil {
			return err
		}
		return out.Flush()
	})
}

// array prints what all gives as one JSON array, element by element, so that a million of them take no memory.
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

type accountShow struct{ who }

func (c *accountShow) Run(p *program) error {
	return p.at(c.Tenant, func(f *folder, _ *account.Service, t *tenant.Tenant) error {
		a, err := f.store.Find(p.ctx, t.ID, c.User, time.Now())
		return c.result(p, a, err)
	})
}

type accountEnable struct{ who }

func (c *accountEnable) Run(p *program) error {
	return p.at(c.Tenant, func(_ *folder, d *account.Service, t *tenant.Tenant) error {
		a, err := d.Enable(p.ctx, t, c.User)
		return c.result(p, a, err)
	})
}

type accountDisable struct{ who }

func (c *accountDisable) Run(p *program) error {
	return p.at(c.Tenant, func(_ *folder, d *account.Service, t *tenant.Tenant) error {
		a, err := d.Disable(p.ctx, t, c.User)
		return c.result(p, a, err)
	})
}

type accountRole struct {
	who
	Role string `arg:"" enum:"guest,user,siponly,admin" help:"guest, user, siponly or admin."`
}

func (c *accountRole) Run(p *program) error {
	return p.at(c.Tenant, func(_ *folder, d *account.Service, t *tenant.Tenant) error {
		a, err := d.SetRole(p.ctx, t, c.User, account.Role(c.Role))
		return c.result(p, a, err)
	})
}

type accountDelete struct{ who }

func (c *accountDelete) Run(p *program) error {
	return p.at(c.Tenant, func(f *folder, d *account.Service, t *tenant.Tenant) error {
		a, err := f.store.Find(p.ctx, t.ID, c.User, time.Now())
		if err == nil {
			err = d.Delete(p.ctx, t, c.User)
		}
		return c.result(p, a, err)
	})
}
