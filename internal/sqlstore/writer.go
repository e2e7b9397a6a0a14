package sqlstore

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/sqlstore/sqlite"
)

// groupLimit bounds what one transaction holds, so that its first write is not kept waiting by its last.
const groupLimit = 128

// writer commits one group of writes at a time, on the one connection that writes.
type writer struct {
	*queue
	conn *sqlite.Conn
	open func() (*sqlite.Conn, error)
	// unsound is the commit's error after which nothing is written until the database has been proven.
	unsound error
	// buried says that what the failed commit left in the journal was written over.
	buried bool
	// trouble is the last write that failed for a reason of ours, for ready to tell.
	trouble atomic.Pointer[trouble]
}

type trouble struct {
	at  time.Time
	err error
}

// troubled is how long the server is not ready after a write that failed. A disk that is nearly full takes the little that
// a probe writes, and refuses a signup.
const troubled = 2 * time.Second

func newWriter(conn *sqlite.Conn, open func() (*sqlite.Conn, error)) *writer {
	w := &writer{conn: conn, open: open}
	w.queue = newQueue(1, groupLimit, w.commit)
	return w
}

func (l *lite) write(do func(transaction) error) error { return l.writer.run(&job{do: do}) }

// close comes after drain, and when nobody reads any more: so it moves what is in the journal to the database.
func (w *writer) close() error {
	var err error
	if w.unsound != nil {
		err = w.conn.ForgetIndex() // see prove
	}
	return errors.Join(err, w.conn.Close())
}

// commit runs a group until what is left of it succeeds together, and sets the error of each.
func (w *writer) commit(group []*job) {
	live := slices.Clone(group)
	for len(live) > 0 {
		broken, err := -1, w.prove()
		if err == nil {
			broken, err = w.try(live)
		}
		if err == nil {
			return
		}
		w.trouble.Store(&trouble{time.Now(), err})
		if broken < 0 {
			for _, j := range live {
				j.err = err
			}
			return
		}
		live[broken].err = err
		live = slices.Delete(live, broken, broken+1)
	}
}

// try runs the group in one transaction. Where a job's statement fails, it gives the job's place; where the transaction
// itself does, -1. In both cases nothing has happened.
func (w *writer) try(group []*job) (broken int, err error) {
	if _, err := w.conn.Exec("BEGIN IMMEDIATE"); err != nil {
		return -1, err
	}
	for i, j := range group {
		j.err = j.do(liteTx{w.conn})
		if j.err != nil && fault.KindOf(j.err) == fault.Internal {
			w.rollback()
			return i, j.err
		}
	}
	if _, err := w.conn.Exec("COMMIT"); err != nil {
		w.rollback()
		w.buried = w.bury() == nil
		w.unsound = err
		return -1, err
	}
	return 0, nil
}

// bury writes over what a failed commit left in the journal. Where its sync alone failed it lies there whole: this process
// knows that it does not count, but whoever reads the journal from its beginning would take it for committed. A sync would fail
// again, so there is none; against a power cut nothing helps then, but against the end of this process it does. Should
// writing fail as well, a start before the next try finds what it would after a power cut: all of it or nothing.
func (w *writer) bury() error {
	tx := liteTx{w.conn}
	// Nothing may be moved to the database file without a sync.
	err := errors.Join(tx.script("PRAGMA wal_autocheckpoint=0"), tx.script("PRAGMA synchronous=OFF"))
	if err == nil {
		err = tx.script("BEGIN IMMEDIATE")
	}
	if err == nil {
		if err = touch(tx); err == nil {
			err = tx.script("COMMIT")
		}
		if err != nil {
			w.rollback()
		}
	}
	return errors.Join(err, tx.script("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=1000"))
}

// touch makes a transaction that writes and changes nothing. An UPDATE to the same values would not even write.
func touch(tx transaction) error {
	for _, query := range []string{
		`UPDATE revision SET n = n + 1 WHERE subject = 'tenant'`,
		`UPDATE revision SET n = n - 1 WHERE subject = 'tenant'`,
	} {
		if _, err := tx.exec(query); err != nil {
			return err
		}
	}
	return nil
}

// prove shows that the database holds what was committed, after a commit that failed. A sync that failed is never simply
// repeated: the kernel may have dropped what it could not write, and would report success. So everything that was ever
// committed is written from the journal to the database file, synced there, and the journal begun anew, on a connection
// of its own; only when all of that succeeds is anything written again.
//
// A proof may fail too, and its sync drop what was buried with. So each begins with the journal as the disk has it: what does not
// hold by its checksums is not moved.
func (w *writer) prove() error {
	if w.unsound == nil {
		return nil
	}
	if err := w.move(); err != nil {
		return errors.Join(errUnsound, err, w.unsound)
	}
	w.unsound = nil
	return nil
}

func (w *writer) move() error {
	// The connection is broken now, for all that is known: it is thrown away.
	w.conn.Close()
	conn, err := w.open()
	if err != nil {
		return err
	}
	w.conn = conn
	if !w.buried {
		if err := w.bury(); err != nil {
			return err
		}
		w.buried = true
	}
	if err := conn.ForgetIndex(); err != nil {
		return err
	}
	var busy, pages, moved int
	err = conn.Row([]any{&busy, &pages, &moved}, "PRAGMA wal_checkpoint(TRUNCATE)")
	if err == nil && busy != 0 {
		err = errors.New("the journal is in use")
	}
	return err
}

var errUnsound = errors.New("writing is stopped after a commit that failed, until the database is proven sound")

func (l *lite) ready(context.Context) error {
	if err := l.write(touch); err != nil {
		return err
	}
	if last := l.writer.trouble.Load(); last != nil && time.Since(last.at) < troubled {
		return last.err
	}
	return nil
}

// rollback ends a transaction that failed. SQLite has ended it already after some errors, and then says so.
func (w *writer) rollback() { w.conn.Exec("ROLLBACK") }

// liteTx is the transaction that a connection of SQLite is in. No other is in one meanwhile.
type liteTx struct{ conn *sqlite.Conn }

func (t liteTx) row(query string, args ...any) scanner {
	return liteWritten{t.conn, query, args}
}

// liteWritten is a row of a transaction, looked for when it is scanned.
type liteWritten struct {
	conn  *sqlite.Conn
	query string
	args  []any
}

func (r liteWritten) Scan(dst ...any) error { return r.conn.Row(dst, r.query, r.args...) }

// exec runs a statement and says how many rows it changed.
func (t liteTx) exec(query string, args ...any) (int64, error) { return t.conn.Exec(query, args...) }

func (t liteTx) each(f func(scanner) error, query string, args ...any) error {
	return t.conn.Each(context.Background(), func(row *sqlite.Row) error { return f(row) }, query, args...)
}

// script runs statements without arguments.
func (t liteTx) script(text string) error { return t.conn.Script(text) }

func (t liteTx) lock(...int64) error { return nil }

func (t liteTx) repeated() bool { return false }
