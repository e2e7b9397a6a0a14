// Package restore restores an archive, or completes the restore of a database by other tools.
//
// After a restore, sessions, links and other credentials that the platform issued before are invalid: a new epoch
// begins in the store, and the signing keys are replaced. Nothing is put in place before everything has been checked:
// the hashes of the archive, the keys against the database, and the database for faults. If a restore is killed, no
// server starts until the next restore has finished it or started over.
//
// Run opens the files that the operator names while it is still root, and then continues as the owner of the data
// directory (package runas). It extracts the archive into a staging directory (datadir.Restoring), and then moves the
// files according to a plan that is on disk, so that an interrupted restore can be finished. With a later audit trail,
// it repeats those changes that take something away, such as disabling an account.
//
// The package does not restore a PostgreSQL database. It uses neither the configuration nor the waiting messages of an
// archive, but keeps them in the directory restored for inspection.
package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/archive"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
	"dialtone/internal/store"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/sqlite"
)

// Options are the options of Run.
type Options struct {
	// File is the archive. It is empty with AfterDatabase.
	File string
	// AfterDatabase tells that other tools have restored the database.
	AfterDatabase bool
	// Identity is the file with the age private key that decrypts the archive, or "".
	Identity string
	// KeysDir is the directory with the keys, or "" if they are in the archive.
	KeysDir string
	// Trail is an exported audit trail, or the damaged database, whose later changes are repeated, or "".
	Trail string
	// AcceptFaults allows restoring a database with faults.
	AcceptFaults bool

	Log            *slog.Logger
	Stdout, Stderr io.Writer // for people
}

// Run restores an archive, or begins a new epoch in a database that other tools have restored. ctx contains the cause
// for the audit trail.
func Run(ctx context.Context, conf config.Config, o Options) (err error) {
	dir := datadir.Dir(conf.Data)
	if o.AfterDatabase {
		if _, err := os.Stat(conf.Data); conf.Database == "" && errors.Is(err, fs.ErrNotExist) {
			return installation.New(conf).NoStore()
		}
	}
	r := &restore{
		Options: o, ctx: ctx, conf: conf, dir: dir, keys: installation.KeySources(conf.Keys), now: time.Now(),
	}
	if err := r.openSources(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.closeSources()) }()
	if err := r.checkPlaces(); err != nil {
		return err
	}
	revert, err := runas.EnterOwner(conf.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, revert()) }()
	unlock, undo, err := dir.CreateLocked()
	if err != nil {
		return runas.InDataDir(err)
	}
	defer func() {
		if err != nil {
			undo()
		} else {
			unlock()
		}
	}()
	// The directory may be new, and another user may have created it since the first call.
	revertInner, err := runas.EnterOwner(conf.Data)
	if err != nil {
		return err
	}
	revertOuter := revert
	revert = func() error { return errors.Join(revertInner(), revertOuter()) }
	if o.AfterDatabase {
		return r.afterDatabase()
	}
	return r.fromArchive()
}

// restore is the state of a running restore.
type restore struct {
	Options
	ctx  context.Context
	conf config.Config
	dir  datadir.Dir
	keys *datadir.Keys
	now  time.Time

	archive  *os.File
	identity []byte // the content of the identity file, or nil

	staging  *datadir.Restoring
	manifest archive.Manifest
	rings    rings
	plan     []datadir.Move
	epoch    store.NewEpoch
	// epochBegun is set as soon as the store may contain the new epoch.
	epochBegun bool
	// lostAccounts is the number of accounts of the damaged database that are newer than the backup.
	lostAccounts int64
	// tasks are the remaining tasks of the operator, which are printed at the end.
	tasks []string
}

// openSources opens the files that the owner of the data directory may not be able to read: the archive, the identity
// and the keys in --keys-dir.
func (r *restore) openSources() (err error) {
	if r.File == "" {
		return nil
	}
	if r.archive, err = regularfile.Open(r.File); err != nil {
		return err
	}
	if r.Identity != "" {
		if r.identity, err = regularfile.Read(r.Identity); err != nil {
			return errors.Join(err, r.archive.Close())
		}
	}
	if r.KeysDir != "" {
		if err = r.loadKeys(); err != nil {
			return errors.Join(err, r.archive.Close())
		}
	}
	return nil
}

func (r *restore) closeSources() error {
	if r.archive == nil {
		return nil
	}
	return r.archive.Close()
}

// printf prints a line for people.
func (r *restore) printf(format string, args ...any) {
	fmt.Fprintf(terminal.To(r.Stdout), format+"\n", args...)
}

// fromArchive restores an archive. It puts nothing in place until everything has been checked.
func (r *restore) fromArchive() (err error) {
	var allowed []string
	if sameDir(r.KeysDir, r.conf.Keys.Dir) && sameDir(filepath.Dir(r.conf.Keys.Dir), r.conf.Data) {
		allowed = []string{filepath.Base(r.conf.Keys.Dir)}
	}
	var planned bool
	if r.staging, planned, err = r.dir.BeginRestore(allowed...); err != nil {
		return runas.InDataDir(err)
	}
	if planned {
		if err := r.staging.Finish(r.places()...); err != nil {
			return err
		}
		r.printf("an earlier restore had been interrupted after all checks; it is finished now, and %s was not read",
			r.File)
		r.fillExport()
		r.printf("for its result, see its output, or run dialtone audit list --action store.restore; then run " +
			"dialtone verify")
		return nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.staging.Abandon())
		}
	}()
	if err := r.checkKeyPlaces(); err != nil {
		return err
	}
	if err := r.extract(); err != nil {
		return err
	}
	if r.manifest.Engine == "sqlite" && r.conf.Database != "" {
		return fault.New(fault.Conflict, "the backup contains an SQLite database, but the configuration names "+
			"PostgreSQL; restore it without the setting database, and then copy it with dialtone store copy")
	}
	if r.KeysDir == "" {
		if err := r.loadKeys(); err != nil {
			return err
		}
	}
	if r.manifest.Engine == "sqlite" {
		if err := r.prepareDatabase(); err != nil {
			return err
		}
		r.renewKeys()
	} else if r.printOrigin(r.manifest.Tenants, r.manifest.Accounts); r.Trail != "" {
		return fault.New(fault.Invalid, "the backup contains no database; give --trail with --after-database")
	}
	if err := r.stageKeys(); err != nil {
		return err
	}
	r.stageFiles()
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if err := r.staging.Ready(r.plan); err != nil {
		return err
	}
	if err := r.staging.Finish(r.places()...); err != nil {
		return err
	}
	return r.conclude()
}

// extract extracts the archive into the staging directory, and checks all hashes.
func (r *restore) extract() error {
	info, err := r.archive.Stat()
	if err != nil {
		return err
	}
	bar := terminal.NewProgress(r.Stderr)
	defer bar.End()
	shown := bar.Reader(r.ctx, r.archive, "read the backup", info.Size())
	var identities io.Reader
	if r.identity != nil {
		identities = bytes.NewReader(r.identity)
	}
	plain, encrypted, err := archive.Decrypt(shown, identities)
	if err != nil {
		return fmt.Errorf("%s: %w", r.File, err)
	}
	if !encrypted && r.Identity != "" {
		return fault.New(fault.Invalid, "%s is not encrypted, so anybody may have written it; if you trust it, "+
			"leave out --identity", r.File)
	}
	free, err := datadir.Free(r.conf.Data)
	if err != nil {
		return err
	}
	for _, name := range []string{archive.KeysDir, archive.PickupDir, archive.BadmailDir} {
		if err := r.staging.Mkdir(name); err != nil {
			return runas.InDataDir(err)
		}
	}
	r.manifest, err = archive.Read(plain, archive.Options{
		MaxDatabase: free,
		Begin:       func(name string, _ int64) (io.WriteCloser, error) { return r.staging.Create(name) },
	})
	if err != nil {
		return fmt.Errorf("%s: %w", r.File, err)
	}
	if newest := int64(migrations.Newest(sqlite.Dialect)); r.manifest.Schema > newest {
		return fmt.Errorf("%w: the backup has schema %d, but this program knows only schema %d; restore it with "+
			"version %q", migrations.ErrNewer, r.manifest.Schema, newest, r.manifest.Version)
	}
	return nil
}

// prepareDatabase checks the extracted database, and begins the new epoch in it.
func (r *restore) prepareDatabase() (err error) {
	path := r.staging.Path(archive.Database)
	e, err := sqlite.Open(r.ctx, path, store.SealCheck(r.rings.seal))
	if err != nil {
		return err
	}
	st, err := store.New(e, phonetables.OnSQLite(e, r.rings.seal))
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, st.Close())
		if err == nil {
			err = syncFile(path)
		}
	}()
	in := &installation.Installation{
		Config: r.conf, Dir: datadir.Dir(r.staging.Path("")), KeySources: r.keys, Seal: r.rings.seal, Store: st,
	}
	facts, err := st.Facts(r.ctx)
	if err != nil {
		return err
	}
	r.printOrigin(facts.Tenants, facts.Accounts)
	if err := r.verify(in); err != nil {
		return err
	}
	return r.beginEpoch(in, "backup of "+r.manifest.Made.Format(time.RFC3339))
}

// syncFile makes the content of a file durable.
func syncFile(path string) error {
	f, err := regularfile.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// withoutComparison is a store whose exported tables are not checked, because they are filled again.
type withoutComparison struct{ *store.Store }

// CompareExport does nothing.
func (withoutComparison) CompareExport(context.Context, func(string)) error { return nil }

// noMessages stands for a pickup directory without messages.
type noMessages struct{}

// Each does nothing.
func (noMessages) Each(func(file, text string, err error)) error { return nil }

// verify checks that the keys decrypt the database, and that it has no faults.
func (r *restore) verify(in *installation.Installation) error {
	report, err := account.Verify(r.ctx, withoutComparison{in.Store}, noMessages{}, r.rings.seal)
	if err != nil {
		return err
	}
	for _, s := range report.Faults {
		terminal.PrintLine(r.Stdout, "FAULT  ", s)
	}
	if len(report.Faults) > 0 && !r.AcceptFaults {
		return fault.New(fault.Conflict, "the database of the backup has %s, see FAULT above, and nothing was "+
			"restored; use another backup or other keys, or add --accept-faults",
			terminal.Counted(len(report.Faults), "fault"))
	}
	return nil
}

// stageFiles adds all files except the keys to the plan. The database is last: until it is in place, there is no store.
func (r *restore) stageFiles() {
	add := func(from, to string) { r.plan = append(r.plan, datadir.Move{From: from, To: to}) }
	bad := r.badmail()
	kept := filepath.Join(r.conf.Data, restoredDir)
	for _, f := range r.manifest.Files {
		switch {
		case f.Name == archive.Configuration, strings.HasPrefix(f.Name, archive.PickupDir):
			add(f.Name, filepath.Join(kept, f.Name))
		case strings.HasPrefix(f.Name, archive.BadmailDir):
			add(f.Name, filepath.Join(bad, filepath.Base(f.Name)))
		}
	}
	if r.manifest.Engine == "sqlite" {
		if _, err := os.Stat(r.staging.Path("audit.seen")); err == nil {
			add("audit.seen", string(r.dir.TrailFile()))
		}
		add(archive.Database, r.dir.Database())
	}
}
