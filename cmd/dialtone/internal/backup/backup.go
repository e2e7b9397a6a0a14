// Package backup writes backups of an installation: copies of an SQLite database, and archives.
//
// A server may run while a backup is made. The database in a backup is a consistent snapshot. A backup gets its name
// only when it is complete and on disk, and replaces a file only if the caller allows it. It contains keys only if the
// caller asks for them.
//
// Write first makes a copy of the database, so that the database is not locked while the archive is written. It then
// adds the configuration, the keys and the waiting messages. A command of root makes the copy as the owner of the data
// directory, in that directory, and writes the archive as root (package runas).
//
// The package does not copy a PostgreSQL database, which is the task of pg_dump, or the files that the configuration
// names. Package archive defines the format of archives.
package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/outfile"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/archive"
	"dialtone/internal/atomicfile"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite"
)

// Copy writes a copy of the SQLite database to path. It fails if path exists.
func Copy(ctx context.Context, in *installation.Installation, path string) error {
	if runas.Acting() {
		return copyByOwner(ctx, in, path)
	}
	return in.Store.Backup(ctx, path)
}

// copyByOwner writes a copy of the SQLite database to a directory that only root may be able to write to. SQLite runs
// as the owner of the data directory, and makes a first copy there.
func copyByOwner(ctx context.Context, in *installation.Installation, path string) error {
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
		return outfile.Publish(to.Name(), path, false)
	})
}

// Options are the options of Write.
type Options struct {
	Path       string             // of the archive
	Recipients archive.Recipients // empty if the archive is not encrypted
	Keys       bool               // add the keys
	Replace    bool               // replace an existing file
	// Configuration is the path of the configuration file, or "" if there is none.
	Configuration string
	Version       string    // of the program
	Progress      io.Writer // for people
}

// Written describes an archive that was written.
type Written struct {
	Manifest archive.Manifest
	Size     int64    // in bytes
	Missing  []string // what the archive lacks and the operator has to keep elsewhere, in sentences for people
}

// Write writes an archive of an installation. A server may run.
func Write(ctx context.Context, in *installation.Installation, o Options) (w Written, err error) {
	b := backup{Options: o, ctx: ctx, in: in}
	if b.Path, err = filepath.Abs(o.Path); err != nil {
		return w, err
	}
	if w.Manifest, err = b.write(); err != nil {
		return w, err
	}
	w.Missing = b.missing
	err = runas.AsCaller(func() error {
		info, err := os.Stat(b.Path)
		if err == nil {
			w.Size = info.Size()
		}
		return err
	})
	return w, err
}

// backup is an archive that is being written.
type backup struct {
	Options
	ctx context.Context
	in  *installation.Installation

	bar     *terminal.Progress
	out     *archive.Writer
	missing []string
}

// temporaryBackup is the pattern of the names of incomplete files.
const temporaryBackup = ".backup-*"

func (b *backup) write() (m archive.Manifest, err error) {
	dir := filepath.Dir(b.Path)
	err = runas.AsCaller(func() error {
		if info, err := os.Lstat(b.Path); err == nil && info.IsDir() {
			return fault.New(fault.Invalid, "%s is a directory; name a file in it", b.Path)
		} else if err == nil && !b.Replace {
			return outfile.ExistsError(b.Path)
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
	b.bar = terminal.NewProgress(b.Progress)
	defer b.bar.End()
	made := time.Now()
	facts, database, err := b.copyDatabase(dir)
	if err != nil {
		return m, err
	}
	if database != nil {
		defer database.Close()
	}
	f, remove, err := createBackup(b.Path)
	if err != nil {
		return m, err
	}
	defer remove()
	buffered := bufio.NewWriterSize(f, 1<<20)
	var to io.Writer = buffered
	closeTo := func() error { return nil }
	if len(b.Recipients) > 0 {
		sealed, err := archive.Encrypt(buffered, b.Recipients)
		if err != nil {
			return m, err
		}
		to, closeTo = sealed, sealed.Close
	}
	if b.out, err = archive.NewWriter(to, b.Version, made); err != nil {
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
	return m, runas.AsCaller(func() error { return outfile.Publish(f.Name(), b.Path, b.Replace) })
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

// checkSpace fails if a directory has no space for the copy of the database and the archive.
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
			"archive, but only %d MB are free; write it to another disk", 2*size>>20+1, dir, free>>20)
	}
	return nil
}

// copyDatabase makes a copy of the SQLite database. It returns facts about its content, and the open file, which is
// already removed from its directory. With PostgreSQL, f is nil.
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
