// Package engine defines what runs the statements of the store: connections, queries, and durable
// transactions.
//
// # What it guarantees
//
// A write that returned nil is durable. A write that failed with an error whose kind is
// fault.Internal was not committed. A write that failed with fault.ErrInDoubt may have been
// committed. Queues are bounded: a write that finds its queue full, or that was not started in
// time, fails with fault.Overloaded and was not committed.
//
// # How it works
//
// One text of a statement serves every engine: $1 placeholders, ON CONFLICT, RETURNING, and times
// as microseconds in BIGINT. An engine provides connections, makes transactions durable, and
// handles failures. Package sqlite has one writer, so write transactions run one after another.
// Package postgres runs them concurrently, at READ COMMITTED: what must not be decided twice is
// decided by the condition of a single statement, or under a lock that the transaction takes
// (Tx.Lock).
//
// A durable transaction costs a wait for the disk, and with PostgreSQL round trips to the server.
// So concurrent writes share a transaction (group commit, see Queue).
//
// Optional features of an engine are small interfaces of their own, such as Notifier. The store
// checks for these interfaces once, when it is created.
//
// The package knows neither the tables nor their content.
package engine

import (
	"context"
	"dialtone/internal/fault"
	"errors"
	"time"
)

// Engine runs statements on one database. It is safe for concurrent use, and several processes may
// use a database at once.
type Engine interface {
	// Reads returns a querier outside of any write. Each of its statements sees what was committed
	// when it began.
	Reads(ctx context.Context) Querier

	// Write runs do in a transaction and returns when the transaction is durable. If do returns a
	// fault, what it wrote is committed, and Write returns the fault. Any other error rolls back.
	// do may run more than once.
	Write(do func(Tx) error) error

	// ExecSoon runs one statement in a separate transaction, and returns the number of rows that it
	// changed. It does not wait for the disk: a crash may lose the changes of the last second. The
	// statement must do no more than add missing rows, since it may have run even if ExecSoon
	// failed.
	ExecSoon(ctx context.Context, query string, args ...any) (int64, error)

	// Ready commits a write that changes no data. It fails if the database cannot be written to
	// now, or if recent writes failed.
	Ready(ctx context.Context) error

	// Close finishes the writes that were accepted and closes the database.
	Close() error
}

// Querier runs queries.
type Querier interface {
	// Row returns the first row of a query. Its Scan fails with sql.ErrNoRows if there is none.
	Row(query string, args ...any) Scanner
	// Each calls f for every row, until f returns an error.
	Each(f func(Scanner) error, query string, args ...any) error
}

// Scanner copies the columns of a row to variables.
type Scanner interface{ Scan(dst ...any) error }

// Tx is the transaction of a write.
type Tx interface {
	Querier
	// Exec runs a statement and returns the number of rows that it changed.
	Exec(query string, args ...any) (int64, error)
	// Script runs statements without arguments.
	Script(text string) error
	// Lock takes a lock for each key, and waits while a transaction of any process holds one. The
	// locks are released when the transaction ends.
	Lock(keys ...int64) error
	// Repeated reports whether an earlier run of the same write may have been committed.
	Repeated() bool
}

// ErrClosed is returned by an engine that was closed.
var ErrClosed = errors.New("the store is closed")

// Notifier is an engine that learns of changes by other processes.
type Notifier interface {
	// Watch calls changed after the tenants may have changed, until ctx ends. Calls may be missed.
	Watch(ctx context.Context, changed func())
}

// Node is an engine whose database several servers share, each as a node with its own name.
type Node interface {
	// Node returns the name of this node, or "" for a command, which is not a node.
	Node() string
	// Claim takes the name of the node for this process. It fails with ErrNodeAlive if another live
	// process holds the name. To find out, it may have to wait up to half a minute for a heartbeat
	// of the other process; it calls waiting before that. It does not wait if the other process
	// shut down cleanly, or ran at the same place, where the caller knows that no other process is
	// running.
	Claim(ctx context.Context, place string, waiting func()) error
	// Heartbeat records that this node is alive, and calls also in the same transaction. It returns
	// the other nodes whose lease has expired. It fails with ErrNodeAlive if another process has
	// claimed the name since this one did.
	Heartbeat(ctx context.Context, also func(Tx) error) ([]ExpiredLease, error)
}

// ErrNodeAlive is returned by a Node whose name another process holds.
var ErrNodeAlive = fault.Needs(fault.Correction,
	"another server with the same node.id runs on this database: the data directory of one of "+
		"them is a copy; stop one of them, or delete node.id and the messages in the pickup directory "+
		"of the copy")

// ExpiredLease is a node that has recorded no heartbeat for the length of a lease.
type ExpiredLease struct {
	Node      string
	Heartbeat int64
}

// Backuper is an engine that can write a copy of its database.
type Backuper interface {
	// Backup writes a consistent copy of the database to a new file at an absolute path of fs,
	// while other writes continue.
	Backup(ctx context.Context, fs BackupFS, path string) error
}

// BackupFS is the file system that a backup is written to, for the operations that SQLite does not
// do itself. Paths are absolute, and errors are those of package os.
type BackupFS interface {
	// Create makes a new file that only its owner can read. It fails if the file exists.
	Create(path string, data []byte) error
	// SyncDir makes the names in a directory durable.
	SyncDir(path string) error
	// Link gives a file a second name. It fails if the name exists.
	Link(from, to string) error
	Remove(path string) error
}

// Eraser is an engine that can remove the remains of deleted rows outside the tables.
type Eraser interface {
	// Erase removes them. It fails if another transaction keeps reading.
	Erase(ctx context.Context) error
}

// Checker is an engine that can check its database for damage.
type Checker interface {
	// Check calls report with a sentence for each fault that it finds.
	Check(ctx context.Context, report func(string)) error
}

// SchemaChecker is an engine that can compare its schema with the one that the migrations create.
// Only objects of the schema, such as triggers and constraints, can act on their own when rows
// change, or refuse rows.
type SchemaChecker interface {
	// CheckSchema calls report with a sentence for each part of the schema that can change what is
	// read or written and does not come from the migrations, and for each part that is missing. It
	// allows unrelated tables, and indexes that only cost time: docs/operating.md describes which.
	CheckSchema(ctx context.Context, report func(string)) error
}

// Failer is an engine that can fail in such a way that only a restart of the process helps.
type Failer interface {
	// Failed returns a channel that is closed when a commit has failed and it is unknown whether it
	// is on disk. From then on every write fails with fault.ErrInDoubt.
	Failed() <-chan struct{}
	// Err returns why Failed was closed, wrapped in ErrFailed, and nil before that.
	Err() error
}

// ErrFailed is returned, wrapped in fault.ErrInDoubt, by every write of a Failer that has failed.
// Reads continue. The process must exit: the next one reads from disk what was committed.
var ErrFailed = fault.Needs(fault.Restart,
	"a commit failed and may or may not be on the disk; restart the server to recover")

// Copier is an engine whose database can be copied, and copied to.
type Copier interface {
	Engine
	// Snapshot returns the database as it is now. It fails with fault.Conflict if a server runs on
	// the database and the engine can tell.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Insert adds rows to a table.
	Insert(tx Tx, table string, columns []string, rows [][]any) error
	// LastID returns the highest id that the database has assigned to a row of a table, even if the
	// row has been deleted.
	LastID(q Querier, table string) (int64, error)
	// SetLastID changes what LastID returns.
	SetLastID(tx Tx, table string, id int64) error
}

// Counter is an engine that assigns the ids of a table without gaps: a transaction that fails
// consumes none.
type Counter interface {
	Copier
	Gapless()
}

// Snapshot is a consistent view of a database.
type Snapshot interface {
	Querier
	// Refresh moves the snapshot to the current state of the database.
	Refresh() error
	Close() error
}

// Micros returns a time as the database stores it.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// FromMicros returns the time of a column.
func FromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
