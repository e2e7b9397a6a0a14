package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"sync/atomic"

	"dialtone/internal/sqlstore/sqlite"
)

// readers are the connections beside the writer's. More than there are processors would only take memory and contend. While nothing
// is written, each goes on with the snapshot that its last read had.
type readers struct {
	// free has those that nobody uses, and nil for each that was not opened yet.
	free chan *sqlite.Conn
	open func() (*sqlite.Conn, error)
	// writing keeps a read from leaving its snapshot open: the writer could not begin the journal anew, and it would grow.
	writing atomic.Bool
}

func newReaders(open func() (*sqlite.Conn, error)) *readers {
	r := &readers{free: make(chan *sqlite.Conn, max(2, runtime.GOMAXPROCS(0))), open: open}
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
	default:
		select {
		case conn, ok = <-r.free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !ok {
		return errClosed
	}
	defer func() {
		r.free <- conn
		if r.writing.Load() {
			r.release() // the writer may have done so before this one was back
		}
	}()
	if conn == nil {
		fresh, err := r.open()
		if err != nil {
			return err
		}
		conn = fresh
	}
	return r.read(conn, do)
}

func (r *readers) read(conn *sqlite.Conn, do func(*sqlite.Conn) error) error {
	if r.writing.Load() {
		if err := conn.Release(); err != nil {
			return err
		}
		return do(conn)
	}
	sound := false
	defer func() {
		if !sound {
			conn.Release()
		}
	}()
	if err := conn.Resume(); err != nil {
		return err
	}
	err := do(conn)
	if err != nil && err != sql.ErrNoRows {
		return err
	}
	sound = true
	if err := conn.Keep(); err != nil {
		return err
	}
	return err
}

// write runs do while no snapshot is kept by connections that nobody uses.
func (r *readers) write(do func()) {
	r.writing.Store(true)
	defer r.writing.Store(false)
	r.release()
	do()
}

// release ends the snapshots of the connections that nobody uses.
func (r *readers) release() {
	for range cap(r.free) {
		select {
		case conn, open := <-r.free:
			if !open {
				return
			}
			if conn != nil {
				conn.Release()
			}
			r.free <- conn
		default:
			return
		}
	}
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

func (r liteReader) row(query string, args ...any) scanner { return &liteRead{r, query, args} }

func (r liteReader) each(f func(scanner) error, query string, args ...any) error {
	return r.use(r.ctx, func(conn *sqlite.Conn) error {
		return conn.Each(r.ctx, func(row *sqlite.Row) error { return f(row) }, query, args...)
	})
}

// liteRead is a row that is looked for when it is scanned.
type liteRead struct {
	liteReader
	query string
	args  []any
}

func (r *liteRead) Scan(dst ...any) error {
	return r.use(r.ctx, func(conn *sqlite.Conn) error { return conn.Row(dst, r.query, r.args...) })
}
