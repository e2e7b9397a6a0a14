package store

import (
	"bytes"
	"context"
	"slices"

	"dialtone/internal/account"
	"dialtone/internal/phone"
)

// found is a row of the directory.
type found struct {
	phone.Listing
	damaged bool
}

// part is a part of the directory beside the same part of the accounts.
type part struct {
	should []phone.Listing
	are    []found
	last   []byte // the part ends with this uid, or with all where it is nil
}

// readPart reads the part behind a uid: as many accounts as a page has, or as many rows, whichever ends first.
func readPart(tx transaction, open opener, after []byte) (l part, err error) {
	if l.should, err = readPage(tx, open, `uid > $1 ORDER BY uid LIMIT $2`, after, exportPage); err != nil {
		return l, err
	}
	err = tx.each(func(row scanner) error {
		e, damaged, err := scanEntry(row)
		l.are = append(l.are, found{e, damaged})
		return err
	}, `SELECT `+entryColumns+` FROM dialtone_directory.entry WHERE uid > $1 ORDER BY uid LIMIT $2`, after, exportPage)
	if err != nil {
		return l, err
	}
	if n := len(l.should); n == exportPage {
		l.last = l.should[n-1].UID[:]
	}
	if n := len(l.are); n == exportPage && (l.last == nil || bytes.Compare(l.are[n-1].UID[:], l.last) < 0) {
		l.last = l.are[n-1].UID[:]
	}
	if last := l.last; last != nil {
		l.should = slices.DeleteFunc(l.should, func(e phone.Listing) bool { return bytes.Compare(e.UID[:], last) > 0 })
		l.are = slices.DeleteFunc(l.are, func(f found) bool { return bytes.Compare(f.UID[:], last) > 0 })
	}
	return l, nil
}

// same compares what is written of two entries.
func same(a, b phone.Listing) bool {
	return a.UID == b.UID && a.User == b.User && a.Realm == b.Realm && a.Role == b.Role && bytes.Equal(a.Marshal(), b.Marshal())
}

// differ calls f for each entry that is missing, wrong or too many, with what it should be, or nil.
func (p part) differ(f func(is phone.Listing, what string, should *phone.Listing) error) error {
	are := make(map[account.UID]found)
	for _, e := range p.are {
		are[e.UID] = e
	}
	for _, e := range p.should {
		is, there := are[e.UID]
		delete(are, e.UID)
		var what string
		switch {
		case !there:
			what = "is missing"
		case is.damaged || !same(is.Listing, e):
			what = "is not as the account is"
		default:
			continue
		}
		if err := f(e, what, &e); err != nil {
			return err
		}
	}
	for _, e := range are {
		if err := f(e.Listing, "belongs to no active account", nil); err != nil {
			return err
		}
	}
	return nil
}

// walk goes through accounts and entries, part by part, each in a transaction of its own, and tells how many it has done.
func walk(ctx context.Context, e engine, progress func(done int64), do func(transaction, part) error) error {
	after, done := []byte{}, int64(0)
	for after != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		var last []byte
		var n int
		err := e.directory(func(tx transaction) error {
			p, err := readPart(tx, e.opener(), after)
			if err != nil {
				return err
			}
			last, n = p.last, len(p.should)
			return do(tx, p)
		})
		if err != nil {
			return err
		}
		after, done = last, done+int64(n)
		progress(done)
	}
	return nil
}

// fillExport adds and mends what is missing and wrong, and says that the directory is whole.
func fillExport(ctx context.Context, e engine, progress phone.Progress) error {
	err := e.directory(func(tx transaction) error {
		if _, err := tx.exec(`UPDATE dialtone_directory.state SET whole = FALSE`); err != nil {
			return err
		}
		return bringDomains(tx)
	})
	if err != nil {
		return err
	}
	// To count a million may take longer than a database is given for an answer. Then only what is done is told.
	total, err := count(e.reads(ctx), `SELECT count(*) FROM account WHERE activated IS NOT NULL AND closed IS NULL AND NOT held`)
	if err != nil {
		total = 0
	}
	err = walk(ctx, e, func(done int64) { progress(done, max(done, total)) }, func(tx transaction, p part) error {
		err := p.differ(func(is phone.Listing, _ string, should *phone.Listing) error {
			if should != nil {
				return putEntry(tx, *should)
			}
			_, err := tx.exec(`DELETE FROM dialtone_directory.entry WHERE uid = $1`, is.UID[:])
			return err
		})
		if err == nil && p.last == nil {
			_, err = tx.exec(`UPDATE dialtone_directory.state SET whole = TRUE`)
		}
		return err
	})
	if err != nil {
		return err
	}
	// Whoever makes files of it looks again.
	return writeAndPublish(e, func(transaction) ([]subject, error) { return allTenants, nil })
}

// CompareExport implements phone.Exporter.
func (s *Store) CompareExport(ctx context.Context, report func(string)) error {
	e := s.engine
	if on, err := exporting(e.reads(ctx)); err != nil || !on {
		return err
	}
	err := e.directory(func(tx transaction) error {
		var whole bool
		if err := tx.row(`SELECT whole FROM dialtone_directory.state`).Scan(&whole); err != nil {
			return err
		}
		if !whole {
			report("it is not whole: accounts may be missing; go through them with: dialtone directory export rebuild")
		}
		should, are, err := domains(tx)
		for name, d := range should {
			if are[name] != d {
				report("the domain " + name + " is missing or has another realm")
			}
			delete(are, name)
		}
		for name := range are {
			report("the domain " + name + " belongs to no tenant")
		}
		return err
	})
	if err != nil {
		return err
	}
	return walk(ctx, e, func(int64) {}, func(_ transaction, p part) error {
		return p.differ(func(is phone.Listing, what string, _ *phone.Listing) error {
			report("the entry of " + is.Address() + " " + what)
			return nil
		})
	})
}
