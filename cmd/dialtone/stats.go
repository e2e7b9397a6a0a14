package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/operator"
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
	return p.with(func(in *installation) error {
		var t *tenant.Tenant
		if c.Tenant != "" {
			found, err := in.tenantOf(p.ctx, c.Tenant)
			if err != nil {
				return err
			}
			t = found
		}
		service := operator.NewService(operator.Deps{Store: in.store, Now: time.Now})
		caller := operator.Caller{Actor: audit.CauseOf(p.ctx).Actor, Scopes: operator.Scopes}
		v, err := viewStats(p.ctx, service, caller, t, c.Days)
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(p.stdout).Encode(v)
		}
		return p.printStats(v)
	})
}

// statsView are counts and backlogs as the command prints them.
type statsView struct {
	Tenant string            `json:"tenant"` // empty for all tenants
	Days   []stats.DayCounts `json:"days"`
	Total  stats.Counts      `json:"total"`
	Funnel funnelView        `json:"funnel"`
	Mail   mailBacklogView   `json:"mail"`
	Hooks  []hookBacklogView `json:"hook_backlogs"`
	// Signups is open or closed. It is closed at all tenants with Frozen, and empty for all tenants without it.
	Signups string `json:"signups"`
	Frozen  bool   `json:"frozen"`
}

type funnelView struct {
	Signups      int64 `json:"signups"`
	Activations  int64 `json:"activations"`
	FirstSignIns int64 `json:"first_signins"`
}

type mailBacklogView struct {
	Waiting  stats.Bounded `json:"waiting"`
	Deferred stats.Bounded `json:"deferred"`
	Failed   stats.Bounded `json:"failed"`
	Oldest   *time.Time    `json:"oldest"`
}

type hookBacklogView struct {
	Name        string        `json:"name"`
	Waiting     stats.Bounded `json:"waiting"`
	Oldest      *time.Time    `json:"oldest"`
	LastFailure *time.Time    `json:"failed"`
	LastError   string        `json:"error"`
	GivenUp     int64         `json:"given_up"`
}

func viewStats(ctx context.Context, s *operator.Service, c operator.Caller, t *tenant.Tenant,
	days int) (v statsView, err error) {
	r, err := s.Stats(ctx, c, t, days)
	if err != nil {
		return v, err
	}
	v = statsView{
		Days: r.Days, Total: r.Total, Funnel: funnelView(r.Funnel),
		Mail:  mailBacklogView{r.Mail.Waiting, r.Mail.Deferred, r.Mail.Failed, orNil(r.Mail.Oldest)},
		Hooks: []hookBacklogView{},
	}
	for _, h := range r.Hooks {
		v.Hooks = append(v.Hooks, hookBacklogView{
			h.Name, h.Waiting, orNil(h.Oldest), orNil(h.LastFailure), h.LastError, h.GivenUp,
		})
	}
	signups, err := s.Signups(ctx, c, t)
	if err != nil {
		return v, err
	}
	if t != nil {
		v.Tenant, v.Signups = t.Host, string(signups.Mode)
	}
	if v.Frozen = signups.Freeze != nil; v.Frozen {
		v.Signups = string(tenant.SignupsClosed)
	}
	return v, nil
}

// orNil returns a pointer to a time, or nil for the zero time.
func orNil(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

// printStats prints a table with a row for each day, and then the rest.
func (p *program) printStats(v statsView) error {
	out := p.table()
	fmt.Fprintln(out, "DAY (UTC)\tSIGNUPS\tREFUSED\tACTIVATIONS\tCONFIRMATIONS\tFIRST SIGN-INS\tSIGN-INS\tREFUSED\t"+
		"LOOK-UPS\tMAIL SENT\tFAILED")
	row := func(name string, c stats.Counts) {
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", name, c[stats.Signup], refusedSignups(c),
			c[stats.Activation], c[stats.Confirmation], c[stats.FirstSignIn], c[stats.SignIn], c[stats.SignInRefused],
			c[stats.Lookup], c[stats.MailSent], c[stats.MailFailed])
	}
	for _, d := range v.Days {
		row(d.Day.String(), d.Counts)
	}
	row("total", v.Total)
	if err := out.Flush(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p.stdout); err != nil {
		return err
	}
	out = p.table()
	fmt.Fprintf(out, "funnel\t%d signups, %d activations (%s), %d first sign-ins (%s)\n",
		v.Funnel.Signups, v.Funnel.Activations, percent(v.Funnel.Activations, v.Funnel.Signups),
		v.Funnel.FirstSignIns, percent(v.Funnel.FirstSignIns, v.Funnel.Signups))
	fmt.Fprintf(out, "refused signups\t%d captcha, %d name taken, %d limits, %d invalid, %d closed, %d failures\n",
		v.Total[stats.SignupCaptcha], v.Total[stats.SignupTaken], v.Total[stats.SignupLimit],
		v.Total[stats.SignupInvalid], v.Total[stats.SignupClosed], v.Total[stats.SignupFailed])
	fmt.Fprintf(out, "signups\t%s\n", v.signupsText())
	fmt.Fprintf(out, "mail\t%s waiting, %s deferred, %s failed%s\n",
		v.Mail.Waiting, v.Mail.Deferred, v.Mail.Failed, since(v.Mail.Oldest))
	for _, h := range v.Hooks {
		text := h.Waiting.String() + " waiting" + since(h.Oldest)
		if h.GivenUp > 0 {
			text += fmt.Sprintf(", %d given up", h.GivenUp)
		}
		if h.LastFailure != nil {
			text += ", last failure " + h.LastFailure.Format(time.RFC3339) + " " + printable(h.LastError)
		}
		fmt.Fprintf(out, "hook %s\t%s\n", h.Name, text)
	}
	return out.Flush()
}

func refusedSignups(c stats.Counts) int64 {
	return c[stats.SignupCaptcha] + c[stats.SignupTaken] + c[stats.SignupLimit] + c[stats.SignupInvalid] +
		c[stats.SignupClosed] + c[stats.SignupFailed]
}

func (v statsView) signupsText() string {
	switch {
	case v.Frozen:
		return "closed at all tenants (frozen)"
	case v.Signups == "":
		return "not frozen; each tenant is open or closed by itself"
	default:
		return v.Signups
	}
}

// since says how long the oldest of a backlog has waited.
func since(oldest *time.Time) string {
	if oldest == nil {
		return ""
	}
	return ", the oldest for " + age(*oldest).Round(time.Second).String()
}

// percent returns a part of a whole in percent.
func percent(part, whole int64) string {
	if whole == 0 {
		return "-"
	}
	return strconv.FormatInt((part*200+whole)/(2*whole), 10) + " %"
}
