// Package phonetables keeps the exported tables: those that phone servers read directly from a
// database.
//
// # What it guarantees
//
// A change of an account or of a tenant that goes through Tables.Write is in the tables when Write
// returns. The tables have entries of active accounts only. Disabling the export removes every
// credential from them.
//
// An active account whose credential does not open has no entry, and is recorded as missing. It
// does not affect the entries of other accounts.
//
// CheckSchema finds changes of and additions to the definitions of the tables that can affect what
// phone servers read. Privileges and settings of roles are not compared.
//
// # How it works
//
// The tables are in the schema dialtone_directory. In PostgreSQL it is in the database of the
// store. In SQLite it is a separate file, so that no backup or copy of the store contains an HA1 in
// the clear. The statements are the same for both.
//
// A change names its subject, an account or the tenants. The entry of an account is derived from
// the account as it is then, so deriving it again changes nothing. No account changes between
// reading it and writing its entry:
//
//   - In PostgreSQL the entry is written in the transaction of the change, which takes a lock in
//     shared mode. A pass over all accounts, to fill, repair or compare the tables, takes the lock
//     exclusively for a page at a time. Signups do not take it.
//   - In SQLite the file is written after the store, by the caller that changed something, before
//     the change is acknowledged. SQLite can change two files in one transaction, but in WAL mode it
//     commits them one after the other: a crash in between would separate them, and an error of the
//     second file would fail signups that are committed. So the transaction of a change records a
//     number and the subject in the store, and the file records the number up to which it is
//     current. The next caller applies what is missing.
package phonetables

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/export"
	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
)

// exportName is the name of these tables in the table of exports.
const exportName = "directory"

// exportVersion is the first schema version whose programs keep the exported tables current. While
// the export is enabled, older programs are kept out.
const exportVersion = 3

// pageSize is how many accounts a pass reads in a transaction. It takes a few milliseconds, in
// which changes of accounts wait.
const pageSize = 300

// Tables maintains the exported tables of a store. It is safe for concurrent use.
type Tables struct {
	engine  engine.Engine
	backend backend
	open    opener

	mu        sync.RWMutex
	observers []func(account.UID)
}

// backend maintains the tables on one engine.
type backend interface {
	// publish applies a change to the tables, if the export is enabled. When due is true, follow
	// must be called after the commit.
	publish(tx engine.Tx, changed []Subject) (due bool, err error)
	// follow returns when phone servers see every committed change.
	follow() error
	// withTables runs do in a transaction that sees accounts and tables as of one moment, while no
	// account changes. It fails with export.ErrNotEnabled if the export is not enabled.
	withTables(do func(engine.Tx) error) error
	// enable and disable call also in their transaction, before they take a lock. clear removes the
	// content of the tables that disable has left.
	enable(also func(engine.Tx) error) error
	disable(also func(engine.Tx) error) error
	clear() error
	// catchUp applies the changes that an earlier process did not apply. It reports whether the
	// tables must be filled.
	catchUp(ctx context.Context) (incomplete bool, err error)
	// prune deletes the changes that the tables already contain.
	prune() error
	version(ctx context.Context) (int64, error)
	locations() []string
	// exist reports whether there are tables, and hasState whether they have their row of state.
	// Both may be missing in a database that was restored from a dump.
	exist(q engine.Querier) (bool, error)
	hasState(q engine.Querier) (bool, error)
	// read runs do on accounts and tables. It fails with export.ErrNotEnabled if the export is not
	// enabled.
	read(ctx context.Context, do func(engine.Querier) error) error
	// prepareMissing creates the table of missing accounts, if an earlier program has created the
	// tables; hasMissing reports whether there is one.
	prepareMissing(tx engine.Tx) error
	hasMissing(q engine.Querier) (bool, error)
	// check is CheckSchema. damage reports what the database's own checks find in the tables.
	check(ctx context.Context, report func(string)) error
	damage(report func(string)) error
}

// opener opens the sealed credential of an account. It is nil without keys.
type opener func(account.Account) (digest.Credential, error)

func openerOf(ring *secret.Ring) opener {
	if ring == nil {
		return nil
	}
	return account.Opener(ring)
}

var errNoKeys = errors.New("the tables for phone servers cannot be written without the seal key")

// Subject names what has changed: an account by its uid, or Tenants.
type Subject string

// Tenants is the subject of a change of a tenant: the exported domains depend on all tenants.
const Tenants = Subject("")

// Account returns the subject of an account.
func Account(uid account.UID) Subject { return Subject(uid[:]) }

// Write runs a write that changes accounts or tenants and returns their subjects. It returns when
// phone servers see the change, and after the functions of OnChange were called.
func (t *Tables) Write(do func(engine.Tx) ([]Subject, error)) error {
	var due bool
	// all collects the subjects of every run of do: on PostgreSQL a run before the last may have
	// been committed.
	var all []Subject
	// Even if Write fails, the transaction may have been committed.
	defer func() { t.changed(all) }()
	err := t.engine.Write(func(tx engine.Tx) error {
		due = false
		changed, err := do(tx)
		if err == nil {
			all = append(all, changed...)
			due, err = t.backend.publish(tx, changed)
		}
		return err
	})
	if err == nil && due {
		err = t.backend.follow()
	}
	return err
}

// OnChange adds a function that is called with each account that this process may have changed, and
// with the zero UID when tenants may have changed.
func (t *Tables) OnChange(f func(account.UID)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.observers = append(t.observers, f)
}

func (t *Tables) changed(list []Subject) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, s := range list {
		var uid account.UID // stays zero for Tenants
		copy(uid[:], s)
		for _, f := range t.observers {
			f(uid)
		}
	}
}

// Enable creates the tables and fills them. It calls also in the transaction that creates them. If
// the tables cannot be filled after that, it returns the result of failed for the error.
func (t *Tables) Enable(ctx context.Context, progress export.Progress, also func(engine.Tx) error,
	failed func(error) error) error {
	if t.open == nil {
		return errNoKeys
	}
	if err := t.backend.enable(also); err != nil {
		return err
	}
	if err := t.fill(ctx, progress); err != nil {
		return failed(err)
	}
	return nil
}

// Disable removes everything from the tables. It calls also in the transaction that ends the
// export. If the tables cannot be emptied after that, it returns the result of failed for the
// error.
func (t *Tables) Disable(also func(engine.Tx) error, failed func(error) error) error {
	if err := t.backend.disable(also); err != nil {
		return err
	}
	if err := t.backend.clear(); err != nil {
		return failed(err)
	}
	return nil
}

// Enabled reports whether the export is enabled.
func Enabled(q engine.Querier) (bool, error) {
	n, err := engine.Count(q, `SELECT count(*) FROM export WHERE name = $1`, exportName)
	return n > 0, err
}

// isComplete reports whether every active account has been added. The row that records this may be
// missing after a restore from a dump.
func isComplete(tx engine.Querier) (bool, error) {
	n, err := engine.Count(tx, `SELECT count(*) FROM dialtone_directory.state WHERE whole`)
	return n > 0, err
}

// Ready fails if the export is enabled and its tables were never filled in this database, as after
// a restore from a dump without them. It does not fail while they are filled or corrected.
func (t *Tables) Ready(ctx context.Context) error {
	q := t.engine.Reads(ctx)
	on, err := Enabled(q)
	if err != nil || !on {
		return err
	}
	if has, err := t.backend.hasState(q); err != nil || has {
		return err
	}
	return errNotRestored
}

var errNotRestored = errors.New("the tables for phone servers were not restored with the database; " +
	"fill them with: dialtone directory export rebuild")

// Status returns the state of the export.
func (t *Tables) Status(ctx context.Context) (st export.Status, err error) {
	st.Locations, st.Missing = []string{}, []export.Missing{}
	if st.Enabled, err = Enabled(t.engine.Reads(ctx)); err != nil || !st.Enabled {
		return st, err
	}
	st.Locations = append(st.Locations, t.backend.locations()...)
	err = t.backend.withTables(func(tx engine.Tx) (err error) {
		if exist, err := t.backend.exist(tx); err != nil || !exist {
			return err
		}
		if st.Complete, err = isComplete(tx); err != nil {
			return err
		}
		if st.Missing, err = readMissing(tx, t.backend); err != nil {
			return err
		}
		st.Complete = st.Complete && len(st.Missing) == 0
		if st.Entries, err = engine.Count(tx, `SELECT count(*) FROM dialtone_directory.entry`); err != nil {
			return err
		}
		st.Domains, err = engine.Count(tx, `SELECT count(*) FROM dialtone_directory.realm`)
		return err
	})
	return st, err
}

// Missing returns the active accounts that have no entry because their credentials do not open.
func (t *Tables) Missing(ctx context.Context) (list []export.Missing, err error) {
	err = t.backend.read(ctx, func(q engine.Querier) (err error) {
		list, err = readMissing(q, t.backend)
		return err
	})
	if errors.Is(err, export.ErrNotEnabled) {
		return nil, nil
	}
	return list, err
}

// Each calls f for each entry of a realm, in the order of the user names. It first repairs damaged
// entries by deriving them again.
func (t *Tables) Each(ctx context.Context, realm string, f func(export.Entry) error) error {
	for after, more := "", true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var list []export.Entry
		err := t.backend.withTables(func(tx engine.Tx) error {
			var damaged []export.Entry
			var err error
			if list, damaged, err = readEntries(tx, realm, after); err != nil || len(damaged) == 0 {
				return err
			}
			for _, e := range damaged {
				if err := update(tx, t.backend, t.open, Account(e.UID)); err != nil {
					return err
				}
			}
			if list, damaged, err = readEntries(tx, realm, after); err == nil && len(damaged) > 0 {
				err = fmt.Errorf("the entry of %s is damaged; "+
					"repair it with: dialtone directory export rebuild", damaged[0].Address())
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range list {
			if err := f(e); err != nil {
				return err
			}
			after = e.User
		}
		more = len(list) == pageSize
	}
	return nil
}

// CheckSchema calls report with a sentence for each part of the tables that is not as this program
// creates it, and for each additional object. A changed view can give phone servers an entry that
// does not exist, and a trigger can keep one that was removed. The tables are checked even while
// the export is disabled. Missing tables are not reported. CheckSchema changes nothing.
func (t *Tables) CheckSchema(ctx context.Context, report func(string)) error {
	return t.backend.check(ctx, report)
}

// readEntries reads up to pageSize entries of a realm after a user name. It returns the damaged
// ones separately.
func readEntries(tx engine.Tx, realm, after string) (list, damaged []export.Entry, err error) {
	err = tx.Each(func(row engine.Scanner) error {
		e, bad, err := scanEntry(row)
		if bad {
			damaged = append(damaged, e)
		} else {
			list = append(list, e)
		}
		return err
	}, `SELECT `+entryColumns+` FROM dialtone_directory.entry WHERE realm = $1 AND username > $2
		ORDER BY username LIMIT $3`, realm, after, pageSize)
	return list, damaged, err
}

// Version returns a number that increases with each change of the tables, and 0 if the export is
// not enabled.
func (t *Tables) Version(ctx context.Context) (int64, error) { return t.backend.version(ctx) }

// CatchUp applies changes that are missing in the tables, and fills new tables.
func (t *Tables) CatchUp(ctx context.Context) error {
	incomplete, err := t.backend.catchUp(ctx)
	if err == nil && incomplete {
		err = t.fill(ctx, func(int64, int64) {})
	}
	if errors.Is(err, export.ErrNotEnabled) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.backend.prune()
}
