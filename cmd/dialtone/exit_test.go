package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"dialtone/cmd/dialtone/internal/adapter"
	"dialtone/cmd/dialtone/internal/exitstatus"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/http/tlscert"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/store/sqlite/conn"
)

// The exit statuses, as tests name them.
const (
	exitFailed  = exitstatus.Failed
	exitUsage   = exitstatus.Usage
	exitRestart = exitstatus.Restart
	exitConfig  = exitstatus.Config
)

// The exit status tells scripts and systemd whether starting the program again can help.
func TestExitStatus(t *testing.T) {
	corrupt, notDatabase := &conn.Error{Code: 11 | 1<<8}, &conn.Error{Code: 26}
	for name, err := range map[string]error{
		"adapter.ErrTemplates":      adapter.ErrTemplates,
		"installation.ErrNoStore":   installation.ErrNoStore,
		"installation.ErrPickupDir": installation.ErrPickupDir,
		"runas.ErrDataDir":          runas.ErrDataDir,
		"keyfile.ErrUnusable":       keyfile.ErrUnusable,
		"store.ErrSealKey":          store.ErrSealKey,
		"store.ErrUnbound":          store.ErrUnbound,
		"store.ErrUnfinished":       store.ErrUnfinished,
		"engine.ErrNodeAlive":       engine.ErrNodeAlive,
		"migrations.ErrNewer":       migrations.ErrNewer,
		"migrations.ErrOlder":       migrations.ErrOlder,
		"migrations.ErrNoTables":    migrations.ErrNoTables,
		"postgres.ErrMisplaced":     postgres.ErrMisplaced,
		"postgres.ErrNoRights":      postgres.ErrNoRights,
		"sqlite.ErrNotWritable":     sqlite.ErrNotWritable,
		"sqlite.ErrReplaced":        sqlite.ErrReplaced,
		"sqlite.ErrDamaged":         sqlite.ErrDamaged,
		"sqlite.ErrForeignWAL":      sqlite.ErrForeignWAL,
		"SQLITE_CORRUPT_VTAB":       corrupt,
		"SQLITE_NOTADB":             notDatabase,
		"datadir.ErrRestoring":      datadir.ErrRestoring,
		"tlscert.ErrUnusable":       tlscert.ErrUnusable,
	} {
		inFailed := exitRestart
		if errors.Is(err, sqlite.ErrReplaced) {
			inFailed = exitConfig
		}
		for form, c := range map[string]struct {
			err  error
			want int
		}{
			"alone":              {err, exitConfig},
			"wrapped":            {fmt.Errorf("%w: %w", fs.ErrPermission, fmt.Errorf("%w in /data", err)), exitConfig},
			"joined":             {errors.Join(io.EOF, errors.Join(err, io.EOF)), exitConfig},
			"as a cause":         {&fault.Error{Kind: fault.Conflict, Message: "no", Cause: err}, exitConfig},
			"of a failed commit": {fmt.Errorf("%w: %w: %w", fault.ErrInDoubt, engine.ErrFailed, err), inFailed},
			"before a failure":   {errors.Join(err, engine.ErrFailed), inFailed},
			"as text only":       {errors.New(err.Error()), exitFailed},
		} {
			if got := exitstatus.Of(c.err); got != c.want {
				t.Errorf("%s %s: %d, want %d", name, form, got, c.want)
			}
		}
	}
	_, faults := config.Load("", nil, map[string]string{"listen": "nowhere"})
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"engine.ErrFailed":         {engine.ErrFailed, exitRestart},
		"a commit in doubt":        {fmt.Errorf("%w: %w", fault.ErrInDoubt, engine.ErrFailed), exitRestart},
		"faults of configuration":  {faults, exitConfig},
		"wrapped faults":           {fmt.Errorf("reload: %w", faults), exitConfig},
		"a refusal":                {fault.New(fault.Conflict, "no"), exitFailed},
		"another error of SQLite":  {&conn.Error{Code: 5}, exitFailed},
		"engine.ErrClosed":         {engine.ErrClosed, exitFailed},
		"store.ErrNoBackup":        {store.ErrNoBackup, exitFailed},
		"keyfile.ErrMissing":       {keyfile.ErrMissing, exitFailed},
		"an interruption":          {context.Canceled, exitFailed},
		"a failure of a file":      {&fs.PathError{Op: "open", Path: "x", Err: fs.ErrPermission}, exitFailed},
		"an error in doubt itself": {fault.ErrInDoubt, exitFailed},
	} {
		if got := exitstatus.Of(c.err); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	p := &program{stderr: new(bytes.Buffer)}
	if got := p.report(usageError{installation.ErrNoStore}); got != exitUsage {
		t.Errorf("an error of usage: %d", got)
	}
}
