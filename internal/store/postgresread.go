package store

import (
	"context"
	"errors"
)

func (p *postgres) reads(ctx context.Context) querier { return postgresReader{ctx, p} }

// postgresReader is a querier that takes a connection of the pool for each query. A query whose connection broke is
// run once more.
type postgresReader struct {
	ctx context.Context
	p   *postgres
}

func (r postgresReader) row(query string, args ...any) scanner {
	return postgresRow{r, query, args}
}

type postgresRow struct {
	postgresReader
	query string
	args  []any
}

func (r postgresRow) Scan(dst ...any) error {
	return r.retry(func(ctx context.Context) (bool, error) {
		conn, err := r.p.pool.Acquire(ctx)
		if err != nil {
			return true, err
		}
		defer release(conn)
		return true, conn.QueryRow(ctx, r.query, r.args...).Scan(dst...)
	})
}

func (r postgresReader) each(f func(scanner) error, query string, args ...any) error {
	return r.retry(func(ctx context.Context) (again bool, err error) {
		conn, err := r.p.pool.Acquire(ctx)
		if err != nil {
			return true, err
		}
		defer release(conn)
		again = true
		var stopped error
		rows, err := conn.Query(ctx, query, args...)
		err = eachRow(rows, err, func(row scanner) error {
			again = false // f has seen a row
			stopped = f(row)
			return stopped
		})
		if stopped != nil {
			return false, stopped
		}
		return again, err
	})
}

// retry runs query, and runs it again if its connection broke and again is true.
func (r postgresReader) retry(query func(context.Context) (again bool, err error)) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if err := r.p.breaker.open(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(r.ctx, operationTimeout)
	defer cancel()
	ctx, cancel := r.p.breaker.withCancel(limited)
	defer cancel()
	again, err := query(ctx)
	if err != nil && again && ctx.Err() == nil && lost(err) {
		r.p.pool.Reset()
		_, err = query(ctx)
	}
	if r.ctx.Err() != nil && err != nil {
		return errors.Join(r.ctx.Err(), err)
	}
	return r.p.asFault(err)
}
