package sqlite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dialtone/internal/store/engine"
)

// Backup implements engine.Backuper. The file appears under its name only when it is complete and
// durable. An existing file is never replaced.
func (e *Engine) Backup(ctx context.Context, disk engine.BackupFS, path string) error {
	dir := filepath.Dir(path)
	temp := filepath.Join(dir, ".backup-"+rand.Text())
	// VACUUM INTO takes an empty file. SQLite itself would create it readable by everybody.
	if err := disk.Create(temp, nil); err != nil {
		return notWritten(dir, err)
	}
	defer disk.Remove(temp)
	if err := e.vacuumInto(ctx, temp); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	err := disk.Link(temp, path)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists; choose another name, or move the file away", path)
	}
	if err != nil {
		return notWritten(dir, err)
	}
	if err := disk.SyncDir(dir); err != nil {
		// A backup that is reported as failed must not stay: it may be gone after a power cut.
		return errors.Join(err, disk.Remove(path))
	}
	return nil
}

// notWritten returns an error about the directory of a backup for one about the temporary file in it.
func notWritten(dir string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		err = e.Err
	}
	return fmt.Errorf("the backup cannot be written to the directory %s: %w", dir, err)
}

// vacuumInto writes a copy of the database to a file, and syncs it.
func (e *Engine) vacuumInto(ctx context.Context, path string) error {
	c, err := e.Connect() // a reader may not write, not even to another file
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Each(ctx, nil, `VACUUM INTO $1`, path)
}
