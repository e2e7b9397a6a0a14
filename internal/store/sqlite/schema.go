package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/sqlite/conn"
)

var _ engine.SchemaChecker = (*Engine)(nil)

// Definition is an object of the schema.
type Definition struct{ Kind, Name, Table, SQL string }

// Schema maps kinds and names, such as "index audit_at", to definitions.
type Schema map[string]Definition

// madeSchema returns the schema that the migrations create in an empty database.
var madeSchema = sync.OnceValues(func() (Schema, error) {
	return SchemaOf(func(tx Tx) error { return migrations.Migrate(tx, Dialect, time.Now()) })
})

// SchemaOf returns the schema that do creates in an empty database. It runs do in a transaction.
func SchemaOf(do func(Tx) error) (Schema, error) {
	c, err := conn.Open(":memory:", conn.Options{})
	if err != nil {
		return nil, err
	}
	var list Schema
	err = exclusively(c, func(tx Tx) (err error) {
		if err = do(tx); err == nil {
			list, err = ReadSchema(tx, func(string) {})
		}
		return err
	})
	return list, errors.Join(err, c.Close())
}

// ReadSchema returns all objects of the schema, including those that SQLite creates for itself: the
// indexes of constraints, which have no SQL, and sqlite_sequence. The SQL is byte for byte what was
// run, or what ALTER TABLE turned it into.
//
// It reports and leaves out each row that SQLite may interpret differently from this program:
// SQLite ends a text at its first NUL. It also reports two objects of the same kind and name, which
// no statement can create.
func ReadSchema(q engine.Querier, report func(string)) (Schema, error) {
	list := make(Schema)
	err := q.Each(func(row engine.Scanner) error {
		var d Definition
		var plain bool
		if err := row.Scan(&d.Kind, &d.Name, &d.Table, &d.SQL, &plain); err != nil {
			return err
		}
		if !plain {
			report(fmt.Sprintf("sqlite_schema has a row that hides what it is: %s %q of %q: %q",
				d.Kind, d.Name, d.Table, d.SQL))
			return nil
		}
		key := d.Kind + " " + d.Name
		if _, ok := list[key]; ok {
			report(fmt.Sprintf("sqlite_schema has more than one %s", key))
		}
		list[key] = d
		return nil
	}, `SELECT CAST(type AS TEXT), CAST(name AS TEXT), CAST(tbl_name AS TEXT), CAST(COALESCE(sql, '') AS TEXT),
			typeof(type) = 'text' AND typeof(name) = 'text' AND typeof(tbl_name) = 'text'
			AND typeof(COALESCE(sql, '')) = 'text'
			AND NOT instr(type || name || tbl_name || COALESCE(sql, ''), char(0))
		FROM sqlite_schema`)
	return list, err
}

// Missing reports the definitions that another schema lacks, or in which it differs.
func (made Schema) Missing(found Schema, report func(string)) {
	for _, key := range slices.Sorted(maps.Keys(made)) {
		if d, ok := found[key]; !ok {
			report(fmt.Sprintf("the %s is missing in the database", key))
		} else if d != made[key] {
			report(fmt.Sprintf("the %s is not as dialtone created it: %+q", key, d.SQL)) // shows each kind of space
		}
	}
}

// Without returns the definitions whose kind and name another schema does not have.
func (found Schema) Without(made Schema) (list []Definition) {
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if _, ok := made[key]; !ok {
			list = append(list, found[key])
		}
	}
	return list
}

// Report reports a definition that Dialtone did not create.
func (d Definition) Report(report func(string)) {
	definition := strings.Join(strings.Fields(d.SQL), " ")
	report(fmt.Sprintf("dialtone did not create the %s %s: %s", d.Kind, d.Name, definition))
}

// IsStatistics reports whether this is a table that ANALYZE creates.
func (d Definition) IsStatistics() bool {
	return d.Kind == "table" && slices.Contains(statistics, d.SQL) && strings.HasPrefix(d.Name, "sqlite_stat")
}

// firstVersions is the definition with which the first programs created the table of versions. No
// migration creates it.
const firstVersions = "CREATE TABLE schema_version " +
	"(version BIGINT PRIMARY KEY, checksum TEXT NOT NULL, applied BIGINT NOT NULL)"

// statistics lists the tables that ANALYZE creates, in all versions of SQLite.
var statistics = []string{
	"CREATE TABLE sqlite_stat1(tbl,idx,stat)",
	"CREATE TABLE sqlite_stat2(tbl,idx,sampleno,sample)",
	"CREATE TABLE sqlite_stat3(tbl,idx,neq,nlt,ndlt,sample)",
	"CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
}

// CheckSchema implements engine.SchemaChecker. A temporary table or one of another file cannot hide one of these: the
// connections of this program have none.
func (e *Engine) CheckSchema(ctx context.Context, report func(string)) error {
	made, err := madeSchema()
	if err != nil {
		return err
	}
	q := e.Reads(ctx)
	found, err := ReadSchema(q, report)
	if err != nil {
		return err
	}
	if d, ok := found["table schema_version"]; ok && d.SQL == firstVersions {
		d.SQL = made["table schema_version"].SQL
		found["table schema_version"] = d
	}
	made.Missing(found, report)
	ours := func(table string) bool {
		_, ok := made["table "+strings.ToLower(table)] // SQLite folds ASCII letters, and there are no others
		return ok
	}
	for _, d := range found.Without(made) {
		foreign := true
		switch d.Kind {
		case "table":
			if err := reportReferences(q, d.Name, ours, report); err != nil {
				return err
			}
			// SQLite does not let anyone create or drop a table with such a name.
			foreign = strings.HasPrefix(strings.ToLower(d.Name), "sqlite_") && !d.IsStatistics()
		case "index":
			if foreign = ours(d.Table); foreign {
				harmless, err := harmlessIndex(q, d)
				if err != nil {
					return err
				}
				foreign = !harmless
			}
		}
		if foreign {
			d.Report(report)
		}
	}
	const sequences = "table sqlite_sequence"
	for _, key := range slices.Sorted(maps.Keys(made)) {
		d := made[key]
		if d.Kind == "table" && strings.Contains(d.SQL, "AUTOINCREMENT") &&
			found[key] == d && found[sequences] == made[sequences] {
			if err := checkSequence(q, d.Name, report); err != nil {
				return err
			}
		}
	}
	if err := e.checkWritable(report); err != nil {
		return err
	}
	return migrations.CheckNewest(q, Dialect, report)
}

// checkWritable reports a database that SQLite opens only for reading, such as one whose header has
// an unknown write version. BEGIN IMMEDIATE then succeeds, and the first change fails.
// checkWritable creates no file and does not touch the WAL, since the database may have been moved
// or replaced.
func (e *Engine) checkWritable(report func(string)) (err error) {
	c, err := connect(e.path, conn.Options{VFS: e.vfs, Existing: true}, `PRAGMA busy_timeout = 1000`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.NoCheckpointOnClose(); err != nil {
		return err
	}
	_, err = c.Exec(`UPDATE revision SET n = n WHERE FALSE`)
	if e, ok := errors.AsType[*conn.Error](err); ok && e.Code&0xff == sqlite3.SQLITE_READONLY {
		report(fmt.Sprintf("the database cannot be changed: %v; stop the server, and restore a backup", err))
	}
	return nil // other failures are found elsewhere, and a locked database is being changed
}

// checkSequence reports what sqlite_sequence has for a table if rows cannot be added, or would get the id of an earlier
// row. It has no row for a table before the first row of the table is added.
func checkSequence(q engine.Querier, table string, report func(string)) error {
	const highest = 1 << 62 // far above each id, and far below that after which SQLite adds no rows
	var rows, right, newest int64
	var last string
	err := q.Row(fmt.Sprintf(`SELECT count(seq),
			COALESCE(sum(typeof(seq) = 'integer' AND seq BETWEEN newest AND %d), 0), newest,
			COALESCE(group_concat(quote(seq), ' and '), 'nothing')
		FROM (SELECT COALESCE(max(id), 0) AS newest FROM %s) LEFT JOIN sqlite_sequence ON name = '%[2]s'`,
		int64(highest), table)).Scan(&rows, &right, &newest, &last)
	if err == nil && (rows != right || rows > 1 || rows == 0 && newest > 0) {
		report(fmt.Sprintf("sqlite_sequence has %s for the table %s, whose greatest id is %d, so rows cannot be added "+
			"or would get the ids of earlier ones; stop the server, and give %[2]s one row in sqlite_sequence, whose "+
			"seq is the greatest id that was ever given, or restore a backup", last, table, newest))
	}
	return err
}

// harmlessIndex reports whether an index makes no write fail: it is not unique, and SQLite calculates nothing for it. A
// collation that another program has defined is not known to this one.
func harmlessIndex(q engine.Querier, d Definition) (bool, error) {
	n, err := engine.Count(q, `SELECT count(*) FROM pragma_index_list($1)
		WHERE name = $2 AND NOT "unique" AND NOT partial
		AND NOT EXISTS (SELECT 1 FROM pragma_index_xinfo($2)
			WHERE cid = -2 OR upper(coll) NOT IN ('BINARY', 'NOCASE', 'RTRIM'))`, d.Table, d.Name)
	return n == 1, err
}

// reportReferences reports each foreign key from a table of another program to a table of this
// program, whose rows then cannot be removed freely.
func reportReferences(q engine.Querier, table string, ours func(string) bool, report func(string)) error {
	return q.Each(func(row engine.Scanner) error {
		var to string
		if err := row.Scan(&to); err != nil {
			return err
		}
		if ours(to) {
			report(fmt.Sprintf("the table %s refers to the table %s, so rows of %[2]s cannot be removed freely",
				table, to))
		}
		return nil
	}, `SELECT DISTINCT CAST("table" AS TEXT) FROM pragma_foreign_key_list($1) ORDER BY 1`, table)
}
