package transfer

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "modernc.org/sqlite"

	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/test/postgrestest"
)

// newSource creates an SQLite database with everything that fillStore adds, and returns its path.
func newSource(t *testing.T, ring *secret.Ring) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "from.db")
	s, err := openFile(t.Context(), path, ring)
	if err != nil {
		t.Fatal(err)
	}
	fillStore(t, s, ring)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// execSQLite runs a statement, or a query with one row if there are values to scan into.
func execSQLite(t *testing.T, path, query string, dst ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if len(dst) == 0 {
		_, err = db.Exec(query)
	} else {
		err = db.QueryRow(query).Scan(dst...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func execPostgres(t *testing.T, url, query string) {
	t.Helper()
	postgrestest.Shared(t).Exec(t, url, query)
}

// The version of the tenants does not decrease in the copy.
func TestCopyKeepsTenantVersion(t *testing.T) {
	ring := secret.NewRing(noon)
	from, to := newSource(t, ring), postgrestest.Shared(t).Database(t)
	if err := Copy(t.Context(), "sqlite:"+from, to, Directly, noProgress); err != nil {
		t.Fatal(err)
	}
	var n int64
	execSQLite(t, from, `SELECT n FROM revision WHERE subject = 'tenant'`, &n)
	s := openStore(t, ring, "a", to)
	if got, err := s.TenantVersion(t.Context()); err != nil || got < n {
		t.Errorf("TenantVersion: got %d, %v, want at least %d", got, err, n)
	}
}

// The links of the source work in the copy.
func TestCopyKeepsLinkOrder(t *testing.T) {
	ring, token := secret.NewRing(noon), secret.NewTokenAt(noon)
	for state, want := range map[string][32]byte{"0": token.Hash(), "1": token.OrderedHash()} {
		from, to := newSource(t, ring), postgrestest.Shared(t).Database(t)
		var n int64
		execSQLite(t, from, `UPDATE revision SET n = `+state+` WHERE subject = 'links' RETURNING n`, &n)
		if err := Copy(t.Context(), "sqlite:"+from, to, Directly, noProgress); err != nil {
			t.Fatal(err)
		}
		if got := openStore(t, ring, "a", to).LinkHash(token); got != want {
			t.Errorf("links in state %s: the hash is %x, want %x", state, got, want)
		}
	}
}

// A source of an older version is not migrated.
func TestCopyDoesNotMigrateSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.db")
	text, err := os.ReadFile("../testdata/version-0.sql")
	if err != nil {
		t.Fatal(err)
	}
	execSQLite(t, path, string(text))
	var before, after int
	execSQLite(t, path, `SELECT max(version) FROM schema_version`, &before)
	err = Copy(t.Context(), "sqlite:"+path, "sqlite:"+filepath.Join(t.TempDir(), "to.db"), Directly, noProgress)
	execSQLite(t, path, `SELECT max(version) FROM schema_version`, &after)
	if before != after {
		t.Errorf("Copy (%v) changed the schema version of its source from %d to %d", err, before, after)
	}
}

// If a command changes the source during the copy, the copy or the command fails.
func TestSourceChangesDuringCopy(t *testing.T) {
	ring := secret.NewRing(noon)
	path := newSource(t, ring)
	url := postgrestest.Shared(t).Database(t)
	if err := Copy(t.Context(), "sqlite:"+path, url, Directly, noProgress); err != nil {
		t.Fatal(err)
	}
	for from, open := range map[string]func() (*testStore, error){
		"sqlite:" + path: func() (*testStore, error) { return openFile(t.Context(), path, ring) },
		url:              func() (*testStore, error) { return openPostgres(t.Context(), ring, "", url) },
	} {
		done := false
		var failed error
		to := "sqlite:" + filepath.Join(t.TempDir(), "to.db")
		err := Copy(t.Context(), from, to, Directly, func(what string, _, _ int64) {
			if done || !strings.HasPrefix(what, "copy spent") {
				return
			}
			done = true
			s, err := open()
			if err != nil {
				failed = err
				return
			}
			defer s.Close()
			_, failed = s.Disable(t.Context(), 1, "active", noon)
		})
		if err == nil && failed == nil {
			t.Errorf("%.8s: an account was disabled in the source during the copy, and both succeeded", from)
		}
		t.Logf("%.8s: Copy: %v; Disable: %v", from, err, failed)
	}
}

// The next id of a tenant is compared.
func TestCompareSeesNextTenantID(t *testing.T) {
	ring := secret.NewRing(noon)
	from := newSource(t, ring)
	to := filepath.Join(t.TempDir(), "to.db")
	if err := Copy(t.Context(), "sqlite:"+from, "sqlite:"+to, Directly, noProgress); err != nil {
		t.Fatal(err)
	}
	execSQLite(t, to, `UPDATE sqlite_sequence SET seq = 1`)
	if err := Compare(t.Context(), "sqlite:"+from, "sqlite:"+to, Directly, noProgress); err == nil {
		t.Error("the next tenant would get the id of a removed tenant, and Compare succeeds")
	}
}

// A copy that has all rows but is marked as unfinished is not equal.
func TestCompareSeesUnfinishedMark(t *testing.T) {
	ring := secret.NewRing(noon)
	from, to := newSource(t, ring), filepath.Join(t.TempDir(), "to.db")
	if err := Copy(t.Context(), "sqlite:"+from, "sqlite:"+to, Directly, noProgress); err != nil {
		t.Fatal(err)
	}
	execSQLite(t, to, `INSERT INTO revision (subject, n) VALUES ('copy', 1)`)
	if err := Compare(t.Context(), "sqlite:"+from, "sqlite:"+to, Directly, noProgress); err == nil {
		t.Error("the target is marked as unfinished, and Compare succeeds")
	}
}

// A copy is not continued if the source has changed.
func TestSourceChangesBetweenRuns(t *testing.T) {
	ring := secret.NewRing(noon)
	from, to := newSource(t, ring), postgrestest.Shared(t).Database(t)
	ctx, stop := context.WithCancel(t.Context())
	if err := Copy(ctx, "sqlite:"+from, to, Directly, func(what string, done, _ int64) {
		if what == "copy outbox" {
			stop()
		}
	}); err == nil {
		t.Fatal("the copy was not cancelled")
	}
	s, err := openFile(t.Context(), from, ring)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Disable(t.Context(), 1, "active", noon)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	err = Copy(t.Context(), "sqlite:"+from, to, Directly, noProgress)
	if err == nil {
		t.Error("Copy succeeds, and the account is active in the copy")
	}
	t.Log(err)
}

// A copy fails in the middle of a page and can be repeated. On PostgreSQL the connection breaks, and
// on SQLite a statement fails.
func TestCopyFailsWithinPage(t *testing.T) {
	ring := secret.NewRing(noon)
	from := newSource(t, ring)
	var uid []byte
	execSQLite(t, from, `SELECT uid FROM account ORDER BY uid LIMIT 1 OFFSET 1000`, &uid)
	url := postgrestest.Shared(t).Database(t)
	s := openStore(t, ring, "", url)
	s.Close()
	execPostgres(t, url, `DELETE FROM seal_key`)
	execPostgres(t, url, fmt.Sprintf(`
		CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
		CREATE TRIGGER fail BEFORE INSERT ON account FOR EACH ROW
			WHEN (NEW.uid = '\x%x') EXECUTE FUNCTION fail()`, uid))
	if err := Copy(t.Context(), "sqlite:"+from, url, Directly, noProgress); err == nil {
		t.Fatal("Copy succeeds")
	} else {
		t.Log(err)
	}
	execPostgres(t, url, `DROP FUNCTION fail CASCADE`)
	if err := Copy(t.Context(), "sqlite:"+from, url, Directly, noProgress); err != nil {
		t.Error(err)
	}
	to := filepath.Join(t.TempDir(), "to.db")
	if err := makeEmpty(t, to); err != nil {
		t.Fatal(err)
	}
	execSQLite(t, to, fmt.Sprintf(`CREATE TRIGGER fail BEFORE INSERT ON account
		WHEN NEW.uid = x'%x' BEGIN SELECT RAISE(FAIL, 'failed'); END`, uid))
	if err := Copy(t.Context(), "sqlite:"+from, "sqlite:"+to, Directly, noProgress); err == nil {
		t.Fatal("Copy succeeds")
	} else {
		t.Log(err)
	}
	execSQLite(t, to, `DROP TRIGGER fail`)
	if err := Copy(t.Context(), "sqlite:"+from, "sqlite:"+to, Directly, noProgress); err != nil {
		t.Error(err)
	}
	if err := Compare(t.Context(), url, "sqlite:"+to, Directly, noProgress); err != nil {
		t.Error(err)
	}
}

// Compare finds a difference in any column of any table.
func TestCompareSeesEveryColumn(t *testing.T) {
	ring := secret.NewRing(noon)
	from, to := newSource(t, ring), filepath.Join(t.TempDir(), "to.db")
	if err := Copy(t.Context(), "sqlite:"+from, "sqlite:"+to, Directly, noProgress); err != nil {
		t.Fatal(err)
	}
	c, err := open(t.Context(), "sqlite:"+from, "sqlite:"+to, false, Directly, noProgress)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	edit, err := sqlite.Connect(to, "", `PRAGMA foreign_keys = 0; ATTACH '`+from+`' AS source`)
	if err != nil {
		t.Fatal(err)
	}
	defer edit.Close()
	for _, tb := range copied {
		columns := strings.Join(tb.columns, ", ")
		for _, column := range tb.columns {
			change := column + ` = CASE typeof(` + column + `)
				WHEN 'integer' THEN CASE WHEN '` + column + `' IN ('` + strings.Join(boolColumns, `', '`) + `')
					THEN 1 - ` + column + ` ELSE ` + column + ` + 1000000 END
				WHEN 'text' THEN ` + column + ` || 'x'
				WHEN 'blob' THEN CAST(` + column + ` || x'01' AS BLOB)
				ELSE CASE '` + column + `' WHEN 'token' THEN x'01' ELSE 1 END END`
			keys := strings.Join(tb.key, ", ")
			last := `SELECT ` + keys + ` FROM ` + tb.name + ` ORDER BY ` + keys + ` DESC LIMIT 1`
			err := edit.Script(`UPDATE ` + tb.name + ` SET ` + change + ` WHERE (` + keys + `) = (` + last + `)`)
			if err != nil {
				t.Fatal(err)
			}
			err = c.compareTable(t.Context(), tb)
			if column == tb.columns[0] {
				err = c.compare(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), " of "+tb.name+" ") {
				t.Errorf("%s.%s: %v", tb.name, column, err)
			}
			if err := edit.Script(`DELETE FROM ` + tb.name + `; INSERT INTO ` + tb.name + ` (` + columns + `)
				SELECT ` + columns + ` FROM source.` + tb.name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.compare(t.Context()); err != nil {
		t.Errorf("after all changes were taken back: %v", err)
	}
}

// Every column of every table is copied, or named here as one that is not.
func TestEveryColumnIsCopied(t *testing.T) {
	notCopied := []string{
		"revision.subject", "revision.n",
		"schema_version.version", "schema_version.checksum", "schema_version.applied",
		"schema_floor.version", "schema_floor.floor",
		"node.id", "node.beat", "node.binding_beat", "node.instance", "outbox.node", "delivery.node",
		"cluster.number",
		"export.name", "export.id", "export.changes", "export_due.n", "export_due.subject",
	}
	var columns []string
	for _, tb := range copied {
		for _, c := range tb.columns {
			columns = append(columns, tb.name+"."+c)
		}
	}
	path := filepath.Join(t.TempDir(), "x.db")
	if err := makeEmpty(t, path); err != nil {
		t.Fatal(err)
	}
	url := postgrestest.Shared(t).Database(t)
	onServer := openStore(t, secret.NewRing(noon), "", url)
	onFile, err := openFile(t.Context(), path, secret.NewRing(noon))
	if err != nil {
		t.Fatal(err)
	}
	defer onFile.Close()
	for _, c := range []struct {
		s     *testStore
		query string
	}{
		{onFile, `SELECT m.name || '.' || c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
			WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'`},
		{onServer, `SELECT table_name || '.' || column_name FROM information_schema.columns
			WHERE table_schema = 'public'`},
	} {
		err := c.s.engine.Reads(t.Context()).Each(func(row engine.Scanner) error {
			var name string
			err := row.Scan(&name)
			if !slices.Contains(columns, name) && !slices.Contains(notCopied, name) {
				t.Errorf("%s is not copied", name)
			}
			return err
		}, c.query)
		if err != nil {
			t.Fatal(err)
		}
	}
}
