package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/tenant"
)

// The commands that help people who have lost access to their accounts.

type accountResetLink struct {
	accountArg
	reasonFlag
	Valid string `placeholder:"TIME" help:"How long the link works, at most 7d (1h)."`
	Mail  bool   `help:"Mail a link that works for 1h, and print none."`
}

// Help is what "dialtone account reset-link --help" adds.
func (accountResetLink) Help() string {
	return "The link is for somebody who has lost the password and cannot read the mail of the account. A person who " +
		"has the link can choose the password of this account, once. It replaces the other links for a new password. " +
		"With --mail the link goes to the address of the account, and a running server writes it within seconds."
}

func (c *accountResetLink) Run(p *program) error {
	life, err := operator.ParsePeriod("valid", c.Valid)
	if err != nil {
		return usageError{err}
	}
	life = cmp.Or(life, account.ResetLife)
	if c.Mail && life != account.ResetLife {
		return usageError{fault.New(fault.Invalid, "a link in a message works for 1h; leave out --valid or --mail")}
	}
	if life < time.Minute || life > account.MaxResetLife {
		return usageError{fault.Field("valid", "a link can work for 1 minute to 7 days, not for %s",
			operator.PeriodText(life))}
	}
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		in, t := o.in, o.tenant
		a, err := o.Find(p.ctx, o.caller, t, c.User)
		switch {
		case err != nil:
			return c.print(p, a, err)
		case a.State() == account.Waiting:
			return fault.New(fault.Conflict, "the account %s waits for its activation; to activate it first, run: "+
				"dialtone account enable %s --activate --tenant %s", c.User, c.User, t.Host)
		case a.State() == account.Leaving:
			return fault.New(fault.Conflict, "the owner of the account %s has left; to enable it first, run: "+
				"dialtone account enable %s --tenant %s", c.User, c.User, t.Host)
		case a.State() == account.Disabled:
			return fault.New(fault.Conflict, "the account %s is disabled; to enable it first, run: "+
				"dialtone account enable %s --tenant %s", c.User, c.User, t.Host)
		}
		if c.Mail {
			a, until, err := o.MailResetLink(p.ctx, o.caller, t, c.User, c.Reason)
			if err == nil && c.JSON {
				return json.NewEncoder(p.stdout).Encode(opjson.ResetLink{User: a.User, To: &a.Email, Until: until})
			}
			if err := c.print(p, a, err); err != nil {
				return err
			}
			return p.printf("a message with a link to choose another password goes to %s; the link works once, "+
				"until %s", a.Email, until.Format(time.RFC3339))
		}
		own := t.PublicURL != ""
		if !own {
			t.PublicURL = in.DefaultURL(t.Host)
		}
		link, until, err := o.ResetLink(p.ctx, o.caller, t, c.User, c.Reason, life)
		if err != nil {
			return c.print(p, a, err)
		}
		if !own && tenant.Loopback(t.Host) { // the port is that of this command's configuration
			fmt.Fprintf(p.stderr, "dialtone: the link begins with %s, from \"listen\" in the configuration; "+
				"if the server listens elsewhere, give the command the same --config, or run: "+
				"dialtone tenant set %s --public-url URL\n", t.PublicURL, t.Host)
		}
		if c.JSON {
			return json.NewEncoder(p.stdout).Encode(opjson.ResetLink{User: c.User, Link: &link, Until: until})
		}
		return p.printf("%s\nworks once, until %s", link, until.Format(time.RFC3339))
	})
}

type accountSecondFactor struct {
	accountArg
	reasonFlag
	Remove bool `help:"Remove the authenticator app, the recovery codes and all passkeys."`
}

// Help is what "dialtone account second-factor --help" adds.
func (accountSecondFactor) Help() string {
	return "--remove is for somebody who has lost the phone and the recovery codes. Make sure that the request is " +
		"from the owner: afterwards the password alone is enough. It ends all sessions, and the owner gets a " +
		"message. Without --remove the command changes nothing."
}

func (c *accountSecondFactor) Run(p *program) error {
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		before, err := o.Find(p.ctx, o.caller, o.tenant, c.User)
		if err != nil || !c.Remove {
			return c.print(p, before, err)
		}
		a, err := o.RemoveFactors(p.ctx, o.caller, o.tenant, c.User, c.Reason)
		if err := c.print(p, a, err); err != nil || c.JSON {
			return err
		}
		if before.Factors == 0 {
			return p.printf("nothing was changed: the account has no second factor")
		}
		return p.printf("removed: %s\nall sessions of the account have ended, and a message about it goes to %s",
			before.Factors, a.Email)
	})
}

type accountEmail struct {
	accountArg
	Address string `arg:"" help:"The new e-mail address."`
	reasonFlag
}

// Help is what "dialtone account email --help" adds.
func (accountEmail) Help() string {
	return "It is for somebody whose account another person has taken over, or whose mailbox no longer exists. Make " +
		"sure that the request is from the owner. All sessions and links of the account end, and nobody gets a " +
		"message. The password and the second factors stay."
}

func (c *accountEmail) Run(p *program) error {
	if _, err := account.CleanEmail(c.Address); err != nil {
		return usageError{fmt.Errorf("the e-mail address %w", err)}
	}
	return p.operate(c.Tenant, c.Reason, func(o operation) error {
		t := o.tenant
		a, err := o.SetEmail(p.ctx, o.caller, t, c.User, c.Reason, c.Address)
		if err := c.print(p, a, err); err != nil || c.JSON {
			return err
		}
		if err := p.printf("all sessions, links and remembered browsers of the account have ended"); err != nil {
			return err
		}
		if a.Factors != 0 {
			if err := p.printf("the second factors stay; to remove them, run: dialtone account second-factor %s "+
				"--remove --tenant %s", a.User, t.Host); err != nil {
				return err
			}
		}
		if a.Pending() {
			return p.printf("the activation link has ended; the owner gets another one at /forgot.html")
		}
		return p.printf("the password stays; for a link to choose another one, run: dialtone account reset-link %s "+
			"--tenant %s", a.User, t.Host)
	})
}
