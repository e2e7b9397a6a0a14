package htdigest

import (
	"context"
	"errors"
	"log/slog"

	"dialtone/internal/export"
)

// File is a file with the accounts of one tenant.
type File struct {
	Host string // of the tenant
	Path string
}

// Deps are the dependencies of a Follower. All are required.
type Deps struct {
	Source export.Source
	// Realm returns the realm of the tenant with the given host.
	Realm func(ctx context.Context, host string) (string, error)
	Files []File
	Log   *slog.Logger
}

// Follower keeps files up to date with the export. When the export is disabled, it empties them.
// Use it from one goroutine.
type Follower struct {
	deps    Deps
	version int64           // of the export at the last update; 0 if it was disabled
	current map[string]bool // paths of the files that were written for version
	// enabled is set once the export has been seen enabled. Until then, the files are left alone.
	enabled   bool
	warned    bool   // about files without an export
	lastError string // the last logged error, to log each error once
}

// NewFollower returns a Follower. It writes nothing before the first Update.
func NewFollower(d Deps) *Follower {
	return &Follower{deps: d, current: make(map[string]bool)}
}

// Update rewrites the files if the export has changed since the last call, and retries those
// that could not be written then. It logs errors. Call it periodically.
func (f *Follower) Update(ctx context.Context) {
	err := f.update(ctx)
	switch {
	case err == nil:
		f.lastError = ""
	case ctx.Err() == nil && err.Error() != f.lastError:
		f.lastError = err.Error()
		f.deps.Log.ErrorContext(ctx, "htdigest file not written; retrying", "err", err)
	}
}

func (f *Follower) update(ctx context.Context) error {
	version, err := f.deps.Source.ExportVersion(ctx)
	if err != nil {
		return err
	}
	f.enabled = f.enabled || version != 0
	if !f.enabled {
		if !f.warned {
			f.deps.Log.WarnContext(ctx, "htdigest files configured without an export; "+
				"enable it with: dialtone directory export enable", "key", "directory.htdigest")
			f.warned = true
		}
		return nil
	}
	if version != f.version {
		clear(f.current)
	}
	f.version = version
	var errs []error
	for _, file := range f.deps.Files {
		if f.current[file.Path] {
			continue
		}
		err := f.write(ctx, file)
		f.current[file.Path] = err == nil
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (f *Follower) write(ctx context.Context, file File) error {
	realm, err := f.deps.Realm(ctx, file.Host)
	if err != nil {
		return err
	}
	_, err = Write(file.Path, func(yield func(export.Entry) error) error {
		if f.version == 0 {
			return nil
		}
		return f.deps.Source.ExportedEntries(ctx, realm, yield)
	})
	return err
}
