package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/audit"
	"dialtone/internal/secret"
)

// beginEpoch begins the new epoch in a store, and repeats changes of a later trail. from names the origin of the store,
// for the audit trail.
func (r *restore) beginEpoch(in *installation.Installation, from string) error {
	facts, err := in.Store.Facts(r.ctx)
	if err != nil {
		return err
	}
	later, err := r.readTrail(in, facts)
	if err != nil {
		return err
	}
	before := fmt.Sprintf("change %d", facts.LastChange)
	if !facts.LastChangeAt.IsZero() {
		before += " of " + facts.LastChangeAt.Format(time.RFC3339)
	}
	r.epochBegun = true
	if r.epoch, err = in.Store.BeginEpoch(r.ctx, from, before, r.seenBefore(), r.now); err != nil {
		return err
	}
	if err := r.repeat(in, later); err != nil {
		return err
	}
	// The change above records what a server here had seen of the lost trail. Replace that memory by the restored
	// trail.
	text, err := in.Store.CheckpointState(r.ctx)
	if err != nil {
		return err
	}
	if text != "" {
		if err := in.Dir.TrailFile().Save(text); err != nil {
			return runas.InDataDir(err)
		}
	} else if err := os.Remove(string(in.Dir.TrailFile())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := keeperOf(in, r.rings.seal).CoverNow(r.ctx); err != nil {
		fmt.Fprintln(terminal.To(r.Stderr), "warning: no checkpoint of the audit trail written:", err)
	}
	return nil
}

// keeperOf returns a writer of checkpoints that uses a key that is not in place yet.
func keeperOf(in *installation.Installation, ring *secret.Ring) *audit.Keeper {
	return audit.NewKeeper(audit.KeeperDeps{
		Store: in.Store, Ring: func() (*secret.Ring, error) { return ring, nil }, Memory: in.Dir.TrailFile(),
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
}

// seenBefore describes what a server in this data directory had seen of the lost audit trail. It returns "" if that is
// not known.
func (r *restore) seenBefore() string {
	text, err := r.dir.TrailFile().Load()
	if err != nil || text == "" {
		return ""
	}
	checkpoint, through, err := audit.Newest(r.rings.seal, text)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("checkpoint %d and change %d were seen here", checkpoint, through)
}

// afterDatabase begins the new epoch in a database that other tools have restored.
func (r *restore) afterDatabase() (err error) {
	if r.staging, err = r.dir.BeginEpoch(); err != nil {
		return runas.InDataDir(err)
	}
	in, err := installation.Open(r.ctx, r.conf, installation.Options{Create: installation.Upgrade, Restoring: true})
	if err != nil {
		// Nothing was changed, so other commands may open the installation to find the cause.
		return errors.Join(err, r.staging.Abandon())
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	r.rings.seal = in.Seal
	if err := r.verify(in); err != nil {
		return errors.Join(err, r.staging.Abandon())
	}
	facts, err := in.Store.Facts(r.ctx)
	if err != nil {
		return err
	}
	from := "database"
	if !facts.LastChangeAt.IsZero() {
		from += ", whose last change was at " + facts.LastChangeAt.Format(time.RFC3339)
	}
	if err := r.beginEpoch(in, from); err != nil && !r.epochBegun {
		return errors.Join(err, r.staging.Abandon())
	} else if err != nil {
		return err
	}
	if err := in.InKeys(r.replaceKeys); err != nil {
		return err
	}
	if err := r.rebuildExport(in); err != nil {
		return err
	}
	if err := r.staging.Finish(r.places()...); err != nil {
		return err
	}
	r.printf("old sessions and links have ended; the database has %s, %s", terminal.Counted(facts.Tenants, "tenant"),
		terminal.Counted(facts.Accounts, "account"))
	r.concludeEpoch()
	if in.Shared() {
		r.printf("give the new sign.key and turn.key to all servers that have copies of them, before you start any")
	}
	r.printf("now run dialtone verify, and start the server")
	return nil
}

// fillExport fills the exported tables of the restored SQLite database. An error is only a warning, because a server
// fills them, too, when it starts.
func (r *restore) fillExport() {
	if r.conf.Database != "" {
		return
	}
	in, err := installation.Open(r.ctx, r.conf, installation.Options{Restoring: true})
	if err == nil {
		err = errors.Join(r.rebuildExport(in), in.Close())
	}
	if err != nil {
		fmt.Fprintln(terminal.To(r.Stderr), "warning: the exported tables are not filled; the server fills them when "+
			"it starts, and until then dialtone verify reports faults:", err)
	}
}

// rebuildExport fills the exported tables again, if they are enabled.
func (r *restore) rebuildExport(in *installation.Installation) error {
	st, err := in.Store.ExportStatus(r.ctx)
	if err != nil || !st.Enabled {
		return err
	}
	bar := terminal.NewProgress(r.Stderr)
	defer bar.End()
	return in.Store.EnableExport(r.ctx, func(done, total int64) { bar.Show("exported tables", done, total) })
}
