// Package transfer copies a store from one database to another, of any engine, and compares two
// databases.
//
// A copy writes every row in the order of keys and in transactions of one page each. So the target
// always has the first rows of each table, and an interrupted copy continues after the last row.
// Until the copy is complete and compared, a mark in the target records that, and store.SealCheck
// refuses the target.
package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
)

// Progress is called with the progress of a step, such as "copy account": done rows of total.
type Progress func(what string, done, total int64)

// Connect calls do, which connects to PostgreSQL and reads the files that the URL or libpq's
// variables name, such as the one with the password. This may have to be done as another user than
// reading the files of SQLite.
type Connect func(do func() error) error

// Directly is Connect for the user of the process.
func Directly(do func() error) error { return do() }

// errForeign is the error of a copy whose target holds other data.
var errForeign = fault.New(fault.Conflict, "the target holds accounts, tenants or keys that are not from this copy; "+
	"give an empty database or a new file")

// Copy copies the database at from to the database at to, each given as "sqlite:PATH" or a
// PostgreSQL URL, and then compares all rows. No server may run on either database. Copy checks
// that for PostgreSQL; for SQLite the caller must.
func Copy(ctx context.Context, from, to string, connect Connect, progress Progress) (err error) {
	c, err := open(ctx, from, to, true, connect, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.begin(); err != nil {
		return err
	}
	for _, t := range copied {
		if err := c.table(ctx, t); err != nil {
			return fmt.Errorf("copy %s: %w", t.name, err)
		}
	}
	if err := c.copyNumbers(); err != nil {
		return err
	}
	// The comparison also sees what a command changed during the copy.
	if err := c.from.Refresh(); err != nil {
		return err
	}
	if err := c.compare(ctx); err != nil {
		return err
	}
	return c.to.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`DELETE FROM revision WHERE subject = 'copy'`)
		return err
	})
}

// isSQLite returns the path of a database of SQLite.
func isSQLite(database string) (path string, ok bool) { return strings.CutPrefix(database, "sqlite:") }

// openEngine opens a database without checking its keys.
func openEngine(
	ctx context.Context, database string, change migrations.Change, connect Connect,
) (e engine.Copier, err error) {
	path, ok := isSQLite(database)
	if !ok {
		err = connect(func() error {
			e, err = postgres.OpenTo(ctx, change, "", database, nil)
			return err
		})
		return e, err
	}
	return sqlite.OpenTo(ctx, change, path, nil)
}

// checkSchema fails for a source whose schema is not current. Opening it would migrate it, and a
// source is not written to.
func checkSchema(ctx context.Context, database string, connect Connect) error {
	var has, known int64
	var err error
	if path, ok := isSQLite(database); ok {
		known = int64(migrations.Newest(sqlite.Dialect))
		has, err = sqlite.SchemaVersion(path)
	} else {
		known = int64(migrations.Newest(postgres.Dialect))
		err = connect(func() error {
			has, err = postgres.SchemaVersion(ctx, database)
			return err
		})
	}
	// A newer schema may have columns that this program would leave out, even if it could use the
	// database.
	switch {
	case err != nil:
		return err
	case has < known:
		return fault.New(fault.Conflict, "the source has schema version %d and this program copies version %d; "+
			"run dialtone store migrate on it first", has, known)
	case has > known:
		return fmt.Errorf("the source has schema version %d and this program copies version %d: %w",
			has, known, migrations.ErrNewer)
	}
	return nil
}

// open opens both databases.
func open(
	ctx context.Context, from, to string, create bool, connect Connect, progress Progress,
) (*copier, error) {
	if err := checkSchema(ctx, from, connect); err != nil {
		return nil, err
	}
	source, err := openEngine(ctx, from, migrations.Nothing, connect)
	if err != nil {
		return nil, err
	}
	snapshot, err := source.Snapshot(ctx)
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	change := migrations.Nothing
	if create {
		change = migrations.Create
	}
	target, err := openEngine(ctx, to, change, connect)
	if err != nil {
		return nil, errors.Join(err, snapshot.Close(), source.Close())
	}
	return &copier{source, snapshot, target, progress}, nil
}

// copier copies or compares two open databases.
type copier struct {
	source   engine.Copier
	from     engine.Snapshot // of source
	to       engine.Copier
	progress Progress
}

func (c *copier) close() error {
	return errors.Join(c.from.Close(), c.source.Close(), c.to.Close())
}

// begin marks the target as unfinished, or checks that the mark belongs to this copy.
func (c *copier) begin() error {
	// The mark identifies the copy by the keys that the source was sealed with.
	h := fnv.New64a()
	err := c.from.Each(func(row engine.Scanner) error {
		var id string
		err := row.Scan(&id)
		h.Write([]byte(id))
		return err
	}, `SELECT id FROM seal_key ORDER BY id`)
	if err != nil {
		return err
	}
	mark := int64(h.Sum64() >> 1)
	return c.to.Write(func(tx engine.Tx) error {
		var has int64
		err := tx.Row(`SELECT n FROM revision WHERE subject = 'copy'`).Scan(&has)
		switch {
		case err == nil && has == mark:
			return nil
		case err == nil:
			return errForeign
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		for _, t := range copied {
			n, err := engine.Count(tx, `SELECT count(*) FROM `+t.name)
			if err != nil {
				return err
			}
			if n > 0 {
				return errForeign
			}
		}
		if on, err := phonetables.Enabled(tx); err != nil {
			return err
		} else if on {
			return errForeign // rows that are copied would have no entries for phone servers
		}
		_, err = tx.Exec(`INSERT INTO revision (subject, n) VALUES ('copy', $1)`, mark)
		return err
	})
}

// table copies the rows of a table that the target lacks.
func (c *copier) table(ctx context.Context, t table) error {
	total, err := engine.Count(c.from, `SELECT count(*) FROM `+t.name)
	if err != nil {
		return err
	}
	done, err := engine.Count(c.to.Reads(ctx), `SELECT count(*) FROM `+t.name)
	if err != nil {
		return err
	}
	last, err := t.last(c.to.Reads(ctx))
	if err != nil {
		return err
	}
	c.progress("copy "+t.name, done, total)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows, err := t.after(c.from, last)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		if err := c.to.Write(func(tx engine.Tx) error { return t.insert(c.to, tx, rows) }); err != nil {
			return err
		}
		last = t.keyOf(rows[len(rows)-1])
		done += int64(len(rows))
		c.progress("copy "+t.name, done, total)
	}
}
