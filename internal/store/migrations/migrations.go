// Package migrations contains the schema of the store, and brings a database up to date.
//
// A migration is a file NNNN_NAME.ENGINE.sql, which never changes once it is released. Its first
// line may be
//
//	-- for programs from version N on
//
// Then a program that knows the schema up to version N or later can still use the database after
// the migration; without the line, a program must know the migration itself. So a change is made in
// two steps, in two versions of the program: the first adds what the new program needs and keeps
// what the old one uses, so that both can run side by side; the second removes it.
package migrations

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

	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
)

// Files are the migrations of all engines.
//
//go:embed *.sql
var Files embed.FS

// ErrNewer is returned for a database that a newer program has changed so that this one can no
// longer use it.
var ErrNewer = fault.Needs(fault.Correction,
	"the database was written by a newer version of dialtone; use that version, or restore a "+
		"backup")

// ErrOlder is returned for a database with the schema of an older program, if the schema must not
// be changed.
var ErrOlder = fault.Needs(fault.Correction,
	"the store has to be updated for this program: run dialtone store migrate, after which "+
		"servers of the previous version still work, or restart the server")

// ErrNoTables is returned for a database without the tables of a store, if none must be created.
var ErrNoTables = fault.Needs(fault.Correction, "the database has no tables of dialtone")

// Change limits how the schema of a database may be changed when it is opened.
type Change int

const (
	// Nothing allows no change: without a store, or with the schema of an older program, opening
	// fails.
	Nothing Change = iota
	// Upgrade brings the schema of a store up to date. Without a store, opening fails.
	Upgrade
	// Create also creates a store that does not exist.
	Create
)

// Prepare brings the schema up to date as far as it may be changed. exists tells whether the
// database has a store. If Prepare fails with ErrNoTables, ErrOlder or ErrNewer, it has changed
// nothing.
func (c Change) Prepare(tx engine.Tx, dialect string, exists bool, now time.Time) error {
	switch {
	case !exists && c != Create:
		return ErrNoTables
	case c == Nothing:
		return check(tx, dialect)
	}
	return Migrate(tx, dialect, now)
}

// check returns an error if Migrate would change the schema or refuse it.
func check(q engine.Querier, dialect string) error {
	list := embedded(dialect)
	newest := list[len(list)-1].version
	for _, m := range list {
		if applied, err := m.applied(q); err != nil {
			return err
		} else if !applied {
			return fmt.Errorf("the schema lacks version %d, and this program needs those up to %d: %w",
				m.version, newest, ErrOlder)
		}
	}
	return Allowed(q, newest)
}

// Migration is one step of a schema.
type Migration struct {
	version  int
	floor    int // the oldest schema version whose programs can use the database afterwards
	sql      string
	checksum string
}

const floorLine = "-- for programs from version "

// Parse returns the migrations of one engine, in order.
func Parse(files fs.FS, engine string) ([]Migration, error) {
	names, err := fs.Glob(files, "*."+engine+".sql") // sorted, and so by version
	if err != nil {
		return nil, err
	}
	var list []Migration
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil || len(list) == 0 && version != 0 ||
			len(list) > 0 && version <= list[len(list)-1].version {
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
		list = append(list, Migration{version, floor, string(text), hex.EncodeToString(sum[:])})
	}
	return list, nil
}

// embedded returns the migrations that this program knows.
func embedded(engine string) []Migration {
	list, err := Parse(Files, engine)
	if err != nil {
		panic("migrations: " + err.Error())
	}
	return list
}

// Migrate brings the schema up to date, in a transaction that other processes wait for. It fails
// with ErrNewer, and changes nothing, if the database needs a newer program.
func Migrate(tx engine.Tx, engine string, now time.Time) error {
	return Apply(tx, embedded(engine), now)
}

// Apply is Migrate for a list of migrations.
func Apply(tx engine.Tx, list []Migration, now time.Time) error {
	err := tx.Script(`CREATE TABLE IF NOT EXISTS schema_version
		(version BIGINT PRIMARY KEY, checksum TEXT NOT NULL, applied BIGINT NOT NULL)`)
	if err != nil {
		return err
	}
	for _, m := range list {
		if err := m.apply(tx, now); err != nil {
			return err
		}
	}
	return Allowed(tx, list[len(list)-1].version)
}

// apply runs the migration, unless it was run before.
func (m Migration) apply(tx engine.Tx, now time.Time) error {
	if applied, err := m.applied(tx); err != nil || applied {
		return err
	}
	if err := tx.Script(m.sql); err != nil {
		return fmt.Errorf("schema version %d: %w", m.version, err)
	}
	_, err := tx.Exec(`INSERT INTO schema_version (version, checksum, applied) VALUES ($1, $2, $3)`,
		m.version, m.checksum, engine.Micros(now))
	if err != nil || m.version == 0 { // version 0 has no table of floors
		return err
	}
	_, err = tx.Exec(`INSERT INTO schema_floor (version, floor) VALUES ($1, $2)`, m.version, m.floor)
	return err
}

// applied reports whether the migration was run before.
func (m Migration) applied(q engine.Querier) (bool, error) {
	var checksum string
	err := q.Row(`SELECT checksum FROM schema_version WHERE version = $1`, m.version).Scan(&checksum)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err == nil && checksum != m.checksum:
		return false, fmt.Errorf("schema version %d of the database is not this program's: %w", m.version, ErrNewer)
	}
	return err == nil, err
}

// Allowed returns ErrNewer if a program that knows the schema up to a version is too old for the
// database.
func Allowed(q engine.Querier, known int) error {
	var newest, floor int
	err := q.Row(`SELECT max(v.version), max(COALESCE(f.floor, v.version))
		FROM schema_version v LEFT JOIN schema_floor f ON f.version = v.version`).Scan(&newest, &floor)
	if err != nil {
		return err
	}
	if known < floor {
		return fmt.Errorf("schema version %d, this program knows %d: %w", newest, known, ErrNewer)
	}
	return nil
}

// Newest returns the newest version of the schema that this program knows.
func Newest(engine string) int {
	list := embedded(engine)
	return list[len(list)-1].version
}

// Fence keeps programs that know only an older version of the schema than the given one out of the
// database, or lets them in again as far as the migration does.
func Fence(tx engine.Tx, engine string, version int, closed bool) error {
	floor := version
	if !closed {
		floor = embedded(engine)[version].floor
	}
	_, err := tx.Exec(`UPDATE schema_floor SET floor = $1 WHERE version = $2`, floor, version)
	return err
}

// KeepOut keeps programs that know only an older version of the schema than the given one out of the
// database for good.
func KeepOut(tx engine.Tx, version int) error {
	_, err := tx.Exec(`UPDATE schema_floor SET floor = $1 WHERE version = $1 AND floor < $1`, version)
	return err
}

// CheckNewest calls report if a newer program has changed the schema: this program cannot tell
// which parts belong to it.
func CheckNewest(q engine.Querier, dialect string, report func(string)) error {
	newest, err := engine.Count(q, `SELECT max(version) FROM schema_version`)
	if known := Newest(dialect); err == nil && newest > int64(known) {
		report(fmt.Sprintf("the schema has version %d, and this program knows those up to %d, so it does not know "+
			"which triggers and views belong to it; use the newest version of dialtone that runs on this database",
			newest, known))
	}
	return err
}
