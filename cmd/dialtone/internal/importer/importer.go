// Package importer imports the accounts of another platform, for the command account import.
//
// Nothing is added before the whole source was read once and the import was planned (account.Import). What was added
// before an interruption or a failure stays, and Run can be repeated for the rest.
//
// Run reads the source twice. It reads as the user who started the command, because only that user may be able to read
// the file, and adds as the owner of the data (package runas).
//
// The package does not know the formats of sources: those are in package userfile.
package importer

import (
	"context"
	"errors"
	"fmt"

	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/fault"
)

// Source is where the accounts come from. A *userfile.Source is a Source.
type Source interface {
	// Read calls yield for each entry, and returns its error.
	Read(ctx context.Context, yield func(account.ImportEntry) error) error
}

// Import is what Run needs of *account.Import.
type Import interface {
	Look(account.ImportEntry)
	Rows() int64
	Plan() error
	Add(context.Context, account.ImportEntry) error
	Stop()
	End(context.Context) (account.ImportReport, error)
}

// Options are the options of Run.
type Options struct {
	Format string // of the source, for errors
	DryRun bool   // of im
	Bar    *terminal.Progress
}

// Run imports the accounts of a source, and shows the progress. The report is nil if Run failed before it tried to add
// the first account. Otherwise it tells what was added, even if there is an error.
func Run(ctx context.Context, source Source, im Import, o Options) (*account.ImportReport, error) {
	err := read(ctx, source, func(e account.ImportEntry) error {
		im.Look(e)
		return nil
	})
	if ctx.Err() != nil {
		return nil, interrupted(account.ImportReport{DryRun: o.DryRun}, im.Rows())
	}
	if err == nil {
		err = im.Plan()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Format, err)
	}
	done := int64(0)
	err = read(ctx, source, func(e account.ImportEntry) error {
		if done++; done%1000 == 0 || done == im.Rows() {
			o.Bar.Show("import", done, im.Rows())
		}
		return runas.AsOwner(func() error { return im.Add(ctx, e) })
	})
	if err != nil {
		im.Stop()
	}
	report, endErr := im.End(ctx)
	o.Bar.End()
	if ctx.Err() != nil {
		return &report, interrupted(report, im.Rows())
	}
	if err = errors.Join(err, endErr); err != nil {
		err = fmt.Errorf("stopped: %w; run the same command again to continue", err)
	}
	return &report, err
}

// read reads the source as the user who started the command.
func read(ctx context.Context, source Source, yield func(account.ImportEntry) error) error {
	return runas.AsCaller(func() error { return source.Read(ctx, yield) })
}

// interrupted returns the error of an interrupted import of a number of rows.
func interrupted(r account.ImportReport, rows int64) error {
	switch {
	case r.DryRun:
		return fault.New(fault.Conflict,
			"interrupted: a dry run adds nothing, and this one is not complete; run the same command again")
	case r.Added == 0:
		return fault.New(fault.Conflict, "interrupted: nothing was added; run the same command again")
	}
	were := "were added, and stay"
	if r.Added == 1 {
		were = "was added, and stays"
	}
	return fault.New(fault.Conflict, "interrupted: %s of %s %s; run the same command again for the rest",
		terminal.Counted(r.Added, "account"), terminal.Counted(rows, "row"), were)
}
