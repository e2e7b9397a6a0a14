package sqlstore

import (
	"context"
	"errors"
	"runtime"

	"dialtone/internal/sqlstore/sqlite"
)

// readers are the connections beside the writer's. More than there are processors would only take memory and contend.
type readers struct {
	// free has those that nobody uses, and nil for each that was not opened yet.
	free chan *sqlite.Conn
	open func() (*sqlite.Conn, error)
}

func newReaders(open func() (*sqlite.Conn, error)) *readers {
	r := &readers{make(chan *sqlite.Conn, max(2, runtime.GOMAXPROCS(0))), open}
	for range cap(r.free) {
		r.free <- nil
	}
	return r
}

// use lends a connection to do.
func (r *readers) use(ctx context.Context, do func(*sqlite.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var conn *sqlite.Conn
	var ok bool
	select {
	case conn, ok = <-r.free:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !ok {
		return errClosed
	}
	defer func() { r.free <- conn }()
	if conn == nil {
		fresh, err := r.open()
		if err != nil {
			return err
		}
		conn = fresh
	}
	return do(conn)
}

// close waits for those that are in use. Closing again does nothing.
func (r *readers) close() error {
	var errs []error
	for range cap(r.free) {
		conn, open := <-r.free
		if !open {
			return nil
		}
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	close(r.free)
	return errors.Join(errs...)
}

func (r *readers) reads(ctx context.Context) querier { return liteReader{ctx, r} }

// liteReader is a querier on the read connections.
type liteReader struct {
	ctx context.Context
	*readers
}

func (r liteReader) row(query string, args ...any) scanner {
	return liteRow{func(dst []any) error {
		return r.use(r.ctx, func(conn *sqlite.Conn) error { return conn.Row(dst, query, args...) })
	}}
}

func (r liteReader) each(f func(scanner) error, query string, args ...any) error {
	return r.use(r.ctx, func(conn *sqlite.Conn) error {
		return conn.Each(r.ctx, func(row *sqlite.Row) error { return f(row) }, query, args...)
	})
}

// liteRow is a row that is looked for when it is scanned.
type liteRow struct{ scan func(dst []any) error }

func (r liteRow) Scan(dst ...any) error { return r.scan(dst) }
