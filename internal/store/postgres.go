package store

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

	"dialtone/internal/secret"
)

// OpenPostgres opens the PostgreSQL database at url, brings its schema up to date, and checks that ring has
// every key that the database was sealed with. The url is one that libpq takes (PostgreSQL 15, section
// 34.1.1.2); with several hosts and target_session_attrs=read-write the store follows the primary. node names
// this server among those that share the database and stays the same over restarts. It is empty for a command,
// which has no pickup directory.
func OpenPostgres(ctx context.Context, ring *secret.Ring, node, url string) (*Store, error) {
	p, err := openPostgres(ctx, ring, node, url)
	if err != nil {
		return nil, err
	}
	return newStore(p), nil
}

// PostgresSealed reports whether the database at url has been sealed with a key. A database without a schema has
// not.
func PostgresSealed(ctx context.Context, url string) (sealed bool, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return false, withoutPassword(err)
	}
	defer conn.Close(ctx)
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('seal_key') IS NOT NULL`).Scan(&exists); err != nil || !exists {
		return false, err
	}
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM seal_key)`).Scan(&sealed)
	return sealed, err
}

// withoutPassword returns an error of connecting, with no password in its text. The driver leaves passwords out of
// its errors, except where it cannot parse the URL.
func withoutPassword(err error) error {
	if _, bad := errors.AsType[*pgconn.ParseConfigError](err); bad {
		return errors.New("the database's URL is not one that PostgreSQL's libraries understand; " +
			"give postgres://user@host:5432/database")
	}
	return fmt.Errorf("the database cannot be opened: %w", err)
}

const (
	// groupConcurrency is the number of groups of signups that are committed at a time: while the server makes
	// one durable, the next is checked.
	groupConcurrency = 3
	// postgresGroup is the largest number of signups in a group. It limits the locks of a transaction: a signup
	// takes five or six, and PostgreSQL has about 6,400 for all transactions with its default settings.
	postgresGroup = 64
	// connections is the largest number of connections, unless the URL has pool_max_conns.
	connections = 16
	// operationTimeout limits a read or a write, with its retries.
	operationTimeout = 5 * time.Second
	// maxAttempts limits how often a write is run that is known not to have been committed.
	maxAttempts = 4
)

// postgres is the engine of PostgreSQL.
//
// # Lost commits
//
// A transaction whose connection broke before COMMIT was sent was not committed, and is run again on another
// connection. When COMMIT was sent and not answered, the outcome is unknown. Then:
//   - a signup is looked up by its uid, under the locks that it took: once they are held, the first transaction has
//     ended;
//   - any other write is run again. Each write changes nothing the second time, or can tell that the first run was
//     committed (transaction.repeated).
//
// When the database does not come back within operationTimeout, the caller gets account.ErrUnknown.
//
// # Outages
//
// A circuit breaker fails calls at once while the database cannot be reached. Every statement has a deadline. The
// server ends a transaction that is idle for 5 s, because a node that is cut off would otherwise hold its locks
// until TCP gives up.
type postgres struct {
	observers
	name    string
	pool    *pgxpool.Pool
	queue   *queue
	breaker *breaker
	known   int // the newest schema version that this program knows
	open    opener

	probing *pgx.Conn // the connection of the breaker's probes

	mu       sync.Mutex
	others   map[string]nodeSeen
	doubtful [][]byte // accounts whose outbox rows may belong to this node since a commit in doubt
}

func openPostgres(ctx context.Context, ring *secret.Ring, node, url string) (*postgres, error) {
	conf, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, withoutPassword(err)
	}
	if !strings.Contains(url, "pool_max_conns") {
		conf.MaxConns = connections
	}
	if !strings.Contains(url, "connect_timeout") {
		conf.ConnConfig.ConnectTimeout = 2 * time.Second
	}
	for setting, value := range map[string]string{
		"application_name":                    "dialtone",
		"idle_in_transaction_session_timeout": "5s",
		// Every look-up is by a key. The planner may have no statistics yet of a table that grows fast, and
		// would then sometimes scan the whole table.
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
	// A ping to a connection that does not answer would keep its place in the pool. A broken connection shows when
	// it is used.
	conf.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, withoutPassword(err)
	}
	p := &postgres{
		name: node, pool: pool, known: known("postgres"), open: openerOf(ring), others: make(map[string]nodeSeen),
	}
	if err := p.prepare(ctx, ring); err != nil {
		pool.Close()
		return nil, err
	}
	if err := p.probe(ctx, operationTimeout); err != nil {
		pool.Close()
		return nil, err
	}
	p.queue = newQueue(groupConcurrency, postgresGroup, p.admitAll)
	p.breaker = newBreaker(p.probe)
	return p, nil
}

// schemaLock is the advisory lock held while the schema is changed. It must never change.
const schemaLock = 0x6469616c746f6e65 // "dialtone"

// prepare brings the schema up to date and checks the seal key.
func (p *postgres) prepare(ctx context.Context, ring *secret.Ring) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return withoutPassword(err)
	}
	defer conn.Release()
	tx := &postgresTx{ctx: ctx, conn: conn.Conn()}
	if err := tx.script("BEGIN"); err != nil {
		return err
	}
	err = tx.lock(schemaLock)
	if err == nil {
		err = migrate(tx, "postgres", time.Now())
	}
	if err == nil {
		err = numberDatabase(tx)
	}
	if err == nil {
		err = checkSealKey(tx, ring)
	}
	if err != nil {
		return errors.Join(err, tx.script("ROLLBACK"))
	}
	return tx.script("COMMIT")
}

// numberDatabase gives a new database the number 0. Versions of the program that could spread a platform over
// several databases would otherwise take the database for a new one, and let the ids of its tenants start
// again. A database with another number belonged to such a platform: it is used as it is. The ids of its
// tenants begin above number<<32, and nothing depends on that.
func numberDatabase(tx transaction) error {
	_, err := tx.exec(`INSERT INTO cluster (number) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM cluster)`)
	return err
}

func (p *postgres) close() error {
	p.queue.drain()
	p.breaker.close()
	if p.probing != nil {
		p.probing.Close(context.Background())
	}
	p.pool.Close()
	return nil
}

func (p *postgres) node() string { return p.name }

// probe checks that a server that takes writes answers. It has a connection of its own, because those of the pool
// may all be busy. It waits at most perHost for each host of the URL.
func (p *postgres) probe(ctx context.Context, perHost time.Duration) (err error) {
	defer func() {
		if err != nil {
			if p.probing != nil {
				p.probing.Close(ctx)
				p.probing = nil
			}
			p.pool.Reset() // the other connections are likely broken too
			err = unavailable(err)
		}
	}()
	fresh := p.probing == nil
	if fresh {
		conf := p.pool.Config().ConnConfig
		if conf.ConnectTimeout == 0 || conf.ConnectTimeout > perHost {
			conf.ConnectTimeout = perHost
		}
		if p.probing, err = pgx.ConnectConfig(ctx, conf); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, perHost)
	defer cancel()
	if fresh {
		if err := p.lockServer(limited); err != nil {
			return err
		}
	}
	var standby bool
	if err := p.probing.QueryRow(limited, `SELECT pg_is_in_recovery()`).Scan(&standby); err != nil {
		return err
	}
	if standby {
		return errors.New("the server is a standby")
	}
	return nil
}

// serverLock is the advisory lock that the servers on a database share, each on the connection of its probes. A
// copy of the database takes it exclusively.
const serverLock = schemaLock + 1

// lockServer takes the shared lock of a running server.
func (p *postgres) lockServer(ctx context.Context) error {
	if p.name == "" {
		return nil
	}
	var ok bool
	err := p.probing.QueryRow(ctx, `SELECT pg_try_advisory_lock_shared($1)`, int64(serverLock)).Scan(&ok)
	if err == nil && !ok {
		err = errors.New("the database is being copied; start the server when that is done")
	}
	return err
}

// ready commits a write that changes no data. It fails with ErrNewer where the schema needs a newer program.
func (p *postgres) ready(ctx context.Context) error {
	if err := allowed(p.reads(ctx), p.known); err != nil {
		return err
	}
	return p.write(func(tx transaction) error {
		_, err := tx.exec(`UPDATE revision SET n = n + 1 WHERE subject = 'ready'`)
		return err
	})
}

func (p *postgres) spendSoon(ctx context.Context, id [16]byte, expires time.Time) (first bool, err error) {
	if err := p.breaker.open(); err != nil {
		return false, err
	}
	limited, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	ctx, cancel = p.breaker.withCancel(limited)
	defer cancel()
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return false, p.asFault(err)
	}
	defer release(conn)
	batch := &pgx.Batch{}
	batch.Queue(`BEGIN`)
	batch.Queue(`SET LOCAL synchronous_commit = off`)
	batch.Queue(`INSERT INTO spent (expires, nonce) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
		micros(expires), id[:]).Exec(func(tag pgconn.CommandTag) error {
		first = tag.RowsAffected() > 0
		return nil
	})
	batch.Queue(`COMMIT`)
	// This is not retried: if the first run was committed and its answer lost, a second run would find the id spent.
	err = conn.SendBatch(ctx, batch).Close()
	return first && err == nil, p.asFault(err)
}

func (p *postgres) consistent(ctx context.Context, report func(string)) error {
	return faults(p.reads(ctx), report,
		`SELECT 'PostgreSQL has seen pages with a wrong checksum: ' || checksum_failures FROM pg_stat_database
			WHERE datname = current_database() AND checksum_failures > 0`,
		`SELECT 'the index ' || indexrelid::regclass || ' is not valid' FROM pg_index WHERE NOT indisvalid`,
		`SELECT 'account has a row that refers to no tenant: ' || username
			FROM account a WHERE NOT EXISTS (SELECT 1 FROM tenant WHERE id = a.tenant)`,
		`SELECT 'outbox has a row that refers to no account: ' || encode(account, 'hex')
			FROM outbox o WHERE NOT EXISTS (SELECT 1 FROM account WHERE uid = o.account)`)
}

func (p *postgres) backup(context.Context, Shelf, string) error { return ErrNoBackup }
