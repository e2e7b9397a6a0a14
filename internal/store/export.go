package store

import (
	"context"
	"errors"
	"fmt"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/phone"
	"dialtone/internal/secret"
)

// # Exported tables
//
// The exported tables, which phone servers read, are in the schema dialtone_directory. In PostgreSQL it is in the same
// database. In SQLite it is a file of its own, so that no backup or copy of the store has an HA1 in clear. The
// statements are the same for both.
//
// A change of an account or a tenant names its subject (writeAndPublish). The entry of an account is derived from the
// account as it is then, so deriving it again changes nothing. No account changes between reading it and writing its
// entry:
//
//   - In PostgreSQL the entry is written in the transaction of the change, which takes a lock in shared mode. A pass
//     over all accounts, to fill, repair or compare the tables, takes the lock exclusively for a page at a time.
//     Signups do not take it.
//   - In SQLite the file is written after the store, by the caller that changed something, before that is answered.
//     SQLite can change two files in one transaction, but in WAL mode it commits them one after the other: a crash in
//     between would separate them, and an error of the second file would fail signups that are committed. So the
//     transaction of a change records a number and the subject in the store, and the file records the number up to
//     which it is current. The next caller applies what is missing.

// exportName is the name of these tables in the table of exports.
const exportName = "directory"

// exportVersion is the first schema version whose programs keep the exported tables current. While the export is
// enabled, older programs are kept out.
const exportVersion = 3

// exportPage is how many accounts a pass reads in a transaction. It takes a few milliseconds, in which changes of
// accounts wait.
const exportPage = 300

var _ phone.Exporter = (*Store)(nil)

// opener opens the sealed credential of an account. It is nil without keys.
type opener func(account.Account) (digest.Credential, error)

func openerOf(ring *secret.Ring) opener {
	if ring == nil {
		return nil
	}
	return account.Opener(ring)
}

var errNoKeys = errors.New("the directory of phone servers cannot follow without the seal key")

// subject names what has changed: the uid of an account, or tenantsSubject for the tenants.
type subject string

const tenantsSubject = subject("")

func subjectOf(a account.Account) subject { return subject(a.UID[:]) }

// writeAndPublish runs a write that changes accounts or tenants and returns their subjects. It returns when phone
// servers see the change, and after the observers were called.
func writeAndPublish(e engine, do func(transaction) ([]subject, error)) error {
	var due bool
	// all is what every run of do named: on PostgreSQL an earlier run than the last may have been committed.
	var all []subject
	// An error may mean that it is not known whether the transaction was committed.
	defer func() { e.changed(all) }()
	err := e.write(func(tx transaction) error {
		due = false
		changed, err := do(tx)
		if err == nil {
			all = append(all, changed...)
			due, err = e.publish(tx, changed)
		}
		return err
	})
	if err == nil && due {
		err = e.follow()
	}
	return err
}

// EnableExport implements phone.Exporter.
func (s *Store) EnableExport(ctx context.Context, progress phone.Progress) error {
	if s.engine.opener() == nil {
		return errNoKeys
	}
	if err := s.engine.enableExport(); err != nil {
		return err
	}
	return fillExport(ctx, s.engine, progress)
}

// DisableExport implements phone.Exporter.
func (s *Store) DisableExport(context.Context) error { return s.engine.disableExport() }

// bar keeps out programs that do not keep the exported tables current, or admits them again.
func bar(tx transaction, engine string, on bool) error {
	list, err := steps(embedded, engine)
	if err != nil {
		return err
	}
	floor := list[exportVersion].floor
	if on {
		floor = exportVersion
	}
	_, err = tx.exec(`UPDATE schema_floor SET floor = $1 WHERE version = $2`, floor, exportVersion)
	return err
}

// exporting reports whether the export is enabled.
func exporting(q querier) (bool, error) {
	n, err := count(q, `SELECT count(*) FROM export WHERE name = $1`, exportName)
	return n > 0, err
}

// ExportStatus implements phone.Exporter.
func (s *Store) ExportStatus(ctx context.Context) (st phone.Status, err error) {
	st.Places = []string{}
	if st.Enabled, err = exporting(s.engine.reads(ctx)); err != nil || !st.Enabled {
		return st, err
	}
	st.Places = append(st.Places, s.engine.exportPlaces()...)
	err = s.engine.directory(func(tx transaction) (err error) {
		if err := tx.row(`SELECT whole FROM dialtone_directory.state`).Scan(&st.Whole); err != nil {
			return err
		}
		if st.Entries, err = count(tx, `SELECT count(*) FROM dialtone_directory.entry`); err != nil {
			return err
		}
		st.Domains, err = count(tx, `SELECT count(*) FROM dialtone_directory.realm`)
		return err
	})
	return st, err
}

// Exported implements phone.Exporter.
func (s *Store) Exported(ctx context.Context, realm string, each func(phone.Listing) error) error {
	for after, more := "", true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var list []phone.Listing
		err := s.engine.directory(func(tx transaction) error {
			list = nil
			return tx.each(func(row scanner) error {
				e, damaged, err := scanEntry(row)
				if damaged {
					return fmt.Errorf("the entry of %s is damaged; mend it with: dialtone directory export rebuild", e.Address())
				}
				list = append(list, e)
				return err
			}, `SELECT `+entryColumns+` FROM dialtone_directory.entry WHERE realm = $1 AND username > $2
				ORDER BY username LIMIT $3`, realm, after, exportPage)
		})
		if err != nil {
			return err
		}
		for _, e := range list {
			if err := each(e); err != nil {
				return err
			}
			after = e.User
		}
		more = len(list) == exportPage
	}
	return nil
}

// ExportChanges implements phone.Exporter.
func (s *Store) ExportChanges(ctx context.Context) (int64, error) { return s.engine.exportChanges(ctx) }

// TendExport implements phone.Exporter.
func (s *Store) TendExport(ctx context.Context) error { return s.engine.tendExport(ctx) }
