package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

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
	states := map[account.State]bool{account.Active: len(c.State) == 0}
	for _, s := range c.State {
		states[account.State(s)] = true
	}
	return p.with(func(in *installation.Installation) error {
		t, err := tenantOrOnly(p.ctx, in, c.Tenant)
		if err != nil {
			return err
		}
		open := account.Opener(in.Seal)
		var left []export.Missing
		n := int64(0)
		write := func(to io.Writer) error {
			w, err := userfile.NewWriter(format, to, "accounts of "+t.Host+", by dialtone account export")
			if err != nil {
				return err
			}
			err = in.Store.List(ctx, t.ID, time.Now(), func(a account.Account) error {
				if !states[a.State()] {
					return nil
				}
				e := userfile.Exported{Account: a, Realm: t.Realm}
				if c.WithCredentials {
					credential, err := open(a)
					if err != nil {
						left = append(left,
							export.Missing{UID: a.UID, ID: a.UID.String(), User: a.User, Tenant: t.Host})
						return nil
					}
					e.Credential = &credential
				}
				n++
				return w.Write(e)
			})
			return errors.Join(err, w.Close())
		}
		p.ctx = ctx
		err = p.recorded(in, exportChange(t.Host, c.Format, c.File, c.WithCredentials), func() error {
			if c.File == "-" {
				return write(p.stdout)
			}
			return outfile.Write(c.File, c.Force, write)
		})
		if err != nil {
			return err
		}
		if len(left) > 0 {
			terminal.PrintLine(p.stderr, "", export.DescribeMissing(left))
		}
		if c.File == "-" {
			return nil
		}
		return p.printf("%s written to %s", terminal.Counted(n, "account"), c.File)
	})
}
