package postgres

import (
	"cmp"
	"context"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/store/engine"
)

// Tx is the transaction that conn is in.
type Tx struct {
	ctx   context.Context
	conn  *pgx.Conn
	again bool
}

// Row implements engine.Querier.
func (t *Tx) Row(query string, args ...any) engine.Scanner {
	return t.conn.QueryRow(t.ctx, query, args...)
}

// Each implements engine.Querier.
func (t *Tx) Each(f func(engine.Scanner) error, query string, args ...any) error {
	rows, err := t.conn.Query(t.ctx, query, args...)
	return eachRow(rows, err, f)
}

func eachRow(rows pgx.Rows, err error, f func(engine.Scanner) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// scanFirst copies the columns of the first row to dst.
func scanFirst(rows pgx.Rows, err error, dst ...any) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		return cmp.Or(rows.Err(), pgx.ErrNoRows)
	}
	if err := rows.Scan(dst...); err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// Exec implements engine.Tx.
func (t *Tx) Exec(query string, args ...any) (int64, error) {
	tag, err := t.conn.Exec(t.ctx, query, args...)
	return tag.RowsAffected(), err
}

// Script implements engine.Tx.
func (t *Tx) Script(text string) error {
	_, err := t.conn.Exec(t.ctx, text)
	return err
}

// takeLocks takes advisory locks in ascending order, so that no two transactions deadlock.
const takeLocks = `SELECT count(pg_advisory_xact_lock(k))
	FROM (SELECT k FROM unnest($1::bigint[]) k ORDER BY k) sorted`

// Lock implements engine.Tx.
func (t *Tx) Lock(keys ...int64) error {
	_, err := t.Exec(takeLocks, keys)
	return err
}

// Repeated implements engine.Tx.
func (t *Tx) Repeated() bool { return t.again }
