package sqlstore

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

// Cluster is a PostgreSQL database.
type Cluster struct {
	// Number is the cluster's among those of one platform; the ids of its tenants begin with it. It never changes.
	Number int
	// URL is the database's, as libpq takes it (PostgreSQL 15, §34.1.1.2). With several hosts and
	// target_session_attrs=read-write the store follows the primary.
	URL string
}

// OpenPostgres opens the databases of a platform, brings their schemas up to date, and checks that ring has every key that they
// were sealed with. node names this server among those that share them, and is the same after a restart; it is empty for a
// command, which has no pickup directory. The first cluster has the number 0.
func OpenPostgres(ctx context.Context, ring *secret.Ring, node string, clusters ...Cluster) (*Store, error) {
	s := newStore()
	for _, c := range clusters {
		p, err := openPostgres(ctx, ring, node, c)
		if err != nil {
			if len(s.homes) > 0 {
				err = errors.Join(err, s.Close())
			}
			return nil, err
		}
		s.homes = append(s.homes, home{int64(c.Number), p})
	}
	return s, nil
}

// PostgresSealed reports whether a database has been sealed with a key. One without a schema has not.
func PostgresSealed(ctx context.Context, url string) (sealed bool, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return false, withoutPassword(err)
	}
	defer conn.Close(ctx)
	var there bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('seal_key') IS NOT NULL`).Scan(&there); err != nil || !there {
		return false, err
	}
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM seal_key)`).Scan(&sealed)
	return sealed, err
}

// withoutPassword is an error of connecting. The driver leaves passwords out of the text of those; of the parser's, it shows the
// URL only where it could make sense of it.
func withoutPassword(err error) error {
	if _, bad := errors.AsType[*pgconn.ParseConfigError](err); bad {
		return errors.New("the database's URL is not one that PostgreSQL's libraries understand; give postgres://user@host:5432/database")
	}
	return fmt.Errorf("the database cannot be opened: %w", err)
}

const (
	// lanes is how many groups of signups are on their way at a time: while the server makes one durable, the next is checked.
	lanes = 3
	// postgresGroup bounds the locks of one transaction: five or six a signup, of which PostgreSQL keeps some 6,400 for all
	// transactions by its default settings.
	postgresGroup = 64
	// connections is how many there are at most, unless the URL has pool_max_conns.
	connections = 16
	// tries is how often a write is begun anew that has certainly not happened.
	tries = 4
)

// postgres is the engine of PostgreSQL.
//
// # What happened
//
// A transaction whose connection broke before COMMIT was sent has not happened, and is begun anew on another connection. When
// COMMIT was sent and its answer did not come, nobody knows. Then:
//   - a signup is looked up by its uid, under the locks that it took: the old transaction, should it still be on its way, has ended
//     when they are had;
//   - any other write is run again. Each is such that the second time changes nothing, or can tell that it was the first
//     (transaction.repeated).
//
// Where the database does not come back within patience, the answer is account.ErrUnknown.
//
// # Away and back
//
// A gate tells whether the database can be reached, so that a long absence costs nobody a wait. Every statement has a deadline.
// The server ends a transaction that sits idle, since a node that is cut off would hold its locks until TCP gives up.
type postgres struct {
	observers
	name  string
	pool  *pgxpool.Pool
	queue *queue
	gate  *gate
	known int // the newest version of the schema
	open  opener

	probing *pgx.Conn // of the gate's probes

	mu       sync.Mutex
	others   map[string]sighting
	doubtful [][]byte // accounts whose outbox rows may have become this node's
}

func openPostgres(ctx context.Context, ring *secret.Ring, node string, c Cluster) (*postgres, error) {
	conf, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, withoutPassword(err)
	}
	if !strings.Contains(c.URL, "pool_max_conns") {
		conf.MaxConns = connections
	}
	if !strings.Contains(c.URL, "connect_timeout") {
		conf.ConnConfig.ConnectTimeout = 2 * time.Second
	}
	for setting, value := range map[string]string{
		"application_name":                    "dialtone",
		"idle_in_transaction_session_timeout": "5s",
		// Every table is looked up by a key. The planner, which may know nothing yet of a table that grows fast, would sometimes
		// rather read all of it.
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
	// A connection that does not answer would keep its place in the pool while it is asked. What is broken shows when it is used.
	conf.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, withoutPassword(err)
	}
	p := &postgres{name: node, pool: pool, known: known("postgres"), open: openerOf(ring), others: make(map[string]sighting)}
	if err := p.prepare(ctx, ring, c.Number); err != nil {
		pool.Close()
		return nil, err
	}
	if err := p.probe(ctx, patience); err != nil {
		pool.Close()
		return nil, err
	}
	p.queue = newQueue(lanes, postgresGroup, p.admitAll)
	p.gate = newGate(p.probe)
	return p, nil
}

// schemaLock is held by whoever changes the schema, and was chosen once.
const schemaLock = 0x6469616c746f6e65 // "dialtone"

// prepare brings the schema up to date and checks what belongs together.
func (p *postgres) prepare(ctx context.Context, ring *secret.Ring, number int) error {
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
		err = checkNumber(tx, number)
	}
	if err == nil {
		err = checkSealKey(tx, ring)
	}
	if err != nil {
		return errors.Join(err, tx.script("ROLLBACK"))
	}
	return tx.script("COMMIT")
}

// checkNumber refuses a database that has another number than the configuration gives it: its tenants' ids would be looked for
// elsewhere. A new one takes the number.
func checkNumber(tx migrator, number int) error {
	var has int
	err := tx.row(`SELECT number FROM cluster`).Scan(&has)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		if _, err := tx.exec(`INSERT INTO cluster (number) VALUES ($1)`, number); err != nil {
			return err
		}
		return tx.script(fmt.Sprintf(`ALTER TABLE tenant ALTER COLUMN id RESTART WITH %d`, number<<homeShift+1))
	case err == nil && has != number:
		return fmt.Errorf("the database has the number %d among the platform's databases, and the configuration gives it %d; put the numbers back as they were", has, number)
	}
	return err
}

func (p *postgres) close() error {
	p.queue.drain()
	p.gate.close()
	if p.probing != nil {
		p.probing.Close(context.Background())
	}
	p.pool.Close()
	return nil
}

func (p *postgres) node() string { return p.name }

// probe wants an answer of a server that takes writes, on a connection of its own: those of the pool may all be busy. It has so much
// time for each host that it has to ask.
func (p *postgres) probe(ctx context.Context, each time.Duration) (err error) {
	defer func() {
		if err != nil {
			if p.probing != nil {
				p.probing.Close(ctx)
				p.probing = nil
			}
			p.pool.Reset() // the other connections are no better
			err = unavailable(err)
		}
	}()
	fresh := p.probing == nil
	if fresh {
		conf := p.pool.Config().ConnConfig
		if conf.ConnectTimeout == 0 || conf.ConnectTimeout > each {
			conf.ConnectTimeout = each
		}
		if p.probing, err = pgx.ConnectConfig(ctx, conf); err != nil {
			return err
		}
	}
	asking, cancel := context.WithTimeout(ctx, each)
	defer cancel()
	if fresh {
		if err := p.present(asking); err != nil {
			return err
		}
	}
	var standby bool
	if err := p.probing.QueryRow(asking, `SELECT pg_is_in_recovery()`).Scan(&standby); err != nil {
		return err
	}
	if standby {
		return errors.New("the server is a standby")
	}
	return nil
}

// serverLock is shared by the servers that run on a database, each on the connection of its probes, and held alone by who copies
// it.
const serverLock = schemaLock + 1

// present tells whoever wants to copy the database that a server runs.
func (p *postgres) present(ctx context.Context) error {
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

// ready commits something that has no meaning, and refuses where the schema has left this program behind.
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
	if err := p.gate.closed(); err != nil {
		return false, err
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ctx, cancel = p.gate.pass(limited)
	defer cancel()
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return false, p.told(err)
	}
	defer release(conn)
	batch := &pgx.Batch{}
	batch.Queue(`BEGIN`)
	batch.Queue(`SET LOCAL synchronous_commit = off`)
	batch.Queue(`INSERT INTO spent (expires, nonce) VALUES ($1, $2) ON CONFLICT DO NOTHING`, micros(expires), id[:]).Exec(func(tag pgconn.CommandTag) error {
		first = tag.RowsAffected() > 0
		return nil
	})
	batch.Queue(`COMMIT`)
	// Not to be repeated: what comes after a first time that is not known of is not the first.
	err = conn.SendBatch(ctx, batch).Close()
	return first && err == nil, p.told(err)
}

func (p *postgres) consistent(ctx context.Context, report func(string)) error {
	return faults(p.reads(ctx), report,
		`SELECT 'PostgreSQL has seen pages with a wrong checksum: ' || checksum_failures FROM pg_stat_database
			WHERE datname = current_database() AND checksum_failures > 0`,
		`SELECT 'the index ' || indexrelid::regclass || ' is not valid' FROM pg_index WHERE NOT indisvalid`,
		`SELECT 'account has a row that refers to no tenant: ' || username FROM account a WHERE NOT EXISTS (SELECT 1 FROM tenant WHERE id = a.tenant)`,
		`SELECT 'outbox has a row that refers to no account: ' || encode(account, 'hex') FROM outbox o WHERE NOT EXISTS (SELECT 1 FROM account WHERE uid = o.account)`)
}

func (p *postgres) backup(context.Context, Shelf, string) error { return ErrNoBackup }
