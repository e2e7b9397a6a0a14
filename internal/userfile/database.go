package userfile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite" // also the driver of database/sql
	sqlite3 "modernc.org/sqlite/lib"

	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
)

// readSQLite reads tables of an SQLite file, which it does not change.
func readSQLite(ctx context.Context, path string, tables []table, yield Yield) (err error) {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		if err := regularfile.Check(path + suffix); err != nil {
			return err
		}
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	location := url.URL{Scheme: "file", Path: absolute, RawQuery: "mode=ro&_pragma=busy_timeout(5000)"}
	db, err := sql.Open("sqlite", location.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("%s cannot be read as a file of SQLite: %w", path, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	// A generated column can produce a value of any length.
	if _, err := sqlite.Limit(conn, sqlite3.SQLITE_LIMIT_LENGTH, maxLine); err != nil {
		return err
	}
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fault.New(fault.Invalid, "%s cannot be read as a file of SQLite: %v", path, err)
	}
	defer tx.Rollback()
	readers, end := readerOf(tables)
	for _, t := range tables {
		if err := readSQLiteTable(ctx, tx, path, t.name, readers[t.name], yield); err != nil {
			return err
		}
	}
	return end(yield)
}

func readSQLiteTable(
	ctx context.Context, tx *sql.Tx, path, name string, read func(row, Yield) error, yield Yield,
) error {
	// A view could have endless rows, and so could a virtual table, which may read from a view.
	var isTable bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pragma_table_list WHERE schema = 'main'
		AND type = 'table' AND lower(name) = $1)`, name).Scan(&isTable)
	if err == nil && !isTable {
		return fault.New(fault.Invalid, "%s has no table %s", path, name)
	}
	var rows *sql.Rows
	if err == nil {
		rows, err = tx.QueryContext(ctx, `SELECT * FROM `+name)
	}
	if err != nil {
		return fault.New(fault.Invalid, "%s has no table %s that can be read: %v", path, name, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values, targets := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	for n := int64(1); rows.Next(); n++ {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		r := row{line: n, values: make(map[string]string, len(columns))}
		for i, v := range values {
			switch v := v.(type) {
			case nil:
			case []byte:
				r.set(columns[i], string(v))
			case bool:
				r.set(columns[i], map[bool]string{true: "1", false: "0"}[v])
			default:
				r.set(columns[i], fmt.Sprint(v))
			}
		}
		if err := read(r, yield); err != nil {
			return err
		}
	}
	return rows.Err()
}

// set sets the value of a column, unless it is too long.
func (r *row) set(column, value string) {
	if len(value) > maxValue {
		r.problem, value = "a value is too long", ""
	}
	r.values[strings.ToLower(column)] = value
}

// readPostgres reads tables of a PostgreSQL database as of one moment, and changes nothing.
func readPostgres(ctx context.Context, location string, tables []table, yield Yield) (err error) {
	config, err := pgx.ParseConfig(location)
	if err != nil {
		return fault.New(fault.Invalid, "this is not the URL of a PostgreSQL database; correct it") // err quotes it
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // values come as texts
	config.RuntimeParams["client_encoding"] = "UTF8"              // whatever the database has
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	readers, end := readerOf(tables)
	for _, t := range tables {
		if err := readPostgresTable(ctx, tx, t.name, readers[t.name], yield); err != nil {
			return err
		}
	}
	return end(yield)
}

func readPostgresTable(ctx context.Context, tx pgx.Tx, name string, read func(row, Yield) error, yield Yield) error {
	rows, err := tx.Query(ctx, `SELECT * FROM `+name)
	if err != nil {
		return err
	}
	defer rows.Close()
	for n := int64(1); rows.Next(); n++ {
		r := row{line: n, values: make(map[string]string)}
		raw := rows.RawValues()
		for i, f := range rows.FieldDescriptions() {
			r.set(f.Name, string(raw[i]))
		}
		if err := read(r, yield); err != nil {
			return err
		}
	}
	if e, ok := errors.AsType[*pgconn.PgError](rows.Err()); ok {
		return fault.New(fault.Invalid, "the database has no table %s that can be read: %s", name, e.Message)
	}
	return rows.Err()
}
