package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrNoBackup is returned by Backup for a database that has tools of its own for that.
var ErrNoBackup = errors.New("a PostgreSQL database is backed up with its own tools: pg_dump for a copy, pg_basebackup and WAL archiving for every moment")

// Shelf is the disk that a backup is put on, where SQLite does not write itself. Paths are absolute, and errors are those of
// package os.
type Shelf interface {
	// Create makes a file that must not be there, for its owner alone.
	Create(path string, data []byte) error
	// SyncDir makes the names in a directory durable.
	SyncDir(path string) error
	// Link gives a file another name, which must not be there.
	Link(from, to string) error
	Remove(path string) error
}

// Backup writes a copy of the database, as it is at one moment, to a new file. Writes go on meanwhile. The file has its
// name when it is whole and durable; one that is there already is not replaced. Credentials in it are sealed as they are
// here: the copy is worth nothing without the key file, which belongs elsewhere.
func (s *Store) Backup(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	return s.BackupOn(ctx, system{}, path)
}

// BackupOn is Backup to an absolute path on the disk that the store's VFS has.
func (s *Store) BackupOn(ctx context.Context, disk Shelf, path string) error {
	return s.engine.backup(ctx, disk, path)
}

func (l *lite) backup(ctx context.Context, disk Shelf, path string) error {
	dir := filepath.Dir(path)
	draft := filepath.Join(dir, ".backup-"+rand.Text())
	// Empty, as VACUUM INTO wants a file that is there; SQLite would give one of its own to everybody.
	if err := disk.Create(draft, nil); err != nil {
		return err
	}
	defer disk.Remove(draft)
	if err := l.vacuumInto(ctx, draft); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	if err := disk.Link(draft, path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; give a new name, or move it away", path)
	} else if err != nil {
		return err
	}
	if err := disk.SyncDir(dir); err != nil {
		// Whoever is told of a failure must not find what may be gone tomorrow.
		return errors.Join(err, disk.Remove(path))
	}
	return nil
}

func (l *lite) vacuumInto(ctx context.Context, path string) error {
	conn, err := l.open() // of its own: those that read may not write, which includes the copy
	if err != nil {
		return err
	}
	defer conn.Close()
	// It syncs the file, by the connection's synchronous=FULL.
	return conn.Each(ctx, nil, `VACUUM INTO $1`, path)
}

// system is the machine's own disk.
type system struct{}

func (system) Create(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func (system) SyncDir(path string) error  { return syncDir(path) }
func (system) Link(from, to string) error { return os.Link(from, to) }
func (system) Remove(path string) error   { return os.Remove(path) }
