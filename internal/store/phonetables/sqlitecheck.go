package phonetables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite"
)

// constants lists the tables whose rows are the same in every file, and queries for these rows.
var constants = []struct{ table, rows string }{
	{"attribute", `SELECT quote(name) || ' ' || quote(type) FROM attribute ORDER BY 1`},
	{"revision", `SELECT quote(table_name) || ' ' || quote(table_version) FROM revision ORDER BY 1`},
}

// contents is the content of a file except for the entries.
type contents struct {
	schema sqlite.Schema
	rows   map[string][]string // of constants
}

// madeFile is the contents of a new file.
var madeFile = sync.OnceValues(func() (made contents, err error) {
	made.rows = make(map[string][]string)
	made.schema, err = sqlite.SchemaOf(func(tx sqlite.Tx) error {
		if err := tx.Script(sqliteTables); err != nil {
			return err
		}
		for _, c := range constants {
			if made.rows[c.table], err = readRows(tx, c.rows); err != nil {
				return err
			}
		}
		return nil
	})
	return made, err
})

func readRows(q engine.Querier, query string) (rows []string, err error) {
	err = engine.Report(q, func(row string) { rows = append(rows, row) }, query)
	return rows, err
}

// check compares the file byte for byte with a new one. It does not create or prepare the file
// first, which could undo the changes that it looks for.
func (x *exportFile) check(_ context.Context, report func(string)) error {
	made, err := madeFile()
	if err != nil {
		return err
	}
	return x.inspect(func(q engine.Querier) error {
		found, err := sqlite.ReadSchema(q, report)
		if err != nil || len(found) == 0 { // another process is making the file
			return err
		}
		made.schema.Missing(found, report)
		for _, d := range found.Without(made.schema) {
			if !d.IsStatistics() {
				d.Report(report)
			}
		}
		for _, c := range constants {
			if key := "table " + c.table; found[key] != made.schema[key] {
				continue
			}
			rows, err := readRows(q, c.rows)
			if err != nil {
				return err
			}
			if !slices.Equal(rows, made.rows[c.table]) {
				report("the rows of the table " + c.table + " are not as dialtone created them")
			}
		}
		return nil
	})
}

// damage reports faults of the file's pages and indexes. An index that does not match its table
// gives phone servers the entries of other accounts.
func (x *exportFile) damage(report func(string)) error {
	return x.inspect(func(q engine.Querier) error {
		return engine.Report(q, report,
			`SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'`)
	})
}

// inspect runs do on the file alone, without changing it. It does nothing if there is no file.
func (x *exportFile) inspect(do func(engine.Querier) error) (err error) {
	_, err = os.Stat(x.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c, err := sqlite.Connect(x.path, "", `PRAGMA busy_timeout = 5000; PRAGMA query_only = 1`)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, c.Close()); err != nil {
			err = fmt.Errorf("%s: %w", x.path, err)
		}
	}()
	if err := c.KeepWAL("main"); err != nil {
		return err
	}
	return do(sqlite.Tx{Conn: c})
}
