package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dialtone/internal/account"
)

var _ account.Inspector = (*Store)(nil)

// Consistent implements account.Inspector.
func (s *Store) Consistent(ctx context.Context, report func(string)) error {
	return s.everywhere(func(e engine) error { return e.consistent(ctx, report) })
}

func (l *lite) consistent(ctx context.Context, report func(string)) error {
	return faults(l.reads(ctx), report,
		`SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'`,
		`SELECT "table" || ' has a row that refers to no ' || parent FROM pragma_foreign_key_check`)
}

// faults reports what each query finds: a sentence a row.
func faults(q querier, report func(string), queries ...string) error {
	for _, query := range queries {
		err := q.each(func(row scanner) error {
			var fault string
			if err := row.Scan(&fault); err != nil {
				return err
			}
			report(fault)
			return nil
		}, query)
		if err != nil {
			return err
		}
	}
	return nil
}

// Each implements account.Inspector.
func (s *Store) Each(ctx context.Context, f func(account.Account, []byte, bool) error) error {
	return s.everywhere(func(e engine) error {
		return e.reads(ctx).each(func(row scanner) error {
			var token []byte
			var closed bool
			a, err := scanAccount(prefixed{row, []any{&token, &closed}})
			if err != nil {
				return err
			}
			return f(a, token, closed)
		}, `SELECT token, closed IS NOT NULL, `+accountColumns+` FROM account`)
	})
}

// ErrNoBackup is returned by Backup for a database that has tools of its own for that.
var ErrNoBackup = errors.New("a PostgreSQL database is backed up with its own tools: pg_dump for a copy, pg_basebackup and WAL archiving for every moment")

// Backup writes a copy of the database, as it is at one moment, to a new file. Writes go on meanwhile. The file has its
// name when it is whole and durable; one that is there already is not replaced. Credentials in it are sealed as they are
// here: the copy is worth nothing without the key file, which belongs elsewhere.
func (s *Store) Backup(ctx context.Context, path string) error { return s.homes[0].backup(ctx, path) }

func (l *lite) backup(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".backup-*") // with mode 0600, and empty, as VACUUM INTO wants it
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// The connection may not write, which includes the copy.
	if _, err := conn.ExecContext(ctx, `PRAGMA query_only = 0`); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, `VACUUM INTO $1`, f.Name())
	if _, restore := conn.ExecContext(ctx, `PRAGMA query_only = 1`); err == nil {
		err = restore
	}
	if err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; give a new name, or move it away", path)
	} else if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
