package conn

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

func open(t testing.TB, path string) *Conn {
	t.Helper()
	c, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func script(t testing.TB, c *Conn, text string) {
	t.Helper()
	if err := c.Script(text); err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

type role string

func TestScanReturnsBoundValue(t *testing.T) {
	c := open(t, ":memory:")
	long := strings.Repeat("long ", 100_000)
	for _, v := range []struct{ name, want, got any }{
		{"int64", int64(-5), new(int64)},
		{"largest int64", int64(math.MaxInt64), new(int64)},
		{"smallest int64", int64(math.MinInt64), new(int64)},
		{"int", 7, new(int)},
		{"true", true, new(bool)},
		{"false", false, new(bool)},
		{"string", "téléphone ☎", new(string)},
		{"empty string", "", ptr("old")},
		{"string with a zero byte", "a\x00b", new(string)},
		{"long string", long, new(string)},
		{"blob", []byte{0, 1, 255}, new([]byte)},
		{"empty blob is not NULL", []byte{}, new([]byte)},
		{"nil blob", []byte(nil), ptr([]byte{1})},
		{"long blob", []byte(long), new([]byte)},
		{"any from int64", any(int64(7)), new(any)},
		{"any from float64", any(0.5), new(any)},
		{"any from string", any("x"), new(any)},
		{"any from blob", any([]byte{}), new(any)},
		{"any from NULL", nil, ptr(any(1))},
		{"NullInt64", sql.NullInt64{Int64: 3, Valid: true}, new(sql.NullInt64)},
		{"NullInt64 from NULL", sql.NullInt64{}, &sql.NullInt64{Int64: 3, Valid: true}},
		{"named string type", role("admin"), new(role)},
		{"uint8", uint8(200), new(uint8)},
	} {
		t.Run(v.name.(string), func(t *testing.T) {
			if err := c.Row([]any{v.got}, `SELECT $1`, v.want); err != nil {
				t.Fatal(err)
			}
			if got := reflect.ValueOf(v.got).Elem().Interface(); !reflect.DeepEqual(got, v.want) {
				t.Errorf("got %#v, want %#v", got, v.want)
			}
		})
	}
}

func TestRowErrors(t *testing.T) {
	c := open(t, ":memory:")
	var number int64
	var text string
	for _, v := range []struct {
		name string
		dst  []any
		arg  any
	}{
		{"text into int64", []any{&number}, "5"},
		{"integer into string", []any{&text}, 5},
		{"blob into string", []any{&text}, []byte("secret")},
		{"text into []byte", []any{new([]byte)}, "secret"},
		{"NULL into int64", []any{&number}, nil},
		{"NULL into bool", []any{new(bool)}, nil},
		{"overflow", []any{new(int8)}, 300},
		{"negative integer into uint64", []any{new(uint64)}, -1},
		{"destination is not a pointer", []any{number}, 5},
		{"more destinations than columns", []any{&number, &number}, 5},
		{"unsupported argument", []any{&number}, struct{}{}},
		{"time argument", []any{&number}, time.Unix(0, 0)},
	} {
		t.Run(v.name, func(t *testing.T) {
			err := c.Row(v.dst, `SELECT $1`, v.arg)
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error contains the value: %v", err)
			}
		})
	}
	if err := c.Row([]any{&number}, `SELECT $2`, 5); err == nil {
		t.Error("no error for a missing argument")
	}
	if err := c.Row([]any{&number}, `SELECT ?`, 5); err == nil {
		t.Error("no error for a parameter without a number")
	}
	if err := c.Row([]any{&number}, `SELECT 1; SELECT 2`); err == nil {
		t.Error("no error for two statements")
	}
	if err := c.Row([]any{&number}, `SELECT $1`, 5); err != nil || number != 5 {
		t.Errorf("a correct call after the errors: %d, %v", number, err)
	}
}

func TestParameterOrder(t *testing.T) {
	c := open(t, ":memory:")
	var a, b, d string
	for range 2 {
		err := c.Row([]any{&a, &b, &d}, `SELECT $2, $1, $2`, "one", "two", "unused")
		if err != nil || a+b+d != "twoonetwo" {
			t.Errorf("got %q %q %q, %v", a, b, d, err)
		}
	}
}

func TestExec(t *testing.T) {
	c := open(t, ":memory:")
	script(t, c, `-- a comment
		CREATE TABLE x (n INTEGER PRIMARY KEY, s TEXT); ; INSERT INTO x VALUES (1, 'a;b'), (2, 'c'); -- another`)
	for _, v := range []struct {
		query string
		want  int64
	}{
		{`UPDATE x SET s = 'd'`, 2},
		{`INSERT INTO x VALUES (1, 'e') ON CONFLICT DO NOTHING`, 0},
		{`DELETE FROM x WHERE n = 7`, 0},
		{`DELETE FROM x WHERE n = 1 RETURNING s`, 1},
	} {
		if n, err := c.Exec(v.query); err != nil || n != v.want {
			t.Errorf("%s: %d, %v; want %d", v.query, n, err, v.want)
		}
	}
	_, err := c.Exec(`INSERT INTO x VALUES (2, 'again')`)
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != 1555 ||
		!strings.Contains(e.Message, "x.n") { // SQLITE_CONSTRAINT_PRIMARYKEY
		t.Errorf("a duplicate key: %v", err)
	}
	if err := c.Script(`INSERT INTO x VALUES (8, ''); no such thing; INSERT INTO x VALUES (9, '')`); err == nil {
		t.Error("no error for a script with a syntax error")
	}
	var n int
	if err := c.Row([]any{&n}, `SELECT max(n) FROM x`); err != nil || n != 8 {
		t.Errorf("the last row that the script inserted is %d, %v; want 8", n, err)
	}
	if err := c.Row([]any{&n}, `SELECT n FROM x WHERE n = 100`); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("without a row: %v", err)
	}
}

func TestExecInsideEach(t *testing.T) {
	c := open(t, ":memory:")
	script(t, c, `CREATE TABLE x (n INTEGER, s TEXT)`)
	var got []string
	err := c.Each(t.Context(), func(row *Row) error {
		var s string
		if err := row.Scan(&s); err != nil {
			return err
		}
		if _, err := c.Exec(`INSERT INTO x VALUES ($1, $2)`, len(s), s); err != nil {
			return err
		}
		got = append(got, s)
		return nil
	}, `SELECT $1 UNION ALL SELECT $2 UNION ALL SELECT $1`, "a", "bc")
	if err != nil || strings.Join(got, " ") != "a bc a" {
		t.Errorf("got %q, %v", got, err)
	}
	var sum int
	if err := c.Row([]any{&sum}, `SELECT sum(n) FROM x`); err != nil || sum != 4 {
		t.Errorf("got %d, %v", sum, err)
	}
}

// A statement that was not run to its end must be reset. Otherwise it would keep its transaction open
// until the connection is closed, and the WAL could not be reset.
func TestStatementEndsItsTransaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	c := open(t, path)
	script(t, c, `PRAGMA journal_mode = WAL; CREATE TABLE x (n INTEGER PRIMARY KEY);
		INSERT INTO x VALUES (1), (2), (3)`)
	other := open(t, path)
	callbackErr := errors.New("from the callback")
	for name, run := range map[string]func() error{
		"first row of three": func() error { return c.Row([]any{new(int)}, `SELECT n FROM x`) },
		"scan error": func() error {
			if err := c.Row([]any{new(string)}, `SELECT n FROM x ORDER BY n`); err == nil {
				return errors.New("no error")
			}
			return nil
		},
		"callback error": func() error {
			err := c.Each(t.Context(), func(*Row) error { return callbackErr }, `SELECT n FROM x`)
			if !errors.Is(err, callbackErr) {
				return fmt.Errorf("got %w", err)
			}
			return nil
		},
		"error after the first row": func() error {
			rows := 0
			err := c.Each(t.Context(), func(*Row) error { rows++; return nil },
				`SELECT CASE n WHEN 1 THEN 1 ELSE abs($1) END FROM x`, int64(math.MinInt64))
			if err == nil || rows != 1 {
				return fmt.Errorf("%d rows, %w", rows, err)
			}
			return nil
		},
	} {
		if err := run(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		script(t, other, `INSERT INTO x SELECT max(n) + 1 FROM x`)
		var busy, pages, moved int
		err := other.Row([]any{&busy, &pages, &moved}, `PRAGMA wal_checkpoint(TRUNCATE)`)
		if err != nil || busy != 0 {
			t.Errorf("%s: the WAL is in use: busy %d, %v", name, busy, err)
		}
	}
}

func TestEachContext(t *testing.T) {
	c := open(t, ":memory:")
	const endless = `WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r`
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Each(ctx, func(*Row) error { return nil }, endless); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an endless statement: %v", err)
	}
	if err := c.Each(ctx, func(*Row) error { return nil }, `SELECT 1`); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a context that is done: %v", err)
	}
	// A context that is cancelled at any moment never interrupts the next statement.
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		err := c.Each(ctx, func(*Row) error {
			cancel()
			return nil
		}, `SELECT 1 UNION ALL SELECT 2`)
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("a context that was cancelled at the first row: %v", err)
		}
		var n int
		err = c.Row([]any{&n}, `WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3000)
			SELECT max(n) FROM r`)
		if err != nil || n != 3000 {
			t.Fatalf("the next statement: %d, %v", n, err)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	if _, err := Open(path, Options{ReadOnly: true}); err == nil {
		t.Error("no error for a missing database opened read-only")
	}
	if _, err := Open(path, Options{VFS: "none of these"}); err == nil {
		t.Error("no error for an unknown VFS")
	}
	if _, err := Open(filepath.Join(dir, "nowhere", "x.db"), Options{}); err == nil ||
		!strings.Contains(err.Error(), "unable to open") {
		t.Errorf("a missing directory: %v", err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("a failed Open created files: %v, %v", list, err)
	}
	c := open(t, path)
	script(t, c, `PRAGMA journal_mode = WAL; CREATE TABLE x (n INTEGER); BEGIN; INSERT INTO x VALUES (1)`)
	if _, err := c.Exec(`INSERT INTO x VALUES ($1)`, 2); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("Close did not remove the WAL and the wal-index: %v, %v", list, err)
	}
	c, err := Open(path, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var n int
	if err := c.Row([]any{&n}, `SELECT count(*) FROM x`); err != nil || n != 0 {
		t.Errorf("%d rows of an uncommitted transaction, %v", n, err)
	}
	if err := c.Script(`INSERT INTO x VALUES (3)`); err == nil {
		t.Error("no error for a write to a read-only database")
	}
}

func TestKeepWAL(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first.db"), filepath.Join(dir, "second.db")
	c := open(t, first)
	if _, err := c.Exec(`ATTACH $1 AS second`, second); err != nil {
		t.Fatal(err)
	}
	script(t, c, `PRAGMA journal_mode = WAL; PRAGMA second.journal_mode = WAL;
		CREATE TABLE x (n INTEGER); CREATE TABLE second.x (n INTEGER)`)
	if err := c.KeepWAL("second"); err != nil {
		t.Fatal(err)
	}
	if err := c.KeepWAL("third"); err == nil {
		t.Error("no error for an unknown database")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for path, kept := range map[string]bool{first: false, second: true} {
		if _, err := os.Stat(path + "-wal"); (err == nil) != kept {
			t.Errorf("the WAL of %s: %v, want kept: %v", path, err, kept)
		}
	}
}

func TestNoCheckpointOnClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	c := open(t, path)
	script(t, c, `PRAGMA journal_mode = WAL; CREATE TABLE x (n INTEGER); INSERT INTO x VALUES (1)`)
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	database, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.NoCheckpointOnClose(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.NoCheckpointOnClose(); err != nil {
		t.Errorf("on a closed connection: %v", err)
	}
	for name, want := range map[string][]byte{path: database, path + "-wal": wal} {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("Close changed %s (%v)", name, err)
		}
	}
	var n int64
	if err := open(t, path).Row([]any{&n}, `SELECT n FROM x`); n != 1 || err != nil {
		t.Errorf("read %d, %v; want 1", n, err)
	}
}

// BenchmarkRow compares finding one row with database/sql and the driver of the same SQLite.
func BenchmarkRow(b *testing.B) {
	path := filepath.Join(b.TempDir(), "x.db")
	c := open(b, path)
	script(b, c, `PRAGMA journal_mode = WAL;
		CREATE TABLE x (n INTEGER, name TEXT, mail TEXT, at BIGINT, until BIGINT, sealed BLOB,
			PRIMARY KEY (n, name)) WITHOUT ROWID;
		WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 2000)
		INSERT INTO x SELECT 1, 'user' || n, 'user' || n || '@example.org', n, n, randomblob(97) FROM r`)
	const query = `SELECT name, mail, at, until, sealed FROM x WHERE n = $1 AND name = $2`
	var name, mail string
	var at, until int64
	var sealed []byte
	b.Run("this package", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Row([]any{&name, &mail, &at, &until, &sealed}, query, int64(1), "user77"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("database/sql", func(b *testing.B) {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close()
		st, err := db.Prepare(query)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := st.QueryRow(int64(1), "user77").Scan(&name, &mail, &at, &until, &sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
}
