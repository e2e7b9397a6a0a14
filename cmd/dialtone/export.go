package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"dialtone/cmd/dialtone/internal/doctor"
	"dialtone/cmd/dialtone/internal/exporter"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/audit"
	"dialtone/internal/export"
	"dialtone/internal/fault"
)

type exportCommand struct {
	Enable  exportEnable  `cmd:"" help:"Create tables with HA1s, and update them."`
	Disable exportDisable `cmd:"" help:"Empty the tables, and stop updating them."`
	Status  exportStatus  `cmd:"" help:"Show the state of the tables, and where they are."`
	Rebuild exportRebuild `cmd:"" help:"Fill the tables again from the accounts."`
	Role    exportRole    `cmd:"" help:"Create a PostgreSQL role that reads the tables."`
}

// enableExport enables or rebuilds the export and shows its progress.
func (p *program) enableExport(in *installation.Installation) error {
	bar := terminal.NewProgress(p.stderr)
	err := in.Store.EnableExport(p.ctx, func(done, total int64) { bar.Show("export", done, total) })
	bar.End()
	if err != nil && errors.Is(err, p.ctx.Err()) {
		err = fmt.Errorf("interrupted (%w), so accounts may be missing; complete the export with: "+
			"dialtone directory export rebuild", err)
	}
	return err
}

type exportEnable struct{}

// Help is what "dialtone directory export enable --help" adds.
func (exportEnable) Help() string {
	return "The tables contain the active accounts with their HA1s in plain text, and follow every change."
}

func (exportEnable) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		if err := p.enableExport(in); err != nil {
			return err
		}
		_, _, err := exportStatus{}.print(p, in)
		return err
	})
}

type exportRebuild struct{}

func (exportRebuild) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		status, err := in.Store.ExportStatus(p.ctx)
		if err != nil {
			return err
		}
		if !status.Enabled {
			return export.ErrNotEnabled
		}
		if err := p.enableExport(in); err != nil {
			return err
		}
		_, _, err = exportStatus{}.print(p, in)
		return err
	})
}

type exportDisable struct{}

func (exportDisable) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		err := in.Store.DisableExport(p.ctx)
		if err == nil {
			fmt.Fprintln(p.stdout, "the export is disabled and its tables are empty")
		}
		return err
	})
}

type exportStatus struct {
	JSON bool `name:"json" help:"Print a JSON object."`
}

// Help is what "dialtone directory export status --help" adds.
func (exportStatus) Help() string {
	return "The command fails if the tables are incomplete, if somebody has changed their definitions, or if the " +
		"group of their file cannot read it."
}

func (c exportStatus) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		status, readers, err := c.print(p, in)
		switch {
		case err != nil:
			return err
		case len(status.Faults) > 0:
			return fault.New(fault.Conflict, "the exported tables are not as dialtone created them, so phone servers "+
				"may get other entries; dialtone directory export status lists what differs; find out who "+
				"changed it")
		case len(status.Missing) > 0:
			return fault.New(fault.Conflict, "phone servers do not get all accounts; dialtone directory export "+
				"status lists them")
		case status.Enabled && !status.Complete:
			return fault.New(fault.Conflict, "the exported tables are incomplete; complete them with: "+
				"dialtone directory export rebuild")
		case len(readers.Blocked) > 0:
			return fault.New(fault.Conflict, "the group %s cannot read the exported tables; dialtone directory export "+
				"status prints commands that let it",
				readers.Group)
		}
		return nil
	})
}

// exportState is the state of the tables, and what somebody has changed in their definitions.
type exportState struct {
	export.Status
	Faults []string `json:"faults"`
}

// print prints the state of the tables and returns it.
func (c exportStatus) print(p *program, in *installation.Installation) (exportState, doctor.ExportReaders, error) {
	readers, status := doctor.ExportReaders{Blocked: []string{}}, exportState{Faults: []string{}}
	// Check the schema first: ExportStatus updates the SQLite file, which may undo what somebody has changed.
	err := in.Store.CheckExportSchema(p.ctx, func(text string) { status.Faults = append(status.Faults, text) })
	if err == nil {
		status.Status, err = in.Store.ExportStatus(p.ctx)
	}
	if err != nil {
		return status, readers, err
	}
	if status.Enabled && !in.Shared() { // the tables are in a file
		if readers, err = doctor.ReadersOf(status.Locations[0]); err != nil {
			return status, readers, err
		}
	}
	if c.JSON {
		return status, readers, json.NewEncoder(p.stdout).Encode(struct {
			exportState
			doctor.ExportReaders
		}{status, readers})
	}
	switch {
	case !status.Enabled:
		fmt.Fprintln(p.stdout, "the export is disabled")
	case !status.Complete && len(status.Missing) == 0:
		fmt.Fprintf(p.stdout, "incomplete: %s so far; complete it with: "+
			"dialtone directory export rebuild\n", terminal.Counted(status.Entries, "active account"))
	default:
		fmt.Fprintf(p.stdout, "%s, %s\n", terminal.Counted(status.Entries, "active account"),
			terminal.Counted(status.Domains, "domain"))
	}
	if len(status.Missing) > 0 {
		terminal.PrintLine(p.stdout, "", export.DescribeMissing(status.Missing))
	}
	for _, text := range status.Faults {
		terminal.PrintLine(p.stdout, "FAULT  ", text)
	}
	for _, location := range status.Locations {
		fmt.Fprintln(terminal.To(p.stdout), "  "+terminal.OneLine(location))
	}
	switch {
	case len(readers.Blocked) > 0:
		fmt.Fprintf(p.stdout, "the group %s cannot read it:\n", readers.Group)
		for _, reason := range readers.Blocked {
			fmt.Fprintln(terminal.To(p.stdout), "  "+terminal.OneLine(reason))
		}
	case readers.Group != "":
		fmt.Fprintf(p.stdout, "the group %s can read it\n", readers.Group)
	}
	return status, readers, nil
}

type exportRole struct {
	Server string `arg:"" enum:"kamailio,opensips,coturn,asterisk,digest" help:"The kind of server."`
	Name   string `placeholder:"ROLE" help:"The name of the role (dialtone_SERVER)."`
	Login  string `name:"login" placeholder:"FILE" help:"File with its password (none); - for stdin."`
}

// Help is what "dialtone directory export role --help" adds.
func (exportRole) Help() string {
	return "The role may read the tables of one kind of server only. SERVER is kamailio, opensips, coturn or " +
		"asterisk, or digest for others. Without --login, the role cannot log in."
}

func (c exportRole) Run(p *program) error {
	role := c.Name
	if role == "" {
		role = "dialtone_" + c.Server
	}
	schema := "dialtone_" + c.Server
	if c.Server == "opensips" {
		schema = "dialtone_kamailio"
	}
	password, err := p.passwordFile(c.Login)
	if err != nil {
		return err
	}
	return p.with(func(in *installation.Installation) error {
		// GrantExport returns the statements that the database user may not execute.
		statements, err := in.Store.GrantExport(p.ctx, schema, role, password)
		if err != nil {
			return err
		}
		if len(statements) > 0 {
			fmt.Fprintln(p.stdout, strings.Join(statements, ";\n")+";")
			return fault.New(fault.Conflict, "the role %s was not created, because the database user may not "+
				"create roles; ask an administrator to execute the printed statements in the database", role)
		}
		fmt.Fprintf(p.stdout, "the role %s may read the schema %s\n", role, schema)
		return nil
	})
}

// passwordFile reads a password from a file or from standard input. If path is empty, there is no password. A flag must
// not contain the password itself, because every user of the machine can see flags.
func (p *program) passwordFile(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := p.secretFile(path)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(text, "\r\n")
	if password == "" {
		return "", fault.New(fault.Invalid, "%s contains no password; write it there, or leave --login out", path)
	}
	return password, nil
}

type htdigestCommand struct {
	File string `arg:"" help:"The file to write. An existing file is replaced."`
	tenantFlag
}

// Help is what "dialtone directory htdigest --help" adds.
func (htdigestCommand) Help() string {
	return "The file contains the accounts that are active now. For files that the server keeps up to date, see the " +
		"configuration's directory.htdigest."
}

func (c *htdigestCommand) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		t, err := tenantOrOnly(p.ctx, in, c.Tenant)
		if err != nil {
			return err
		}
		var left []export.Missing
		change := audit.Change{Action: audit.ExportFile, Tenant: t.Host, Subject: strings.ToValidUTF8(c.File, "?")}
		err = p.recorded(p.ctx, in, change, func() error {
			left, err = exporter.Source{Store: in.Store, Seal: in.Seal, Tenant: t}.WriteHtdigest(p.ctx, c.File)
			return err
		})
		if err == nil && len(left) > 0 {
			terminal.PrintLine(p.stderr, "", export.DescribeMissing(left))
		}
		return err
	})
}
