package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"
	"unicode"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
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
			a.Sudo = strings.Map(graphic, strings.ToValidUTF8(name[:min(len(name), limit)], "?"))
		}
	}
	return a
}

// graphic replaces control characters by question marks.
func graphic(r rune) rune {
	if unicode.IsControl(r) {
		return '?'
	}
	return r
}

// withReason returns a context that records a reason with the changes that this process makes.
func (p *program) withReason(reason string) (context.Context, error) {
	if err := audit.CheckReason(reason); err != nil {
		return nil, usageError{err}
	}
	cause := audit.CauseOf(p.ctx)
	cause.Reason = reason
	return audit.With(p.ctx, cause), nil
}

// recorded makes a change outside the store, such as that of a file, and adds it to the audit trail. It adds the change
// first: after a crash in between, the trail contains a change that was not made, but it never lacks one that was. If
// the change fails, recorded adds another row with that outcome.
func (p *program) recorded(
	ctx context.Context, in *installation.Installation, c audit.Change, do func() error,
) error {
	c.At, c.Outcome = time.Now(), audit.OK
	if err := in.Store.AddChange(ctx, c); err != nil {
		return err
	}
	err := do()
	if err != nil {
		c.At, c.Outcome = time.Now(), audit.Failed
		err = errors.Join(err, in.Store.AddChange(ctx, c))
	}
	return err
}

type auditCommand struct {
	List   auditList   `cmd:"" help:"List what operators and people changed, oldest first."`
	Export auditExport `cmd:"" help:"Print changes as JSON lines, oldest first."`

	Restart auditRestart `cmd:"" help:"Begin new checkpoints after an explained fault."`
}

type auditRestart struct {
	Reason string `required:"" placeholder:"TEXT" help:"Why, for the audit trail."`
}

// Help is what "dialtone audit restart --help" adds.
func (auditRestart) Help() string {
	return "The next checkpoint covers all changes that are in the audit trail now, and nothing proves that they are " +
		"the changes that were made. dialtone verify shows the reason as long as the trail contains it."
}

func (c *auditRestart) Run(p *program) error {
	ctx, err := p.withReason(c.Reason)
	if err != nil {
		return err
	}
	if strings.TrimSpace(c.Reason) == "" {
		return usageError{fault.Field("reason", "say why, with --reason")}
	}
	return p.with(func(in *installation.Installation) error {
		seen, err := in.Dir.TrailFile().Load()
		if err != nil {
			return runas.InDataDir(err)
		}
		if err := audit.Restart(ctx, in.Store, in.Seal, seen, time.Now()); err != nil {
			return err
		}
		fmt.Fprintln(p.stdout, "a server writes new checkpoints within a minute")
		return nil
	})
}

// auditFilter are the flags that select changes.
type auditFilter struct {
	Since   string `placeholder:"TIME" help:"Only changes since a time, or since a duration before now."`
	Before  string `placeholder:"TIME" help:"Only changes before a time, or before a duration before now."`
	Tenant  string `placeholder:"HOST" help:"Only changes of this tenant."`
	Account string `placeholder:"USER" help:"Only changes of accounts with this user name."`
	Action  string `placeholder:"ACTION" help:"Only this action, or those that begin with it if it ends with a dot."`
	Actor   string `placeholder:"NAME" help:"Only changes by operators or tokens with this name."`
	Bulk    string `xor:"bulk" placeholder:"ID" help:"Only changes of accounts by this bulk change."`
	Net     string `placeholder:"NETWORK" help:"Only changes that may have come from this address or network."`
}

// filter returns the filter of the flags.
func (c *auditFilter) filter(now time.Time) (f audit.Filter, err error) {
	f = audit.Filter{Tenant: c.Tenant, User: c.Account, Action: c.Action, Actor: c.Actor, Bulk: c.Bulk}
	if err := audit.CheckAction("action", c.Action); err != nil {
		return f, usageError{err}
	}
	if _, err := operator.ParseBulkID(c.Bulk); err != nil && c.Bulk != "" {
		return f, usageError{fault.Field("bulk", "%q is not the ID of a bulk change; "+
			"see: dialtone account bulk list", c.Bulk)}
	}
	if f.Since, err = operator.ParseTime("since", c.Since, now); err != nil {
		return f, usageError{err}
	}
	if f.Before, err = operator.ParseTime("before", c.Before, now); err != nil {
		return f, usageError{err}
	}
	if f.Net, err = operator.ParseNetwork("net", c.Net); err != nil {
		return f, usageError{err}
	}
	if c.Tenant != "" { // it may have been removed, so it is not looked up
		f.Tenant, err = installation.NormalizeHost(c.Tenant)
	}
	return f, err
}

// auditTrail returns the operator service and the caller for reading the trail.
func (p *program) auditTrail(in *installation.Installation) (*operator.Service, operator.Caller) {
	return operator.NewService(operator.Deps{Store: in.Store, Now: time.Now, CoverTrail: in.CoverTrail(p.stderr)}),
		installation.Caller(p.ctx)
}

type auditList struct {
	auditFilter
	Fold   bool `xor:"bulk" help:"Show a bulk change as one row, without those of its accounts."`
	Newest bool `help:"List the newest change first."`
	Limit  int  `placeholder:"N" help:"List at most this many changes."`
	JSON   bool `name:"json" help:"Print one JSON array."`
}

const timeHelp = "TIME is 2026-03-01, 2026-03-01T12:00:00Z, or a duration before now such as 24h or 7d."

// Help is what "dialtone audit list --help" adds.
func (auditList) Help() string { return timeHelp }

func (c *auditList) Run(p *program) error {
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	if c.Limit < 0 {
		return usageError{fault.Field("limit", "the limit must not be negative; 0 lists all changes")}
	}
	filter.Newest, filter.NoBulk = c.Newest, c.Fold
	return p.with(func(in *installation.Installation) error {
		if c.JSON {
			return array(p.stdout, func(each func(any) error) error {
				return c.each(p, in, filter, func(c audit.Change) error { return each(opjson.OfChange(c)) })
			})
		}
		out := p.table()
		out.Row("CHANGE", "TIME", "ACTION", "OUTCOME", "TENANT", "USER", "SUBJECT", "BEFORE -> AFTER", "ACTOR",
			"NETWORK", "REASON")
		err := c.each(p, in, filter, func(c audit.Change) error {
			return out.Row(c.ID, c.At.Format(time.RFC3339), c.Action, c.Outcome, c.Tenant, c.User, c.Subject,
				terminal.Cell(beforeAfter(c)), c.Actor.Words(), c.Net, c.Reason)
		})
		return errors.Join(err, out.Flush())
	})
}

// each calls do for each change of the list.
func (c *auditList) each(p *program, in *installation.Installation, f audit.Filter, do func(audit.Change) error) error {
	const pageSize = 1000
	s, caller := p.auditTrail(in)
	for next, left := "", c.Limit; ; {
		limit := pageSize
		if c.Limit > 0 {
			limit = min(limit, left)
		}
		page, err := s.Changes(p.ctx, caller, nil, f, next, limit)
		if err != nil {
			return err
		}
		for _, change := range page.Changes {
			if err := do(change); err != nil {
				return err
			}
		}
		left -= len(page.Changes)
		if next = page.Next; next == "" || c.Limit > 0 && left == 0 {
			return nil
		}
	}
}

type auditExport struct {
	auditFilter
	After  int64  `placeholder:"CHANGE" help:"Only changes after the one with this ID, the last of an earlier export."`
	Reason string `placeholder:"TEXT" help:"Why, for the audit trail."`
}

// Help is what "dialtone audit export --help" adds.
func (auditExport) Help() string {
	return timeHelp + " The export itself is recorded in the audit trail, too."
}

func (c *auditExport) Run(p *program) error {
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	if err := audit.CheckReason(c.Reason); err != nil {
		return usageError{err}
	}
	filter.AfterID = c.After
	return p.with(func(in *installation.Installation) error {
		s, caller := p.auditTrail(in)
		buffered := bufio.NewWriter(p.stdout)
		out := json.NewEncoder(buffered)
		out.SetEscapeHTML(false)
		err := s.ExportChanges(p.ctx, caller, nil, filter, c.Reason, func(c audit.Change) error {
			return out.Encode(opjson.OfChange(c))
		})
		return errors.Join(err, buffered.Flush())
	})
}
