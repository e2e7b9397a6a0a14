package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

//go:embed migrations
var migrations embed.FS

// ErrNewer is returned by Open for a database that a newer program has changed.
var ErrNewer = errors.New("the database was written by a newer version of dialtone; use that version, or restore a backup")

type migration struct {
	version  int
	sql      string
	checksum string
}

// steps are the migrations of one engine, from version 0 on without a gap.
func steps(engine string) ([]migration, error) {
	names, err := fs.Glob(migrations, "migrations/*."+engine+".sql") // sorted, and so by version
	if err != nil {
		return nil, err
	}
	var list []migration
	for i, name := range names {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		if version, err := strconv.Atoi(number); err != nil || version != i {
			return nil, fmt.Errorf("migration %s is not number %04d", name, i)
		}
		sum := sha256.Sum256(text)
		list = append(list, migration{i, string(text), hex.EncodeToString(sum[:])})
	}
	return list, nil
}

// migrate brings the schema up to date, in one transaction that other processes wait for.
func migrate(ctx context.Context, db *sql.DB) error {
	list, err := steps("sqlite")
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil) // BEGIN IMMEDIATE, by the data source name
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY, checksum TEXT NOT NULL, applied BIGINT NOT NULL)`); err != nil {
		return err
	}
	for _, m := range list {
		var checksum string
		err := tx.QueryRowContext(ctx, `SELECT checksum FROM schema_version WHERE version = $1`, m.version).Scan(&checksum)
		switch {
		case err == nil && checksum == m.checksum:
			continue
		case err == nil:
			return fmt.Errorf("schema version %d of the database is not this program's: %w", m.version, ErrNewer)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		if _, err := tx.ExecContext(ctx, m.sql); err != nil {
			return fmt.Errorf("schema version %d: %w", m.version, err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO schema_version (version, checksum, applied) VALUES ($1, $2, $3)`,
			m.version, m.checksum, micros(time.Now())); err != nil {
			return err
		}
	}
	var newest int
	if err := tx.QueryRowContext(ctx, `SELECT max(version) FROM schema_version`).Scan(&newest); err != nil {
		return err
	}
	if newest >= len(list) {
		return fmt.Errorf("schema version %d, this program knows %d: %w", newest, len(list)-1, ErrNewer)
	}
	return tx.Commit()
}
