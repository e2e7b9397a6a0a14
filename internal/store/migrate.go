package store

import (
	"bytes"
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
var embedded embed.FS

// ErrNewer is returned by Open for a database that a newer program has changed so that this one may not use it any more.
var ErrNewer = errors.New("the database was written by a newer version of dialtone; use that version, or restore a backup")

// migration is one step of a schema: a file migrations/NNNN_NAME.ENGINE.sql, which never changes once it is out. Its first line may be
//
//	-- for programs from version N on
//
// and then a program that knows the schema up to version N or later can go on with the database when the step has been made;
// without it, a program must know the step itself. So a change comes in two steps, in two versions of the program: one adds what
// the new program needs and leaves what the old one does, which then runs beside it; a later one takes away.
type migration struct {
	version  int
	floor    int
	sql      string
	checksum string
}

const floorLine = "-- for programs from version "

// steps are the migrations of one engine, in order.
func steps(files fs.FS, engine string) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*."+engine+".sql") // sorted, and so by version
	if err != nil {
		return nil, err
	}
	var list []migration
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		version, err := strconv.Atoi(number)
		if err != nil || len(list) == 0 && version != 0 || len(list) > 0 && version <= list[len(list)-1].version {
			return nil, fmt.Errorf("migration %s is out of order", name)
		}
		floor := version
		if first, _, _ := bytes.Cut(text, []byte("\n")); bytes.HasPrefix(first, []byte(floorLine)) {
			words := strings.Fields(string(first[len(floorLine):]))
			if floor, err = strconv.Atoi(words[0]); err != nil {
				return nil, fmt.Errorf("migration %s: %w", name, err)
			}
		}
		sum := sha256.Sum256(text)
		list = append(list, migration{version, floor, string(text), hex.EncodeToString(sum[:])})
	}
	return list, nil
}

// migrator is a transaction that can change the schema.
type migrator interface {
	transaction
	// script runs statements without arguments.
	script(text string) error
}

// migrate brings the schema up to date, in a transaction that other processes wait for.
func migrate(tx migrator, engine string, now time.Time) error {
	list, err := steps(embedded, engine)
	if err != nil {
		return err
	}
	return migrateTo(tx, list, now)
}

func migrateTo(tx migrator, list []migration, now time.Time) error {
	if err := tx.script(`CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY, checksum TEXT NOT NULL, applied BIGINT NOT NULL)`); err != nil {
		return err
	}
	for _, m := range list {
		var checksum string
		err := tx.row(`SELECT checksum FROM schema_version WHERE version = $1`, m.version).Scan(&checksum)
		switch {
		case err == nil && checksum == m.checksum:
			continue
		case err == nil:
			return fmt.Errorf("schema version %d of the database is not this program's: %w", m.version, ErrNewer)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		if err := tx.script(m.sql); err != nil {
			return fmt.Errorf("schema version %d: %w", m.version, err)
		}
		if _, err := tx.exec(`INSERT INTO schema_version (version, checksum, applied) VALUES ($1, $2, $3)`,
			m.version, m.checksum, micros(now)); err != nil {
			return err
		}
		if m.version == 0 {
			continue // which knew nothing of floors
		}
		if _, err := tx.exec(`INSERT INTO schema_floor (version, floor) VALUES ($1, $2)`, m.version, m.floor); err != nil {
			return err
		}
	}
	return allowed(tx, list[len(list)-1].version)
}

// allowed refuses a database that wants a newer program than one that knows the schema up to a version.
func allowed(q querier, known int) error {
	var newest, floor int
	err := q.row(`SELECT max(v.version), max(COALESCE(f.floor, v.version))
		FROM schema_version v LEFT JOIN schema_floor f ON f.version = v.version`).Scan(&newest, &floor)
	if err != nil {
		return err
	}
	if known < floor {
		return fmt.Errorf("schema version %d, this program knows %d: %w", newest, known, ErrNewer)
	}
	return nil
}

// known is the newest version of the schema that this program knows.
func known(engine string) int {
	list, err := steps(embedded, engine)
	if err != nil {
		panic("migrations: " + err.Error())
	}
	return list[len(list)-1].version
}
