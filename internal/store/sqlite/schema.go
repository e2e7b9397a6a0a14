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

	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/sqlite/conn"
)

var _ engine.SchemaChecker = (*Engine)(nil)

// definition is what the schema has under a name.
type definition struct{ kind, name, table, sql string }

// madeSchema returns the schema that the migrations make in an empty database, by kind and name.
var madeSchema = sync.OnceValues(func() (map[string]definition, error) {
	c, err := conn.Open(":memory:", conn.Options{})
	if err != nil {
		return nil, err
	}
	var list map[string]definition
	err = exclusively(c, func(tx Tx) (err error) {
		if err = migrations.Migrate(tx, Dialect, time.Now()); err == nil {
			list, err = readSchema(tx)
		}
		return err
	})
	return list, errors.Join(err, c.Close())
})

// readSchema returns what is in the schema, without what SQLite makes for itself.
func readSchema(q engine.Querier) (map[string]definition, error) {
	list := make(map[string]definition)
	err := q.Each(func(row engine.Scanner) error {
		var d definition
		if err := row.Scan(&d.kind, &d.name, &d.table, &d.sql); err != nil {
			return err
		}
		d.sql = strings.Join(strings.Fields(d.sql), " ") // a dump and its restore may change white space
		list[d.kind+" "+d.name] = d
		return nil
	}, `SELECT CAST(type AS TEXT), CAST(name AS TEXT), CAST(tbl_name AS TEXT), CAST(sql AS TEXT) FROM sqlite_schema
		WHERE sql IS NOT NULL AND NOT (type = 'table' AND substr(name, 1, 7) = 'sqlite_')`)
	return list, err
}

// CheckSchema implements engine.SchemaChecker. A temporary table or one of another file cannot hide one of these: the
// connections of this program have none.
func (e *Engine) CheckSchema(ctx context.Context, report func(string)) error {
	made, err := madeSchema()
	if err != nil {
		return err
	}
	q := e.Reads(ctx)
	found, err := readSchema(q)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(made)) {
		if d, ok := found[key]; !ok {
			report(fmt.Sprintf("the %s is missing in the database", key))
		} else if d.sql != made[key].sql {
			report(fmt.Sprintf("the %s is not as dialtone made it: %s", key, d.sql))
		}
	}
	ours := func(table string) bool {
		_, ok := made["table "+strings.ToLower(table)] // SQLite folds ASCII letters, and there are no others
		return ok
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		d := found[key]
		if _, ok := made[key]; ok {
			continue
		}
		foreign := true
		switch d.kind {
		case "table":
			if err := reportReferences(q, d.name, ours, report); err != nil {
				return err
			}
			continue
		case "index":
			if foreign = ours(d.table); foreign {
				harmless, err := harmlessIndex(q, d)
				if err != nil {
					return err
				}
				foreign = !harmless
			}
		}
		if foreign {
			report(fmt.Sprintf("dialtone did not make the %s: %s", key, d.sql))
		}
	}
	return migrations.CheckNewest(q, Dialect, report)
}

// harmlessIndex reports whether an index makes no write fail: it is not unique, and SQLite calculates nothing for it. A
// collation that another program has defined is not known to this one.
func harmlessIndex(q engine.Querier, d definition) (bool, error) {
	n, err := engine.Count(q, `SELECT count(*) FROM pragma_index_list($1)
		WHERE name = $2 AND NOT "unique" AND NOT partial
		AND NOT EXISTS (SELECT 1 FROM pragma_index_xinfo($2)
			WHERE cid = -2 OR upper(coll) NOT IN ('BINARY', 'NOCASE', 'RTRIM'))`, d.table, d.name)
	return n == 1, err
}

// reportReferences reports each foreign key of a table of somebody else to a table of this program, whose rows can then
// not be removed freely.
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
