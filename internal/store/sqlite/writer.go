package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite/conn"
)

// job is a write in the queue.
type job = engine.Job[func(engine.Tx) error]

// groupLimit bounds a transaction, so that its first write does not wait long for its last.
const groupLimit = 128

// pause is how long the first write after a group of several waits for others. A commit costs 0.6 ms of
// processor time on its own, and a write in a group a third of that.
const pause = 4 * time.Millisecond

// writer commits groups of writes, one at a time, on the only connection that writes.
//
// A write that fails before COMMIT is rolled back and changes nothing. So is a COMMIT that wrote no
// complete transaction to the WAL, as on a full disk (see rolledBack). After any other COMMIT that
// failed the transaction may or may not be on the disk, and a second fsync would prove nothing: the
// kernel may have dropped the pages that it could not write, and report success. The writer then
// fails for good, as PostgreSQL does (PANIC): it answers fault.ErrInDoubt, writes nothing more,
// and leaves the WAL to the next process.
type writer struct {
	*engine.Queue[func(engine.Tx) error]
	conn *conn.Conn
	// failed is closed after failure has been set. Only the goroutine that leads a group sets it.
	failed  chan struct{}
	failure error
	// inPlace returns ErrReplaced if the open database has lost its name. It may be nil.
	inPlace func() error
	// recent is the last write that failed for an internal reason, for Ready to report.
	recent atomic.Pointer[writeFailure]
}

type writeFailure struct {
	at  time.Time
	err error
}

// unreadyFor is how long the server is not ready after a write failed. A nearly full disk may take the
// few bytes that Ready writes and still refuse a signup.
const unreadyFor = 2 * time.Second

func newWriter(c *conn.Conn) *writer {
	w := &writer{conn: c, failed: make(chan struct{})}
	w.Queue = engine.NewQueue(1, groupLimit, w.commit)
	w.Pause = pause
	return w
}

// Write implements engine.Engine.
func (e *Engine) Write(do func(engine.Tx) error) error { return e.writer.Run(&job{Work: do}) }

// Failed implements engine.Failer.
func (e *Engine) Failed() <-chan struct{} { return e.writer.failed }

// Err implements engine.Failer.
func (e *Engine) Err() error {
	select {
	case <-e.writer.failed:
		return e.writer.failure
	default:
		return nil
	}
}

// close is called after Drain, when nothing reads any more. SQLite then moves the WAL to the
// database file and removes the WAL, except after a failure: the next process needs the WAL as it
// is.
func (w *writer) close() error {
	var err error
	if w.failure != nil {
		err = w.conn.NoCheckpointOnClose()
	}
	return errors.Join(err, w.conn.Close())
}

// commit runs a group, without the jobs that fail, until the rest succeeds in one transaction, and
// sets the error of each job.
func (w *writer) commit(group []*job) {
	live := slices.Clone(group)
	for len(live) > 0 {
		broken, err := w.try(live)
		if err == nil {
			return
		}
		w.recent.Store(&writeFailure{time.Now(), err})
		if broken < 0 {
			for _, j := range live {
				j.Err = err
			}
			return
		}
		live[broken].Err = err
		live = slices.Delete(live, broken, broken+1)
	}
}

// try runs the group in one transaction. If a job's statement fails, broken is the index of the
// job; if the transaction itself fails, broken is -1. In both cases nothing was saved, unless err
// is fault.ErrInDoubt.
func (w *writer) try(group []*job) (broken int, err error) {
	if w.failure != nil {
		return -1, w.refusal()
	}
	if _, err := w.conn.Exec("BEGIN IMMEDIATE"); err != nil {
		return -1, err
	}
	for i, j := range group {
		j.Err = j.Work(Tx{w.conn})
		if j.Err != nil && fault.KindOf(j.Err) == fault.Internal {
			w.rollback()
			return i, j.Err
		}
	}
	if _, err := w.conn.Exec("COMMIT"); err != nil {
		w.rollback()
		if rolledBack(err) {
			return -1, err
		}
		return -1, w.fail(err)
	}
	if w.inPlace != nil {
		if err := w.inPlace(); err != nil {
			return -1, w.fail(err)
		}
	}
	return 0, nil
}

// fail stops all writing.
func (w *writer) fail(cause error) error {
	w.failure = fmt.Errorf("%w: %w", engine.ErrFailed, cause)
	if errors.Is(cause, ErrReplaced) {
		w.failure = fileLost{cause}
	}
	close(w.failed)
	return w.refusal()
}

func (w *writer) refusal() error { return fmt.Errorf("%w: %w", fault.ErrInDoubt, w.failure) }

// rolledBack reports whether a COMMIT that failed with err has certainly not happened, neither now
// nor for a process that replays the WAL later. SQLite writes the frames of a transaction in order,
// the last of them marks the commit, and a checksum runs through all; then it syncs.
//
//   - A full disk or an exhausted quota refuses to write a frame, so the last one is not whole.
//   - A broken constraint, a lock, and a file that cannot be opened or written to are found before
//     the first frame is written.
//
// Everything else is in doubt, above all a failed fsync, whatever its errno. A wal-index that
// cannot grow (SQLITE_IOERR_SHMSIZE) fails the COMMIT of a transaction that is on the disk already.
func rolledBack(err error) bool {
	e, ok := errors.AsType[*conn.Error](err)
	if !ok {
		return false
	}
	switch e.Code & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_CANTOPEN:
		return true
	}
	return e.Code == sqlite3.SQLITE_IOERR_WRITE && (e.Errno == syscall.ENOSPC || e.Errno == syscall.EDQUOT)
}

// noopWrite writes to the database without changing it. An UPDATE to the same values would not write
// at all.
func noopWrite(tx engine.Tx) error {
	for _, query := range []string{
		`UPDATE revision SET n = n + 1 WHERE subject = 'tenant'`,
		`UPDATE revision SET n = n - 1 WHERE subject = 'tenant'`,
	} {
		if _, err := tx.Exec(query); err != nil {
			return err
		}
	}
	return nil
}

// Ready implements engine.Engine.
func (e *Engine) Ready(context.Context) error {
	if err := e.Write(noopWrite); err != nil {
		return err
	}
	if last := e.writer.recent.Load(); last != nil && time.Since(last.at) < unreadyFor {
		return last.err
	}
	return nil
}

// rollback ends a transaction that failed. After some errors SQLite has ended it already; then
// ROLLBACK fails, which does not matter.
func (w *writer) rollback() { w.conn.Exec("ROLLBACK") }
