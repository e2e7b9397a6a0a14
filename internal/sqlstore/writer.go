package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
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

// writer makes groups of writes and commits one group at a time. It has no goroutine of its own: a write that finds nobody
// committing commits itself, and so costs no hand-over; those that come meanwhile wait, and when the commit is done the
// first of them leads the next group, which is all that wait.
type writer struct {
	mu      sync.Mutex // guards what follows, up to the blank line
	closed  bool
	leading bool       // somebody commits
	idle    *sync.Cond // nobody does any more
	waiting []*job

	db *sql.DB
	tx *tx
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
	do  func(*tx) error
	err error
	// turn tells a write that waited what to do. It is nil for one that did not wait.
	turn chan turn
}

// turn is nil when the write was done by another, and else the group to lead, with the write itself in front.
type turn []*job

func startWriter(db *sql.DB, conn *sql.Conn) *writer {
	w := &writer{db: db, tx: newTx(conn)}
	w.idle = sync.NewCond(&w.mu)
	return w
}

// write runs do in a transaction, together with others, and returns when it is durable. Where do returns a fault, what it
// wrote before stays, and write returns the fault. Any other error undoes it.
func (s *Store) write(do func(*tx) error) error {
	j := &job{do: do}
	leads, err := s.writer.enter(j)
	switch {
	case err != nil:
		return err
	case leads:
		s.writer.lead([]*job{j})
		return j.err
	default:
		return s.writer.wait(j)
	}
}

var errClosed = errors.New("the store is closed")

// enter makes the write the leader, or lets it wait.
func (w *writer) enter(j *job) (leads bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return false, errClosed
	case !w.leading:
		w.leading = true
		return true, nil
	case len(w.waiting) >= queued:
		return false, errOverloaded
	}
	j.turn = make(chan turn, 1)
	w.waiting = append(w.waiting, j)
	return false, nil
}

func (w *writer) wait(j *job) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var t turn
	select {
	case t = <-j.turn:
	case <-timer.C:
		if w.leave(j) {
			return errOverloaded
		}
		t = <-j.turn // it has been started
	}
	if t != nil {
		w.lead(t)
	}
	return j.err
}

// leave takes back a write that was not started.
func (w *writer) leave(j *job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.waiting, j)
	if i >= 0 {
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
	return i >= 0
}

// lead commits a group and hands over to whoever waits. The next leader is told before the group is: the disk is what
// everybody waits for.
func (w *writer) lead(group []*job) {
	// A panic would be caught with its request, and leave the store without a leader and in the middle of a transaction.
	// There is nothing to lose: what was answered is durable.
	defer func() {
		if p := recover(); p != nil {
			go panic(p)
			select {}
		}
	}()
	w.commit(group)
	w.mu.Lock()
	n := min(len(w.waiting), groupLimit)
	next := slices.Clone(w.waiting[:n])
	w.waiting = slices.Delete(w.waiting, 0, n)
	if n == 0 {
		w.leading = false
		w.idle.Broadcast()
	}
	w.mu.Unlock()
	if n > 0 {
		next[0].turn <- next
	}
	for _, j := range group[1:] {
		j.turn <- nil
	}
}

// stop lets what was accepted finish.
func (w *writer) stop() error {
	w.mu.Lock()
	w.closed = true
	for w.leading {
		w.idle.Wait()
	}
	w.mu.Unlock()
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
