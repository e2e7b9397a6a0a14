package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite/conn"
)

// SchemaVersion returns the version of the schema of the database at path, and does not change the
// database.
func SchemaVersion(path string) (int64, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return 0, err
	}
	if err := checkAccess(path); err != nil {
		return 0, err
	}
	if err := checkFile(path); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	// A read-only connection leaves behind the WAL and the wal-index that SQLite creates for it. A
	// connection that may write removes them when it is closed, but would also move an existing WAL
	// into the database.
	options := conn.Options{Existing: true}
	if _, err := os.Stat(path + "-wal"); err == nil {
		options = conn.Options{ReadOnly: true}
	}
	c, err := conn.Open(path, options)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var version sql.NullInt64
	if err := errors.Join(
		c.Script(`PRAGMA busy_timeout = 5000; PRAGMA query_only = 1`),
		c.Row([]any{&version}, `SELECT max(version) FROM schema_version`),
	); err != nil {
		return 0, fmt.Errorf("%s holds no store: %w", path, err)
	}
	return version.Int64, nil
}

// snapshot is a read transaction on a separate connection.
type snapshot struct{ Tx }

// Snapshot implements engine.Copier. It cannot tell whether a server runs on the database.
func (e *Engine) Snapshot(context.Context) (engine.Snapshot, error) {
	c, err := e.connectReader()
	if err != nil {
		return nil, err
	}
	s := snapshot{Tx{c}}
	if err := s.Script("BEGIN"); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s snapshot) Refresh() error {
	if err := s.Script("COMMIT"); err != nil {
		return err
	}
	return s.Script("BEGIN")
}

func (s snapshot) Close() error { return s.Conn.Close() }

// Insert implements engine.Copier.
func (e *Engine) Insert(tx engine.Tx, table string, columns []string, rows [][]any) error {
	query := fmt.Sprintf(`INSERT INTO %s (%s) VALUES (%s)`,
		table, strings.Join(columns, ", "), engine.Placeholders(1, len(columns)))
	for _, row := range rows {
		if _, err := tx.Exec(query, row...); err != nil {
			return err
		}
	}
	return nil
}

// LastID implements engine.Copier.
func (e *Engine) LastID(q engine.Querier, table string) (int64, error) {
	return engine.Count(q, `SELECT COALESCE(max(seq), 0) FROM sqlite_sequence WHERE name = $1`, table)
}

// Gapless implements engine.Counter.
func (e *Engine) Gapless() {}

// SetLastID implements engine.Copier.
func (e *Engine) SetLastID(tx engine.Tx, table string, id int64) error {
	if _, err := tx.Exec(`DELETE FROM sqlite_sequence WHERE name = $1`, table); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)`, table, id)
	return err
}
