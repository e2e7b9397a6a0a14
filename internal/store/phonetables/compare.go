package phonetables

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"dialtone/internal/account"
	"dialtone/internal/export"
	"dialtone/internal/store/engine"
)

// row is a row of the table of entries.
type row struct {
	export.Entry
	damaged bool
}

// page is a range of uids: the entries that should be in the tables, and the rows that are.
type page struct {
	expected []candidate
	actual   []row
	last     []byte // the last uid of the page, or nil if no page follows
}

// readBoth returns the page after a uid. It ends after pageSize accounts or pageSize rows,
// whichever comes first.
func readBoth(tx engine.Tx, open opener, after []byte) (p page, err error) {
	p.expected, err = readPage(tx, open, `uid > $1 ORDER BY uid LIMIT $2`, after, pageSize)
	if err != nil {
		return p, err
	}
	err = tx.Each(func(s engine.Scanner) error {
		e, damaged, err := scanEntry(s)
		p.actual = append(p.actual, row{e, damaged})
		return err
	}, `SELECT `+entryColumns+` FROM dialtone_directory.entry WHERE uid > $1 ORDER BY uid LIMIT $2`,
		after, pageSize)
	if err != nil {
		return p, err
	}
	if n := len(p.expected); n == pageSize {
		p.last = p.expected[n-1].UID[:]
	}
	if n := len(p.actual); n == pageSize && (p.last == nil || bytes.Compare(p.actual[n-1].UID[:], p.last) < 0) {
		p.last = p.actual[n-1].UID[:]
	}
	if last := p.last; last != nil {
		p.expected = slices.DeleteFunc(p.expected, func(c candidate) bool {
			return bytes.Compare(c.UID[:], last) > 0
		})
		p.actual = slices.DeleteFunc(p.actual, func(r row) bool { return bytes.Compare(r.UID[:], last) > 0 })
	}
	return p, nil
}

// same reports whether two entries have the same row.
func same(a, b export.Entry) bool {
	return a.UID == b.UID && a.User == b.User && a.Realm == b.Realm && a.Role == b.Role &&
		bytes.Equal(a.Marshal(), b.Marshal())
}

// differences calls f for each entry that is missing, wrong or superfluous, with the account that
// it should belong to, or nil if there should be none. An account that cannot have an entry counts
// as a difference.
func (p page) differences(f func(found export.Entry, what string, expected *candidate) error) error {
	actual := make(map[account.UID]row)
	for _, r := range p.actual {
		actual[r.UID] = r
	}
	for _, c := range p.expected {
		found, exists := actual[c.UID]
		delete(actual, c.UID)
		var what string
		switch {
		case c.err != nil:
			what = "is missing, because the credential of the account does not open; " + export.MissingHint
		case !exists:
			what = "is missing"
		case found.damaged || !same(found.Entry, c.Entry):
			what = "does not match the account"
		default:
			continue
		}
		if err := f(c.Entry, what, &c); err != nil {
			return err
		}
	}
	for _, r := range actual {
		if err := f(r.Entry, "belongs to no active account", nil); err != nil {
			return err
		}
	}
	return nil
}

// walk calls do with each page of accounts and entries, in a separate transaction, and progress
// with the number of accounts so far.
func (t *Tables) walk(ctx context.Context, progress func(done int64), do func(engine.Tx, page) error) error {
	after, done := []byte{}, int64(0)
	for after != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		var last []byte
		var n int
		err := t.backend.withTables(func(tx engine.Tx) error {
			p, err := readBoth(tx, t.open, after)
			if err != nil {
				return err
			}
			last, n = p.last, len(p.expected)
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

// fill adds what is missing in the tables, corrects what is wrong, and marks them as complete.
func (t *Tables) fill(ctx context.Context, progress export.Progress) error {
	err := t.backend.withTables(func(tx engine.Tx) error {
		if _, err := tx.Exec(`UPDATE dialtone_directory.state SET whole = FALSE`); err != nil {
			return err
		}
		return updateDomains(tx)
	})
	if err != nil {
		return err
	}
	// Counting a million accounts may take longer than a read is allowed to take. The total is then
	// not reported.
	total, err := engine.Count(t.engine.Reads(ctx),
		`SELECT count(*) FROM account WHERE activated IS NOT NULL AND closed IS NULL AND NOT held`)
	if err != nil {
		total = 0
	}
	report := func(done int64) { progress(done, max(done, total)) }
	err = t.walk(ctx, report, func(tx engine.Tx, p page) error {
		err := p.differences(func(found export.Entry, _ string, expected *candidate) error {
			if expected != nil {
				return put(tx, t.backend, *expected)
			}
			return deleteEntry(tx, found.UID[:])
		})
		if err != nil || p.last != nil {
			return err
		}
		if err := pruneMissing(tx, t.backend); err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE dialtone_directory.state SET whole = TRUE`)
		return err
	})
	if err != nil {
		return err
	}
	// This notifies those that derive files from the tables.
	return t.Write(func(engine.Tx) ([]Subject, error) { return []Subject{Tenants}, nil })
}

// Compare calls report with a sentence for each difference between the tables and the accounts, and for
// what CheckSchema finds.
func (t *Tables) Compare(ctx context.Context, report func(string)) error {
	sound := true
	count := func(text string) {
		sound = false
		report(text)
	}
	err := t.backend.check(ctx, count)
	if err == nil {
		err = t.backend.damage(count)
	}
	if err != nil {
		return err
	}
	err = t.compareEntries(ctx, report)
	if err != nil && !sound && ctx.Err() == nil {
		report(fmt.Sprintf("the entries cannot be compared: %v", err)) // because of what was reported
		return nil
	}
	return err
}

func (t *Tables) compareEntries(ctx context.Context, report func(string)) error {
	if on, err := Enabled(t.engine.Reads(ctx)); err != nil || !on {
		return err
	}
	var exist bool
	err := t.backend.withTables(func(tx engine.Tx) error {
		var err error
		if exist, err = t.backend.exist(tx); err != nil {
			return err
		}
		complete := false
		if exist {
			if complete, err = isComplete(tx); err != nil {
				return err
			}
		}
		if !complete {
			report("it is not complete: accounts may be missing; " +
				"add them with: dialtone directory export rebuild")
		}
		if !exist {
			return nil
		}
		expected, actual, err := domains(tx)
		for name, d := range expected {
			if actual[name] != d {
				report("the domain " + name + " is missing or has another realm")
			}
			delete(actual, name)
		}
		for name := range actual {
			report("the domain " + name + " belongs to no tenant")
		}
		return err
	})
	if err != nil || !exist {
		return err
	}
	return t.walk(ctx, func(int64) {}, func(_ engine.Tx, p page) error {
		return p.differences(func(found export.Entry, what string, _ *candidate) error {
			report("the entry of " + found.Address() + " " + what)
			return nil
		})
	})
}
