package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite/conn"
	"dialtone/internal/test/postgrestest"
)

// schemas returns the tables of a database by schema, with the versions in each schema_version.
func schemas(t *testing.T, url string) (text string) {
	t.Helper()
	e, err := postgres.OpenTo(t.Context(), migrations.Nothing, "", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	err = e.Reads(t.Context()).Row(`SELECT string_agg(n, ' ') FROM (
		SELECT schemaname || ' ' || count(*) n FROM pg_tables
		WHERE schemaname !~ '^(pg_|information_schema)' GROUP BY schemaname ORDER BY schemaname) counts`).Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// looking contains commands of each area that need a store.
var looking = []string{
	"account list --tenant localhost", "account add ann --email ann@phone.test --name Ann --tenant localhost",
	"audit list", "token list", "stats", "tenant list", "tenant add phone.test", "signups show",
	"directory token list", "directory export status", "directory hook list", "mail list",
	"mail dkim list localhost", "verify", "keys rotate", "keys bind",
}

// No command and no server creates a second store in a schema that comes before that of the store.
func TestNoSecondStore(t *testing.T) {
	t.Parallel()
	c := postgrestest.Shared(t)
	url, dir := c.Database(t), t.TempDir()
	environ := []string{
		"DIALTONE_DATABASE=" + url, "DIALTONE_DATA=" + dir, "DIALTONE_OPS_LISTEN=127.0.0.1:9",
		"DIALTONE_LISTEN=127.0.0.1:9",
	}
	execute := func(line string) (status int, out string) {
		var b strings.Builder
		status = run(t.Context(), strings.Fields(line), environ, &b, &b)
		return status, b.String()
	}
	if status, out := execute("tenant add localhost"); status != 0 {
		t.Fatal(out)
	}
	path := `DO $$BEGIN EXECUTE format('ALTER DATABASE %%I SET search_path = %s', current_database()); END$$`
	c.Exec(t, url, "CREATE SCHEMA early; "+fmt.Sprintf(path, "early, public"))
	for _, line := range append(looking, "store migrate", "restore --after-database", "serve",
		"backup --archive "+dir+"/x.tar",
		"init --admin ann --email ann@phone.test --host phone.test --yes --config "+dir+"/dialtone.toml") {
		status, out := execute(line)
		if status != exitConfig || !strings.Contains(out, `tables are in the schema "public", but "early"`) {
			t.Errorf("dialtone %s: status %d, %s", line, status, out)
		}
	}
	wantFinding(t, examined(t, environ...), finding.Fault, "store", `in the schema "public", but "early"`)
	c.Exec(t, url, fmt.Sprintf(path, "public, early"))
	if got := schemas(t, url); strings.Contains(got, "early") {
		t.Errorf("the tables by schema are now %s", got)
	}
	// Somebody has already created a second store. Only doctor reports it, since Dialtone created
	// its functions.
	second := []string{
		"DIALTONE_DATABASE=" + url + "&search_path=early", "DIALTONE_DATA=" + t.TempDir(),
	}
	if status, out, stderr := runCommand(t, second, "tenant", "add", "localhost"); status != 0 {
		t.Fatal(out, stderr)
	}
	list := examined(t, environ...)
	wantFinding(t, list, finding.Warning, "store", `the schema "early" contains another store`)
	for _, f := range list {
		if strings.Contains(f.Cause, "did not create") {
			t.Errorf("%+v", f)
		}
	}
	if status, out := execute("verify"); status != 0 {
		t.Errorf("verify: status %d, %s", status, out)
	}
	c.Exec(t, url, fmt.Sprintf(path, "early, public"))
	list = examined(t, environ...)
	wantFinding(t, list, finding.Fault, "keys", `sealed with another key`)
	wantFinding(t, list, finding.Warning, "store", `the schema "public" contains another store`)
}

// Only commands that are meant to update a store update one of the previous version.
func TestCommandsDoNotUpdateSchema(t *testing.T) {
	t.Parallel()
	c := postgrestest.Shared(t)
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			dir := t.TempDir()
			environ := []string{
				"DIALTONE_DATA=" + dir, "DIALTONE_OPS_LISTEN=127.0.0.1:9", "DIALTONE_LISTEN=127.0.0.1:9",
			}
			var url string
			if engine == "postgres" {
				url = c.Database(t)
				environ = append(environ, "DIALTONE_DATABASE="+url)
			}
			execute := func(line string) (status int, out string) {
				var b strings.Builder
				status = run(t.Context(), strings.Fields(line), environ, &b, &b)
				return status, b.String()
			}
			if status, out := execute("tenant add localhost"); status != 0 {
				t.Fatal(out)
			}
			newest := migrations.Newest(engine)
			// The tables of the newest version exist already, so that only the version number shows
			// an update.
			forget := fmt.Sprintf(`DELETE FROM schema_floor WHERE version = %d;
				DELETE FROM schema_version WHERE version = %[1]d`, newest)
			database := filepath.Join(dir, "dialtone.db")
			change := func(script string) {
				if url != "" {
					c.Exec(t, url, script)
					return
				}
				db, err := conn.Open(database, conn.Options{})
				if err == nil {
					err = errors.Join(db.Script(script), db.Close())
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			change(fmt.Sprintf(`INSERT INTO schema_version (version, checksum, applied) VALUES (%d, 'later', 0);
				INSERT INTO schema_floor (version, floor) VALUES (%[1]d, 1)`, newest+1))
			list := examined(t, environ...)
			wantFinding(t, list, finding.Warning, "store", fmt.Sprintf("knows only versions up to %d", newest))
			for _, f := range list {
				if strings.Contains(f.Next, "undo") {
					t.Errorf("for a newer schema: %+v", f)
				}
			}
			change(fmt.Sprintf(`DELETE FROM schema_floor WHERE version = %d;
				DELETE FROM schema_version WHERE version = %[1]d`, newest+1))
			change(forget)
			before, _ := os.ReadFile(database)
			want := regexp.MustCompile(fmt.Sprintf(
				`^dialtone: (.*: )?the schema lacks version %d, and this program needs those up to %[1]d: the store `+
					`has to be updated for this program: run dialtone store migrate`, newest))
			for _, line := range looking {
				if status, out := execute(line); status != exitConfig || !want.MatchString(out) {
					t.Errorf("dialtone %s: status %d, %s", line, status, out)
				} else if strings.HasPrefix(line, "backup ") &&
					!strings.Contains(out, "the program of the earlier version") {
					t.Errorf("dialtone %s does not say how to make a backup before: %s", line, out)
				}
			}
			wantFinding(t, examined(t, environ...), finding.Warning, "store", "so the store was not checked")
			if after, _ := os.ReadFile(database); !bytes.Equal(before, after) {
				t.Error("the database was changed")
			}
		})
	}
}
