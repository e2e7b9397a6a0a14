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
type definition struct{ kind, name, sql string }

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
		if err := row.Scan(&d.kind, &d.name, &d.sql); err != nil {
			return err
		}
		d.sql = strings.Join(strings.Fields(d.sql), " ") // a dump and its restore may change white space
		list[d.kind+" "+d.name] = d
		return nil
	}, `SELECT CAST(type AS TEXT), CAST(name AS TEXT), CAST(sql AS TEXT) FROM sqlite_schema
		WHERE sql IS NOT NULL AND NOT (type = 'table' AND substr(name, 1, 7) = 'sqlite_')`)
	return list, err
}

// CheckSchema implements engine.SchemaChecker.
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
	for _, key := range slices.Sorted(maps.Keys(found)) {
		d := found[key]
		if _, ok := made[key]; !ok && d.kind != "table" && d.kind != "index" {
			report(fmt.Sprintf("dialtone did not make the %s: %s", key, d.sql))
		}
	}
	return migrations.CheckNewest(q, Dialect, report)
}
