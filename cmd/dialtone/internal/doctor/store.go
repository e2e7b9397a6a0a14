package doctor

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/audit"
	"dialtone/internal/export"
	"dialtone/internal/http/ops"
	"dialtone/internal/operator"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

// keys reports keys that are missing or cannot be read.
func (e *examination) keys(ctx context.Context, in *installation.Installation) (list []finding.Finding) {
	err := missingKeys(ctx, in, func(text string) {
		list = append(list, finding.New(finding.Fault, "keys", finding.AboutKeys, text,
			"restore the file from a backup"))
	})
	if err != nil {
		list = append(list, finding.New(finding.Fault, "keys", finding.AboutKeys, err.Error(),
			"correct owner and mode, or restore the file from a backup"))
	}
	return list
}

// clock reports a clock that differs from that of the database.
func (e *examination) clock(ctx context.Context, in *installation.Installation) []finding.Finding {
	before := time.Now()
	theirs, err := in.Store.Clock(ctx)
	if err != nil || theirs.IsZero() {
		return failed("clock", err)
	}
	if err := ops.Clock(before, theirs, time.Now()); err != nil {
		return []finding.Finding{finding.New(finding.Warning, "clock", finding.AboutClock, err.Error(),
			"synchronize the clocks of this machine and of the database's (timedatectl)")}
	}
	return nil
}

// hooks reports hooks with a backlog.
func (e *examination) hooks(ctx context.Context, in *installation.Installation) (list []finding.Finding) {
	hooks, err := in.Store.Hooks(ctx)
	for _, h := range hooks {
		state := operator.HookBacklog{Name: h.Name, Oldest: h.Oldest, Waiting: stats.Bounded(h.Waiting)}
		why := ops.Hooks([]operator.HookBacklog{state}, time.Now())
		if why == nil {
			continue
		}
		text := why.Error()
		if h.LastError != "" {
			text += "; the last error: " + h.LastError
		}
		list = append(list, finding.New(finding.Warning, "hooks", finding.AboutPhones, text,
			"repair the receiver, and try it with: dialtone directory hook test "+h.Name))
	}
	return append(list, failed("hooks", err)...)
}

// export reports phone servers that do not get all accounts, or cannot read the tables.
func (e *examination) export(ctx context.Context, in *installation.Installation) (list []finding.Finding) {
	// Check the schema first: ExportStatus updates the SQLite file, which may undo what somebody has changed.
	err := in.Store.CheckExportSchema(ctx, func(text string) {
		list = append(list, finding.New(finding.Fault, "export", finding.AboutPhones, "exported tables: "+text,
			"find out who changed them, undo it, and run: dialtone verify"))
	})
	if err != nil {
		return append(list, failed("export", err)...)
	}
	status, err := in.Store.ExportStatus(ctx)
	if err != nil || !status.Enabled {
		return append(list, failed("export", err)...)
	}
	add := func(cause, next string) {
		list = append(list, finding.New(finding.Fault, "export", finding.AboutPhones, cause, next))
	}
	switch {
	case len(status.Missing) > 0:
		add(export.DescribeMissing(status.Missing), "see: dialtone directory export status")
	case !status.Complete:
		add("the exported tables are incomplete", "complete them with: dialtone directory export rebuild")
	}
	if in.Shared() {
		return list
	}
	private := make(map[string]string)
	for _, suffix := range []string{"", "-wal"} {
		private[status.Locations[0]+suffix] = "password hashes for phone servers"
	}
	list = append(list, finding.Private("export", private)...)
	readers, err := ReadersOf(status.Locations[0])
	for _, f := range readers.reasons {
		add("a phone server in the group "+readers.Group+" cannot read the exported tables: "+f.Cause, f.Next)
	}
	return append(list, failed("export", err)...)
}

// htdigest reports htdigest files that every user can read. It finds their paths in the audit trail.
func (e *examination) htdigest(ctx context.Context, in *installation.Installation) []finding.Finding {
	const newest = 100
	page, err := in.Store.ChangePage(ctx, audit.Filter{Action: string(audit.ExportFile), Newest: true}, "", newest)
	private := make(map[string]string)
	for _, c := range page.Changes {
		if filepath.IsAbs(c.Subject) {
			private[filepath.Clean(c.Subject)] = "password hashes for web servers"
		}
	}
	return append(finding.Private("export", private), failed("export", err)...)
}

// versions reports servers of several versions on one database.
func (e *examination) versions(ctx context.Context, in *installation.Installation) []finding.Finding {
	list, err := in.Store.Programs(ctx)
	if err != nil {
		return failed("versions", err)
	}
	if len(list) < 2 {
		return nil
	}
	return []finding.Finding{finding.New(finding.Warning, "versions", finding.AboutNodes,
		"programs of several versions use the database: "+strings.Join(list, ", "),
		"finish the upgrade of all servers, and run this command in the same version")}
}

// signups notes closed signups, which somebody may have forgotten to open again.
func (e *examination) signups(ctx context.Context, in *installation.Installation) []finding.Finding {
	freeze, err := in.Store.Freeze(ctx)
	if err != nil {
		return failed("signups", err)
	}
	if freeze != nil {
		return []finding.Finding{finding.New(finding.Note, "signups", finding.AboutSignups,
			"the signups of all tenants are frozen, so nobody can sign up",
			"if that is no longer intended, run: dialtone signups open --freeze")}
	}
	var closed []string
	for _, t := range e.tenants {
		if _, is := t.Closed(); is {
			closed = append(closed, t.Host)
		}
	}
	if closed == nil {
		return nil
	}
	return []finding.Finding{finding.New(finding.Note, "signups", finding.AboutSignups,
		"nobody can sign up at "+strings.Join(closed, ", "),
		"if that is no longer intended, run: dialtone signups open --tenant HOST")}
}

// certificates reports certificate files that are invalid or expire soon. The server reports certificates from ACME in
// /readyz.
func (e *examination) certificates(context.Context, *installation.Installation) (list []finding.Finding) {
	var hosts []string
	for _, t := range e.tenants {
		if !tenant.Loopback(t.Host) {
			hosts = append(hosts, t.Host)
		}
	}
	for _, text := range certificateFaults(e.Config, hosts) {
		list = append(list, finding.New(finding.Fault, "certificates", finding.AboutCertificates, text,
			"put valid files in place; a running server reads them within seconds"))
	}
	return list
}
