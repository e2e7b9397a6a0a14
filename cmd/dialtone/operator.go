package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/tenant"
)

// operation is what a command needs to act as an operator at a tenant.
type operation struct {
	*operator.Service
	in     *installation.Installation
	caller operator.Caller
	tenant *tenant.Tenant
}

// caller returns the user of the operating system who runs this process. A command may do everything.
func (p *program) caller() operator.Caller {
	return installation.Caller(p.ctx)
}

// operate opens the installation and calls do for a tenant: the only one if host is empty.
func (p *program) operate(host, reason string, do func(operation) error) error {
	if err := audit.CheckReason(reason); err != nil {
		return usageError{err}
	}
	return p.with(func(in *installation.Installation) error {
		t, err := tenantOrOnly(p.ctx, in, host)
		if err != nil {
			return err
		}
		o := operation{p.operators(in), in, p.caller(), t}
		return errors.Join(do(o), o.Flush())
	})
}

type accountAdd struct {
	accountArg
	Name     string `required:"" placeholder:"NAME" help:"The display name."`
	Email    string `required:"" placeholder:"ADDRESS" help:"The e-mail address."`
	Role     string `enum:"guest,user,siponly,admin" default:"guest" placeholder:"ROLE" help:"${enum} (${default})."`
	Lang     string `placeholder:"LANGUAGE" help:"Language of messages to the person (en)."`
	Active   bool   `help:"Activate the account at once."`
	HA1Stdin bool   `name:"ha1-stdin" help:"Read HA1 from standard input, and send no link for the password."`
	Reserved bool   `help:"Allow a reserved user name."`
	reasonFlag
}

// Help is what "dialtone account add --help" adds.
func (accountAdd) Help() string {
	return "The person gets a message with a link to choose the password. It works once, for 7 days, and activates " +
		"and confirms the account. With --ha1-stdin the account has a password already: the first line is " +
		"MD5(user:realm:password) as 32 hex digits, and a second one may be SHA-256(user:realm:password) as 64. Then " +
		"the message contains the activation link, and with --active there is no message. A running server writes " +
		"the message within seconds. Limits of signups do not apply."
}

func (c *accountAdd) Run(p *program) error {
	n := account.NewAccount{
		User: c.User, Name: c.Name, Email: c.Email, Role: account.Role(c.Role), Lang: i18n.Tag(c.Lang),
		Active: c.Active, Reserved: c.Reserved,
	}
	if c.HA1Stdin {
		var err error
		if n.HA1, n.HA1SHA256, err = readHA1(p.stdin); err != nil {
			return err
		}
	}
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		a, err := o.Add(p.ctx, o.caller, o.tenant, n, c.Reason)
		if errors.Is(err, account.ErrTaken) {
			if _, err := o.in.Store.ClosedName(p.ctx, o.tenant.ID, c.User); err == nil {
				return fault.New(fault.Conflict, "the user name %s is taken: a deleted account keeps it; "+
					"to give it up, run: dialtone account free-name %s --tenant %s", c.User, c.User, o.tenant.Host)
			}
			return fault.New(fault.Conflict, "the user name %s is taken; see: dialtone account show %s --tenant %s",
				c.User, c.User, o.tenant.Host)
		}
		if err := c.print(p, a, account.NameField(err)); err != nil || c.JSON {
			return err
		}
		switch {
		case n.HA1 == "":
			return p.printf("a message with a link to choose the password goes to %s", a.Email)
		case !c.Active:
			return p.printf("a message with the activation link goes to %s", a.Email)
		}
		return nil
	})
}

// readHA1 reads a line with HA1, and another one with that of SHA-256, if there is one.
func readHA1(from io.Reader) (ha1 string, sha256 *string, err error) {
	const maxSize = 1024
	in := bufio.NewScanner(io.LimitReader(from, maxSize))
	var lines []string
	for in.Scan() {
		if line := strings.TrimSpace(in.Text()); line != "" {
			lines = append(lines, line)
		}
	}
	switch {
	case in.Err() != nil:
		return "", nil, in.Err()
	case len(lines) == 0 || len(lines) > 2:
		return "", nil, usageError{fault.Field("ha1", "standard input must have one line with HA1, or two, the second "+
			"with SHA-256(user:realm:password)")}
	case len(lines) == 2:
		sha256 = &lines[1]
	}
	return lines[0], sha256, nil
}

type accountResend struct {
	accountArg
	Email string `placeholder:"ADDRESS" help:"Correct the address that the message goes to (as it is)."`
	reasonFlag
}

// Help is what "dialtone account resend --help" adds.
func (accountResend) Help() string {
	return "It is for an account that waits for its activation. The earlier links end. A running server writes the " +
		"message within seconds. No limits apply, and the time at which the account expires does not change."
}

func (c *accountResend) Run(p *program) error {
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		a, err := o.Resend(p.ctx, o.caller, o.tenant, c.User, c.Reason, c.Email)
		switch {
		case errors.Is(err, account.ErrActive):
			return fault.New(fault.Conflict, "the account %s does not wait for its activation; for a link to choose "+
				"another password, run: dialtone account reset-link %s --mail --tenant %s",
				c.User, c.User, o.tenant.Host)
		case errors.Is(err, account.ErrHeld):
			return fault.New(fault.Conflict, "the account %s is disabled; to enable it first, run: "+
				"dialtone account enable %s --tenant %s", c.User, c.User, o.tenant.Host)
		}
		if err := c.print(p, a, account.NameField(err)); err != nil || c.JSON {
			return err
		}
		return p.printf("a message with a new link goes to %s", a.Email)
	})
}

type accountRename struct {
	accountArg
	Name string `arg:"" help:"The new display name."`
	reasonFlag
}

func (c *accountRename) Run(p *program) error {
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		a, err := o.Rename(p.ctx, o.caller, o.tenant, c.User, c.Reason, c.Name)
		return c.print(p, a, account.NameField(err))
	})
}

type accountSignOut struct {
	accountArg
	reasonFlag
}

// Help is what "dialtone account sign-out --help" adds.
func (accountSignOut) Help() string {
	return "Phones stay registered. Anyone who knows the password can sign in again; to prevent that, disable the " +
		"account, or let its owner choose another password."
}

func (c *accountSignOut) Run(p *program) error {
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		a, err := o.SignOut(p.ctx, o.caller, o.tenant, c.User, c.Reason)
		if err := c.print(p, a, err); err != nil || c.JSON {
			return err
		}
		return p.printf("all sessions of the account have ended")
	})
}

type signupsCommand struct {
	Show  signupsShow  `cmd:"" help:"Show where people can sign up."`
	Open  signupsOpen  `cmd:"" help:"Let people sign up."`
	Close signupsClose `cmd:"" help:"Let nobody sign up."`
}

type signupsShow struct {
	Tenant string `placeholder:"HOST" help:"Only this tenant (all)."`
	JSON   bool   `name:"json" help:"Print one JSON array."`
}

func (c *signupsShow) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		list, _, err := in.Store.Tenants(p.ctx)
		if err != nil {
			return err
		}
		if c.Tenant != "" {
			t, err := in.TenantOf(p.ctx, c.Tenant)
			if err != nil {
				return err
			}
			list = []tenant.Tenant{*t}
		}
		views := opjson.All(list, func(t tenant.Tenant) opjson.Signups {
			return opjson.OfSignups(t.Host, operator.Signups{Mode: t.Signups, Note: t.SignupsNote, Freeze: t.Freeze})
		})
		if c.JSON {
			return indented(p.stdout, views)
		}
		out := p.table()
		out.Row("HOST", "SIGNUPS", "NOTE")
		for _, v := range views {
			state := string(v.Signups)
			if v.Frozen {
				state = "closed (frozen)"
			}
			out.Row(v.Host, state, v.Shown)
		}
		return out.Flush()
	})
}

// signupsOptions are the options of the commands that open and close signups.
type signupsOptions struct {
	Tenant string `xor:"where" placeholder:"HOST" help:"The tenant's host name (the only tenant)."`
	Freeze bool   `xor:"where" help:"All tenants at once, whatever their own settings are."`
	JSON   bool   `name:"json" help:"Print JSON."`
	reasonFlag
}

// run opens or closes signups. A note is for closed ones.
func (c signupsOptions) run(p *program, mode tenant.Signups, note *string) error {
	if note != nil {
		if _, _, err := tenant.CheckSignups(mode, *note); err != nil {
			return usageError{noteError(err)}
		}
	}
	if c.Freeze {
		return c.runFreeze(p, mode, note)
	}
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		s, err := o.SetSignups(p.ctx, o.caller, o.tenant, mode, note, c.Reason)
		if err != nil {
			return err
		}
		v := opjson.OfSignups(o.tenant.Host, s)
		if c.JSON {
			return json.NewEncoder(p.stdout).Encode(v)
		}
		if v.Frozen {
			fmt.Fprintln(p.stderr, "dialtone: the signups of all tenants are frozen; to lift that, run: "+
				"dialtone signups open --freeze")
		}
		if err := p.printf("signups at %s are %s", v.Host, v.Signups); err != nil || v.Open || v.Shown == "" {
			return err
		}
		return p.printf("visitors read: %s", terminal.EscapeLine(v.Shown))
	})
}

// noteError names the option of a note as the commands that open and close signups do.
func noteError(err error) error {
	if fe, ok := errors.AsType[*fault.Error](err); ok && fe.Field == "signups-note" {
		return fault.Field("note", "%s", strings.Replace(fe.Message, fe.Field, "--note", 1))
	}
	return err
}

func (c signupsOptions) runFreeze(p *program, mode tenant.Signups, note *string) error {
	if err := audit.CheckReason(c.Reason); err != nil {
		return usageError{err}
	}
	var freeze *tenant.Freeze
	said := "the signups of all tenants are frozen"
	if mode == tenant.SignupsClosed {
		freeze = &tenant.Freeze{}
		set(&freeze.Note, note)
	} else {
		said = "the signups of all tenants are no longer frozen, and their own settings apply"
	}
	return p.with(func(in *installation.Installation) error {
		freeze, err := p.operators(in).SetFreeze(p.ctx, p.caller(), freeze, c.Reason)
		switch {
		case err != nil:
			return err
		case c.JSON:
			return json.NewEncoder(p.stdout).Encode(opjson.OfFreeze(freeze))
		}
		return p.printf("%s", said)
	})
}

type signupsOpen struct{ signupsOptions }

// Help is what "dialtone signups open --help" adds.
func (signupsOpen) Help() string {
	return "Servers follow within a second. A note about closed signups is dropped. --freeze ends the freeze of all " +
		"tenants; their own settings apply again. With --json it prints frozen and note."
}

func (c *signupsOpen) Run(p *program) error { return c.run(p, tenant.SignupsOpen, nil) }

type signupsClose struct {
	signupsOptions
	Note *string `placeholder:"TEXT" help:"What visitors read while it is closed (as it is)."`
}

// Help is what "dialtone signups close --help" adds.
func (signupsClose) Help() string {
	return "Servers follow within a second. Accounts that exist work as before, and those that wait for their " +
		"activation can still be activated. TEXT is plain text of up to 300 characters. With --freeze, signups are " +
		"closed at all tenants until signups open --freeze; the tenants' own settings stay, and then apply again. " +
		"Visitors read the note of the freeze, or a text of the program, and not those of the tenants. With --json " +
		"it prints frozen and note."
}

func (c *signupsClose) Run(p *program) error { return c.run(p, tenant.SignupsClosed, c.Note) }
