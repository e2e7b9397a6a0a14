package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
)

// Write implements engine.Engine.
func (e *Engine) Write(do func(engine.Tx) error) error {
	defer e.queue.Measures().Commit.Since(time.Now())
	ctx, cancel := context.WithTimeout(context.Background(), operationTimeout)
	defer cancel()
	doubtful := false
	for n := 1; ; n++ {
		if doubtful {
			e.breaker.wait(ctx)
		} else if err := e.breaker.open(); err != nil {
			return err
		}
		what, err := e.try(ctx, do, doubtful)
		switch what {
		case done:
			return err
		case unknown:
			e.breaker.probeNow()
			doubtful = true
		}
		if ctx.Err() == nil && (what == unknown || doubtful && lost(err) || n < maxAttempts && e.retryable(err)) {
			pause(ctx, n)
			continue
		}
		if doubtful {
			return fault.ErrInDoubt
		}
		return e.asFault(err)
	}
}

// retryable reports whether a transaction that was not committed may succeed when it is run again.
// After a broken connection it resets the pool, since the other connections may have broken with
// it.
func (e *Engine) retryable(err error) bool {
	if lost(err) {
		e.pool.Reset()
		return true
	}
	pg := answered(err)
	return pg != nil && transient(pg.Code)
}

// pause waits n*10 ms before a retry, or until ctx ends.
func pause(ctx context.Context, n int) {
	timer := time.NewTimer(time.Duration(n) * 10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// try runs a write once. With repeated, an earlier run may have been committed.
func (e *Engine) try(ctx context.Context, do func(engine.Tx) error, repeated bool) (outcome, error) {
	ctx, cancel := e.breaker.withCancel(ctx)
	defer cancel()
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return nothing, err
	}
	defer release(conn)
	tx := &Tx{ctx: ctx, conn: conn.Conn(), again: repeated}
	if err := e.begin(ctx, conn.Conn()); err != nil {
		return nothing, err
	}
	if repeated {
		// The rows of the first run may be on this server's disk alone, since a commit whose
		// connection broke no longer waits for the standby. This transaction waits for it, and must
		// write something to do so.
		if err := tx.Script(`SELECT pg_logical_emit_message(true, 'dialtone', '')`); err != nil {
			rollback(conn.Conn())
			return nothing, err
		}
	}
	refusal := do(tx)
	if refusal != nil && fault.KindOf(refusal) == fault.Internal {
		rollback(conn.Conn())
		return nothing, refusal
	}
	forgetWarning(conn.Conn())
	tag, err := conn.Exec(ctx, "COMMIT")
	switch {
	case err == nil && tag.String() == "COMMIT":
		if err := warning(conn.Conn()); err != nil {
			return unknown, err
		}
		return done, refusal
	case err == nil:
		return nothing, errors.New("the transaction was rolled back")
	case answered(err) != nil:
		return nothing, err
	default:
		return unknown, err
	}
}

// warned marks a connection whose server gave a warning. With a commit, the warning means that the
// wait for the standby was cancelled: the transaction is committed on the primary, and may not be
// on the standby.
const warned = "warned"

func forgetWarning(conn *pgx.Conn) { delete(conn.PgConn().CustomData(), warned) }

func warning(conn *pgx.Conn) error {
	if conn.PgConn().CustomData()[warned] != nil {
		return errors.New("the server gave a warning with the commit")
	}
	return nil
}

// release returns a connection to the pool. A broken connection leaves the pool at once: where the
// network drops packets, the driver takes up to 15 seconds to close it, and it would keep its place
// in the pool for that time.
func release(c *pgxpool.Conn) {
	if conn := c.Conn(); !conn.IsClosed() && !conn.PgConn().IsBusy() && conn.PgConn().TxStatus() == 'I' {
		c.Release()
		return
	}
	broken := c.Hijack()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		broken.Close(ctx)
	}()
}

// rollback ends a transaction that failed. If ROLLBACK fails, it closes the connection, which ends
// the transaction too.
func rollback(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		conn.Close(ctx)
	}
}
