package phonetables

import (
	"context"
	_ "embed"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"dialtone/internal/export"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/postgres"
)

//go:embed postgres.sql
var postgresTables string

// exportLock is held in shared mode by changes of accounts and tenants (by the function
// dialtone_exporting, which contains the number), and exclusively by operations that enable,
// disable or walk the tables.
const exportLock = postgres.SchemaLock + 2

// missingLock is held while the table of missing accounts is created.
const missingLock = postgres.SchemaLock + 3

// schemas are the schemas in the database of the store.
type schemas struct {
	engine *postgres.Engine
	open   opener
}

// OnPostgres returns the tables of a database of PostgreSQL. Without a ring they cannot be enabled.
func OnPostgres(e *postgres.Engine, ring *secret.Ring) *Tables {
	open := openerOf(ring)
	return &Tables{engine: e, open: open, backend: schemas{e, open}}
}

func (s schemas) publish(tx engine.Tx, changed []Subject) (due bool, err error) {
	if len(changed) == 0 {
		return false, nil
	}
	var on bool
	if err := tx.Row(`SELECT dialtone_exporting()`).Scan(&on); err != nil || !on {
		return false, err
	}
	for _, subject := range changed {
		if err := update(tx, s, s.open, subject); err != nil {
			return false, err
		}
	}
	_, err = engine.Count(tx, `SELECT pg_catalog.nextval('dialtone_directory.change'::regclass)`)
	return false, err
}

func (s schemas) follow() error { return nil }

func (s schemas) withTables(do func(engine.Tx) error) error {
	return s.engine.Write(func(tx engine.Tx) error {
		if err := tx.Lock(exportLock); err != nil {
			return err
		}
		if on, err := Enabled(tx); err != nil {
			return err
		} else if !on {
			return export.ErrNotEnabled
		}
		return do(tx)
	})
}

func (s schemas) enable(also func(engine.Tx) error) error {
	err := s.engine.Write(func(tx engine.Tx) error {
		if err := also(tx); err != nil {
			return err
		}
		if err := tx.Lock(exportLock); err != nil {
			return err
		}
		if err := tx.Script(postgresTables); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO export (name) VALUES ($1) ON CONFLICT DO NOTHING`, exportName)
		if err != nil {
			return err
		}
		return migrations.Fence(tx, postgres.Dialect, exportVersion, true)
	})
	if denied(err) {
		database, user := s.engine.Database()
		return fault.New(fault.Invalid, "the database's user may not create schemas; "+
			"have an administrator run: GRANT CREATE ON DATABASE %s TO %s", database, user)
	}
	return err
}

// denied reports whether the database's user lacks a privilege (insufficient_privilege).
func denied(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "42501"
}

// disable keeps the schemas, with the privileges that phone servers have been granted in them.
func (s schemas) disable(also func(engine.Tx) error) error {
	return s.engine.Write(func(tx engine.Tx) error {
		if err := also(tx); err != nil {
			return err
		}
		if err := tx.Lock(exportLock); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM export WHERE name = $1`, exportName); err != nil {
			return err
		}
		if exist, err := s.exist(tx); err != nil {
			return err
		} else if exist {
			if err := tx.Script(`TRUNCATE dialtone_directory.entry, dialtone_directory.realm;
				DROP TABLE IF EXISTS dialtone_directory.missing;
				UPDATE dialtone_directory.state SET whole = FALSE`); err != nil {
				return err
			}
		}
		return migrations.Fence(tx, postgres.Dialect, exportVersion, false)
	})
}

// clear has nothing to do: disable empties the tables.
func (s schemas) clear() error { return nil }

// catchUp has nothing to do: entries change with accounts.
func (s schemas) catchUp(context.Context) (incomplete bool, err error) { return false, nil }

func (s schemas) prune() error { return nil }

func (s schemas) version(ctx context.Context) (int64, error) {
	q := s.engine.Reads(ctx)
	if on, err := Enabled(q); err != nil || !on {
		return 0, err
	}
	if has, err := s.hasState(q); err != nil {
		return 0, err
	} else if !has {
		return 0, errNotRestored // files made from empty tables would lock everybody out
	}
	return engine.Count(q, `SELECT CASE WHEN is_called THEN last_value + 1 ELSE 1 END
		FROM dialtone_directory.change`)
}

func (s schemas) locations() []string {
	return []string{"dialtone_kamailio", "dialtone_coturn", "dialtone_asterisk", "dialtone_digest"}
}

func (s schemas) exist(q engine.Querier) (exist bool, err error) {
	err = q.Row(`SELECT to_regclass('dialtone_directory.state') IS NOT NULL`).Scan(&exist)
	return exist, err
}

func (s schemas) read(ctx context.Context, do func(engine.Querier) error) error {
	q := s.engine.Reads(ctx)
	if on, err := Enabled(q); err != nil {
		return err
	} else if !on {
		return export.ErrNotEnabled
	}
	return do(q)
}

func (s schemas) prepareMissing(tx engine.Tx) error {
	if has, err := s.hasMissing(tx); err != nil || has {
		return err
	}
	if err := tx.Lock(missingLock); err != nil {
		return err
	}
	return tx.Script(`CREATE TABLE IF NOT EXISTS dialtone_directory.missing (uid BYTEA PRIMARY KEY)`)
}

func (s schemas) hasMissing(q engine.Querier) (has bool, err error) {
	err = q.Row(`SELECT to_regclass('dialtone_directory.missing') IS NOT NULL`).Scan(&has)
	return has, err
}

func (s schemas) hasState(q engine.Querier) (bool, error) {
	if exist, err := s.exist(q); err != nil || !exist {
		return false, err
	}
	n, err := engine.Count(q, `SELECT count(*) FROM dialtone_directory.state`)
	return n > 0, err
}
