package main

import (
	"fmt"
	"os"

	"dialtone/cmd/dialtone/internal/exporter"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/outfile"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/export"
	"dialtone/internal/userfile"
)

type accountExport struct {
	tenantFlag
	File   string   `arg:"" help:"The file to write, with mode 0600; - for standard output."`
	Format string   `required:"" placeholder:"FORMAT" help:"The format of the file; see above."`
	State  []string `enum:"waiting,active,disabled,leaving" placeholder:"STATE" help:"${enum} (active)."`

	WithCredentials bool `help:"Write HA1s, which are as good as passwords."`
	Force           bool `help:"Replace a file of that name."`
	reasonFlag
}

// Help is what "dialtone account export --help" adds.
func (accountExport) Help() string {
	return "FORMAT is " + formatNames(userfile.ExportFormats) + ". All but csv and jsonl consist of HA1s, and need " +
		"--with-credentials; only csv and jsonl also contain names, addresses and roles. An existing file is " +
		"replaced only with --force. The export is recorded in the audit trail. " +
		"For phone servers that run together with this program, see dialtone directory --help."
}

func (c *accountExport) Run(p *program) error {
	if err := checkFormat(c.Format, userfile.ExportFormats); err != nil {
		return err
	}
	format := userfile.Format(c.Format)
	if userfile.NeedsCredentials(format) && !c.WithCredentials {
		return usageError{fmt.Errorf("the format %s consists of HA1s; add --with-credentials", c.Format)}
	}
	ctx, err := p.withReason(c.Reason)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.File); err == nil && c.File != "-" && !c.Force {
		return outfile.ExistsError(c.File)
	}
	states := []account.State{account.Active}
	if len(c.State) > 0 {
		states = nil
	}
	for _, s := range c.State {
		states = append(states, account.State(s))
	}
	return p.with(func(in *installation.Installation) error {
		t, err := tenantOrOnly(p.ctx, in, c.Tenant)
		if err != nil {
			return err
		}
		accounts := exporter.Accounts{
			Source: exporter.Source{Store: in.Store, Seal: in.Seal, Tenant: t},
			Format: format, States: states, Credentials: c.WithCredentials,
		}
		var w exporter.Written
		err = p.recorded(ctx, in, accounts.Change(c.File), func() error {
			if c.File == "-" {
				w, err = accounts.Write(ctx, p.stdout)
			} else {
				w, err = accounts.WriteFile(ctx, c.File, c.Force)
			}
			return err
		})
		if err != nil {
			return err
		}
		if len(w.Left) > 0 {
			terminal.PrintLine(p.stderr, "", export.DescribeMissing(w.Left))
		}
		if c.File == "-" {
			return nil
		}
		return p.printf("%s written to %s", terminal.Counted(w.Accounts, "account"), c.File)
	})
}
