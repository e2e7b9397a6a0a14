package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/archive"
	"dialtone/internal/atomicfile"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
	"dialtone/internal/regularfile"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/sqlite"
)

type backupCommand struct {
	File    string `arg:"" help:"The file to write. It must not exist."`
	Archive bool   `help:"Write an archive: the database, the configuration file and waiting messages."`

	Recipient      []string `sep:"none" placeholder:"KEY" help:"Encrypt to this public key of age (age1…); repeatable."`
	RecipientsFile string   `placeholder:"FILE" help:"Encrypt to the public keys in this file, one a line."`

	WithKeys  bool `help:"Put the keys into the archive too. It must be encrypted."`
	PlainKeys bool `help:"Allow keys in an archive that is not encrypted."`
	Force     bool `help:"Replace a file of that name."`
}

// Help is what "dialtone backup --help" adds.
func (backupCommand) Help() string {
	return "Without --archive, FILE is a copy of the SQLite database alone. With it, FILE is one archive for " +
		"dialtone restore, made while the server runs. A copy of the database is made first, in the directory of " +
		"FILE (by root, in the data directory), so that it needs room for twice the database. Of PostgreSQL, the " +
		"archive has all but the database: use pg_dump for that."
}

func (c *backupCommand) Run(p *program) error {
	err := c.run(p)
	if errors.Is(err, migrations.ErrOlder) {
		return fmt.Errorf("%w. To make a backup before that, use the program of the earlier version", err)
	}
	return err
}

func (c *backupCommand) run(p *program) error {
	recipients, err := c.recipients()
	if err != nil {
		return err
	}
	if !c.Archive {
		if len(recipients) > 0 || c.WithKeys || c.PlainKeys || c.Force {
			return usageError{fault.New(fault.Invalid, "the other flags are for archives; add --archive")}
		}
		return p.with(func(in *installation.Installation) error { return c.copyStore(p, in) })
	}
	if c.WithKeys && len(recipients) == 0 && !c.PlainKeys {
		return usageError{fault.New(fault.Invalid, "anyone with the keys and the database can read all credentials; "+
			"encrypt the archive with --recipient, or add --plain-keys if it is kept where nobody else can read it")}
	}
	if c.File == "-" {
		return usageError{fault.New(fault.Invalid, "an archive is not written to standard output, since a file has "+
			"its name only when it is complete; name a file")}
	}
	return p.with(func(in *installation.Installation) error {
		b := backup{program: p, in: in, to: recipients, keys: c.WithKeys, force: c.Force}
		if b.path, err = filepath.Abs(c.File); err != nil {
			return err
		}
		m, err := b.write()
		if err != nil {
			return err
		}
		return b.print(c.File, m)
	})
}

func (c *backupCommand) recipients() (list archive.Recipients, err error) {
	for _, text := range c.Recipient {
		r, err := archive.ParseRecipient(text)
		if err != nil {
			return nil, usageError{err}
		}
		list = append(list, r)
	}
	if c.RecipientsFile == "" {
		return list, nil
	}
	f, err := regularfile.Open(c.RecipientsFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	more, err := archive.ParseRecipients(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.RecipientsFile, err)
	}
	return append(list, more...), nil
}

// copyStore writes a copy of the SQLite database.
func (c *backupCommand) copyStore(p *program, in *installation.Installation) error {
	var err error
	if runas.Acting() {
		err = backupByOwner(p.ctx, in, c.File)
	} else {
		err = in.Store.Backup(p.ctx, c.File)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%s is a copy of the store; keep a copy of %s in a different place\n",
		c.File, in.KeySources.Seal.Path)
	return nil
}

// backupByOwner writes a copy of the SQLite database where perhaps only root can write. SQLite works as the owner of
// the data directory, and so makes its copy there first.
func backupByOwner(ctx context.Context, in *installation.Installation, path string) error {
	err := runas.AsCaller(func() error {
		if _, err := os.Lstat(path); err == nil {
			return fault.New(fault.Conflict, "%s exists; choose another name, or move the file away", path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp(in.Data, temporaryBackup)
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	made := filepath.Join(temp, archive.Database)
	if err := in.Store.Backup(ctx, made); err != nil {
		return err
	}
	from, err := regularfile.Open(made)
	if err != nil {
		return err
	}
	defer from.Close()
	to, remove, err := createBackup(path)
	if err != nil {
		return err
	}
	defer remove()
	if _, err := io.Copy(to, from); err != nil {
		return fmt.Errorf("the backup cannot be written: %w", err)
	}
	return runas.AsCaller(func() error {
		if err := errors.Join(atomicfile.InheritOwner(to), to.Sync()); err != nil {
			return err
		}
		return publish(to.Name(), path, false)
	})
}

// backup is an archive that is being written.
type backup struct {
	*program
	in          *installation.Installation
	path        string
	to          archive.Recipients
	keys, force bool

	bar     *terminal.Progress
	out     *archive.Writer
	missing []string // what the archive does not have
}

// temporaryBackup is the pattern of the names of files that are not complete.
const temporaryBackup = ".backup-*"

func (b *backup) write() (m archive.Manifest, err error) {
	dir := filepath.Dir(b.path)
	err = runas.AsCaller(func() error {
		if info, err := os.Lstat(b.path); err == nil && info.IsDir() {
			return fault.New(fault.Invalid, "%s is a directory; name a file in it", b.path)
		} else if err == nil && !b.force {
			return errExists(b.path)
		}
		return b.checkSpace(dir)
	})
	if err != nil {
		return m, err
	}
	if runas.Acting() {
		dir = b.in.Data
		if err := b.checkSpace(dir); err != nil {
			return m, err
		}
	}
	b.bar = terminal.NewProgress(b.stderr)
	defer b.bar.End()
	made := time.Now()
	facts, database, err := b.copyDatabase(dir)
	if err != nil {
		return m, err
	}
	if database != nil {
		defer database.Close()
	}
	f, remove, err := createBackup(b.path)
	if err != nil {
		return m, err
	}
	defer remove()
	buffered := bufio.NewWriterSize(f, 1<<20)
	var to io.Writer = buffered
	closeTo := func() error { return nil }
	if len(b.to) > 0 {
		sealed, err := archive.Encrypt(buffered, b.to)
		if err != nil {
			return m, err
		}
		to, closeTo = sealed, sealed.Close
	}
	if b.out, err = archive.NewWriter(to, versionText(), made); err != nil {
		return m, err
	}
	if err := b.addFiles(database); err != nil {
		return m, err
	}
	host, _ := os.Hostname()
	m, err = b.out.Close(archive.Manifest{
		Host: host, Engine: b.engine(), Schema: facts.Schema, LastChange: facts.LastChange,
		LastChangeAt: facts.LastChangeAt, Tenants: facts.Tenants, Accounts: facts.Accounts,
	})
	if err = errors.Join(err, closeTo()); err == nil {
		err = errors.Join(buffered.Flush(), f.Sync())
	}
	if err != nil {
		return m, err
	}
	return m, runas.AsCaller(func() error { return publish(f.Name(), b.path, b.force) })
}

// createBackup creates the file that will be renamed to path. The caller calls remove when it is done, renamed or not.
func createBackup(path string) (f *os.File, remove func(), err error) {
	err = runas.AsCaller(func() error {
		f, err = atomicfile.CreateTemp(path, temporaryBackup)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("the backup cannot be written: %w", err)
	}
	return f, func() {
		f.Close()
		_ = runas.AsCaller(func() error { return os.Remove(f.Name()) })
	}, nil
}

func (b *backup) engine() string {
	if b.in.Shared() {
		return "postgresql"
	}
	return "sqlite"
}

func errExists(path string) error {
	return fault.New(fault.Conflict, "%s exists; choose another name, or add --force to replace it", path)
}

// publish gives a complete file its name. With replace, there may be a file of that name.
func publish(temp, path string, replace bool) error {
	var err error
	if replace {
		err = os.Rename(temp, path)
	} else if err = os.Link(temp, path); errors.Is(err, fs.ErrExist) {
		return errExists(path)
	}
	if err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// checkSpace fails if there is no room for the copy of the database and the archive.
func (b *backup) checkSpace(dir string) error {
	if b.in.Shared() {
		return nil
	}
	var size int64
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(b.in.Dir.Database() + suffix); err == nil {
			size += info.Size()
		}
	}
	free, err := datadir.Free(dir)
	if err != nil {
		return fmt.Errorf("the backup cannot be written to the directory %s: %w", dir, err)
	}
	if free < 2*size {
		return fault.New(fault.Conflict, "the backup needs up to %d MB in %s, for a copy of the database and for the "+
			"archive, and %d MB are free; write it to another disk", 2*size>>20+1, dir, free>>20)
	}
	return nil
}

// copyDatabase makes a copy of the SQLite database, and returns what is in it, and the file, which has no name any
// more. With PostgreSQL there is no file.
func (b *backup) copyDatabase(dir string) (facts store.Facts, f *os.File, err error) {
	if b.in.Shared() {
		b.missing = append(b.missing, "the PostgreSQL database: make a dump with pg_dump, after this")
		facts, err = b.in.Store.Facts(b.ctx)
		return facts, nil, err
	}
	temp, err := os.MkdirTemp(dir, temporaryBackup)
	if err != nil {
		return facts, nil, err
	}
	defer os.RemoveAll(temp)
	b.bar.Show("copy the store", 0, 1)
	path := filepath.Join(temp, archive.Database)
	if err := b.in.Store.Backup(b.ctx, path); err != nil {
		return facts, nil, err
	}
	b.bar.Show("copy the store", 1, 1)
	err = sqlite.Read(path, func(q engine.Querier) (err error) {
		facts, err = store.FactsOf(q)
		return err
	})
	if err != nil {
		return facts, nil, err
	}
	f, err = regularfile.Open(path)
	return facts, f, err
}

func (b *backup) addFiles(database *os.File) error {
	if database != nil {
		info, err := database.Stat()
		if err != nil {
			return err
		}
		shown := b.bar.Reader(b.ctx, database, "write the store", info.Size())
		if err := b.out.Add(archive.Database, info.Size(), shown); err != nil {
			return err
		}
	}
	if err := b.addConfiguration(); err != nil {
		return err
	}
	b.noteFiles()
	if b.keys {
		if err := b.addKeys(); err != nil {
			return err
		}
	}
	dir, err := pickup.Open(b.in.Mail.PickupDir)
	if err != nil {
		return installation.InPickupDir(b.in.Config, err)
	}
	err = dir.EachPickup(func(list []mailmsg.ID) error {
		return b.addMessages(dir.Path(), archive.PickupDir, list, ".eml")
	})
	if err != nil {
		return err
	}
	return dir.EachBadmail(func(list []mailmsg.ID) error {
		return b.addMessages(dir.Badmail(), archive.BadmailDir, list, ".eml", ".txt")
	})
}

// addMessages adds files of messages. One that is gone was sent meanwhile.
func (b *backup) addMessages(from, to string, list []mailmsg.ID, suffixes ...string) error {
	for _, id := range list {
		for _, suffix := range suffixes {
			path := filepath.Join(from, id.String()+suffix)
			text, err := readMessage(path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue
			case errors.Is(err, errNoMessage):
				b.missing = append(b.missing, path+": it is not a regular file of the size of a message")
				continue
			case err != nil:
				return err
			}
			if err := b.out.Add(to+id.String()+suffix, int64(len(text)), bytes.NewReader(text)); err != nil {
				return err
			}
		}
	}
	return b.ctx.Err()
}

var errNoMessage = errors.New("not a message")

// readMessage reads the file of a message. It follows no link: the user of the server may make one to a file that only
// root can read, and root makes backups. It fails with errNoMessage for anything else than a regular file, and for one
// that no archive may have.
func readMessage(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, errNoMessage
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNoMessage
	}
	text, err := io.ReadAll(io.LimitReader(f, archive.MaxSmall+1))
	if err == nil && len(text) > archive.MaxSmall {
		err = errNoMessage
	}
	return text, err
}

func (b *backup) addConfiguration() error {
	path := b.configFile()
	if path == "" {
		b.missing = append(b.missing, "the configuration: it is not in a file, but in the environment and in flags")
		return nil
	}
	text, err := runas.ReadNamed(path)
	if err != nil {
		return err
	}
	return b.out.Add(archive.Configuration, int64(len(text)), strings.NewReader(string(text)))
}

// noteFiles notes that the files named in the configuration are not in the archive.
func (b *backup) noteFiles() {
	for _, f := range installation.ConfiguredFiles(b.in.Config) {
		b.missing = append(b.missing, f.Path+" ("+f.Key+"): keep a copy of it")
	}
}

// configFile returns the path of the configuration file, or "".
func (p *program) configFile() string {
	if p.line.Config != "" {
		return p.line.Config
	}
	for _, entry := range p.environ {
		if path, ok := strings.CutPrefix(entry, "DIALTONE_CONFIG="); ok {
			return path
		}
	}
	return ""
}

// addKeys adds the keys, also those of the environment.
func (b *backup) addKeys() error {
	for _, k := range installation.KeyFiles(b.in.KeySources) {
		var ring *secret.Ring
		err := b.in.InKeys(func() (err error) {
			ring, err = k.Source.Read()
			return err
		})
		if errors.Is(err, keyfile.ErrMissing) && k.Name != "seal.key" {
			continue
		} else if err != nil {
			return err
		}
		text := ring.Text()
		if err := b.out.Add(archive.KeysDir+k.Name, int64(len(text)), strings.NewReader(text)); err != nil {
			return err
		}
	}
	return nil
}

// print prints what the archive contains, and what it does not.
func (b *backup) print(file string, m archive.Manifest) error {
	var info fs.FileInfo
	err := runas.AsCaller(func() (err error) {
		info, err = os.Stat(b.path)
		return err
	})
	if err != nil {
		return err
	}
	protection := "not encrypted"
	if len(b.to) > 0 {
		protection = "encrypted to " + terminal.Counted(len(b.to), "recipient")
	}
	fmt.Fprintf(b.stdout, "%s: %s, %s, %s; %d bytes, %s\n", file, terminal.Counted(m.Tenants, "tenant"),
		terminal.Counted(m.Accounts, "account"), terminal.Counted(m.Messages, "message"), info.Size(), protection)
	var names []string
	for _, f := range m.Files {
		if !strings.HasPrefix(f.Name, archive.PickupDir) && !strings.HasPrefix(f.Name, archive.BadmailDir) {
			names = append(names, f.Name)
		}
	}
	if m.Messages > 0 {
		names = append(names, "messages")
	}
	fmt.Fprintf(b.stdout, "it has: %s\n", strings.Join(slices.Concat([]string{"manifest.json"}, names), ", "))
	for _, part := range b.missing {
		fmt.Fprintf(b.stdout, "not in it: %s\n", part)
	}
	switch {
	case m.Keys:
		fmt.Fprintln(b.stdout, "it has the keys, so anyone who can read it can read all credentials")
	case b.in.KeySources.Seal.FromEnv():
		fmt.Fprintln(b.stdout,
			"without the keys this backup cannot be used: keep DIALTONE_KEYS_SEAL in a different place")
	default:
		fmt.Fprintf(b.stdout, "without the keys this backup cannot be used: keep a copy of %s in a different place\n",
			b.in.KeySources.Seal.Path)
	}
	return nil
}
