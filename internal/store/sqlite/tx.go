package sqlite

import (
	"context"
	"errors"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite/conn"
)

// Tx is the transaction that a connection is in. A connection is in one transaction at a time.
type Tx struct{ Conn *conn.Conn }

// Row implements engine.Querier.
func (t Tx) Row(query string, args ...any) engine.Scanner { return txRow{t.Conn, query, args} }

// txRow is a row of a transaction. Scan runs the query.
type txRow struct {
	conn  *conn.Conn
	query string
	args  []any
}

func (r txRow) Scan(dst ...any) error { return r.conn.Row(dst, r.query, r.args...) }

// Each implements engine.Querier.
func (t Tx) Each(f func(engine.Scanner) error, query string, args ...any) error {
	return t.Conn.Each(context.Background(), func(row *conn.Row) error { return f(row) }, query, args...)
}

// Exec implements engine.Tx.
func (t Tx) Exec(query string, args ...any) (int64, error) { return t.Conn.Exec(query, args...) }

// Script implements engine.Tx.
func (t Tx) Script(text string) error { return t.Conn.Script(text) }

// Lock does nothing: there is one writer at a time.
func (t Tx) Lock(...int64) error { return nil }

// Repeated is always false: a write whose commit is in doubt is not run again.
func (t Tx) Repeated() bool { return false }

// exclusively runs do in a transaction that other processes wait for.
func exclusively(c *conn.Conn, do func(Tx) error) error {
	tx := Tx{c}
	if err := tx.Script("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Script("ROLLBACK"))
	}
	return tx.Script("COMMIT")
}
