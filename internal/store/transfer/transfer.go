// Package transfer copies a store from one database to another, of any engine, and compares two
// databases.
//
// A copy writes every row in the order of keys and in transactions of one page each. So the target
// always has the first rows of each table, and an interrupted copy continues after the last row.
// Until the copy is complete and compared, a mark in the target records that, and store.SealCheck
// refuses the target.
package transfer

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
)

// table describes how a table is copied.
type table struct {
	name         string
	key, columns []string
}

// copied lists the tables that are copied, each after those that it refers to. Rows about the
// servers on a database are not copied.
var copied = []table{
	{"seal_key", []string{"id"}, []string{"id"}},
	{"tenant", []string{"id"}, []string{"id", "host", "realm", "public_url", "settings", "created",
		"logo_type", "logo"}},
	{"account", []string{"uid"}, []string{"uid", "tenant", "username", "name", "email", "role", "held", "created",
		"expires", "activated", "confirmed", "closed", "epoch", "credential", "has_sha256", "token", "lang",
		"password_n", "password_at", "leaving", "factors", "email_n", "set_state", "set_at", "set_by", "set_why",
		"first_signin", "signup_net"}},
	{"outbox", []string{"account", "message"}, []string{"account", "message", "token", "turn", "made",
		"kind", "address", "until", "net", "detail"}},
	{"replaced", []string{"token"}, []string{"token", "account", "message", "email", "until"}},
	{"link", []string{"token"}, []string{"token", "account", "kind", "email", "email_n", "made",
		"until"}},
	{"forgotten", []string{"id"}, []string{"id", "tenant", "who", "net", "at"}},
	{"session", []string{"account", "id"}, []string{"id", "account", "epoch", "began", "seen", "until", "net",
		"browser", "how"}},
	{"known_browser", []string{"account", "net", "browser"}, []string{"account", "net", "browser", "until"}},
	{"totp", []string{"account"}, []string{"account", "sealed", "made", "since", "step"}},
	{"recovery_code", []string{"account", "code"}, []string{"account", "code"}},
	{"passkey", []string{"id"}, []string{"id", "account", "rp", "name", "sealed", "made", "used"}},
	{"last_lookup", []string{"account", "server", "how"}, []string{"account", "server", "how", "at"}},
	{"phone_server", []string{"name"}, []string{"name", "token", "tenants", "created"}},
	{"delivery", []string{"message"}, []string{"message", "account", "state", "since", "expires", "due", "attempts",
		"answer", "email", "kind", "ended"}},
	{"dkim_key", []string{"tenant", "selector"}, []string{"tenant", "selector", "created", "sealed"}},
	{"certificate", []string{"tenant"}, []string{"tenant", "authority", "issued", "not_before", "not_after", "chain",
		"sealed", "due", "failures", "failure", "tried", "lease", "challenge"}},
	{"authority_key", []string{"authority"}, []string{"authority", "sealed", "made"}},
	{"audit", []string{"id"}, []string{"id", "event", "at", "action", "outcome", "tenant", "account",
		"username", "subject", "before", "after", "actor_kind", "actor", "actor_id", "sudo_user", "reason", "net",
		"request"}},
	{"audit_checkpoint", []string{"id"}, []string{"id", "at", "node", "first", "through", "changes", "tags",
		"seal", "mac"}},
	{"platform", []string{"name"}, []string{"name", "value"}},
	{"api_token", []string{"id"}, []string{"id", "name", "hash", "tenant", "scopes", "made", "made_by", "expires",
		"used"}},
	{"idempotency", []string{"token", "key"}, []string{"token", "key", "request", "status", "body", "until"}},
	{"bulk", []string{"id"}, []string{"id", "tenant", "action", "query", "through", "state", "position", "found",
		"done", "made", "changed", "lease", "actor_kind", "actor", "actor_id", "sudo_user", "reason", "net", "request",
		"failure"}},
	{"daily", []string{"tenant", "day", "kind"}, []string{"tenant", "day", "kind", "n"}},
	{"spent", []string{"expires", "nonce"}, []string{"expires", "nonce"}},
	{"taken", []string{"bucket", "at", "account"}, []string{"bucket", "at", "account", "until"}},
	{"hook", []string{"id"}, []string{"id", "name", "kind", "url", "plain", "everyone", "secret", "created",
		"given_up", "failed", "why", "events"}},
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

// Compare compares all rows of two databases. It changes neither.
func Compare(ctx context.Context, from, to string, connect Connect, progress Progress) (err error) {
	c, err := open(ctx, from, to, false, connect, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	n, err := engine.Count(c.to.Reads(ctx), `SELECT count(*) FROM revision WHERE subject = 'copy'`)
	if err != nil {
		return err
	}
	if n > 0 {
		return store.ErrUnfinished
	}
	return c.compare(ctx)
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

// insert adds a page of rows, unless an earlier run did.
func (t table) insert(e engine.Copier, tx engine.Tx, rows [][]any) error {
	if tx.Repeated() {
		last, err := t.last(tx)
		if err != nil || reflect.DeepEqual(last, t.keyOf(rows[len(rows)-1])) {
			return err
		}
	}
	return e.Insert(tx, t.name, t.columns, rows)
}

// last returns the last key of the table, or nil if it is empty.
func (t table) last(q engine.Querier) (key []any, err error) {
	descending := strings.Join(t.key, " DESC, ") + " DESC"
	err = q.Each(func(row engine.Scanner) error {
		key, err = scanAny(row, len(t.key))
		return err
	}, fmt.Sprintf(`SELECT %s FROM %s ORDER BY %s LIMIT 1`, strings.Join(t.key, ", "), t.name, descending))
	return key, err
}

// after returns up to a page of the rows that follow a key, or of the first rows for nil.
func (t table) after(q engine.Querier, key []any) (rows [][]any, err error) {
	keys, where := strings.Join(t.key, ", "), ""
	if key != nil {
		where = fmt.Sprintf("WHERE (%s) > (%s)", keys, engine.Placeholders(1, len(key)))
	}
	err = q.Each(func(row engine.Scanner) error {
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

func scanAny(row engine.Scanner, n int) ([]any, error) {
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

const (
	tenantsVersion = `SELECT n FROM revision WHERE subject = 'tenant'`
	bindingState   = `SELECT n FROM revision WHERE subject = 'binding'`
	linksState     = `SELECT n FROM revision WHERE subject = 'links'`
)

// numbered lists the tables whose ids are never reused.
var numbered = []string{"tenant", "audit"}

// copyNumbers copies the last ids, the version of the tenants, how far credentials are bound, and
// how links are stored. So the target does not reuse the id of a removed row, and no server sees
// the version decrease.
func (c *copier) copyNumbers() error {
	last := make(map[string]int64)
	for _, table := range numbered {
		id, err := c.source.LastID(c.from, table)
		if err != nil {
			return err
		}
		last[table] = id
	}
	version, err := engine.Count(c.from, tenantsVersion)
	if err != nil {
		return err
	}
	binding, err := engine.Count(c.from, bindingState)
	if err != nil {
		return err
	}
	links, err := engine.Count(c.from, linksState)
	if err != nil {
		return err
	}
	gaps := last["audit"]
	if _, gapless := c.source.(engine.Counter); gapless {
		if gaps, err = store.AuditGaps(c.from); err != nil {
			return err
		}
	}
	return c.to.Write(func(tx engine.Tx) error {
		if err := store.SetAuditGaps(tx, gaps); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE revision SET n = $1 WHERE subject = 'tenant' AND n < $1`, version)
		if err != nil {
			return err
		}
		if err := store.RaiseBinding(tx, account.Binding(binding)); err != nil {
			return err
		}
		if err := store.SetLinkOrder(tx, links); err != nil {
			return err
		}
		for _, table := range numbered {
			if err := c.to.SetLastID(tx, table, last[table]); err != nil {
				return err
			}
		}
		return nil
	})
}

// compareNumbers fails if one of these numbers is lower in the target than in the source.
func (c *copier) compareNumbers(ctx context.Context) error {
	for what, number := range map[string]func(engine.Copier, engine.Querier) (int64, error){
		"last id of a tenant": func(e engine.Copier, q engine.Querier) (int64, error) {
			return e.LastID(q, "tenant")
		},
		"last id of the audit trail": func(e engine.Copier, q engine.Querier) (int64, error) {
			return e.LastID(q, "audit")
		},
		"number of the tenants": func(_ engine.Copier, q engine.Querier) (int64, error) {
			return engine.Count(q, tenantsVersion)
		},
		"state of the binding": func(_ engine.Copier, q engine.Querier) (int64, error) {
			return engine.Count(q, bindingState)
		},
	} {
		ours, err := number(c.source, c.from)
		if err != nil {
			return err
		}
		theirs, err := number(c.to, c.to.Reads(ctx))
		if err != nil {
			return err
		}
		if theirs < ours {
			return fault.New(fault.Conflict,
				"the %s is %d in the source and %d in the target; do not use the copy", what, ours, theirs)
		}
	}
	return nil
}

// compare compares all rows of both databases, in the order of their keys.
func (c *copier) compare(ctx context.Context) error {
	for _, t := range copied {
		if err := c.compareTable(ctx, t); err != nil {
			return err
		}
	}
	return c.compareNumbers(ctx)
}

func (c *copier) compareTable(ctx context.Context, t table) error {
	total, err := engine.Count(c.from, `SELECT count(*) FROM `+t.name)
	if err != nil {
		return err
	}
	var last []any
	var done int64
	for {
		c.progress("compare "+t.name, done, total)
		ours, err := t.after(c.from, last)
		if err != nil {
			return err
		}
		theirs, err := t.after(c.to.Reads(ctx), last)
		if err != nil {
			return err
		}
		for i := range max(len(ours), len(theirs)) {
			if i >= len(ours) || i >= len(theirs) || !slices.EqualFunc(ours[i], theirs[i], equal) {
				return t.different(ours, theirs, i)
			}
		}
		if len(ours) == 0 {
			return nil
		}
		last, done = t.keyOf(ours[len(ours)-1]), done+int64(len(ours))
	}
}

// equal reports whether two values of columns are equal.
func equal(a, b any) bool {
	x, isBytes := a.([]byte)
	y, areBytes := b.([]byte)
	if isBytes || areBytes {
		return isBytes && areBytes && bytes.Equal(x, y)
	}
	return a == b
}

// different returns an error that names a different row by its key. Other columns may be secret.
func (t table) different(ours, theirs [][]any, i int) error {
	row, what := ours, "differs"
	switch {
	case i >= len(ours):
		row, what = theirs, "is only in the target"
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
	return fault.New(fault.Conflict, "the row %s of %s %s; do not use the copy", strings.Join(key, " "), t.name, what)
}
