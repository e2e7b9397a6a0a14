package importer

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
)

// fakeImport is a source of rows and the import of them. It fails or is interrupted where a test wants it.
type fakeImport struct {
	rows, looked, added int
	dry, stopped        bool
	plan                error
	interrupt           func() // called when as many accounts as after were seen or added
	after               int
	fail                error // of Add, after as many as after
}

func (f *fakeImport) Read(ctx context.Context, yield func(account.ImportEntry) error) error {
	for range f.rows {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := yield(account.ImportEntry{}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeImport) at(n int) {
	if f.interrupt != nil && n == f.after {
		f.interrupt()
	}
}

func (f *fakeImport) Look(account.ImportEntry) {
	f.looked++
	f.at(f.looked)
}

func (f *fakeImport) Rows() int64 { return int64(f.looked) }
func (f *fakeImport) Plan() error { return f.plan }
func (f *fakeImport) Stop()       { f.stopped = true }

func (f *fakeImport) Add(context.Context, account.ImportEntry) error {
	if f.fail != nil && f.added == f.after {
		return f.fail
	}
	f.added++
	f.at(f.looked + f.added)
	return nil
}

func (f *fakeImport) End(context.Context) (account.ImportReport, error) {
	return account.ImportReport{DryRun: f.dry, Added: int64(f.added)}, nil
}

// An import that fails or is interrupted tells what was added, and how to continue.
func TestRun(t *testing.T) {
	broken := errors.New("broken")
	const again = "; run the same command again"
	for name, c := range map[string]struct {
		f         fakeImport
		interrupt int // after so many calls of Look and Add
		added     int // -1 if there is no report
		want      string
	}{
		"whole":    {fakeImport{rows: 9}, 0, 9, ""},
		"bad file": {fakeImport{rows: 9, plan: broken}, 0, -1, "csv: broken"},
		"failure":  {fakeImport{rows: 9, fail: broken, after: 4}, 0, 4, "stopped: broken" + again + " to continue"},
		"interrupted before": {fakeImport{rows: 9}, 3, -1,
			"interrupted: nothing was added" + again},
		"interrupted": {fakeImport{rows: 9}, 11, 2,
			"interrupted: 2 accounts of 9 rows were added, and stay" + again + " for the rest"},
		"interrupted after one account": {fakeImport{rows: 9}, 10, 1,
			"interrupted: 1 account of 9 rows was added, and stays" + again + " for the rest"},
		"dry run interrupted before": {fakeImport{rows: 9, dry: true}, 3, -1,
			"interrupted: a dry run adds nothing, and this one is not complete" + again},
		"dry run interrupted": {fakeImport{rows: 9, dry: true}, 11, 2,
			"interrupted: a dry run adds nothing, and this one is not complete" + again},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			f := c.f
			if c.interrupt > 0 {
				f.interrupt, f.after = cancel, c.interrupt
			}
			o := Options{Format: "csv", DryRun: f.dry, Bar: terminal.NewProgress(io.Discard)}
			report, err := Run(ctx, &f, &f, o)
			if got := text(err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if (report == nil) != (c.added < 0) || report != nil && report.Added != int64(c.added) {
				t.Errorf("the report is %+v, want %d accounts", report, c.added)
			}
			if report == nil && f.added > 0 {
				t.Errorf("%d accounts were added, and there is no report", f.added)
			}
			if ended := c.added >= 0 && c.want != ""; f.stopped != ended {
				t.Errorf("stopped: %v", f.stopped)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimSpace(err.Error())
}
