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
	"dialtone/internal/test/postgrestest"
)

func sourceFile(t *testing.T, ring *secret.Ring) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "from.db")
	s, err := openFile(t.Context(), path, ring)
	if err != nil {
		t.Fatal(err)
	}
	crowded(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func raw(t *testing.T, path, query string, dst ...any) {
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

func onPostgres(t *testing.T, url, query string) {
	t.Helper()
	postgrestest.Shared(t).Exec(t, url, query)
}

// Nobody sees an older number.
func TestCopyTakesTheNumberOfTenantsAlong(t *testing.T) {
	ring := secret.NewRing(midday)
	from, to := sourceFile(t, ring), postgrestest.Shared(t).Database(t)
	if err := Copy(t.Context(), "sqlite:"+from, to, quiet); err != nil {
		t.Fatal(err)
	}
	var n int64
	raw(t, from, `SELECT n FROM revision WHERE subject = 'tenant'`, &n)
	s := openStore(t, ring, "a", to)
	if got, err := s.TenantVersion(t.Context()); err != nil || got < n {
		t.Errorf("the tenants have number %d, and %d in the source, %v", got, n, err)
	}
}

// The source is not written to.
func TestCopyLeavesItsSourceAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.db")
	text, err := os.ReadFile("../testdata/version-0.sql")
	if err != nil {
		t.Fatal(err)
	}
	raw(t, path, string(text))
	var before, after int
	raw(t, path, `SELECT max(version) FROM schema_version`, &before)
	err = Copy(t.Context(), "sqlite:"+path, "sqlite:"+filepath.Join(t.TempDir(), "to.db"), quiet)
	raw(t, path, `SELECT max(version) FROM schema_version`, &after)
	if before != after {
		t.Errorf("copy (%v) brought its source from schema version %d to %d", err, before, after)
	}
}

// What a command changes in the source meanwhile is not lost in silence.
func TestSourceChangesDuringCopy(t *testing.T) {
	ring := secret.NewRing(midday)
	lite := sourceFile(t, ring)
	url := postgrestest.Shared(t).Database(t)
	if err := Copy(t.Context(), "sqlite:"+lite, url, quiet); err != nil {
		t.Fatal(err)
	}
	for from, open := range map[string]func() (*testStore, error){
		"sqlite:" + lite: func() (*testStore, error) { return openFile(t.Context(), lite, ring) },
		url:              func() (*testStore, error) { return openPostgres(t.Context(), ring, "", url) },
	} {
		done := false
		var failed error
		err := Copy(t.Context(), from, "sqlite:"+filepath.Join(t.TempDir(), "to.db"), func(what string, _, _ int64) {
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
			_, failed = s.Disable(t.Context(), 1, "active", midday)
		})
		if err == nil && failed == nil {
			t.Errorf("%.8s: an account was disabled in the source while it was copied, and nobody says so", from)
		}
		t.Logf("%.8s: copy %v; command %v", from, err, failed)
	}
}

// What is compared.
func TestCompareLooksAtIDs(t *testing.T) {
	ring := secret.NewRing(midday)
	from := sourceFile(t, ring)
	to := filepath.Join(t.TempDir(), "to.db")
	if err := Copy(t.Context(), "sqlite:"+from, "sqlite:"+to, quiet); err != nil {
		t.Fatal(err)
	}
	raw(t, to, `UPDATE sqlite_sequence SET seq = 1`)
	if err := Compare(t.Context(), "sqlite:"+from, "sqlite:"+to, quiet); err == nil {
		t.Error("the next tenant would get the id of one that is gone, and the comparison is content")
	}
}

// A copy that has all rows and its mark.
func TestCompareSeesTheMark(t *testing.T) {
	ring := secret.NewRing(midday)
	from, to := sourceFile(t, ring), filepath.Join(t.TempDir(), "to.db")
	if err := Copy(t.Context(), "sqlite:"+from, "sqlite:"+to, quiet); err != nil {
		t.Fatal(err)
	}
	raw(t, to, `INSERT INTO revision (subject, n) VALUES ('copy', 1)`)
	if err := Compare(t.Context(), "sqlite:"+from, "sqlite:"+to, quiet); err == nil {
		t.Error("the target is refused as a store, and the comparison is content")
	}
}

// The source has changed between two runs.
func TestSourceChangesBetweenTwoRuns(t *testing.T) {
	ring := secret.NewRing(midday)
	from, to := sourceFile(t, ring), postgrestest.Shared(t).Database(t)
	ctx, stop := context.WithCancel(t.Context())
	if err := Copy(ctx, "sqlite:"+from, to, func(what string, done, _ int64) {
		if what == "copy outbox" {
			stop()
		}
	}); err == nil {
		t.Fatal("it was not stopped")
	}
	s, err := openFile(t.Context(), from, ring)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Disable(t.Context(), 1, "active", midday)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	err = Copy(t.Context(), "sqlite:"+from, to, quiet)
	if err == nil {
		t.Error("the account is active in the copy")
	}
	t.Log(err)
}

// The connection to the target breaks in the middle of a page, and a statement in SQLite fails
// there.
func TestCopyBreaksWithinAPage(t *testing.T) {
	ring := secret.NewRing(midday)
	from := sourceFile(t, ring)
	var uid []byte
	raw(t, from, `SELECT uid FROM account ORDER BY uid LIMIT 1 OFFSET 1000`, &uid)
	url := postgrestest.Shared(t).Database(t)
	s := openStore(t, ring, "", url)
	s.Close()
	onPostgres(t, url, `DELETE FROM seal_key`)
	onPostgres(t, url, fmt.Sprintf(`
		CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
		CREATE TRIGGER die BEFORE INSERT ON account FOR EACH ROW
			WHEN (NEW.uid = '\x%x') EXECUTE FUNCTION die()`, uid))
	if err := Copy(t.Context(), "sqlite:"+from, url, quiet); err == nil {
		t.Fatal("nobody died")
	} else {
		t.Log(err)
	}
	onPostgres(t, url, `DROP FUNCTION die CASCADE`)
	if err := Copy(t.Context(), "sqlite:"+from, url, quiet); err != nil {
		t.Error(err)
	}
	to := filepath.Join(t.TempDir(), "to.db")
	if err := makeEmpty(t, to); err != nil {
		t.Fatal(err)
	}
	raw(t, to, fmt.Sprintf(`CREATE TRIGGER die BEFORE INSERT ON account
		WHEN NEW.uid = x'%x' BEGIN SELECT RAISE(FAIL, 'dead'); END`, uid))
	if err := Copy(t.Context(), "sqlite:"+from, "sqlite:"+to, quiet); err == nil {
		t.Fatal("nobody died")
	} else {
		t.Log(err)
	}
	raw(t, to, `DROP TRIGGER die`)
	if err := Copy(t.Context(), "sqlite:"+from, "sqlite:"+to, quiet); err != nil {
		t.Error(err)
	}
	if err := Compare(t.Context(), url, "sqlite:"+to, quiet); err != nil {
		t.Error(err)
	}
}

// A difference in any column of any table.
func TestCompareSeesEveryColumn(t *testing.T) {
	ring := secret.NewRing(midday)
	from, to := sourceFile(t, ring), filepath.Join(t.TempDir(), "to.db")
	if err := Copy(t.Context(), "sqlite:"+from, "sqlite:"+to, quiet); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	for _, tb := range copied {
		for _, column := range tb.columns {
			if err := os.WriteFile(to, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			change := column + ` = CASE typeof(` + column + `)
				WHEN 'integer' THEN CASE WHEN '` + column + `' IN ('` + strings.Join(boolColumns, `', '`) + `')
					THEN 1 - ` + column + ` ELSE ` + column + ` + 1000000 END
				WHEN 'text' THEN ` + column + ` || 'x'
				WHEN 'blob' THEN CAST(` + column + ` || x'01' AS BLOB)
				ELSE CASE '` + column + `' WHEN 'token' THEN x'01' ELSE 1 END END`
			keys := strings.Join(tb.key, ", ")
			raw(t, to, `PRAGMA foreign_keys=0; UPDATE `+tb.name+` SET `+change+`
				WHERE (`+keys+`) = (SELECT `+keys+` FROM `+tb.name+` ORDER BY `+keys+` DESC LIMIT 1)`)
			err := Compare(t.Context(), "sqlite:"+from, "sqlite:"+to, quiet)
			if err == nil || !strings.Contains(err.Error(), tb.name) {
				t.Errorf("%s.%s: %v", tb.name, column, err)
			}
		}
	}
}

// No table and no column is forgotten, today or by a migration to come.
func TestCopyHasEveryColumn(t *testing.T) {
	stays := []string{
		"revision.subject",
		"revision.n",
		"schema_version.version",
		"schema_version.checksum",
		"schema_version.applied",
		"schema_floor.version",
		"schema_floor.floor",
		"node.id",
		"node.beat",
		"cluster.number",
		"outbox.node",
		"delivery.node",
		"export.name",
		"export.id",
		"export.changes",
		"export_due.n",
		"export_due.subject",
	}
	var taken []string
	for _, tb := range copied {
		for _, c := range tb.columns {
			taken = append(taken, tb.name+"."+c)
		}
	}
	path := filepath.Join(t.TempDir(), "x.db")
	if err := makeEmpty(t, path); err != nil {
		t.Fatal(err)
	}
	url := postgrestest.Shared(t).Database(t)
	s := openStore(t, secret.NewRing(midday), "", url)
	l, err := openFile(t.Context(), path, secret.NewRing(midday))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		s     *testStore
		query string
	}{
		{l, `SELECT m.name || '.' || c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
			WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'`},
		{s, `SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'`},
	} {
		err := c.s.engine.Reads(t.Context()).Each(func(row engine.Scanner) error {
			var name string
			err := row.Scan(&name)
			if !slices.Contains(taken, name) && !slices.Contains(stays, name) {
				t.Errorf("%s is not copied", name)
			}
			return err
		}, c.query)
		if err != nil {
			t.Fatal(err)
		}
	}
}
