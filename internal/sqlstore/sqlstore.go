// Package sqlstore keeps everything in an SQL database: SQLite in one file, for one server, or PostgreSQL, for any number of
// them.
//
// # One use case, one transaction
//
// Every method of a store interface is one transaction here, and no transaction leaves this package. A method checks
// first and writes last: what it refuses with a fault leaves only what its interface says that a refusal leaves. Any
// other error rolls everything back.
//
// # Two engines
//
// The text of a statement serves both: $1 placeholders, ON CONFLICT, RETURNING, times as microseconds in BIGINT. An engine is
// how it is run: how connections are had, how a transaction is made durable, and what is done when that fails. The two differ in
// what they keep apart. SQLite has one writer, so that transactions do not see each other; in PostgreSQL they run at once, at the
// level READ COMMITTED, and what must not be decided twice is either decided by the condition of one statement or under a lock
// that the transaction names (transaction.lock).
//
// # Signing up in groups
//
// What a durable transaction costs is the wait for the disk, and with PostgreSQL the way there and back. So writes that come at
// once share a transaction. A lone write does not wait for company, nor for another goroutine: it commits itself. The next group
// is whatever came in while the last one was on its way, or is ready to.
//
// In SQLite all writes are grouped. Those of one group see each other in order, as if each had been a transaction of its own;
// should one of them fail with an error of the database, the group is rolled back and the others are run again without it, so
// writes are functions that can be repeated. In PostgreSQL signups are: those of one group have nothing in common (no address,
// name, recipient or captcha), so that a statement can check or insert all of them, and two round trips do for the whole group.
//
// Queues are bounded. A write that finds its queue full, or that waited too long without having been started, fails with
// fault.Overloaded and has not happened.
//
// # What is known of a commit
//
// SQLite in WAL mode with synchronous=FULL: a commit that returned is on the disk; for one that failed see writer. In PostgreSQL
// a connection may break while a commit is on its way. Then nobody is answered before it was looked up what came of it, or, where
// that cannot be done in time, with account.ErrUnknown (see postgres).
//
// # Clusters
//
// A Store spans several PostgreSQL clusters where one is not enough. A tenant lives in one of them, whole, and its id says in
// which: the number of the cluster is in the bits above the lowest 32.
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

// Store is an open database, or several. It is safe for concurrent use, and by several processes at once.
type Store struct {
	homes   []home        // never empty
	noticed chan struct{} // has something in it when this process may have written notices
}

func newStore(homes ...home) *Store { return &Store{homes: homes, noticed: make(chan struct{}, 1)} }

// home is a database that tenants live in.
type home struct {
	number int64
	engine
}

// engine runs statements on one database.
type engine interface {
	// reads is a querier beside all writes. Each of its statements sees what was committed when it began.
	reads(ctx context.Context) querier
	// sealed is readSealed beside all writes. What it gives may be shared.
	sealed(ctx context.Context, tenant int64, user string) (sealed, error)
	// write runs do in a transaction and returns when it is durable. Where do returns a fault, what it wrote before stays,
	// and write returns the fault. Any other error undoes it. do may be run more than once.
	write(do func(transaction) error) error
	// admit is Store.Create for a captcha of ours.
	admit(a account.Signup, now time.Time) error
	// spendSoon notes an id and reports whether it is the first time. A crash may forget what it noted in the last second.
	spendSoon(ctx context.Context, id [16]byte, expires time.Time) (first bool, err error)
	// ready says whether writing is possible.
	ready(ctx context.Context) error
	// watch calls changed when a tenant may have changed, until ctx ends, where the database can tell.
	watch(ctx context.Context, changed func())
	// node is the name under which outbox rows are kept.
	node() string
	// adopt is Store.Adopt.
	adopt(ctx context.Context) ([]outbox.Entry, error)
	// publish has the directory of phone servers follow a change, where there is one. What is due is left for follow, which is
	// called after the commit and returns when phone servers see the change.
	publish(tx transaction, changed []subject) (due bool, err error)
	follow() error
	// directory runs do in a transaction that sees accounts and directory as of one moment, and that no change comes into. It fails
	// with phone.ErrNoExport.
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

// querier reads.
type querier interface {
	row(query string, args ...any) scanner
	// each calls f for every row, until f fails.
	each(f func(scanner) error, query string, args ...any) error
}

type scanner interface{ Scan(dst ...any) error }

// transaction is what a write runs in.
type transaction interface {
	querier
	// exec runs a statement and says how many rows it changed.
	exec(query string, args ...any) (int64, error)
	// lock waits until no other transaction, of any process, has one of the keys. They are free again at the end.
	lock(keys ...int64) error
	// repeated reports whether an earlier run may have been committed, without anybody having been told.
	repeated() bool
}

// ErrSealKey is returned by Open where the key file is not the one that the store was sealed with.
var ErrSealKey = errors.New("the store was sealed with another key")

// homeShift is where the number of a home begins in the ids of its tenants.
const homeShift = 32

// of is the home of a tenant.
func (s *Store) of(tenant int64) engine {
	for _, h := range s.homes {
		if h.number == tenant>>homeShift {
			return h.engine
		}
	}
	return s.homes[0].engine // which has no such tenant, and says so
}

// everywhere does something in every home, and goes on where it fails in one.
func (s *Store) everywhere(do func(engine) error) error {
	var errs []error
	for _, h := range s.homes {
		errs = append(errs, do(h.engine))
	}
	return errors.Join(errs...)
}

// Close finishes the writes that were accepted and closes the database.
func (s *Store) Close() error { return s.everywhere(engine.close) }

// Ready commits something that has no meaning and says whether that is possible now, and whether other writes were a moment
// ago. In SQLite it proves a database that was found unsound. Of several databases one is enough: whoever took the server away
// for the loss of another would take it from those too whose tenants live here.
func (s *Store) Ready(ctx context.Context) error {
	var errs []error
	for _, h := range s.homes {
		err := h.ready(ctx)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Watch calls changed when a tenant may have changed, until ctx ends. It is a hint, which may be missing: TenantVersion is the
// truth.
func (s *Store) Watch(ctx context.Context, changed func()) {
	for _, h := range s.homes[1:] {
		go h.watch(ctx, changed)
	}
	s.homes[0].watch(ctx, changed)
}

// checkSealKey compares the ring with the ids in the store, and notes the ring's keys where there are new ones. Whoever copies
// has no ring, and may find a copy that was begun.
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
			return fmt.Errorf("%w (%s); put the seal.key file back that was made with this store, from a backup", ErrSealKey, id)
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
