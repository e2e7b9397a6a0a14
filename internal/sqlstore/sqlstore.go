// Package sqlstore keeps all data in an SQL database: SQLite in one file for a single server, or PostgreSQL for any
// number of servers.
//
// # What it guarantees
//
// Each method of a store interface is one transaction, and no transaction leaves this package. A method checks first
// and writes last: where it refuses with a fault, it leaves only what its interface says that a refusal leaves. Any
// other error rolls back everything.
//
// A write that returned nil is durable. With SQLite (WAL mode, synchronous=FULL) a commit that returned is on the
// disk; for a commit that failed see writer. With PostgreSQL the connection may break during a commit. Its outcome is
// then looked up before anyone is answered. If that takes too long, the answer is account.ErrUnknown (see postgres).
//
// Queues are bounded. A write that finds its queue full, or that was not started in time, fails with fault.Overloaded
// and was not committed.
//
// # How it works
//
// One text of a statement serves both databases: $1 placeholders, ON CONFLICT, RETURNING, and times as microseconds in
// BIGINT. An engine runs statements: it provides connections, makes transactions durable, and handles failures. SQLite
// has one writer, so write transactions run one after another. PostgreSQL runs them at the same time, at READ
// COMMITTED. What must not be decided twice is decided there by the condition of a single statement, or under a lock
// that the transaction takes (transaction.lock).
//
// A durable transaction costs a wait for the disk, and with PostgreSQL round trips to the server. So writes that come
// at the same time share a transaction (group commit, see queue). In SQLite this holds for all writes: the writes of a
// group see each other in order. If one fails with a database error, the group is rolled back and the others run again
// without it, so a write must be a function that can run more than once. In PostgreSQL it holds for signups: those in a
// group share no address, name, recipient or captcha, so that each statement can check or insert all of them, and a
// group takes two round trips.
package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
)

// Store is an open database. It is safe for concurrent use, and by several processes at once.
type Store struct {
	engine  engine
	noticed chan struct{} // of capacity 1; receives when this process may have written notices
}

func newStore(e engine) *Store { return &Store{engine: e, noticed: make(chan struct{}, 1)} }

// engine runs statements on one database.
type engine interface {
	// reads returns a querier outside of any write. Each of its statements sees what was committed when it began.
	reads(ctx context.Context) querier
	// write runs do in a transaction and returns when the transaction is durable. When do returns a fault, what it
	// wrote is committed, and write returns the fault. Any other error rolls back. do may run more than once.
	write(do func(transaction) error) error
	// admit is Store.Create for a captcha that this platform issued.
	admit(a account.Signup, now time.Time) error
	// spendSoon records an id and reports whether it was not recorded before. It does not wait for the disk: a crash
	// may lose the ids of the last second.
	spendSoon(ctx context.Context, id [16]byte, expires time.Time) (first bool, err error)
	// ready returns nil if the database can be written to.
	ready(ctx context.Context) error
	// watch calls changed when a tenant may have changed, until ctx ends, if the database sends notifications.
	watch(ctx context.Context, changed func())
	// node returns the name of this node in outbox rows.
	node() string
	// adopt is Store.Adopt.
	adopt(ctx context.Context) ([]outbox.Entry, error)
	// publish applies a change to the exported tables, if they are enabled. When due is true, follow must be called
	// after the commit; it returns when phone servers see the change.
	publish(tx transaction, changed []subject) (due bool, err error)
	follow() error
	// observe adds a function that changed calls with the accounts that a transaction may have changed.
	observe(f func(account.UID))
	changed(list []subject)
	// directory runs do in a transaction that sees accounts and exported tables as of one moment, while no account
	// changes. It fails with phone.ErrNoExport if the export is not enabled.
	directory(do func(transaction) error) error
	enableExport() error
	disableExport() error
	tendExport(ctx context.Context) error
	exportChanges(ctx context.Context) (int64, error)
	exportPlaces() []string
	opener() opener
	consistent(ctx context.Context, report func(string)) error
	backup(ctx context.Context, disk Shelf, path string) error
	close() error
}

// querier runs queries.
type querier interface {
	row(query string, args ...any) scanner
	// each calls f for every row, until f returns an error.
	each(f func(scanner) error, query string, args ...any) error
}

type scanner interface{ Scan(dst ...any) error }

// transaction is the transaction of a write.
type transaction interface {
	querier
	// exec runs a statement and returns the number of rows that it changed.
	exec(query string, args ...any) (int64, error)
	// lock takes a lock for each key, and waits while a transaction of any process holds one. The end of the transaction
	// releases them.
	lock(keys ...int64) error
	// repeated reports whether an earlier run of the same write may have been committed.
	repeated() bool
}

// ErrSealKey is returned by Open when the ring lacks a key that the store was sealed with.
var ErrSealKey = errors.New("the store was sealed with another key")

// Close finishes the writes that were accepted and closes the database.
func (s *Store) Close() error { return s.engine.close() }

// Ready commits a write that changes no data. It fails where the database cannot be written to now, or
// where recent writes failed.
func (s *Store) Ready(ctx context.Context) error { return s.engine.ready(ctx) }

// failing is an engine that can fail in such a way that only a restart of the process helps.
type failing interface {
	failed() <-chan struct{}
	failure() error
}

// Broken returns a channel that is closed when a commit has failed and it is not known whether it is on the
// disk. From then on every write fails with account.ErrUnknown, and the process is to end. The channel is
// nil for an engine that recovers by itself.
func (s *Store) Broken() <-chan struct{} {
	if e, ok := s.engine.(failing); ok {
		return e.failed()
	}
	return nil
}

// Err returns why Broken was closed, wrapped in ErrFailed, and nil before that.
func (s *Store) Err() error {
	if e, ok := s.engine.(failing); ok {
		return e.failure()
	}
	return nil
}

// Watch calls changed when a tenant may have changed, until ctx ends. A call may be missing: callers
// compare TenantVersion to be sure.
func (s *Store) Watch(ctx context.Context, changed func()) { s.engine.watch(ctx, changed) }

// checkSealKey checks that ring has every key in the store, and records its new keys. A nil ring, which a copy has,
// is not checked. It fails with ErrUnfinished for the target of an unfinished copy.
func checkSealKey(tx transaction, ring *secret.Ring) error {
	if ring == nil {
		return nil
	}
	if n, err := count(tx, `SELECT count(*) FROM revision WHERE subject = 'copy'`); err != nil {
		return err
	} else if n > 0 {
		return ErrUnfinished
	}
	has := make(map[string]bool)
	for _, id := range ring.IDs() {
		has[id.String()] = true
	}
	err := tx.each(func(row scanner) error {
		var id string
		if err := row.Scan(&id); err != nil {
			return err
		}
		if !has[id] {
			return fmt.Errorf("%w (%s); restore the seal.key file of this store from a backup", ErrSealKey, id)
		}
		delete(has, id)
		return nil
	}, `SELECT id FROM seal_key`)
	if err != nil {
		return err
	}
	for id := range has {
		if _, err := tx.exec(`INSERT INTO seal_key (id) VALUES ($1)`, id); err != nil {
			return err
		}
	}
	return nil
}

func micros(t time.Time) int64 { return t.UnixMicro() }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
