package sqlstore

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

func (p *postgres) write(do func(transaction) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	doubtful := false
	for n := 1; ; n++ {
		if doubtful {
			p.gate.wait(ctx)
		} else if err := p.gate.closed(); err != nil {
			return err
		}
		what, err := p.try(ctx, do, doubtful)
		switch what {
		case done:
			return err
		case unknown:
			p.gate.doubt()
			doubtful = true
		}
		if ctx.Err() == nil && (what == unknown || doubtful && lost(err) || n < tries && p.again(err)) {
			pause(ctx, n)
			continue
		}
		if doubtful {
			return account.ErrUnknown
		}
		return p.told(err)
	}
}

// again reports whether a transaction that has not happened is worth another try. The other connections of the pool may have
// broken with one.
func (p *postgres) again(err error) bool {
	if lost(err) {
		p.pool.Reset()
		return true
	}
	pg := answered(err)
	return pg != nil && passing(pg.Code)
}

// pause keeps those that failed at once from trying again at once.
func pause(ctx context.Context, n int) {
	timer := time.NewTimer(time.Duration(n) * 10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// try runs a write once.
func (p *postgres) try(ctx context.Context, do func(transaction) error, repeated bool) (outcome, error) {
	ctx, cancel := p.gate.pass(ctx)
	defer cancel()
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return nothing, err
	}
	defer release(conn)
	tx := &postgresTx{ctx: ctx, conn: conn.Conn(), again: repeated}
	if err := tx.script("BEGIN"); err != nil {
		return nothing, err
	}
	if repeated {
		// What it finds of the first time may have reached this server's disk alone: a commit that lost its connection, or its
		// server, no longer waits for the standby. This one does, if it has anything to write.
		if err := tx.script(`SELECT pg_logical_emit_message(true, 'dialtone', '')`); err != nil {
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

// warned is the mark of a connection whose server has given a warning. With a commit that is the one that somebody, be it a limit of
// time, has ended the wait for the standby: the server has the transaction and shows it, and no more is known.
const warned = "warned"

func forgetWarning(conn *pgx.Conn) { delete(conn.PgConn().CustomData(), warned) }

func warning(conn *pgx.Conn) error {
	if conn.PgConn().CustomData()[warned] != nil {
		return errors.New("the server gave a warning with the commit")
	}
	return nil
}

// release gives a connection back. One that is broken leaves the pool at once: it takes the driver up to 15 seconds to close it where
// the network swallows everything, and it would keep its place for so long.
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

// rollback ends a transaction that failed. A connection that cannot even do that is closed, which does it too.
func rollback(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		conn.Close(ctx)
	}
}

// postgresTx is a transaction that a connection is in.
type postgresTx struct {
	ctx   context.Context
	conn  *pgx.Conn
	again bool
}

func (t *postgresTx) row(query string, args ...any) scanner {
	return t.conn.QueryRow(t.ctx, query, args...)
}

func (t *postgresTx) each(f func(scanner) error, query string, args ...any) error {
	rows, err := t.conn.Query(t.ctx, query, args...)
	return eachRow(rows, err, f)
}

func eachRow(rows pgx.Rows, err error, f func(scanner) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *postgresTx) exec(query string, args ...any) (int64, error) {
	tag, err := t.conn.Exec(t.ctx, query, args...)
	return tag.RowsAffected(), err
}

func (t *postgresTx) script(text string) error {
	_, err := t.conn.Exec(t.ctx, text)
	return err
}

// takeLocks takes them in one order everywhere, so that no two transactions wait for each other.
const takeLocks = `SELECT count(pg_advisory_xact_lock(k)) FROM (SELECT k FROM unnest($1::bigint[]) k ORDER BY k) sorted`

func (t *postgresTx) lock(keys ...int64) error {
	_, err := t.exec(takeLocks, keys)
	return err
}

func (t *postgresTx) repeated() bool { return t.again }
