package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
)

// ErrMisplaced means that the database has a store in a schema that is not the first of the
// search_path. PostgreSQL creates new tables in the first one, so opening the database would create
// a second store there, without any accounts.
var ErrMisplaced = fault.Needs(fault.Correction, "the store is not in the first schema of the search_path")

// ErrNoRights means that the role may not create the tables of a new store. Since PostgreSQL 15, only the owner of a
// database may create tables in its schema public.
var ErrNoRights = fault.Needs(fault.Correction, "the database's role may not create tables")

// place describes where the tables of the program are.
type place struct {
	first  string   // the first schema of the search_path that exists, where new tables are created
	stores []string // the schemas with a store that the search_path names, in its order
}

// placeQuery returns the schemas of the search_path that this role may use, and whether they have a store. Other
// programs have tables named schema_version too, with other columns.
const placeQuery = `SELECT s.name, (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE n.nspname = s.name AND c.relname = 'schema_version' AND c.relkind = 'r' AND NOT a.attisdropped
		AND a.attname IN ('version', 'checksum', 'applied')) = 3
	FROM unnest(current_schemas(false)) WITH ORDINALITY s (name, position) ORDER BY position`

// readPlace reads where the tables are. It fails with ErrMisplaced.
func readPlace(q engine.Querier) (p place, err error) {
	err = q.Each(func(row engine.Scanner) error {
		var name string
		var hasStore bool
		if err := row.Scan(&name, &hasStore); err != nil {
			return err
		}
		if p.first == "" {
			p.first = name
		}
		if hasStore {
			p.stores = append(p.stores, name)
		}
		return nil
	}, placeQuery)
	if err != nil || len(p.stores) == 0 || slices.Contains(p.stores, p.first) {
		return p, err
	}
	var role, database string
	err = q.Row(`SELECT quote_ident(current_user), quote_ident(current_database())`).Scan(&role, &database)
	if err != nil {
		return p, err
	}
	schema, first := pgx.Identifier{p.stores[0]}.Sanitize(), pgx.Identifier{p.first}.Sanitize()
	return p, fmt.Errorf("%w: the tables are in the schema %[2]s, but %[3]s comes before it, and a second, empty "+
		"store would be created there; let the search_path begin with %[2]s (ALTER ROLE %[4]s IN DATABASE %[5]s SET "+
		"search_path = %[2]s, or in the options of the database's URL), or drop the schema %[3]s if nothing uses it",
		ErrMisplaced, schema, first, role, database)
}

// placeAt is readPlace for the database at url.
func placeAt(ctx context.Context, url string) (place, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return place{}, err
	}
	defer conn.Close(ctx)
	return readPlace(&Tx{ctx: ctx, conn: conn})
}

// HasStore reports whether the database at url has the tables of a store, of any version. It fails with ErrMisplaced.
func HasStore(ctx context.Context, url string) (exists bool, err error) {
	p, err := placeAt(ctx, url)
	return len(p.stores) > 0, err
}

// Hidden returns the schemas of the search_path with a store that is hidden by the one in the first schema, which is
// used.
func Hidden(ctx context.Context, url string) (used string, hidden []string, err error) {
	p, err := placeAt(ctx, url)
	if err != nil || len(p.stores) < 2 {
		return p.first, nil, err
	}
	return p.first, p.stores[1:], nil
}

// checkRights fails with ErrNoRights if the role may not create tables in the schema of a new
// store.
func checkRights(q engine.Querier, p place) error {
	var role, database, schema string
	var may bool
	err := q.Row(`SELECT quote_ident(current_user), quote_ident(current_database()), quote_ident($1),
		$1 <> '' AND has_schema_privilege(current_user, (SELECT oid FROM pg_namespace WHERE nspname = $1), 'CREATE')`,
		p.first).Scan(&role, &database, &schema, &may)
	switch {
	case err != nil || may:
		return err
	case p.first == "":
		return fmt.Errorf("%w: the role %s may use no schema in its search_path in the database %s; run as a "+
			"superuser in this database: CREATE SCHEMA %[2]s AUTHORIZATION %[2]s", ErrNoRights, role, database)
	case p.first == "public":
		return fmt.Errorf("%w: the role %s may create none in the schema public of the database %s; run as a "+
			"superuser: ALTER DATABASE %[3]s OWNER TO %[2]s; or in this database: GRANT CREATE ON SCHEMA public TO "+
			"%[2]s", ErrNoRights, role, database)
	}
	return fmt.Errorf("%w: the role %s may create none in the schema %s of the database %s; run as a superuser in "+
		"this database: GRANT CREATE ON SCHEMA %[3]s TO %[2]s", ErrNoRights, role, schema, database)
}

// CheckCreate fails with ErrNoRights if a store could not be created in the database at url.
func CheckCreate(ctx context.Context, url string) error {
	conn, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	tx := &Tx{ctx: ctx, conn: conn}
	p, err := readPlace(tx)
	if err != nil || len(p.stores) > 0 {
		return err
	}
	return checkRights(tx, p)
}
