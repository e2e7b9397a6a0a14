package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"dialtone/cmd/dialtone/internal/importer"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/userfile"
)

type accountImport struct {
	tenantFlag
	File   string `arg:"" help:"A file, a directory (freeswitch), - for standard input, or a database."`
	Format string `required:"" placeholder:"FORMAT" help:"The format of the file; see above."`
	State  string `enum:"active,waiting" default:"active" placeholder:"STATE" help:"${enum} (${default})."`
	Role   string `enum:"guest,user,siponly,admin,file" default:"guest" placeholder:"ROLE" help:"${enum} (${default})."`
	DryRun bool   `help:"Report what would be imported, and change nothing."`

	FoldCase       bool `help:"Import names with capitals in lower case."`
	AllowReserved  bool `help:"Import reserved user names."`
	CheckPasswords bool `help:"Count passwords that are easy to guess (slow)."`

	reasonFlag
	JSON bool `name:"json" help:"Print JSON."`
}

// Help is what "dialtone account import --help" adds.
func (accountImport) Help() string {
	return "FORMAT is " + formatNames(userfile.Formats) + ". Accounts keep the passwords that they have on the " +
		"other platform: HA1s are imported unchanged, and plain passwords are hashed. The realm of the file must " +
		"be the tenant's. With --role file, each account gets the role in the file. A database is " +
		"sqlite:FILE, a postgres:// URL without a password (use PGPASSFILE or PGPASSWORD), or env:NAME for a " +
		"variable that contains either. Existing accounts are never changed, so the command can be repeated. " +
		"The HA1 of a name with capitals is useless for the name in lower case: with --fold-case, the person gets a " +
		"message with a link to choose a password, unless the file contains the plain password. Begin with --dry-run."
}

func (c *accountImport) Run(p *program) error {
	if err := checkFormat(c.Format, userfile.Formats); err != nil {
		return err
	}
	ctx, err := p.withReason(c.Reason)
	if err != nil {
		return err
	}
	location := c.File
	if strings.HasPrefix(location, "env:") || strings.HasPrefix(location, "sqlite:") ||
		userfile.IsPostgres(location) {
		if location, err = p.location(location); err != nil {
			return err
		}
	}
	return p.with(func(in *installation.Installation) (err error) {
		t, err := tenantOrOnly(p.ctx, in, c.Tenant)
		if err != nil {
			return err
		}
		o := account.ImportOptions{
			Format: c.Format, Waiting: c.State == "waiting", FoldCase: c.FoldCase, Reserved: c.AllowReserved,
			CheckPasswords: c.CheckPasswords, DryRun: c.DryRun,
		}
		if o.FileRoles = c.Role == "file"; !o.FileRoles {
			o.Role = account.Role(c.Role)
		}
		source, err := userfile.Open(userfile.Format(c.Format), location, p.stdin)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, source.Close()) }()
		im, err := p.accounts(in).NewImport(t, o)
		if err != nil {
			return err
		}
		report, err := importer.Run(ctx, source, im, importer.Options{
			Format: c.Format, DryRun: c.DryRun, Bar: terminal.NewProgress(p.stderr),
		})
		if report == nil {
			return err
		}
		v := opjson.OfImport(*report, t.Host, c.Format)
		if c.JSON {
			return errors.Join(json.NewEncoder(p.stdout).Encode(v), err)
		}
		return errors.Join(p.printImport(v), err)
	})
}

// printImport prints a report.
func (p *program) printImport(v opjson.Import) error {
	out := terminal.To(p.stdout)
	would := ""
	if v.DryRun {
		would = " would be"
	}
	fmt.Fprintf(out, "%s of %s%s imported to %s\n",
		terminal.Counted(v.Imported, "account"), terminal.Counted(v.Rows, "row"), would, v.Tenant)
	if len(v.Refused) > 0 {
		fmt.Fprintln(out, "\nnot imported:")
		p.printReasons(out, v.Refused)
	}
	if len(v.Notes) > 0 {
		fmt.Fprintln(out, "\nremarks about imported accounts:")
		p.printReasons(out, v.Notes)
	}
	if len(v.Realms) > 0 {
		fmt.Fprintln(out, "\nrealms of the file that are not the tenant's:")
		const most = 10
		for i, r := range v.Realms {
			if i == most {
				fmt.Fprintf(out, "  and %d more\n", len(v.Realms)-most)
				break
			}
			fmt.Fprintf(out, "%8d  %s\n", r.Count, r.Realm)
		}
		fmt.Fprintf(out, "a tenant without accounts can have another realm: dialtone tenant set %s --realm REALM\n",
			v.Tenant)
	}
	return nil
}

// printReasons prints the count of each reason and its first entries, unless nobody has to look at these.
func (p *program) printReasons(out io.Writer, list []opjson.ImportReason) {
	for _, r := range list {
		fmt.Fprintf(out, "%8d  %s: %s\n", r.Count, r.Reason, r.Text)
		if r.Reason == string(account.ImportThere) || strings.HasPrefix(r.Reason, "without_") {
			continue
		}
		for _, e := range r.First {
			where := fmt.Sprintf("line %d", e.Line)
			if e.File != "" {
				where = e.File + ", " + where
			}
			for _, text := range []string{e.User, e.Text} {
				if text != "" {
					where += ": " + terminal.EscapeLine(text)
				}
			}
			fmt.Fprintf(out, "          %s\n", where)
		}
		if more := r.Count - int64(len(r.First)); more > 0 {
			fmt.Fprintf(out, "          and %d more\n", more)
		}
	}
}

// formatNames returns the names of formats in a sentence.
func formatNames(list []userfile.Format) string {
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = string(f)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// checkFormat fails for a name that is not in the list.
func checkFormat(name string, list []userfile.Format) error {
	if !slices.Contains(list, userfile.Format(name)) {
		return usageError{fault.Field("format", "%q is not a format here; use %s", name, formatNames(list))}
	}
	return nil
}
