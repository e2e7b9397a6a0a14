// Package postgres is the engine of the store on PostgreSQL: one database for any number of
// servers.
//
// # What it guarantees
//
// A commit that was acknowledged is durable, on the standby too if PostgreSQL is configured to wait
// for it. A transaction whose connection broke before COMMIT was sent was not committed, and is run
// again on another connection. When COMMIT was sent and not answered, the outcome is unknown. Then:
//   - a signup of a group is looked up by its uid, under the locks that it took: once they are
//     held, the first transaction has ended;
//   - any other write is run again. Each write changes nothing the second time, or can tell that
//     the first run was committed (Tx.Repeated).
//
// When the database does not come back within operationTimeout, the caller gets fault.ErrInDoubt.
//
// # How it works
//
// Writes run concurrently, each on a connection of the pool. Signups share transactions: those in a
// group share no address, name, recipient or captcha, so that each statement can check or insert
// all of them, and a group takes two round trips.
//
// A circuit breaker makes calls fail fast while the database cannot be reached. Every statement has
// a deadline. The server ends a transaction that is idle for 5 s, because a node that is cut off
// would otherwise hold its locks until TCP gives up.
//
// A pooler between the program and the server is detected when the database is opened, and then
// nothing depends on sessions (see pooler.go).
package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
)

// Dialect is the name of this engine in the files of package migrations.
const Dialect = "postgres"

// Sealed reports whether the database at url has been sealed with a key. It returns false for a
// database without a schema.
func Sealed(ctx context.Context, url string) (sealed bool, err error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return false, err
	}
	defer conn.Close(ctx)
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('seal_key') IS NOT NULL`).Scan(&exists); err != nil || !exists {
		return false, err
	}
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM seal_key)`).Scan(&sealed)
	return sealed, err
}

const (
	// groupConcurrency is the number of groups of signups that are committed at a time: while the
	// server makes one durable, the next is checked.
	groupConcurrency = 3
	// groupLimit is the largest number of signups in a group. It limits the locks of a transaction:
	// a signup takes five or six, and PostgreSQL has about 6,400 for all transactions with its
	// default settings.
	groupLimit = 64
	// connections is the largest number of connections, unless the URL has pool_max_conns.
	connections = 16
	// operationTimeout limits a read or a write, with its retries.
	operationTimeout = 5 * time.Second
	// maxAttempts limits how often a write is run that is known not to have been committed.
	maxAttempts = 4
)

// Engine is an open database.
type Engine struct {
	name     string // of this node
	instance string // of this process, after Claim
	pool     *pgxpool.Pool
	settings *settings // to apply in each transaction; nil without a pooler
	queue    *engine.Queue[signup]
	breaker  *breaker
	accepted []string // settings that need not be durable
	known    int      // the newest schema version that this program knows

	probing *pgx.Conn // the connection of the breaker's probes

	mu     sync.Mutex
	others map[string]nodeSeen
}

var (
	_ engine.Copier     = (*Engine)(nil)
	_ engine.Checker    = (*Engine)(nil)
	_ engine.Node       = (*Engine)(nil)
	_ engine.Notifier   = (*Engine)(nil)
	_ admission.Grouper = (*Engine)(nil)
	_ engine.Measurer   = (*Engine)(nil)
)

// Open opens the PostgreSQL database at url and brings its schema up to date. Then it runs check in
// the same transaction, unless check is nil; an error of check leaves the database as it was. Open
// fails with migrations.ErrNewer, ErrMisplaced and ErrNoRights.
//
// The url is one that libpq takes (PostgreSQL 15, section 34.1.1.2); with several hosts and
// target_session_attrs=read-write the engine follows the primary. node names this server among
// those that share the database and stays the same over restarts. It is empty for a command.
func Open(ctx context.Context, node, url string, check func(engine.Tx) error) (*Engine, error) {
	return OpenTo(ctx, migrations.Create, node, url, check)
}

// OpenTo is Open with a limit on changes of the schema. It then also fails with
// migrations.ErrNoTables and ErrOlder.
func OpenTo(
	ctx context.Context, change migrations.Change, node, url string, check func(engine.Tx) error,
) (*Engine, error) {
	conf, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, withoutPassword(err)
	}
	if !strings.Contains(url, "pool_max_conns") {
		conf.MaxConns = connections
	}
	setConnectTimeout(conf.ConnConfig, url)
	accepted, err := takeAccepted(conf.ConnConfig)
	if err != nil {
		return nil, err
	}
	for setting, value := range map[string]string{
		"application_name":                    application(),
		"idle_in_transaction_session_timeout": "5s",
		// Every look-up is by a key. The planner may have no statistics yet of a table that grows
		// fast, and would then sometimes scan the whole table.
		"enable_seqscan":   "off",
		"enable_hashjoin":  "off",
		"enable_mergejoin": "off",
		"jit":              "off",
	} {
		if _, set := conf.ConnConfig.RuntimeParams[setting]; !set {
			conf.ConnConfig.RuntimeParams[setting] = value
		}
	}
	conf.ConnConfig.OnNotice = func(c *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			c.CustomData()[warned] = true
		}
	}
	// A ping to a connection that does not answer would block its place in the pool. A broken
	// connection is detected when it is used.
	conf.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	pool, settings, err := newPool(ctx, conf, url)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		name: node, pool: pool, settings: settings, accepted: accepted, known: migrations.Newest(Dialect),
		others: make(map[string]nodeSeen),
	}
	if err := e.prepare(ctx, change, check); err != nil {
		pool.Close()
		return nil, err
	}
	if err := e.probe(ctx, operationTimeout); err != nil {
		pool.Close()
		return nil, err
	}
	e.queue = engine.NewQueue(groupConcurrency, groupLimit, e.admitAll)
	e.breaker = newBreaker(e.probe)
	return e, nil
}

// setConnectTimeout limits the time for connecting to one host, unless the URL does.
func setConnectTimeout(conf *pgx.ConnConfig, url string) {
	if !strings.Contains(url, "connect_timeout") {
		conf.ConnectTimeout = 2 * time.Second
	}
}

// SchemaLock is the key of the advisory lock that is held while the schema is changed. It must
// never change, and neither must those that are derived from it.
const SchemaLock = 0x6469616c746f6e65 // "dialtone"

// prepare brings the schema up to date as far as it may be changed, and runs check.
func (e *Engine) prepare(ctx context.Context, change migrations.Change, check func(engine.Tx) error) error {
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return withoutPassword(err)
	}
	defer conn.Release()
	tx := &Tx{ctx: ctx, conn: conn.Conn()}
	if err := e.begin(ctx, conn.Conn()); err != nil {
		return err
	}
	err = tx.Lock(SchemaLock)
	var p place
	if err == nil {
		p, err = readPlace(tx)
	}
	if err == nil && change == migrations.Create && len(p.stores) == 0 {
		err = checkRights(tx, p)
	}
	if err == nil {
		err = change.Prepare(tx, Dialect, len(p.stores) > 0, time.Now())
	}
	if err == nil && change != migrations.Nothing {
		err = numberDatabase(tx)
	}
	if err == nil && check != nil {
		err = check(tx)
	}
	if err != nil {
		return errors.Join(err, tx.Script("ROLLBACK"))
	}
	return tx.Script("COMMIT")
}

// numberDatabase gives a new database the number 0. Versions of the program that could spread a
// platform over several databases would otherwise take the database for a new one, and let the ids
// of its tenants start again. A database with another number belonged to such a platform: it is
// used as it is. The ids of its tenants begin above number<<32, and nothing depends on that.
func numberDatabase(tx engine.Tx) error {
	_, err := tx.Exec(`INSERT INTO cluster (number) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM cluster)`)
	return err
}

// Database returns the name of the database and of the user, as identifiers in statements.
func (e *Engine) Database() (name, user string) {
	conf := e.pool.Config().ConnConfig
	return pgx.Identifier{conf.Database}.Sanitize(), pgx.Identifier{conf.User}.Sanitize()
}

// Close implements engine.Engine.
func (e *Engine) Close() error {
	e.queue.Drain()
	e.release()
	e.breaker.close()
	if e.probing != nil {
		e.probing.Close(context.Background())
	}
	e.pool.Close()
	return nil
}

// probe checks that the server answers and accepts writes. It has a separate connection, because
// those of the pool may all be busy. It waits at most perHost for each host of the URL.
func (e *Engine) probe(ctx context.Context, perHost time.Duration) (err error) {
	defer func() {
		if err != nil {
			if e.probing != nil {
				e.probing.Close(ctx)
				e.probing = nil
			}
			e.pool.Reset() // the other connections are likely broken too
			if pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded) {
				err = fmt.Errorf("no answer within %v: %w", perHost, err)
			}
			err = unavailable(err)
		}
	}()
	fresh := e.probing == nil
	if fresh {
		conf := e.pool.Config().ConnConfig
		if conf.ConnectTimeout == 0 || conf.ConnectTimeout > perHost {
			conf.ConnectTimeout = perHost
		}
		if e.probing, err = pgx.ConnectConfig(ctx, conf); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, perHost)
	defer cancel()
	if fresh {
		if err := e.lockServer(limited); err != nil {
			return err
		}
	}
	var standby bool
	if err := e.probing.QueryRow(limited, `SELECT pg_is_in_recovery()`).Scan(&standby); err != nil {
		return err
	}
	if standby {
		return errors.New("the server is a standby")
	}
	return nil
}

// serverLock is the advisory lock that the servers on a database share, each on the connection of
// its probes. A copy of the database takes it exclusively.
const serverLock = SchemaLock + 1

// lockServer takes the shared lock of a running server.
func (e *Engine) lockServer(ctx context.Context) error {
	if e.name == "" {
		return nil
	}
	lock := `SELECT pg_try_advisory_lock_shared($1::bigint)`
	if e.pooled() {
		if err := e.holdTransaction(ctx); err != nil {
			return err
		}
		lock = `SELECT pg_try_advisory_xact_lock_shared($1::bigint)`
	}
	var ok bool
	err := e.probing.QueryRow(ctx, lock, int64(serverLock)).Scan(&ok)
	if err == nil && !ok {
		err = errors.New("the database is being copied; start the server when that is done")
	}
	return err
}

// Ready commits a write that changes no data. It fails with migrations.ErrNewer where the schema
// needs a newer program.
func (e *Engine) Ready(ctx context.Context) error {
	if err := migrations.Allowed(e.Reads(ctx), e.known); err != nil {
		return err
	}
	return e.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`UPDATE revision SET n = n + 1 WHERE subject = 'ready'`)
		return err
	})
}

// ExecSoon implements engine.Engine. It takes one round trip.
func (e *Engine) ExecSoon(ctx context.Context, query string, args ...any) (n int64, err error) {
	if err := e.breaker.open(); err != nil {
		return 0, err
	}
	limited, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	ctx, cancel = e.breaker.withCancel(limited)
	defer cancel()
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return 0, e.asFault(err)
	}
	defer release(conn)
	batch := &pgx.Batch{}
	e.queueBegin(batch)
	batch.Queue(`SET LOCAL synchronous_commit = off`)
	batch.Queue(query, args...).Exec(func(tag pgconn.CommandTag) error {
		n = tag.RowsAffected()
		return nil
	})
	batch.Queue(`COMMIT`)
	// This is not retried: if the first run was committed and its answer lost, a second run would
	// change nothing.
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return 0, e.asFault(err)
	}
	return n, nil
}

// Check reports damage that the server has detected, and rows that refer to missing rows.
func (e *Engine) Check(ctx context.Context, report func(string)) error {
	return engine.Report(e.Reads(ctx), report,
		`SELECT 'PostgreSQL has seen pages with a wrong checksum: ' || checksum_failures FROM pg_stat_database
			WHERE datname = current_database() AND checksum_failures > 0`,
		`SELECT 'the index ' || indexrelid::regclass || ' is not valid' FROM pg_index WHERE NOT indisvalid`,
		`SELECT 'account has a row that refers to no tenant: ' || username
			FROM account a WHERE NOT EXISTS (SELECT 1 FROM tenant WHERE id = a.tenant)`,
		`SELECT 'outbox has a row that refers to no account: ' || encode(account, 'hex')
			FROM outbox o WHERE NOT EXISTS (SELECT 1 FROM account WHERE uid = o.account)`)
}
