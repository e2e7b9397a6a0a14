package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"dialtone/internal/fault"
)

// groupLimit bounds what one transaction holds, so that its first write is not kept waiting by its last.
const groupLimit = 128

// writer commits one group of writes at a time, on the one connection that writes.
type writer struct {
	*queue
	db *sql.DB
	tx *liteTx
	// unsound is the commit's error after which nothing is written until the database has been proven.
	unsound error
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

func newWriter(db *sql.DB, conn *sql.Conn) *writer {
	w := &writer{db: db, tx: newLiteTx(conn)}
	w.queue = newQueue(1, groupLimit, w.commit)
	return w
}

func (l *lite) write(do func(transaction) error) error { return l.writer.run(&job{do: do}) }

// stop lets what was accepted finish.
func (w *writer) stop() error {
	w.drain()
	return w.tx.close()
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
	ctx := context.Background()
	if _, err := w.tx.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return -1, err
	}
	for i, j := range group {
		j.err = j.do(w.tx)
		if j.err != nil && fault.KindOf(j.err) == fault.Internal {
			w.rollback(ctx)
			return i, j.err
		}
	}
	if _, err := w.tx.conn.ExecContext(ctx, "COMMIT"); err != nil {
		w.rollback(ctx)
		w.bury(ctx)
		w.unsound = err
		return -1, err
	}
	return 0, nil
}

// bury writes over what a failed commit left in the journal. Where its sync alone failed it lies there whole: this process
// knows that it does not count, but the next one to open the database would take it for committed. A sync would fail
// again, so there is none; against a power cut nothing helps then, but against the end of this process it does. Should
// writing fail as well, the next start finds what it would after a power cut: all of it or nothing.
func (w *writer) bury(ctx context.Context) {
	exec := func(query string) error {
		_, err := w.tx.conn.ExecContext(ctx, query)
		return err
	}
	// Nothing may be moved to the database file without a sync.
	err := errors.Join(exec("PRAGMA wal_autocheckpoint=0"), exec("PRAGMA synchronous=OFF"))
	if err == nil {
		err = exec("BEGIN IMMEDIATE")
	}
	if err == nil {
		if err = touch(w.tx); err == nil {
			err = exec("COMMIT")
		}
		if err != nil {
			w.rollback(ctx)
		}
	}
	exec("PRAGMA synchronous=FULL") // for when the store is closed, which moves and syncs once more
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
func (w *writer) prove() error {
	if w.unsound == nil {
		return nil
	}
	ctx := context.Background()
	// The pool has one connection. It is broken now, for all that is known: it is thrown away. Its statements go first,
	// since the driver finalizes them, and must still have the connection for that.
	w.tx.closeStatements()
	w.tx.conn.Raw(func(any) error { return driver.ErrBadConn })
	w.tx.close()
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return errors.Join(errUnsound, err, w.unsound)
	}
	w.tx = newLiteTx(conn)
	var busy, pages, moved int
	err = conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved)
	if err == nil && busy != 0 {
		err = errors.New("the journal is in use")
	}
	if err != nil {
		return errors.Join(errUnsound, err, w.unsound)
	}
	w.unsound = nil
	return nil
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
func (w *writer) rollback(ctx context.Context) { w.tx.conn.ExecContext(ctx, "ROLLBACK") }

// liteTx is the transaction that a connection of SQLite is in. No other is in one meanwhile.
type liteTx struct {
	conn     *sql.Conn
	prepared map[string]*sql.Stmt
}

func newLiteTx(conn *sql.Conn) *liteTx {
	return &liteTx{conn: conn, prepared: make(map[string]*sql.Stmt)}
}

func (t *liteTx) statement(query string) (*sql.Stmt, error) {
	if st := t.prepared[query]; st != nil {
		return st, nil
	}
	st, err := t.conn.PrepareContext(context.Background(), query)
	if err == nil {
		t.prepared[query] = st
	}
	return st, err
}

func (t *liteTx) row(query string, args ...any) scanner {
	st, err := t.statement(query)
	if err != nil {
		return failed{err}
	}
	return st.QueryRowContext(context.Background(), args...)
}

// exec runs a statement and says how many rows it changed.
func (t *liteTx) exec(query string, args ...any) (int64, error) {
	st, err := t.statement(query)
	if err != nil {
		return 0, err
	}
	result, err := st.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (t *liteTx) each(f func(scanner) error, query string, args ...any) error {
	st, err := t.statement(query)
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(context.Background(), args...)
	return eachOf(rows, err, f)
}

// script runs statements without arguments.
func (t *liteTx) script(text string) error {
	_, err := t.conn.ExecContext(context.Background(), text)
	return err
}

func (t *liteTx) lock(...int64) error { return nil }

func (t *liteTx) repeated() bool { return false }

func (t *liteTx) closeStatements() {
	for _, st := range t.prepared {
		st.Close()
	}
	clear(t.prepared)
}

func (t *liteTx) close() error {
	t.closeStatements()
	return t.conn.Close()
}
