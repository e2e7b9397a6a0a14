package store

import (
	"context"
	_ "embed"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dialtone/internal/fault"
	"dialtone/internal/phone"
)

//go:embed directory/postgres.sql
var directoryPostgres string

// exportLock is shared by whoever changes accounts or tenants (dialtone_exporting, which has the number), and held alone by whoever
// begins or ends an export or goes through it.
const exportLock = schemaLock + 2

func (p *postgres) opener() opener { return p.open }

func (p *postgres) publish(tx transaction, changed []subject) (due bool, err error) {
	if len(changed) == 0 {
		return false, nil
	}
	var on bool
	if err := tx.row(`SELECT dialtone_exporting()`).Scan(&on); err != nil || !on {
		return false, err
	}
	for _, s := range changed {
		if err := bring(tx, p.open, s); err != nil {
			return false, err
		}
	}
	_, err = count(tx, `SELECT nextval('dialtone_directory.change')`)
	return false, err
}

func (p *postgres) follow() error { return nil }

func (p *postgres) directory(do func(transaction) error) error {
	return p.write(func(tx transaction) error {
		if err := tx.lock(exportLock); err != nil {
			return err
		}
		if on, err := exporting(tx); err != nil {
			return err
		} else if !on {
			return phone.ErrNoExport
		}
		return do(tx)
	})
}

func (p *postgres) enableExport() error {
	err := p.write(func(tx transaction) error {
		if err := tx.lock(exportLock); err != nil {
			return err
		}
		if err := tx.(*postgresTx).script(directoryPostgres); err != nil {
			return err
		}
		if _, err := tx.exec(`INSERT INTO export (name) VALUES ($1) ON CONFLICT DO NOTHING`, exportName); err != nil {
			return err
		}
		return bar(tx, "postgres", true)
	})
	if denied(err) {
		return fault.New(fault.Invalid, "the database's user may make no schemas; have an administrator run: GRANT CREATE ON DATABASE %s TO %s",
			pgx.Identifier{p.pool.Config().ConnConfig.Database}.Sanitize(), pgx.Identifier{p.pool.Config().ConnConfig.User}.Sanitize())
	}
	return err
}

// denied reports whether the database's user lacks a privilege (insufficient_privilege).
func denied(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "42501"
}

// disableExport leaves the schemas, with what phone servers have been granted in them.
func (p *postgres) disableExport() error {
	return p.write(func(tx transaction) error {
		if err := tx.lock(exportLock); err != nil {
			return err
		}
		var there bool
		if err := tx.row(`SELECT to_regclass('dialtone_directory.state') IS NOT NULL`).Scan(&there); err != nil || !there {
			return err
		}
		if _, err := tx.exec(`DELETE FROM export WHERE name = $1`, exportName); err != nil {
			return err
		}
		if err := tx.(*postgresTx).script(`TRUNCATE dialtone_directory.entry, dialtone_directory.realm; UPDATE dialtone_directory.state SET whole = FALSE`); err != nil {
			return err
		}
		return bar(tx, "postgres", false)
	})
}

// tendExport has nothing to do: entries change with accounts.
func (p *postgres) tendExport(context.Context) error { return nil }

func (p *postgres) exportChanges(ctx context.Context) (int64, error) {
	if on, err := exporting(p.reads(ctx)); err != nil || !on {
		return 0, err
	}
	return count(p.reads(ctx), `SELECT CASE WHEN is_called THEN last_value + 1 ELSE 1 END FROM dialtone_directory.change`)
}

func (p *postgres) exportPlaces() []string {
	return []string{"dialtone_kamailio", "dialtone_coturn", "dialtone_asterisk", "dialtone_digest"}
}
