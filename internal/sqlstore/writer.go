package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"dialtone/internal/fault"
)

const (
	// queued is how many writes may wait. At the slowest disk that is worth the name they are done within some seconds.
	queued = 4096
	// groupLimit bounds what one transaction holds, so that its first write is not kept waiting by its last.
	groupLimit = 128
	// patience is how long a write waits to be started.
	patience = 5 * time.Second
)

// errOverloaded says that nothing has happened yet.
var errOverloaded = &fault.Error{
	Kind: fault.Overloaded, Message: "too much is going on at once; nothing was saved, send the same again in a moment", RetryAfter: 2 * time.Second,
}

// writer is the one goroutine that writes.
type writer struct {
	mu     sync.RWMutex // guards closed, and the queue against being closed under a send
	closed bool

	queue chan *job
	done  chan struct{}
	db    *sql.DB
	tx    *tx
	// unsound is the commit's error after which nothing is written until the database has been proven.
	unsound error
	// trouble is the last write that failed for a reason of ours, for Ready to tell.
	trouble atomic.Pointer[trouble]
}

type trouble struct {
	at  time.Time
	err error
}

// troubled is how long the server is not ready after a write that failed. A disk that is nearly full takes the little that
// a probe writes, and refuses a signup.
const troubled = 2 * time.Second

// job is one write on its way.
type job struct {
	do func(*tx) error
	// state goes from waiting to started (by the writer) or to abandoned (by the caller), and is decided by who is first.
	state  atomic.Int32
	result chan error
	err    error
}

const (
	waiting int32 = iota
	started
	abandoned
)

func startWriter(db *sql.DB, conn *sql.Conn) *writer {
	w := &writer{queue: make(chan *job, queued), done: make(chan struct{}), db: db, tx: newTx(conn)}
	go w.run()
	return w
}

// write runs do in a transaction, together with others, and returns when it is durable. Where do returns a fault, what it
// wrote before stays, and write returns the fault. Any other error undoes it.
func (s *Store) write(do func(*tx) error) error {
	j := &job{do: do, result: make(chan error, 1)}
	if err := s.writer.accept(j); err != nil {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-j.result:
		return err
	case <-timer.C:
		if j.state.CompareAndSwap(waiting, abandoned) {
			return errOverloaded
		}
	}
	return <-j.result
}

var errClosed = errors.New("the store is closed")

func (w *writer) accept(j *job) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return errClosed
	}
	select {
	case w.queue <- j:
		return nil
	default:
		return errOverloaded
	}
}

func (w *writer) stop() error {
	w.mu.Lock()
	w.closed = true
	close(w.queue)
	w.mu.Unlock()
	<-w.done
	return w.tx.close()
}

func (w *writer) run() {
	defer close(w.done)
	group := make([]*job, 0, groupLimit)
	for first := range w.queue {
		group = append(group[:0], first)
	fill:
		for len(group) < groupLimit {
			select {
			case j, ok := <-w.queue:
				if !ok {
					break fill
				}
				group = append(group, j)
			default:
				break fill
			}
		}
		w.commit(group)
	}
}

// commit runs a group until what is left of it succeeds together.
func (w *writer) commit(group []*job) {
	live := group[:0]
	for _, j := range group {
		if j.state.CompareAndSwap(waiting, started) {
			live = append(live, j)
		}
	}
	for len(live) > 0 {
		broken, err := -1, w.prove()
		if err == nil {
			broken, err = w.try(live)
		}
		if err == nil {
			for _, j := range live {
				j.result <- j.err
			}
			return
		}
		w.trouble.Store(&trouble{time.Now(), err})
		if broken < 0 {
			for _, j := range live {
				j.result <- err
			}
			return
		}
		live[broken].result <- err
		live = append(live[:broken], live[broken+1:]...)
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
func touch(tx *tx) error {
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
	w.tx = newTx(conn)
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

// Ready commits something that has no meaning and says whether that is possible now, and whether other writes were a moment
// ago. It proves a database that was found unsound.
func (s *Store) Ready(context.Context) error {
	if err := s.write(touch); err != nil {
		return err
	}
	if last := s.writer.trouble.Load(); last != nil && time.Since(last.at) < troubled {
		return last.err
	}
	return nil
}

// rollback ends a transaction that failed. SQLite has ended it already after some errors, and then says so.
func (w *writer) rollback(ctx context.Context) { w.tx.conn.ExecContext(ctx, "ROLLBACK") }

// tx is the transaction that the writer is in.
type tx struct {
	conn     *sql.Conn
	prepared map[string]*sql.Stmt
}

func newTx(conn *sql.Conn) *tx { return &tx{conn: conn, prepared: make(map[string]*sql.Stmt)} }

func (t *tx) statement(query string) (*sql.Stmt, error) {
	if st := t.prepared[query]; st != nil {
		return st, nil
	}
	st, err := t.conn.PrepareContext(context.Background(), query)
	if err == nil {
		t.prepared[query] = st
	}
	return st, err
}

func (t *tx) row(query string, args ...any) scanner {
	st, err := t.statement(query)
	if err != nil {
		return failed{err}
	}
	return st.QueryRowContext(context.Background(), args...)
}

// exec runs a statement and says how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
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

func (t *tx) closeStatements() {
	for _, st := range t.prepared {
		st.Close()
	}
	clear(t.prepared)
}

func (t *tx) close() error {
	t.closeStatements()
	return t.conn.Close()
}
