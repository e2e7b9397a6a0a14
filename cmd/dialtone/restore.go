package main

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
	"syscall"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/archive"
	"dialtone/internal/audit"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
	"dialtone/internal/secret"
	"dialtone/internal/shellword"
	"dialtone/internal/store"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/sqlite"
)

type restoreCommand struct {
	File string `arg:"" optional:"" help:"The archive, which dialtone backup --archive wrote."`

	AfterDatabase bool   `help:"Other tools restored the database: end old sessions and links."`
	Identity      string `placeholder:"FILE" help:"The private key of age that the archive was encrypted to."`
	KeysDir       string `placeholder:"DIR" help:"Directory with seal.key, if the archive has no keys."`
	Trail         string `placeholder:"FILE" help:"Repeat later changes of this trail, or lost database."`
	AcceptFaults  bool   `help:"Restore a database in which verify finds faults."`
	reasonFlag
}

// Help is what "dialtone restore --help" adds.
func (restoreCommand) Help() string {
	return "Stop all servers first. An archive is restored into the data directory, which must be empty or absent, " +
		"and is checked before anything is put in place. If the command was killed, run it again. As root, it " +
		"continues as the owner of the data directory when it has opened the files that the command line and the " +
		"database's URL name.\n\n" +
		"What was handed out before is no longer valid: sessions, links, open forms, links for phones, and TURN " +
		"credentials. Passwords stay, and phones keep registering. Messages that waited are not sent, because the " +
		"links in them have ended: people ask for a new one.\n\n" +
		"With --trail, accounts that were disabled or deleted after the backup, tokens that were removed, and roles " +
		"that were changed are so again. Other later changes are listed."
}

func (c *restoreCommand) Run(p *program) (err error) {
	switch {
	case c.AfterDatabase && c.File != "":
		return usageError{fault.New(fault.Invalid, "give either an archive or --after-database, not both: with the "+
			"flag, the database is in place already")}
	case !c.AfterDatabase && c.File == "":
		return usageError{fault.New(fault.Invalid, "name an archive, or give --after-database if other tools have "+
			"restored the database")}
	case c.AfterDatabase && (c.Identity != "" || c.KeysDir != ""):
		return usageError{fault.New(fault.Invalid, "--identity and --keys-dir are for archives")}
	}
	ctx, err := p.because(c.Reason)
	if err != nil {
		return err
	}
	conf, err := p.settings()
	if err != nil {
		return err
	}
	dir := datadir.Dir(conf.Data)
	if c.AfterDatabase {
		if _, err := os.Stat(conf.Data); conf.Database == "" && errors.Is(err, fs.ErrNotExist) {
			return installation.New(conf).NoStore()
		}
	}
	r := &restore{
		program: p, ctx: ctx, conf: conf, dir: dir, keys: installation.KeySources(conf.Keys), options: *c,
		now: time.Now(),
	}
	if err := r.openSources(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.closeSources()) }()
	if err := r.checkPlaces(); err != nil {
		return err
	}
	back, err := runas.EnterOwner(conf.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, back()) }()
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
	// Another user may have created the directory meanwhile.
	again, err := runas.EnterOwner(conf.Data)
	if err != nil {
		return err
	}
	first := back
	back = func() error { return errors.Join(again(), first()) }
	if c.AfterDatabase {
		return r.afterDatabase()
	}
	return r.fromArchive()
}

// restore is a restore under way.
type restore struct {
	*program
	ctx     context.Context
	conf    config.Config
	dir     datadir.Dir
	keys    *datadir.Keys
	options restoreCommand
	now     time.Time

	// archive is the file, and identity what is in that of --identity, or nil.
	archive  *os.File
	identity []byte

	under    *datadir.Restoring
	manifest archive.Manifest
	rings    rings
	plan     []datadir.Move
	epoch    store.NewEpoch
	begun    bool  // the epoch may have begun
	lost     int64 // accounts of the lost database that are newer than the backup
	// tasks are what has to be done elsewhere, which is printed at the end.
	tasks []string
}

// openSources opens what the user of the data directory need not be able to read: the archive, the identity and the
// keys of --keys-dir.
func (r *restore) openSources() (err error) {
	if r.options.File == "" {
		return nil
	}
	if r.archive, err = regularfile.Open(r.options.File); err != nil {
		return err
	}
	if r.options.Identity != "" {
		if r.identity, err = regularfile.Read(r.options.Identity); err != nil {
			return errors.Join(err, r.archive.Close())
		}
	}
	if r.options.KeysDir != "" {
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

func (r *restore) say(format string, args ...any) {
	fmt.Fprintf(terminal.To(r.stdout), format+"\n", args...)
}

func (r *restore) fromArchive() (err error) {
	var allowed []string
	if sameDir(r.options.KeysDir, r.conf.Keys.Dir) && sameDir(filepath.Dir(r.conf.Keys.Dir), r.conf.Data) {
		allowed = []string{filepath.Base(r.conf.Keys.Dir)}
	}
	var planned bool
	if r.under, planned, err = r.dir.BeginRestore(allowed...); err != nil {
		return runas.InDataDir(err)
	}
	if planned {
		if err := r.under.Finish(r.places()...); err != nil {
			return err
		}
		r.say("an earlier restore was ready and had been interrupted; it is finished now, and %s was not read",
			r.options.File)
		r.fillExport()
		r.say("see what it printed, or dialtone audit list --action store.restore; then run dialtone verify")
		return nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.under.Abandon())
		}
	}()
	if err := r.checkKeyPlaces(); err != nil {
		return err
	}
	if err := r.extract(); err != nil {
		return err
	}
	if r.manifest.Engine == "sqlite" && r.conf.Database != "" {
		return fault.New(fault.Conflict, "the backup has an SQLite database, and the configuration names PostgreSQL; "+
			"restore it without that, and move it with dialtone store copy")
	}
	if r.options.KeysDir == "" {
		if err := r.loadKeys(); err != nil {
			return err
		}
	}
	if r.manifest.Engine == "sqlite" {
		if err := r.prepareDatabase(); err != nil {
			return err
		}
		r.renewKeys()
	} else if r.sayOrigin(r.manifest.Tenants, r.manifest.Accounts); r.options.Trail != "" {
		return fault.New(fault.Invalid, "the backup has no database; give --trail with --after-database")
	}
	if err := r.stageKeys(); err != nil {
		return err
	}
	r.stageFiles()
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if err := r.under.Ready(r.plan); err != nil {
		return err
	}
	if err := r.under.Finish(r.places()...); err != nil {
		return err
	}
	return r.conclude()
}

// extract reads the archive into the directory of the restore, and compares all hashes.
func (r *restore) extract() error {
	info, err := r.archive.Stat()
	if err != nil {
		return err
	}
	bar := terminal.NewProgress(r.stderr)
	defer bar.End()
	shown := bar.Reader(r.ctx, r.archive, "read the backup", info.Size())
	var identities io.Reader
	if r.identity != nil {
		identities = bytes.NewReader(r.identity)
	}
	plain, encrypted, err := archive.Decrypt(shown, identities)
	if err != nil {
		return fmt.Errorf("%s: %w", r.options.File, err)
	}
	if !encrypted && r.options.Identity != "" {
		return fault.New(fault.Invalid, "%s is not encrypted, so that anybody may have written it; if you trust it, "+
			"leave out --identity", r.options.File)
	}
	free, err := datadir.Free(r.conf.Data)
	if err != nil {
		return err
	}
	for _, name := range []string{archive.KeysDir, archive.PickupDir, archive.BadmailDir} {
		if err := r.under.Mkdir(name); err != nil {
			return runas.InDataDir(err)
		}
	}
	r.manifest, err = archive.Read(plain, archive.Options{
		MaxDatabase: free,
		Begin:       func(name string, _ int64) (io.WriteCloser, error) { return r.under.Create(name) },
	})
	if err != nil {
		return fmt.Errorf("%s: %w", r.options.File, err)
	}
	if newest := int64(migrations.Newest(sqlite.Dialect)); r.manifest.Schema > newest {
		return fmt.Errorf("%w: the backup has the schema %d, and this program knows %d; restore it with version %q",
			migrations.ErrNewer, r.manifest.Schema, newest, r.manifest.Version)
	}
	return nil
}

// prepareDatabase checks the database that was extracted, and begins the new epoch in it.
func (r *restore) prepareDatabase() (err error) {
	path := r.under.Path(archive.Database)
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
		Config: r.conf, Dir: datadir.Dir(r.under.Path("")), KeySources: r.keys, Seal: r.rings.seal, Store: st,
	}
	facts, err := st.Facts(r.ctx)
	if err != nil {
		return err
	}
	r.sayOrigin(facts.Tenants, facts.Accounts)
	if err := r.verify(in); err != nil {
		return err
	}
	return r.beginEpoch(in, "backup of "+r.manifest.Made.Format(time.RFC3339))
}

// sayOrigin says where the backup comes from, and what proves that.
func (r *restore) sayOrigin(tenants, accounts int64) {
	m := r.manifest
	r.say("the backup says that it was made at %s on %s; it has %s and %s, and its seal.key has the ID %s",
		m.Made.Format(time.RFC3339), m.Host, terminal.Counted(tenants, "tenant"), terminal.Counted(accounts, "account"),
		r.rings.seal.IDs()[0])
	if r.options.KeysDir == "" && !r.keys.Seal.FromEnv() {
		r.say("nothing proves that it is from your server, since its keys are in it too; if others can write to " +
			"where it was kept, restore it with --keys-dir and your own copy of seal.key, which no forged one fits")
	}
}

func syncFile(path string) error {
	f, err := regularfile.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// uncompared is a store whose exported tables are not compared, since they are filled again.
type uncompared struct{ *store.Store }

func (uncompared) CompareExport(context.Context, func(string)) error { return nil }

// noMessages are the messages of a store without a pickup directory.
type noMessages struct{}

func (noMessages) Each(func(file, text string, err error)) error { return nil }

// verify checks that the keys open what is in the database, and that it has no faults.
func (r *restore) verify(in *installation.Installation) error {
	report, err := account.Verify(r.ctx, uncompared{in.Store}, noMessages{}, r.rings.seal)
	if err != nil {
		return err
	}
	for _, s := range report.Faults {
		terminal.PrintLine(r.stdout, "FAULT  ", s)
	}
	if len(report.Faults) > 0 && !r.options.AcceptFaults {
		return fault.New(fault.Conflict, "the database of the backup has %s, see FAULT above, and nothing was "+
			"restored; use another backup or other keys, or add --accept-faults",
			terminal.Counted(len(report.Faults), "fault"))
	}
	return nil
}

// beginEpoch begins the new epoch in a store, and repeats what a later trail has. from says what was restored.
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
	r.begun = true
	if r.epoch, err = in.Store.BeginEpoch(r.ctx, from, before, r.seenBefore(), r.now); err != nil {
		return err
	}
	if err := r.repeat(in, later); err != nil {
		return err
	}
	// What a server here has seen of the lost trail is in the change above. From now on, it is this trail.
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
		fmt.Fprintln(terminal.To(r.stderr), "warning: no checkpoint of the audit trail written:", err)
	}
	return nil
}

// keeperOf returns a keeper of checkpoints with a ring that is not in place yet.
func keeperOf(in *installation.Installation, ring *secret.Ring) *audit.Keeper {
	return audit.NewKeeper(audit.KeeperDeps{
		Store: in.Store, Ring: func() (*secret.Ring, error) { return ring, nil }, Memory: in.Dir.TrailFile(),
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
}

// seenBefore returns what a server in this data directory has seen of the audit trail that was lost, or "".
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

// restoredDir is the directory for what a person looks at: the configuration and messages that are not sent.
const restoredDir = "restored"

// places are where a restore may write outside of the data directory.
func (r *restore) places() []string {
	list := []string{r.badmail()}
	for _, k := range installation.KeyFiles(r.keys) {
		if !k.Source.FromEnv() {
			list = append(list, k.Source.Path)
		}
	}
	return list
}

// checkPlaces fails if root would write keys or messages where another user can lead it elsewhere. In a data directory
// of another user, a restore is not root's.
func (r *restore) checkPlaces() error {
	if owner, err := runas.OwnerOf(r.conf.Data); err != nil || owner != nil || os.Geteuid() != 0 {
		return err
	}
	dirs := []string{r.badmail()}
	for _, path := range r.places()[1:] {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, dir := range dirs {
		w, err := runas.WalkTo(dir)
		if err != nil {
			return err
		}
		// A directory of the server's user may get files, but this user must not be able to exchange it.
		own := w.Other == w.End && !w.Missing
		if w.Other != "" && !own {
			return fmt.Errorf("%w: root would write to %s, but the user %d, to whom %s belongs, can replace it; give "+
				"the data directory to that user, or move %[2]s to a directory of root's", runas.ErrDataDir, dir, w.UID,
				w.Other)
		} else if w.Writable != "" && (w.Writable != w.End || w.Missing) {
			return fmt.Errorf("%w: root would write to %s, but other users can replace it, since %s has the mode "+
				"%04o; run: chmod g-w,o-w %s", runas.ErrDataDir, dir, w.Writable, w.Mode, shellword.Path(w.Writable))
		}
	}
	return nil
}

// badmail is the directory of messages that could not be sent.
func (r *restore) badmail() string {
	return filepath.Join(filepath.Dir(r.conf.Mail.PickupDir), "badmail")
}

// stageFiles plans where all but the keys go. The database is last: without it, there is no store.
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
		if _, err := os.Stat(r.under.Path("audit.seen")); err == nil {
			add("audit.seen", string(r.dir.TrailFile()))
		}
		add(archive.Database, r.dir.Database())
	}
}

// conclude prints what was restored, and what is to be done now.
func (r *restore) conclude() error {
	m := r.manifest
	r.say("restored the backup of %s from %s, which has %s and %s", m.Made.Format(time.RFC3339), m.Host,
		terminal.Counted(m.Tenants, "tenant"), terminal.Counted(m.Accounts, "account"))
	if m.Engine == "postgresql" {
		r.say("the database is not in the backup: restore it with pg_restore or from its base backup, and then run " +
			"dialtone restore --after-database")
		return nil
	}
	r.fillExport()
	r.concludeEpoch()
	if err := r.sayOwner(); err != nil {
		return err
	}
	if m.Has(archive.Configuration) {
		r.say("the configuration file of the backup is %s; it is not used",
			filepath.Join(r.conf.Data, restoredDir, archive.Configuration))
	}
	r.say("now run dialtone verify, and start the server")
	return nil
}

// sayOwner says that only root can use the data directory, if that is so.
func (r *restore) sayOwner() error {
	info, err := os.Stat(r.conf.Data)
	if err != nil || os.Geteuid() != 0 || info.Sys().(*syscall.Stat_t).Uid != 0 {
		return err
	}
	dirs := shellword.Path(r.conf.Data)
	if keys, err := filepath.Rel(r.conf.Data, r.conf.Keys.Dir); err != nil || !filepath.IsLocal(keys) {
		dirs += " " + shellword.Path(r.conf.Keys.Dir)
	}
	r.say("%s belongs to root, so a server that runs as another user cannot use it; if yours does, give everything to "+
		"its user first: chown -R USER: %s", r.conf.Data, dirs)
	return nil
}

func (r *restore) concludeEpoch() {
	r.say("everybody has to sign in again, with the same passwords; phones keep registering")
	if r.epoch.Waiting > 0 {
		r.say("%s for activation, and the links have ended: people ask for a new message on the sign-in page, or run "+
			"dialtone account resend", terminal.Plural(r.epoch.Waiting, "account waits", "accounts wait"))
	}
	if r.epoch.Withdrawn > 0 {
		r.say("%s ended: dialtone mail list --all shows which", terminal.Plural(r.epoch.Withdrawn,
			"message that waited is not sent, because its link has",
			"messages that waited are not sent, because their links have"))
	}
	for _, task := range r.tasks {
		r.say("%s", task)
	}
}

// afterDatabase begins the new epoch in a database that other tools have restored.
func (r *restore) afterDatabase() (err error) {
	if r.under, err = r.dir.BeginEpoch(); err != nil {
		return runas.InDataDir(err)
	}
	in, err := installation.Open(r.ctx, r.conf, installation.Options{Create: installation.Upgrade, Restoring: true})
	if err != nil {
		// Nothing was changed yet, so that another command may look for the reason.
		return errors.Join(err, r.under.Abandon())
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	r.rings.seal = in.Seal
	if err := r.verify(in); err != nil {
		return errors.Join(err, r.under.Abandon())
	}
	facts, err := in.Store.Facts(r.ctx)
	if err != nil {
		return err
	}
	from := "database"
	if !facts.LastChangeAt.IsZero() {
		from += ", whose last change was at " + facts.LastChangeAt.Format(time.RFC3339)
	}
	if err := r.beginEpoch(in, from); err != nil && !r.begun {
		return errors.Join(err, r.under.Abandon())
	} else if err != nil {
		return err
	}
	if err := in.InKeys(r.replaceKeys); err != nil {
		return err
	}
	if err := r.rebuildExport(in); err != nil {
		return err
	}
	if err := r.under.Finish(r.places()...); err != nil {
		return err
	}
	r.say("old sessions and links have ended; the database has %s, %s", terminal.Counted(facts.Tenants, "tenant"),
		terminal.Counted(facts.Accounts, "account"))
	r.concludeEpoch()
	if in.Shared() {
		r.say("give the new sign.key and turn.key to all servers that have copies of them, before you start any")
	}
	r.say("now run dialtone verify, and start the server")
	return nil
}

// fillExport fills the exported tables of a database that was put in place. A server would do it too, so that an error
// is not one of the restore.
func (r *restore) fillExport() {
	if r.conf.Database != "" {
		return
	}
	in, err := installation.Open(r.ctx, r.conf, installation.Options{Restoring: true})
	if err == nil {
		err = errors.Join(r.rebuildExport(in), in.Close())
	}
	if err != nil {
		fmt.Fprintln(terminal.To(r.stderr), "warning: the exported tables are not filled; the server fills them when "+
			"it starts, and until then verify has faults:", err)
	}
}

// rebuildExport fills the exported tables again, if they are enabled.
func (r *restore) rebuildExport(in *installation.Installation) error {
	st, err := in.Store.ExportStatus(r.ctx)
	if err != nil || !st.Enabled {
		return err
	}
	bar := terminal.NewProgress(r.stderr)
	defer bar.End()
	return in.Store.EnableExport(r.ctx, func(done, total int64) { bar.Show("exported tables", done, total) })
}
