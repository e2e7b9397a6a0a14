package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"dialtone/internal/atomicfile"
	"dialtone/internal/store/engine"
)

// ErrNoBackup is returned by Backup for a database that has its own tools for backups.
var ErrNoBackup = errors.New("a PostgreSQL database is backed up with its own tools: " +
	"pg_dump for a copy, pg_basebackup and WAL archiving for every moment")

// Backup writes a consistent copy of the database to a new file, while other writes continue. The
// file gets its name only when it is complete and durable. An existing file is not replaced.
// Credentials in it are sealed as they are in the database: the copy cannot be used without the key
// file, which should be kept elsewhere.
func (s *Store) Backup(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	return s.BackupOn(ctx, osFS{}, path)
}

// BackupOn is Backup to an absolute path in the file system of the engine's VFS.
func (s *Store) BackupOn(ctx context.Context, fs engine.BackupFS, path string) error {
	e, ok := s.engine.(engine.Backuper)
	if !ok {
		return ErrNoBackup
	}
	return e.Backup(ctx, fs, path)
}

// osFS is the file system of the operating system.
type osFS struct{}

func (osFS) Create(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func (osFS) SyncDir(path string) error  { return atomicfile.SyncDir(path) }
func (osFS) Link(from, to string) error { return os.Link(from, to) }
func (osFS) Remove(path string) error   { return os.Remove(path) }
