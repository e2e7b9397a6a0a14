package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
)

// SchemaVersion returns the version of the schema of the database at url, and does not change the
// database.
func SchemaVersion(ctx context.Context, url string) (version int64, err error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, `SELECT COALESCE(max(version), 0) FROM schema_version`).Scan(&version); err != nil {
		return 0, fmt.Errorf("the source holds no store: %w", err)
	}
	return version, nil
}

// snapshot is a read-only transaction on a separate connection.
type snapshot struct {
	*Tx
	conn *pgxpool.Conn
}

const beginSnapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " +
	"SET LOCAL idle_in_transaction_session_timeout = 0"

// Snapshot implements engine.Copier. It keeps servers from starting until the snapshot is closed.
func (e *Engine) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	if e.pooled() {
		return nil, errCopyThroughPooler
	}
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return nil, e.asFault(err)
	}
	s := &snapshot{&Tx{ctx: ctx, conn: conn.Conn()}, conn}
	alone, err := s.lockServers()
	if err == nil && !alone {
		err = fault.New(fault.Conflict, "a server runs on the database, and the copy would miss its "+
			"changes; stop all servers first")
	}
	if err == nil {
		err = s.Script(beginSnapshot)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// lockServers keeps servers from starting until the connection is closed. It reports whether none runs. A server that
// ended a moment ago counts as running until PostgreSQL has noticed, so the lock is tried for a second.
func (s *snapshot) lockServers() (alone bool, err error) {
	const (
		tries    = 20
		interval = 50 * time.Millisecond
	)
	for i := 0; ; i++ {
		err = s.Row(`SELECT pg_try_advisory_lock($1::bigint)`, int64(serverLock)).Scan(&alone)
		if err != nil || alone || i == tries {
			return alone, err
		}
		select {
		case <-s.ctx.Done():
			return false, s.ctx.Err()
		case <-time.After(interval):
		}
	}
}

func (s *snapshot) Refresh() error {
	if err := s.Script("COMMIT"); err != nil {
		return err
	}
	return s.Script(beginSnapshot)
}

func (s *snapshot) Close() error {
	rollback(s.conn.Conn())
	s.conn.Release()
	return nil
}

// Insert implements engine.Copier by COPY.
func (e *Engine) Insert(tx engine.Tx, table string, columns []string, rows [][]any) error {
	t := tx.(*Tx)
	_, err := t.conn.CopyFrom(t.ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
	return err
}

// LastID implements engine.Copier.
func (e *Engine) LastID(q engine.Querier, table string) (int64, error) {
	sequence := pgx.Identifier{table + "_id_seq"}.Sanitize()
	return engine.Count(q, `SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM `+sequence)
}

// SetLastID implements engine.Copier.
func (e *Engine) SetLastID(tx engine.Tx, table string, id int64) error {
	return tx.Script(fmt.Sprintf(`ALTER TABLE %s ALTER COLUMN id RESTART WITH %d`,
		pgx.Identifier{table}.Sanitize(), id+1))
}
