package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"

	"dialtone/internal/sqlstore/sqlite"
)

// readers are the connections beside the writer's. More than there are processors would only take memory and contend. While nothing
// is written, each goes on with the snapshot that its last read had.
type readers struct {
	// free has those that nobody uses, and nil for each that was not opened yet.
	free chan *reader
	open func() (*sqlite.Conn, error)
	// writing keeps a read from leaving its snapshot open: the writer could not begin the journal anew, and it would grow.
	writing atomic.Bool
}

// reader is one of them.
type reader struct {
	*sqlite.Conn
	// sealed is what was asked for since the snapshot was begun. Phones ask for the same accounts again and again, and seldom is
	// anything committed in between.
	sealed map[holder]sealed
}

// holder is whose credential it is.
type holder struct {
	tenant int64
	user   string
}

// maxSealed bounds what one reader remembers, at some 400 bytes each.
const maxSealed = 1 << 13

func newReaders(open func() (*sqlite.Conn, error)) *readers {
	r := &readers{free: make(chan *reader, max(2, runtime.GOMAXPROCS(0))), open: open}
	for range cap(r.free) {
		r.free <- nil
	}
	return r
}

// use lends a connection to do.
func (r *readers) use(ctx context.Context, do func(*reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var conn *reader
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
		conn = &reader{fresh, make(map[holder]sealed)}
	}
	return r.read(conn, do)
}

func (r *readers) read(conn *reader, do func(*reader) error) error {
	if r.writing.Load() {
		clear(conn.sealed)
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
	same, err := conn.Resume()
	if err != nil {
		return err
	}
	if !same {
		clear(conn.sealed)
	}
	err = do(conn)
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
	return r.use(r.ctx, func(conn *reader) error {
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
	return r.use(r.ctx, func(conn *reader) error { return conn.Row(dst, r.query, r.args...) })
}

// sealed is remembered as long as the snapshot is.
func (r *readers) sealed(ctx context.Context, tenant int64, user string) (s sealed, err error) {
	used := r.use(ctx, func(conn *reader) error {
		who := holder{tenant, user}
		known := false
		if s, known = conn.sealed[who]; known {
			return nil
		}
		s, err = readSealed(liteTx{conn.Conn}, tenant, user)
		if err == errNoAccount {
			return nil // which is no trouble of the reader's
		} else if err != nil {
			return err
		}
		if len(conn.sealed) >= maxSealed {
			clear(conn.sealed)
		}
		who.user = strings.Clone(user) // which may be a part of something long
		conn.sealed[who] = s
		return nil
	})
	if used != nil {
		return sealed{}, used
	}
	return s, err
}
