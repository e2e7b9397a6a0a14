// Package engine defines what runs the statements of the store: connections, queries, and
// transactions that are durable.
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
// Package postgres runs them at the same time, at READ COMMITTED: what must not be decided twice is
// decided by the condition of a single statement, or under a lock that the transaction takes
// (Tx.Lock).
//
// A durable transaction costs a wait for the disk, and with PostgreSQL round trips to the server.
// So writes that come at the same time share a transaction (group commit, see Queue).
//
// What only one engine can do is a small interface beside Engine, such as Notifier. The store looks
// for these interfaces once, when it is made.
//
// The package knows neither the tables nor what is in them.
package engine

import (
	"context"
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

	// ExecSoon runs one statement in a transaction of its own, and returns the number of rows that
	// it changed. It does not wait for the disk: a crash may lose the changes of the last second.
	// The statement may only add what is not there, since it can have run although ExecSoon failed.
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
	// end of the transaction releases them.
	Lock(keys ...int64) error
	// Repeated reports whether an earlier run of the same write may have been committed.
	Repeated() bool
}

// ErrClosed is returned by an engine that was closed.
var ErrClosed = errors.New("the store is closed")

// Notifier is an engine that learns of changes by other processes.
type Notifier interface {
	// Watch calls changed after the tenants may have changed, until ctx ends. A call may be
	// missing.
	Watch(ctx context.Context, changed func())
}

// Node is an engine whose database several servers share, each as a node with a name of its own.
type Node interface {
	// Node returns the name of this node, or "" for a command, which is no node.
	Node() string
	// Claim takes the name of the node for this process. It fails with ErrNodeAlive while another
	// process has the name and lives. To find that out it may have to wait for a heartbeat of the
	// other process, for up to half a minute; then it calls waiting first. It does not wait if the
	// other process ended in order, or ran at the same place, where the caller knows that no other
	// process runs any more.
	Claim(ctx context.Context, place string, waiting func()) error
	// Heartbeat records that this node lives, and runs also in the same transaction. It returns the
	// other nodes whose lease has expired. It fails with ErrNodeAlive if another process has claimed
	// the name since this one did.
	Heartbeat(ctx context.Context, also func(Tx) error) ([]ExpiredLease, error)
}

// ErrNodeAlive is returned by a Node whose name another process has.
var ErrNodeAlive = errors.New("another server with the same node.id runs on this database: the data directory of one " +
	"of them is a copy; stop one of them, or delete node.id and the messages in the pickup directory of the copy")

// ExpiredLease is a node that has recorded no heartbeat for the length of a lease.
type ExpiredLease struct {
	Node      string
	Heartbeat int64
}

// Backuper is an engine that can write a copy of its database.
type Backuper interface {
	// Backup writes a copy of the database, as it is at one moment, to a new file at an absolute
	// path of fs. Writes go on meanwhile.
	Backup(ctx context.Context, fs BackupFS, path string) error
}

// BackupFS is the file system that a backup is written to, as far as SQLite does not write itself.
// Paths are absolute, and errors are those of package os.
type BackupFS interface {
	// Create makes a new file that only its owner can read. It fails if the file exists.
	Create(path string, data []byte) error
	// SyncDir makes the names in a directory durable.
	SyncDir(path string) error
	// Link gives a file a second name. It fails if the name exists.
	Link(from, to string) error
	Remove(path string) error
}

// Eraser is an engine that can remove what is left of deleted rows outside the tables.
type Eraser interface {
	// Erase removes it. It fails if another transaction keeps reading.
	Erase(ctx context.Context) error
}

// Checker is an engine that can check its database for damage.
type Checker interface {
	// Check calls report with a sentence for each fault that it finds.
	Check(ctx context.Context, report func(string)) error
}

// SchemaChecker is an engine that can compare its schema with the one that the migrations make. Nothing else in a
// database runs by itself when rows change, or refuses rows, so this shows who has made it do so.
type SchemaChecker interface {
	// CheckSchema calls report with a sentence for each part of the schema that can change what is read or written, and
	// is not one of the migrations, and for each part that is missing. Other tables may be there that have nothing to
	// do with these, and indexes that only cost time: docs/operating.md has which.
	CheckSchema(ctx context.Context, report func(string)) error
}

// Failer is an engine that can fail in such a way that only a restart of the process helps.
type Failer interface {
	// Failed returns a channel that is closed when a commit has failed and it is not known whether
	// it is on the disk. From then on every write fails with fault.ErrInDoubt.
	Failed() <-chan struct{}
	// Err returns why Failed was closed, wrapped in ErrFailed, and nil before that.
	Err() error
}

// ErrFailed is returned, wrapped in fault.ErrInDoubt, by every write of a Failer that has failed.
// Reads go on. The process is to end: the next one reads from the disk what was committed.
var ErrFailed = errors.New(
	"a commit failed and may or may not be on the disk; restart the server to recover")

// Copier is an engine whose database can be copied, and copied to.
type Copier interface {
	Engine
	// Snapshot returns the database as it is now. It fails with fault.Conflict if a server runs on
	// the database and the engine can tell.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Insert adds rows to a table.
	Insert(tx Tx, table string, columns []string, rows [][]any) error
	// LastID returns the highest id that the database has given to a row of a table, even if the
	// row has been deleted.
	LastID(q Querier, table string) (int64, error)
	// SetLastID changes what LastID returns.
	SetLastID(tx Tx, table string, id int64) error
}

// Counter is an engine that gives the ids of a table without gaps: a transaction that fails uses none.
type Counter interface {
	Copier
	Gapless()
}

// Snapshot is a database as of one moment.
type Snapshot interface {
	Querier
	// Refresh moves the snapshot to the present moment.
	Refresh() error
	Close() error
}

// Micros returns a time as the database has it.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// FromMicros returns the time of a column.
func FromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
