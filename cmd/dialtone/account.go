package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/account"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/tenant"
)

type accountCommand struct {
	List    accountList    `cmd:"" help:"List accounts of a tenant, all or some."`
	Show    accountShow    `cmd:"" help:"Show all about one account."`
	Add     accountAdd     `cmd:"" help:"Add an account."`
	Resend  accountResend  `cmd:"" help:"Send the activation message again."`
	Rename  accountRename  `cmd:"" help:"Change an account's display name."`
	SignOut accountSignOut `cmd:"" help:"End all sessions of an account."`
	Data    accountData    `cmd:"" help:"Print all data about the owner of an account."`
	Enable  accountEnable  `cmd:"" help:"Enable a disabled account, or activate a pending one."`
	Disable accountDisable `cmd:"" help:"Disable an account until it is enabled."`
	Role    accountRole    `cmd:"" help:"Change an account's role."`
	Delete  accountDelete  `cmd:"" help:"Delete an account; its name stays reserved."`

	ResetLink accountResetLink `cmd:"" help:"Print a link to choose a new password."`

	SecondFactor accountSecondFactor `cmd:"" help:"Show or remove an account's second factors."`

	Email accountEmail `cmd:"" help:"Set the e-mail address, and invalidate all links."`

	Bulk accountBulk `cmd:"" help:"Disable, enable or delete many accounts."`

	Import accountImport `cmd:"" help:"Import accounts of another platform."`
	Export accountExport `cmd:"" help:"Write accounts to a file for another platform."`

	Names    accountNames    `cmd:"" help:"List the reserved names of deleted accounts."`
	FreeName accountFreeName `cmd:"" help:"Free the name of a deleted account."`
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

// stateText describes the state: since when, by whom and why.
func stateText(v opjson.Account) string {
	text := string(v.State)
	if v.StateSince != nil {
		text += " since " + v.StateSince.Format(time.RFC3339)
	}
	if v.StateBy != "" {
		text += " by " + v.StateBy
	}
	if v.StateReason != "" {
		text += ": " + v.StateReason
	}
	return text
}

// formatTime formats a time, or returns "not yet" for nil.
func formatTime(at *time.Time) string {
	if at == nil {
		return "not yet"
	}
	return at.Format(time.RFC3339)
}

// atTenant opens the installation and calls do with a tenant: the only one if host is empty.
func (p *program) atTenant(
	host string, do func(*installation.Installation, *account.Service, *tenant.Tenant) error,
) error {
	return p.with(func(in *installation.Installation) error {
		t, err := tenantOrOnly(p.ctx, in, host)
		if err != nil {
			return err
		}
		return do(in, p.accounts(in), t)
	})
}

// print prints an account, or returns the error of looking it up.
func (c accountArg) print(p *program, a account.Account, err error) error {
	if fault.Is(err, fault.NotFound) {
		return noAccount(c.User, c.Tenant, err)
	}
	if err != nil {
		return err
	}
	v := opjson.OfAccount(a)
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(v)
	}
	return p.printLines(accountLines(v))
}

// accountLines returns the lines that commands print about an account.
func accountLines(v opjson.Account) [][2]string {
	firstSignIn := formatTime(v.FirstSignIn)
	if v.SignInUnknown() {
		firstSignIn = "not known"
	}
	lines := [][2]string{
		{"user", v.User},
		{"name", v.Name},
		{"email", v.Email},
		{"role", string(v.Role)},
		{"state", stateText(v)},
		{"created", v.Created.Format(time.RFC3339)},
		{"activated", formatTime(v.Activated)},
		{"confirmed", formatTime(v.Confirmed)},
		{"signup network", cmp.Or(v.Network, "not known")},
		{"first sign-in", firstSignIn},
		{"second factors", cmp.Or(strings.Join(v.Factors, " "), "none")},
	}
	if v.Erased != nil {
		lines = append(lines, [2]string{"erased after", formatTime(v.Erased)})
	}
	return lines
}

// printLines prints pairs of a name and a value.
func (p *program) printLines(lines [][2]string) error {
	out := p.table()
	for _, line := range lines {
		out.Row(line[0], line[1])
	}
	return out.Flush()
}

// noAccount returns the error for an account that does not exist, or that was deleted if err is operator.ErrDeleted.
// host is empty if the command line names none.
func noAccount(user, host string, err error) error {
	at := ""
	if host != "" {
		at = " --tenant " + host
	}
	if errors.Is(err, operator.ErrDeleted) {
		return fault.New(fault.NotFound, "the account %s was deleted, and its name is reserved; to see what is known "+
			"of it, run: dialtone account show %s%s; to give the name up, run: dialtone account free-name %s%s",
			user, user, at, user, at)
	}
	if host == "" {
		return fault.New(fault.NotFound, "there is no account %s; see: dialtone account list", user)
	}
	return fault.New(fault.NotFound, "there is no account %s at %s; see: dialtone account list%s", user, host, at)
}

type accountShow struct{ accountArg }

func (c *accountShow) Run(p *program) error {
	return p.operate(c.Tenant, "", func(o operation) error {
		d, err := o.Show(p.ctx, o.caller, o.tenant, c.User)
		if fault.Is(err, fault.NotFound) {
			return fmt.Errorf("%w; for the history of an earlier account with that name, run: "+
				"dialtone audit list --account %s --tenant %s", noAccount(c.User, c.Tenant, err), c.User, o.tenant.Host)
		}
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(p.stdout).Encode(opjson.OfDetail(d))
		}
		return p.printLines(detailLines(d))
	})
}

type accountData struct {
	tenantFlag
	User string `arg:"" help:"The user name."`
	reasonFlag
}

// Help is what "dialtone account data --help" adds.
func (accountData) Help() string {
	return "It prints the same JSON that people can download themselves, for somebody who asks by letter. The audit " +
		"trail records that you have read it."
}

func (c *accountData) Run(p *program) error {
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		d, err := o.Data(p.ctx, o.caller, o.tenant, c.User, c.Reason)
		if fault.Is(err, fault.NotFound) {
			return noAccount(c.User, c.Tenant, err)
		}
		if err != nil {
			return err
		}
		return d.Write(p.ctx, p.stdout)
	})
}

// reasonFlag is the reason for a change.
type reasonFlag struct {
	Reason string `placeholder:"TEXT" help:"Why, for the audit trail (none)."`
}

// stateReasonFlag is the reason for a change of an account's state.
type stateReasonFlag struct {
	Reason string `placeholder:"TEXT" help:"Why, for the audit trail and the account's state (none)."`
}

type accountEnable struct {
	accountArg
	stateReasonFlag
	Activate bool `help:"Activate an account that was never active, without its link."`
}

// Help is what "dialtone account enable --help" adds.
func (accountEnable) Help() string {
	return "An account that was disabled while it waited for its activation waits again, and its link works until " +
		"it expires."
}

func (c *accountEnable) Run(p *program) error {
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		a, err := o.Enable(p.ctx, o.caller, o.tenant, c.User, c.Reason, c.Activate)
		if errors.Is(err, account.ErrWaiting) {
			return fault.New(fault.Conflict, "the account %s is not disabled: it waits for its activation; "+
				"to activate it without its link, add --activate", c.User)
		}
		return c.print(p, a, err)
	})
}

type accountDisable struct {
	accountArg
	stateReasonFlag
}

func (c *accountDisable) Run(p *program) error {
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		a, err := o.Disable(p.ctx, o.caller, o.tenant, c.User, c.Reason)
		return c.print(p, a, err)
	})
}

type accountRole struct {
	accountArg
	Role string `arg:"" enum:"guest,user,siponly,admin" help:"guest, user, siponly or admin."`
	reasonFlag
}

func (c *accountRole) Run(p *program) error {
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		a, err := o.SetRole(p.ctx, o.caller, o.tenant, c.User, c.Reason, account.Role(c.Role))
		return c.print(p, a, err)
	})
}

type accountDelete struct {
	accountArg
	reasonFlag
	Yes bool `help:"Do not ask for confirmation on a terminal."`
}

func (c *accountDelete) Run(p *program) error {
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		a, err := o.Find(p.ctx, o.caller, o.tenant, c.User)
		if err != nil {
			return c.print(p, a, err)
		}
		if !c.Yes {
			if err := p.confirm(fmt.Sprintf("delete the account %s at %s", a.User, o.tenant.Host)); err != nil {
				return err
			}
		}
		if a, err = o.Delete(p.ctx, o.caller, o.tenant, c.User, c.Reason); err != nil {
			return c.print(p, a, err)
		}
		p.eraseDeleted(o.in)
		if c.JSON {
			return c.print(p, a, nil)
		}
		return p.printf("deleted the account %s at %s", a.User, o.tenant.Host)
	})
}

// eraseDeleted removes the remains of deleted accounts: messages on this host, and data that the database has not
// overwritten yet. The accounts are already deleted, so a failure is only a warning.
func (p *program) eraseDeleted(in *installation.Installation) {
	log := p.logger(in.Log)
	if _, err := os.Stat(in.Mail.PickupDir); err == nil {
		dir, err := pickup.Open(in.Mail.PickupDir)
		if err == nil {
			_, err = delivery.RemoveOrphans(p.ctx, in.Store, dir)
		}
		if err != nil {
			log.Warn("messages of deleted accounts not removed", "err", err,
				"hint", "a running server on this host removes them")
		}
	}
	if err := in.Store.Erase(p.ctx); err != nil {
		log.Warn("deleted data not overwritten yet", "err", err, "hint", "the server overwrites it when it starts")
	}
}
