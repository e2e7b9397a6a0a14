package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/audit"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

type statsCommand struct {
	Tenant string `placeholder:"HOST" help:"Only this tenant (all tenants)."`
	Days   int    `default:"7" placeholder:"N" help:"How many days, today included (7)."`
	JSON   bool   `name:"json" help:"Print JSON."`
}

// Help is what "dialtone stats --help" adds.
func (statsCommand) Help() string {
	return "Days are those of UTC. Servers write their counts once a second; changes by commands are not counted."
}

func (c *statsCommand) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		var t *tenant.Tenant
		if c.Tenant != "" {
			found, err := in.TenantOf(p.ctx, c.Tenant)
			if err != nil {
				return err
			}
			t = found
		}
		service := operator.NewService(operator.Deps{Store: in.Store, Now: time.Now})
		caller := operator.Caller{Actor: audit.CauseOf(p.ctx).Actor, Scopes: operator.Scopes}
		counts, err := service.Stats(p.ctx, caller, t, c.Days)
		if err != nil {
			return err
		}
		signups, err := service.SignupsOf(p.ctx, caller, t)
		if err != nil {
			return err
		}
		v := opjson.OfStats(t, counts, signups)
		if c.JSON {
			return json.NewEncoder(p.stdout).Encode(v)
		}
		return p.printStats(v)
	})
}

// printStats prints a table with a row for each day, and then the rest.
func (p *program) printStats(v opjson.Stats) error {
	out := p.table()
	out.Row("DAY (UTC)", "SIGNUPS", "REFUSED", "ACTIVATIONS", "CONFIRMATIONS", "FIRST SIGN-INS", "SIGN-INS",
		"REFUSED", "LOOK-UPS", "MAIL SENT", "FAILED")
	row := func(name string, c stats.Counts) {
		out.Row(name, c[stats.Signup], refusedSignups(c), c[stats.Activation], c[stats.Confirmation],
			c[stats.FirstSignIn], c[stats.SignIn], c[stats.SignInRefused], c[stats.Lookup], c[stats.MailSent],
			c[stats.MailFailed])
	}
	for _, d := range v.Days {
		row(d.Day, d.Counts)
	}
	row("total", v.Total)
	if err := out.Flush(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p.stdout); err != nil {
		return err
	}
	out = p.table()
	out.Row("funnel", fmt.Sprintf("%d signups, %d activations (%s), %d first sign-ins (%s)",
		v.Funnel.Signups, v.Funnel.Activations, percent(v.Funnel.Activations, v.Funnel.Signups),
		v.Funnel.FirstSignIns, percent(v.Funnel.FirstSignIns, v.Funnel.Signups)))
	out.Row("refused signups", fmt.Sprintf(
		"%d captcha, %d name taken, %d limits, %d invalid, %d closed, %d failures",
		v.Total[stats.SignupCaptcha], v.Total[stats.SignupTaken], v.Total[stats.SignupLimit],
		v.Total[stats.SignupInvalid], v.Total[stats.SignupClosed], v.Total[stats.SignupFailed]))
	out.Row("signups", signupsText(v))
	out.Row("mail", fmt.Sprintf("%s waiting, %s deferred, %s failed%s",
		v.Mail.Waiting, v.Mail.Deferred, v.Mail.Failed, since(v.Mail.Oldest)))
	for _, h := range v.Hooks {
		text := h.Waiting.String() + " waiting" + since(h.Oldest)
		if h.GivenUp > 0 {
			text += fmt.Sprintf(", %d given up", h.GivenUp)
		}
		if h.LastFailure != nil {
			text += ", " + failureText(*h.LastFailure, h.LastError, h.Waiting > 0)
		}
		out.Row("hook "+h.Name, text)
	}
	for _, c := range v.Certificates {
		out.Row("certificate "+c.Host, certificateText(c))
	}
	return out.Flush()
}

// certificateText describes until when a certificate is valid, and why the last order failed.
func certificateText(c opjson.Certificate) string {
	text := "none yet"
	if c.Expires != nil {
		text = "valid until " + c.Expires.Format(time.RFC3339)
	}
	if c.Failures > 0 {
		text += fmt.Sprintf("; %s failed, the last: %s", terminal.Counted(c.Failures, "order"),
			c.Failure)
	}
	return text
}

// failureText describes the last failure of a hook. waits tells whether notifications still wait for it.
func failureText(at time.Time, why string, waits bool) string {
	text := "last failure " + at.Format(time.RFC3339) + " " + why
	if !waits {
		text = "nothing fails now; " + text
	}
	return text
}

func refusedSignups(c stats.Counts) int64 {
	return c[stats.SignupCaptcha] + c[stats.SignupTaken] + c[stats.SignupLimit] + c[stats.SignupInvalid] +
		c[stats.SignupClosed] + c[stats.SignupFailed]
}

func signupsText(v opjson.Stats) string {
	switch {
	case v.Frozen:
		return "closed at all tenants (frozen)"
	case v.Open == nil:
		return "not frozen; each tenant is open or closed by itself"
	case *v.Open:
		return string(tenant.SignupsOpen)
	}
	return string(tenant.SignupsClosed)
}

// since describes how long the oldest entry of a backlog has waited.
func since(oldest *time.Time) string {
	if oldest == nil {
		return ""
	}
	return ", the oldest for " + max(time.Since(*oldest), 0).Round(time.Second).String()
}

// percent returns a part of a whole in percent.
func percent(part, whole int64) string {
	if whole == 0 {
		return "-"
	}
	return strconv.FormatInt((part*200+whole)/(2*whole), 10) + " %"
}
