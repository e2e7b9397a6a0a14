package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
)

// commandActor returns the user of the operating system who runs this process.
func commandActor(environ []string) audit.Actor {
	a := audit.Actor{Kind: audit.Command, ID: strconv.Itoa(os.Getuid())}
	a.Name = "uid " + a.ID
	if u, err := user.LookupId(a.ID); err == nil {
		a.Name = u.Username
	}
	for _, entry := range environ {
		if name, ok := strings.CutPrefix(entry, "SUDO_USER="); ok {
			const limit = 64
			a.Sudo = printable(strings.ToValidUTF8(name[:min(len(name), limit)], "?"))
		}
	}
	return a
}

// because returns a context for changes that this process makes for a reason.
func (p *program) because(reason string) (context.Context, error) {
	if err := audit.CheckReason(reason); err != nil {
		return nil, usageError{err}
	}
	cause := audit.CauseOf(p.ctx)
	cause.Reason = reason
	return audit.With(p.ctx, cause), nil
}

// recorded makes a change outside the store, such as that of a file, and adds it to the audit trail.
// It is added first: after a crash in between, the trail has a change that was not made, but never
// lacks one that was. If the change fails, another row says so.
func (p *program) recorded(in *installation, c audit.Change, do func() error) error {
	c.At, c.Outcome = time.Now(), audit.OK
	if err := in.store.AddChange(p.ctx, c); err != nil {
		return err
	}
	err := do()
	if err != nil {
		c.At, c.Outcome = time.Now(), audit.Failed
		err = errors.Join(err, in.store.AddChange(p.ctx, c))
	}
	return err
}

type auditCommand struct {
	List auditList `cmd:"" help:"List what operators changed, oldest first."`
}

type auditList struct {
	Since   string `placeholder:"TIME" help:"Only changes since a time, or since a duration before now."`
	Tenant  string `placeholder:"HOST" help:"Only changes of this tenant."`
	Account string `placeholder:"USER" help:"Only changes of accounts with this user name."`
	JSON    bool   `name:"json" help:"Print one JSON array."`
}

// Help is what "dialtone audit list --help" adds.
func (auditList) Help() string {
	return "TIME is 2026-03-01, 2026-03-01T12:00:00Z, or a duration before now such as 24h."
}

// changeView is a change as commands print it.
type changeView struct {
	Change    int64           `json:"change"`
	Time      time.Time       `json:"time"`
	Action    audit.Action    `json:"action"`
	Outcome   string          `json:"outcome"`
	Tenant    string          `json:"tenant"`
	User      string          `json:"user"`
	Account   string          `json:"account"` // the UID
	Subject   string          `json:"subject"`
	Before    string          `json:"before"`
	After     string          `json:"after"`
	Actor     string          `json:"actor"`
	ActorKind audit.ActorKind `json:"actor_kind"`
	ActorID   string          `json:"actor_id"`
	SudoUser  string          `json:"sudo_user"`
	Reason    string          `json:"reason"`
}

func viewChange(c audit.Change) changeView {
	return changeView{
		Change: c.ID, Time: c.At, Action: c.Action, Outcome: c.Outcome, Tenant: c.Tenant, User: c.User,
		Account: c.Account, Subject: c.Subject, Before: c.Before, After: c.After,
		Actor: c.Actor.Name, ActorKind: c.Actor.Kind, ActorID: c.Actor.ID, SudoUser: c.Actor.Sudo, Reason: c.Reason,
	}
}

func (c *auditList) Run(p *program) error {
	since, err := parseSince(c.Since, time.Now())
	if err != nil {
		return usageError{err}
	}
	filter := audit.Filter{Since: since, Tenant: c.Tenant, User: c.Account}
	if c.Tenant != "" { // which may have been removed
		if filter.Tenant, err = typedHost(c.Tenant); err != nil {
			return err
		}
	}
	return p.with(func(in *installation) error {
		if c.JSON {
			return array(p.stdout, func(each func(any) error) error {
				return in.store.Changes(p.ctx, filter, func(c audit.Change) error { return each(viewChange(c)) })
			})
		}
		out := p.table()
		fmt.Fprintln(out, "CHANGE\tTIME\tACTION\tOUTCOME\tTENANT\tUSER\tSUBJECT\tBEFORE -> AFTER\tACTOR\tREASON")
		err := in.store.Changes(p.ctx, filter, func(c audit.Change) error {
			change := c.Before + " -> " + c.After
			if c.Before == "" && c.After == "" {
				change = ""
			}
			_, err := fmt.Fprintf(out, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.ID, c.At.Format(time.RFC3339),
				c.Action, c.Outcome, c.Tenant, c.User, printable(c.Subject), change, c.Actor, c.Reason)
			return err
		})
		return errors.Join(err, out.Flush())
	})
}

// parseSince parses a time, or a duration before now. An empty text is the zero time.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fault.Field("since",
		"%q is not a time; use 2026-03-01, 2026-03-01T12:00:00Z, or a duration before now such as 24h", text)
}
