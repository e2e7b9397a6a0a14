package sqlstore

import (
	"context"
	"errors"
	"fmt"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/export"
	"dialtone/internal/secret"
)

// # The directory of phone servers
//
// The directory is a schema, dialtone_directory, beside the store's own: in PostgreSQL one of the same database, in SQLite a file of
// its own, so that no backup and no copy of the store has an HA1 in clear. Statements are the same for both.
//
// A change of an account or a tenant names its subject (announce). What stands in the directory is made of the account as it is
// then, so that to do it again changes nothing. Accounts are read, and entries written, with no change of an account in between:
//
//   - In PostgreSQL it is one transaction with the change. The change shares a lock; whoever goes through all accounts, to add, to
//     mend or to compare, has the lock alone, for a page at a time. Signups do not have it.
//   - In SQLite the file is written behind the store, by whoever changed something, before that is answered. SQLite can commit two
//     files in one transaction, but in WAL mode one after the other: the end of the process in between parts them, and a fault of
//     the second file would fail signups whose commit is done. So a change leaves its number and subject in the store, in its
//     transaction, and the file says up to which number it has followed. What was left is done by the next to come.

// exportName is the directory's in the table of exports.
const exportName = "directory"

// exportVersion is the version of the schema from which on programs have entries follow. Enabling bars older ones.
const exportVersion = 3

// exportPage is how many accounts are gone through in one transaction: a few milliseconds, for which changes of accounts wait.
const exportPage = 300

var (
	_ export.Admin  = (*Store)(nil)
	_ export.Source = (*Store)(nil)
)

// opener opens the credential of an account. It is nil for who has no keys.
type opener func(account.Account) (digest.Credential, error)

func openerOf(ring *secret.Ring) opener {
	if ring == nil {
		return nil
	}
	return account.Opener(ring)
}

var errNoKeys = errors.New("the directory of phone servers cannot follow without the seal key")

// subject is what has changed: the uid of an account, or everything about tenants.
type subject string

const tenantsSubject = subject("")

func subjectOf(a account.Account) subject { return subject(a.UID[:]) }

// announce is a write that changes accounts or tenants, and names them. It returns when phone servers see the change, and
// after the observers were called.
func announce(e engine, do func(transaction) ([]subject, error)) error {
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

// EnableExport implements export.Admin.
func (s *Store) EnableExport(ctx context.Context, progress export.Progress) error {
	for _, h := range s.homes {
		if h.opener() == nil {
			return errNoKeys
		}
		if err := h.enableExport(); err != nil {
			return err
		}
		if err := fillExport(ctx, h, progress); err != nil {
			return err
		}
	}
	return nil
}

// DisableExport implements export.Admin.
func (s *Store) DisableExport(context.Context) error { return s.everywhere(engine.disableExport) }

// bar keeps programs from the database that do not have entries follow, or lets them come back.
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

// exporting says whether a home has an export.
func exporting(q querier) (bool, error) {
	n, err := count(q, `SELECT count(*) FROM export WHERE name = $1`, exportName)
	return n > 0, err
}

// ExportStatus implements export.Admin.
func (s *Store) ExportStatus(ctx context.Context) (st export.Status, err error) {
	st = export.Status{Enabled: true, Complete: true, Places: []string{}}
	for _, h := range s.homes {
		if on, err := exporting(h.reads(ctx)); err != nil {
			return st, err
		} else if !on {
			st.Enabled, st.Complete = false, false
			continue
		}
		st.Places = append(st.Places, h.exportPlaces()...)
		err := h.directory(func(tx transaction) error {
			var whole bool
			if err := tx.row(`SELECT whole FROM dialtone_directory.state`).Scan(&whole); err != nil {
				return err
			}
			entries, err := count(tx, `SELECT count(*) FROM dialtone_directory.entry`)
			if err != nil {
				return err
			}
			domains, err := count(tx, `SELECT count(*) FROM dialtone_directory.realm`)
			st.Complete, st.Entries, st.Domains = st.Complete && whole, st.Entries+entries, st.Domains+domains
			return err
		})
		if err != nil {
			return st, err
		}
	}
	return st, nil
}

// ExportedEntries implements export.Source.
func (s *Store) ExportedEntries(ctx context.Context, realm string, each func(export.Entry) error) error {
	for _, h := range s.homes {
		for after, more := "", true; more; {
			if err := ctx.Err(); err != nil {
				return err
			}
			var list []export.Entry
			err := h.directory(func(tx transaction) error {
				list = nil
				return tx.each(func(row scanner) error {
					e, damaged, err := scanEntry(row)
					if damaged {
						return fmt.Errorf("the entry of %s is damaged; mend it with: dialtone directory export rebuild", e.Address())
					}
					list = append(list, e)
					return err
				}, `SELECT `+entryColumns+` FROM dialtone_directory.entry WHERE realm = $1 AND username > $2 ORDER BY username LIMIT $3`, realm, after, exportPage)
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
	}
	return nil
}

// ExportVersion implements export.Source.
func (s *Store) ExportVersion(ctx context.Context) (int64, error) {
	var sum int64
	for _, h := range s.homes {
		n, err := h.exportChanges(ctx)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// CatchUpExport implements export.Admin.
func (s *Store) CatchUpExport(ctx context.Context) error {
	return s.everywhere(func(e engine) error { return e.tendExport(ctx) })
}
