package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/fault"
	"dialtone/internal/store/sqlite/conn"
)

// A copy writes every row of one database to another, of any engine, in the order of keys and in transactions of one
// page each. So the target always has the first rows of each table, and an interrupted copy continues after the last
// row. Until the copy is complete and compared, a mark in the target says so, and Open refuses the target.

// table says what is copied of a table.
type table struct {
	name         string
	key, columns []string
}

// copied lists the tables that are copied, each after those that it refers to. Rows about the servers on a database are
// not copied.
var copied = []table{
	{"seal_key", []string{"id"}, []string{"id"}},
	{"tenant", []string{"id"}, []string{"id", "host", "realm", "public_url", "settings", "created"}},
	{"account", []string{"uid"}, []string{"uid", "tenant", "username", "name", "email", "role", "held", "created",
		"expires", "activated", "confirmed", "closed", "epoch", "credential", "has_sha256", "token", "lang"}},
	{"outbox", []string{"account", "message"}, []string{"account", "message", "token", "turn", "made"}},
	{"replaced", []string{"token"}, []string{"token", "account", "message", "email", "until"}},
	{"phone_server", []string{"name"}, []string{"name", "token", "tenants", "created"}},
	{"delivery", []string{"message"}, []string{"message", "account", "state", "since", "expires", "due", "attempts",
		"answer"}},
	{"dkim_key", []string{"tenant", "selector"}, []string{"tenant", "selector", "created", "sealed"}},
	{"spent", []string{"expires", "nonce"}, []string{"expires", "nonce"}},
	{"taken", []string{"bucket", "at", "account"}, []string{"bucket", "at", "account", "until"}},
	{"hook", []string{"id"}, []string{"id", "name", "kind", "url", "plain", "everyone", "secret", "created",
		"given_up", "failed", "why"}},
	{"hook_tenant", []string{"hook", "tenant"}, []string{"hook", "tenant"}},
	{"notice", []string{"hook", "event", "account"}, []string{"hook", "event", "account", "what", "tenant", "host",
		"realm", "username", "at", "due", "tries"}},
}

// boolColumns are the columns of type BOOLEAN, which SQLite stores as numbers.
var boolColumns = []string{"held", "has_sha256", "plain", "everyone"}

// page is how many rows a transaction copies.
const page = 2000

// Progress is called with the progress of a step, such as "copy account": done rows of total.
type Progress func(what string, done, total int64)

// ErrUnfinished is returned by Open for the target of a copy that was not completed.
var ErrUnfinished = errors.New("a copy into this database was begun and not completed; " +
	"run it again, and it goes on where it stopped")

// errForeign is the error of a copy whose target holds other data.
var errForeign = fault.New(fault.Conflict, "the target holds accounts, tenants or keys that are not of this copy; "+
	"give an empty database or a new file")

// Copy copies the database at from to the database at to, each given as "sqlite:PATH" or a PostgreSQL URL, and then
// compares all rows. No server may run on either database. Copy checks that for PostgreSQL; for SQLite the caller must.
func Copy(ctx context.Context, from, to string, progress Progress) error {
	source, err := openSource(ctx, from)
	if err != nil {
		return err
	}
	defer source.end()
	target, err := openPlace(ctx, to, true)
	if err != nil {
		return err
	}
	defer target.close()
	c := copying{source, target, progress}
	if err := c.begin(); err != nil {
		return err
	}
	for _, t := range copied {
		if err := c.table(ctx, t); err != nil {
			return fmt.Errorf("copy %s: %w", t.name, err)
		}
	}
	if err := c.numbers(); err != nil {
		return err
	}
	// The comparison also sees what a command changed during the copy.
	if err := source.refresh(); err != nil {
		return err
	}
	if err := c.compare(ctx); err != nil {
		return err
	}
	return target.write(func(tx transaction) error {
		_, err := tx.exec(`DELETE FROM revision WHERE subject = 'copy'`)
		return err
	})
}

// Compare compares all rows of two databases. It changes neither.
func Compare(ctx context.Context, from, to string, progress Progress) error {
	source, err := openSource(ctx, from)
	if err != nil {
		return err
	}
	defer source.end()
	target, err := openPlace(ctx, to, false)
	if err != nil {
		return err
	}
	defer target.close()
	n, err := count(target.reads(ctx), `SELECT count(*) FROM revision WHERE subject = 'copy'`)
	if err != nil {
		return err
	}
	if n > 0 {
		return ErrUnfinished
	}
	return copying{source, target, progress}.compare(ctx)
}

// openPlace opens a database without checking its keys. Unless create is true, the database must exist.
func openPlace(ctx context.Context, place string, create bool) (engine, error) {
	path, lite := strings.CutPrefix(place, "sqlite:")
	if !lite {
		return openPostgres(ctx, nil, "", place)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil && !create {
		return nil, err
	}
	if err := makeWhole(path); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s, err := OpenVFS(ctx, path, nil, "")
	if err != nil {
		return nil, err
	}
	return s.engine, nil
}

// source is a database as of the start of a transaction.
type source struct {
	engine
	tx    migrator
	begin string
	end   func() error
}

// refresh starts a new transaction, so that the source is read as it is now.
func (s *source) refresh() error {
	if err := s.tx.script("COMMIT"); err != nil {
		return err
	}
	return s.tx.script(s.begin)
}

// current fails for a source whose schema is not current. Opening it would migrate it, and a source is not written to.
func current(ctx context.Context, place string) error {
	var has sql.NullInt64
	engine, query := "postgres", `SELECT max(version) FROM schema_version`
	if path, lite := strings.CutPrefix(place, "sqlite:"); lite {
		engine = "sqlite"
		path, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		if err := checkWhole(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		conn, err := conn.Open(path, conn.Options{ReadOnly: true})
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := errors.Join(conn.Script(`PRAGMA busy_timeout = 5000`), conn.Row([]any{&has}, query)); err != nil {
			return fmt.Errorf("%s holds no store: %w", path, err)
		}
	} else {
		conn, err := pgx.Connect(ctx, place)
		if err != nil {
			return withoutPassword(err)
		}
		defer conn.Close(ctx)
		if err := conn.QueryRow(ctx, query).Scan(&has); err != nil {
			return fmt.Errorf("the source holds no store: %w", err)
		}
	}
	// A newer schema may have columns that this program would leave out, even if it could use the database.
	if knows := int64(known(engine)); has.Int64 < knows {
		return fault.New(fault.Conflict, "the source has schema version %d and this program copies version %d; "+
			"run dialtone store migrate on it first", has.Int64, knows)
	} else if has.Int64 > knows {
		return fmt.Errorf("the source has schema version %d and this program copies version %d: %w",
			has.Int64, knows, ErrNewer)
	}
	return nil
}

func openSource(ctx context.Context, place string) (*source, error) {
	if err := current(ctx, place); err != nil {
		return nil, err
	}
	e, err := openPlace(ctx, place, false)
	if err != nil {
		return nil, err
	}
	s := &source{engine: e}
	switch e := e.(type) {
	case *lite:
		conn, err := e.readers.open()
		if err != nil {
			return nil, errors.Join(err, e.close())
		}
		tx := liteTx{conn}
		s.tx, s.end = tx, func() error { return errors.Join(conn.Close(), e.close()) }
		s.begin = "BEGIN"
		err = tx.script(s.begin)
		if err != nil {
			return nil, errors.Join(err, s.end())
		}
	case *postgres:
		conn, err := e.pool.Acquire(ctx)
		if err != nil {
			return nil, errors.Join(e.asFault(err), e.close())
		}
		tx := &postgresTx{ctx: ctx, conn: conn.Conn()}
		s.tx, s.end = tx, func() error {
			rollback(conn.Conn())
			conn.Release()
			return e.close()
		}
		var alone bool
		err = tx.row(`SELECT pg_try_advisory_lock($1)`, int64(serverLock)).Scan(&alone)
		if err == nil && !alone {
			err = fault.New(fault.Conflict,
				"a server runs on the database, and what it changes meanwhile would be missing; stop all of them first")
		}
		if err == nil {
			s.begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0"
			err = tx.script(s.begin)
		}
		if err != nil {
			return nil, errors.Join(err, s.end())
		}
	}
	return s, nil
}

type copying struct {
	from     *source
	to       engine
	progress Progress
}

// begin marks the target as unfinished, or checks that the mark is of this copy.
func (c copying) begin() error {
	// The mark identifies the copy by the keys that the source was sealed with.
	h := fnv.New64a()
	err := c.from.tx.each(func(row scanner) error {
		var id string
		err := row.Scan(&id)
		h.Write([]byte(id))
		return err
	}, `SELECT id FROM seal_key ORDER BY id`)
	if err != nil {
		return err
	}
	mark := int64(h.Sum64() >> 1)
	return c.to.write(func(tx transaction) error {
		var has int64
		err := tx.row(`SELECT n FROM revision WHERE subject = 'copy'`).Scan(&has)
		switch {
		case err == nil && has == mark:
			return nil
		case err == nil:
			return errForeign
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		for _, t := range copied {
			n, err := count(tx, `SELECT count(*) FROM `+t.name)
			if err != nil {
				return err
			}
			if n > 0 {
				return errForeign
			}
		}
		if on, err := exporting(tx); err != nil {
			return err
		} else if on {
			return errForeign // rows that are copied would have no entries for phone servers
		}
		_, err = tx.exec(`INSERT INTO revision (subject, n) VALUES ('copy', $1)`, mark)
		return err
	})
}

// table copies the rows of a table that the target lacks.
func (c copying) table(ctx context.Context, t table) error {
	total, err := count(c.from.tx, `SELECT count(*) FROM `+t.name)
	if err != nil {
		return err
	}
	done, err := count(c.to.reads(ctx), `SELECT count(*) FROM `+t.name)
	if err != nil {
		return err
	}
	last, err := t.last(c.to.reads(ctx))
	if err != nil {
		return err
	}
	c.progress("copy "+t.name, done, total)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows, err := t.after(c.from.tx, last)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		if err := c.to.write(func(tx transaction) error { return t.insert(tx, rows) }); err != nil {
			return err
		}
		last = t.keyOf(rows[len(rows)-1])
		done += int64(len(rows))
		c.progress("copy "+t.name, done, total)
	}
}

// insert adds a page of rows, unless an earlier run did.
func (t table) insert(tx transaction, rows [][]any) error {
	if tx.repeated() {
		if last, err := t.last(tx); err != nil || reflect.DeepEqual(last, t.keyOf(rows[len(rows)-1])) {
			return err
		}
	}
	if pg, ok := tx.(*postgresTx); ok {
		_, err := pg.conn.CopyFrom(pg.ctx, pgx.Identifier{t.name}, t.columns, pgx.CopyFromRows(rows))
		return err
	}
	query := fmt.Sprintf(`INSERT INTO %s (%s) VALUES (%s)`,
		t.name, strings.Join(t.columns, ", "), dollars(1, len(t.columns)))
	for _, row := range rows {
		if _, err := tx.exec(query, row...); err != nil {
			return err
		}
	}
	return nil
}

// dollars returns n placeholders from a number on: "$1, $2".
func dollars(from, n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("$%d", from+i))
	}
	return strings.Join(list, ", ")
}

// last returns the last key of the table, or nil if it is empty.
func (t table) last(q querier) (key []any, err error) {
	descending := strings.Join(t.key, " DESC, ") + " DESC"
	err = q.each(func(row scanner) error {
		key, err = scanAny(row, len(t.key))
		return err
	}, fmt.Sprintf(`SELECT %s FROM %s ORDER BY %s LIMIT 1`, strings.Join(t.key, ", "), t.name, descending))
	return key, err
}

// after returns up to a page of the rows that follow a key, or of the first rows for nil.
func (t table) after(q querier, key []any) (rows [][]any, err error) {
	keys, where := strings.Join(t.key, ", "), ""
	if key != nil {
		where = fmt.Sprintf("WHERE (%s) > (%s)", keys, dollars(1, len(key)))
	}
	err = q.each(func(row scanner) error {
		values, err := scanAny(row, len(t.columns))
		for i, name := range t.columns {
			if n, ok := values[i].(int64); ok && slices.Contains(boolColumns, name) {
				values[i] = n != 0
			}
		}
		rows = append(rows, values)
		return err
	}, fmt.Sprintf(`SELECT %s FROM %s %s ORDER BY %s LIMIT %d`,
		strings.Join(t.columns, ", "), t.name, where, keys, page), key...)
	return rows, err
}

// keyOf returns the key of a row.
func (t table) keyOf(row []any) []any {
	var key []any
	for _, name := range t.key {
		key = append(key, row[slices.Index(t.columns, name)])
	}
	return key
}

func scanAny(row scanner, n int) ([]any, error) {
	values, dst := make([]any, n), make([]any, n)
	for i := range values {
		dst[i] = &values[i]
	}
	err := row.Scan(dst...)
	for i, v := range values {
		if b, ok := v.([]byte); ok && len(b) == 0 {
			values[i] = []byte{} // empty, not NULL
		}
	}
	return values, err
}

// lastTenant returns the highest id that a database has given to a tenant.
func lastTenant(q querier, e engine) (int64, error) {
	if _, ok := e.(*postgres); ok {
		return count(q, `SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM tenant_id_seq`)
	}
	return count(q, `SELECT COALESCE(max(seq), 0) FROM sqlite_sequence WHERE name = 'tenant'`)
}

const tenantNumber = `SELECT n FROM revision WHERE subject = 'tenant'`

// numbers copies the last id of a tenant and the version of the tenants, so that the target does not reuse the id of a
// removed tenant, and no server sees the version decrease.
func (c copying) numbers() error {
	last, err := lastTenant(c.from.tx, c.from.engine)
	if err != nil {
		return err
	}
	version, err := count(c.from.tx, tenantNumber)
	if err != nil {
		return err
	}
	return c.to.write(func(tx transaction) error {
		if _, err := tx.exec(`UPDATE revision SET n = $1 WHERE subject = 'tenant' AND n < $1`, version); err != nil {
			return err
		}
		if pg, ok := tx.(*postgresTx); ok {
			return pg.script(fmt.Sprintf(`ALTER TABLE tenant ALTER COLUMN id RESTART WITH %d`, last+1))
		}
		if _, err := tx.exec(`DELETE FROM sqlite_sequence WHERE name = 'tenant'`); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO sqlite_sequence (name, seq) VALUES ('tenant', $1)`, last)
		return err
	})
}

// compareNumbers fails if the target is behind the source in these numbers.
func (c copying) compareNumbers(ctx context.Context) error {
	for what, number := range map[string]func(querier, engine) (int64, error){
		"last id of a tenant":   lastTenant,
		"number of the tenants": func(q querier, _ engine) (int64, error) { return count(q, tenantNumber) },
	} {
		ours, err := number(c.from.tx, c.from.engine)
		if err != nil {
			return err
		}
		theirs, err := number(c.to.reads(ctx), c.to)
		if err != nil {
			return err
		}
		if theirs < ours {
			return fault.New(fault.Conflict,
				"the %s is %d in the source and %d in the target; the copy is not to be used", what, ours, theirs)
		}
	}
	return nil
}

// compare compares all rows of both databases, in the order of their keys.
func (c copying) compare(ctx context.Context) error {
	for _, t := range copied {
		total, err := count(c.from.tx, `SELECT count(*) FROM `+t.name)
		if err != nil {
			return err
		}
		var last []any
		var done int64
		for {
			c.progress("compare "+t.name, done, total)
			ours, err := t.after(c.from.tx, last)
			if err != nil {
				return err
			}
			theirs, err := t.after(c.to.reads(ctx), last)
			if err != nil {
				return err
			}
			for i := range max(len(ours), len(theirs)) {
				if i >= len(ours) || i >= len(theirs) || !reflect.DeepEqual(ours[i], theirs[i]) {
					return t.different(ours, theirs, i)
				}
			}
			if len(ours) == 0 {
				break
			}
			last, done = t.keyOf(ours[len(ours)-1]), done+int64(len(ours))
		}
	}
	return c.compareNumbers(ctx)
}

// different returns an error that names a different row by its key. Other columns may be secret.
func (t table) different(ours, theirs [][]any, i int) error {
	row, what := ours, "is not the same on both sides"
	switch {
	case i >= len(ours):
		row, what = theirs, "is in the target alone"
	case i >= len(theirs):
		what = "is missing in the target"
	}
	var key []string
	for _, v := range t.keyOf(row[i]) {
		if b, ok := v.([]byte); ok {
			v = fmt.Sprintf("%x", b)
		}
		key = append(key, fmt.Sprint(v))
	}
	return fault.New(fault.Conflict, "the row %s of %s %s; the copy is not to be used", strings.Join(key, " "), t.name, what)
}

// Schema returns the version of the database's schema.
func (s *Store) Schema(ctx context.Context) (version int64, err error) {
	return count(s.engine.reads(ctx), `SELECT max(version) FROM schema_version`)
}
