package sqlite

import (
	"context"
	"errors"
	"runtime"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite/conn"
)

// readers is the pool of connections that read while the writer's connection writes. It is safe for
// concurrent use.
//
// Each statement is a separate implicit transaction: it sees everything that was committed when it
// began, and nothing that is committed later. An idle connection holds no lock, so that the WAL can
// be checkpointed and restarted.
type readers struct {
	// idle holds the connections that are not in use, and a nil for each one that has not been
	// opened yet.
	idle chan *conn.Conn
	open func() (*conn.Conn, error)
}

// newReaders returns a pool that opens its connections with open when they are first needed. It has
// as many as there are CPUs, and at least two: more connections than CPUs only cost memory and
// contention.
func newReaders(open func() (*conn.Conn, error)) readers {
	r := readers{idle: make(chan *conn.Conn, max(2, runtime.GOMAXPROCS(0))), open: open}
	for range cap(r.idle) {
		r.idle <- nil
	}
	return r
}

// use calls do with a connection for its exclusive use. It waits for one until ctx ends, and fails
// with engine.ErrClosed after close.
func (r *readers) use(ctx context.Context, do func(*conn.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var c *conn.Conn
	var ok bool
	select {
	case c, ok = <-r.idle: // the usual case, in which ctx need not create its channel
	default:
		select {
		case c, ok = <-r.idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !ok {
		return engine.ErrClosed
	}
	defer func() { r.idle <- c }()
	if c == nil {
		opened, err := r.open()
		if err != nil {
			return err
		}
		c = opened
	}
	return do(c)
}

// close waits until no connection is in use and closes all of them. Calling it again does nothing.
func (r *readers) close() error {
	var errs []error
	for range cap(r.idle) {
		c, open := <-r.idle
		if !open {
			return nil
		}
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	close(r.idle)
	return errors.Join(errs...)
}

// Reads implements engine.Engine.
func (r *readers) Reads(ctx context.Context) engine.Querier { return reader{ctx, r} }

// reader is a querier on the pool.
type reader struct {
	ctx context.Context
	*readers
}

func (r reader) Row(query string, args ...any) engine.Scanner { return &readerRow{r, query, args} }

func (r reader) Each(f func(engine.Scanner) error, query string, args ...any) error {
	return r.use(r.ctx, func(c *conn.Conn) error {
		return c.Each(r.ctx, func(row *conn.Row) error { return f(row) }, query, args...)
	})
}

// readerRow is the first row of a query, which runs when the row is scanned.
type readerRow struct {
	reader
	query string
	args  []any
}

func (r *readerRow) Scan(dst ...any) error {
	return r.use(r.ctx, func(c *conn.Conn) error { return c.Row(dst, r.query, r.args...) })
}
