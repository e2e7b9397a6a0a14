package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialtone/internal/fault"
)

// A pooler such as PgBouncer may run each transaction of a connection on another connection to the
// server. So nothing of a session can be relied on:
//
//   - Settings are applied in each transaction instead of at the start of the connection.
//   - No prepared statement has a name.
//   - The lock of a running server belongs to a transaction that lasts as long as the connection of
//     its probes.
//   - Changes of tenants are seen by reading them again, without LISTEN.
//   - A copy is refused, since its source must be locked by a session.
//
// All other locks, and SET LOCAL, belong to a transaction anyway. Temporary tables, cursors and
// sequences' current values are not used.

// direct is a setting that the program gives its connections. It arrives only where there is no
// pooler: PgBouncer rejects settings that it does not know, or drops them.
const direct = "dialtone.direct"

// kept lists the settings that PgBouncer passes on.
var kept = []string{"application_name", "client_encoding", "DateStyle", "TimeZone",
	"standard_conforming_strings"}

// settings holds names of settings, and their values.
type settings struct{ names, values []string }

// apply applies settings to a transaction.
const apply = `SELECT pg_catalog.set_config(name, value, true)
	FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) s (name, value)`

// newPool returns a pool of connections. If they go through a pooler, it also returns the settings
// that each transaction must apply.
func newPool(ctx context.Context, conf *pgxpool.Config, url string) (*pgxpool.Pool, *settings, error) {
	wanted := maps.Clone(conf.ConnConfig.RuntimeParams)
	conf.ConnConfig.RuntimeParams[direct] = "yes"
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, nil, withoutPassword(err)
	}
	through, err := behindPooler(ctx, pool)
	if err == nil && !through {
		return pool, nil, nil
	}
	pool.Close()
	if err != nil {
		return nil, nil, withoutPassword(err)
	}
	inTransactions := &settings{}
	conf.ConnConfig.RuntimeParams = make(map[string]string)
	for name, value := range wanted {
		isName := func(other string) bool { return strings.EqualFold(name, other) }
		switch {
		case name == "options":
			return nil, nil, errors.New("the database's URL has options, which a pooler does not pass on; " +
				"leave them out, and make the settings with ALTER ROLE ... SET")
		case slices.ContainsFunc(kept, isName):
			conf.ConnConfig.RuntimeParams[name] = value
		default:
			inTransactions.names = append(inTransactions.names, name)
			inTransactions.values = append(inTransactions.values, value)
		}
	}
	conf.ConnConfig.DefaultQueryExecMode = withoutNames(conf.ConnConfig, url)
	pool, err = pgxpool.NewWithConfig(ctx, conf)
	return pool, inTransactions, err
}

// withoutNames returns a mode of execution without named prepared statements, unless the URL
// specifies a mode.
func withoutNames(conf *pgx.ConnConfig, url string) pgx.QueryExecMode {
	if strings.Contains(url, "default_query_exec_mode") {
		return conf.DefaultQueryExecMode
	}
	return pgx.QueryExecModeExec
}

// connect opens a connection for a few statements. It may go through a pooler.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, withoutPassword(err)
	}
	setConnectTimeout(conf, url)
	if _, err := takeAccepted(conf); err != nil {
		return nil, err
	}
	conf.DefaultQueryExecMode = withoutNames(conf, url)
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, withoutPassword(err)
	}
	return conn, nil
}

// behindPooler reports whether the connections of a pool go through a pooler.
func behindPooler(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	conn, err := pool.Acquire(ctx)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "08P01" &&
		strings.Contains(pg.Message, "startup parameter") {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer conn.Release()
	var arrived bool
	err = conn.QueryRow(ctx, `SELECT current_setting('`+direct+`', true) IS NOT NULL`, pgx.QueryExecModeExec).
		Scan(&arrived)
	return !arrived, err
}

// pooled reports whether the connections go through a pooler.
func (e *Engine) pooled() bool { return e.settings != nil }

// begin begins a transaction.
func (e *Engine) begin(ctx context.Context, conn *pgx.Conn) error {
	if !e.pooled() {
		_, err := conn.Exec(ctx, "BEGIN")
		return err
	}
	batch := &pgx.Batch{}
	e.queueBegin(batch)
	err := conn.SendBatch(ctx, batch).Close()
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && strings.Contains(pg.Message, "statement pooling") {
		return fmt.Errorf("the pooler in front of the database allows no transactions; "+
			"set its pool_mode to transaction or session: %w", err)
	}
	return err
}

// queueBegin begins a transaction as the first statements of a batch.
func (e *Engine) queueBegin(batch *pgx.Batch) {
	batch.Queue(`BEGIN`)
	if e.pooled() {
		batch.Queue(apply, e.settings.names, e.settings.values)
	}
}

// query runs a query outside of a write and passes its result to read. Through a pooler, the query is
// in a transaction with the settings, which takes one round trip too.
func (e *Engine) query(ctx context.Context, conn *pgx.Conn, read func(pgx.Rows, error) error, query string,
	args ...any,
) error {
	if !e.pooled() {
		return read(conn.Query(ctx, query, args...))
	}
	batch := &pgx.Batch{}
	e.queueBegin(batch)
	before := batch.Len()
	batch.Queue(query, args...)
	batch.Queue(`COMMIT`)
	results := conn.SendBatch(ctx, batch)
	for range before {
		if _, err := results.Exec(); err != nil {
			return errors.Join(err, results.Close())
		}
	}
	if err := read(results.Query()); err != nil {
		results.Close() // it would return the error of read again
		return err
	}
	return results.Close()
}

// holdTransaction begins a transaction on the connection of the probes, which lasts as long as the
// connection. It has no snapshot between statements, so it does not hold back VACUUM.
func (e *Engine) holdTransaction(ctx context.Context) error {
	if err := e.begin(ctx, e.probing); err != nil {
		return err
	}
	_, err := e.probing.Exec(ctx, `SELECT set_config(name, '0', true) FROM pg_settings
		WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')`)
	return err
}

// errCopyThroughPooler is the error of a copy whose source is reached through a pooler.
var errCopyThroughPooler = fault.New(fault.Conflict, "the database is reached through a pooler, and a copy "+
	"must keep servers from starting, which needs a session; give the URL of PostgreSQL itself")
