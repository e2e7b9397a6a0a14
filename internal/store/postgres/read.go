package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/store/engine"
)

// Reads implements engine.Engine.
func (e *Engine) Reads(ctx context.Context) engine.Querier { return reader{ctx, e} }

// reader is a querier that takes a connection of the pool for each query. A query whose connection
// broke is run once more.
type reader struct {
	ctx context.Context
	e   *Engine
}

func (r reader) Row(query string, args ...any) engine.Scanner {
	return readerRow{r, query, args}
}

type readerRow struct {
	reader
	query string
	args  []any
}

func (r readerRow) Scan(dst ...any) error {
	return r.retry(func(ctx context.Context) (bool, error) {
		conn, err := r.e.pool.Acquire(ctx)
		if err != nil {
			return true, err
		}
		defer release(conn)
		return true, r.e.query(ctx, conn.Conn(), func(rows pgx.Rows, err error) error {
			return scanFirst(rows, err, dst...)
		}, r.query, r.args...)
	})
}

func (r reader) Each(f func(engine.Scanner) error, query string, args ...any) error {
	return r.retry(func(ctx context.Context) (again bool, err error) {
		conn, err := r.e.pool.Acquire(ctx)
		if err != nil {
			return true, err
		}
		defer release(conn)
		again = true
		var stopped error
		err = r.e.query(ctx, conn.Conn(), func(rows pgx.Rows, err error) error {
			return eachRow(rows, err, func(row engine.Scanner) error {
				again = false // f has seen a row
				stopped = f(row)
				return stopped
			})
		}, query, args...)
		if stopped != nil {
			return false, stopped
		}
		return again, err
	})
}

// retry runs query, and runs it again if its connection broke and again is true.
func (r reader) retry(query func(context.Context) (again bool, err error)) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if err := r.e.breaker.open(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(r.ctx, operationTimeout)
	defer cancel()
	ctx, cancel := r.e.breaker.withCancel(limited)
	defer cancel()
	again, err := query(ctx)
	if err != nil && again && ctx.Err() == nil && lost(err) {
		r.e.pool.Reset()
		_, err = query(ctx)
	}
	if r.ctx.Err() != nil && err != nil {
		return errors.Join(r.ctx.Err(), err)
	}
	return r.e.asFault(err)
}
