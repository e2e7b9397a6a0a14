package postgres_test

import (
	"net/url"
	"strings"
	"testing"

	"dialtone/internal/store/migrations"
	"dialtone/internal/store/postgres"
	"dialtone/internal/test/postgrestest"
)

// faults returns what CheckSchema reports of the database at a URL.
func faults(t *testing.T, url string) (list []string) {
	t.Helper()
	e, err := postgres.OpenTo(t.Context(), migrations.Create, "", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.CheckSchema(t.Context(), func(text string) { list = append(list, text) }); err != nil {
		t.Fatal(err)
	}
	return list
}

// CheckSchema finds no fault in a new store, whatever the name of its schema, even if a later
// schema contains a second store.
func TestCheckSchemaOfAnyName(t *testing.T) {
	c := postgrestest.Shared(t)
	database := c.Database(t)
	const odd, later = "\"an \"\"odd\"\" \\ 'one'. \n{schema}\"", "later"
	c.Exec(t, database, `CREATE SCHEMA `+odd+`; CREATE SCHEMA later`)
	in := func(path string) string { return database + "&search_path=" + url.PathEscape(path) }
	for _, path := range []string{later, odd, odd + ", later"} {
		if got := faults(t, in(path)); len(got) > 0 {
			t.Errorf("%s: %q", path, got)
		}
	}
	c.Exec(t, database, `CREATE OR REPLACE FUNCTION later.dialtone_tell() RETURNS trigger LANGUAGE plpgsql
		AS 'BEGIN RETURN NULL; END'`)
	if got := faults(t, in(odd+", later")); len(got) != 1 ||
		!strings.HasPrefix(got[0], "dialtone did not create the function later.dialtone_tell(): ") {
		t.Errorf("another function in the later schema: %q", got)
	}
	c.Exec(t, database, `DROP SCHEMA later CASCADE; CREATE SCHEMA later;
		ALTER TABLE `+odd+`.hook_tenant DROP CONSTRAINT hook_tenant_hook_fkey;
		CREATE TABLE later.hook (LIKE `+odd+`.hook INCLUDING ALL);
		ALTER TABLE `+odd+`.hook_tenant ADD FOREIGN KEY (hook) REFERENCES later.hook (id) ON DELETE CASCADE`)
	if got := faults(t, in(odd+", later")); len(got) != 1 ||
		!strings.Contains(got[0], "hook_tenant_hook_fkey of the table hook_tenant is not as dialtone created it") {
		t.Errorf("a foreign key to a table of the later schema: %q", got)
	}
}

// Settings that can lose commits are reported, unless the URL accepts them.
func TestDurableSettings(t *testing.T) {
	c := postgrestest.Start(t, "fsync=off", "full_page_writes=off")
	database := c.Database(t)
	got := strings.Join(faults(t, database), "\n")
	if !strings.Contains(got, "the setting fsync is off, so a crash can lose") ||
		!strings.Contains(got, "the setting full_page_writes is off, so a crash can lose") ||
		strings.Count(got, "\n") != 1 {
		t.Errorf("got %s", got)
	}
	for _, words := range []string{"on", "TRUE", "remote_apply", "1"} {
		c.Exec(t, database, `ALTER ROLE postgres SET synchronous_commit = '`+words+`'`)
		if got := faults(t, database+"&dialtone.accept=fsync,full_page_writes"); len(got) > 0 {
			t.Errorf("accepted, synchronous_commit is %s: %q", words, got)
		}
	}
	c.Exec(t, database, `ALTER ROLE postgres SET synchronous_commit = 'No'`)
	const accepted = "&dialtone.accept=fsync,full_page_writes"
	got = strings.Join(faults(t, database+accepted), "\n")
	if !strings.Contains(got, "the setting synchronous_commit is off") ||
		!strings.Contains(got, "the role postgres sets synchronous_commit to ") || strings.Count(got, "\n") != 1 {
		t.Errorf("got %s", got)
	}
	if got := faults(t, database+accepted+",synchronous_commit"); len(got) > 0 {
		t.Errorf("accepted: %q", got)
	}
	if exists, err := postgres.HasStore(t.Context(), database+accepted); !exists || err != nil {
		t.Errorf("HasStore: %v, %v", exists, err)
	}
	bad := database + "&dialtone.accept=port"
	_, err := postgres.Open(t.Context(), "", bad, nil)
	if _, second := postgres.HasStore(t.Context(), bad); err == nil || second == nil || err.Error() != second.Error() ||
		!strings.Contains(err.Error(), `dialtone.accept in the database's URL has "port"; it takes fsync, `) {
		t.Errorf("an unknown setting: %v, %v", err, second)
	}
}

// Through a pooler, the check looks at the schema that the settings of the URL choose.
func TestCheckSchemaThroughPgBouncer(t *testing.T) {
	eachPoolMode(t, func(t *testing.T, through func(string) string) {
		c := postgrestest.Shared(t)
		database := c.Database(t)
		c.Exec(t, database, `CREATE SCHEMA later`)
		pooled := through(database) + "&search_path=later&dialtone.accept=fsync"
		if got := faults(t, pooled); len(got) > 0 {
			t.Errorf("a new database: %q", got)
		}
		c.Exec(t, database, `DROP INDEX later.audit_at`)
		if got := faults(t, pooled); len(got) != 1 || got[0] != "the index audit_at is missing in the database" {
			t.Errorf("without an index: %q", got)
		}
	})
}

// The check needs no rights beyond those of the owner of the tables.
func TestCheckSchemaOfOrdinaryRole(t *testing.T) {
	c := postgrestest.Shared(t)
	database, err := url.Parse(c.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	c.Exec(t, database.String(), `CREATE ROLE plain LOGIN PASSWORD 'plain'; CREATE SCHEMA plain AUTHORIZATION plain`)
	t.Cleanup(func() { c.Exec(t, database.String(), `DROP OWNED BY plain; DROP ROLE plain`) })
	plain := *database
	plain.User = url.UserPassword("plain", "plain")
	if got := faults(t, plain.String()); len(got) > 0 {
		t.Errorf("a new database: %q", got)
	}
	c.Exec(t, plain.String(), `ALTER ROLE plain SET synchronous_commit = off; ALTER ROLE plain SET DateStyle = german`)
	if got := strings.Join(faults(t, plain.String()), "\n"); strings.Count(got, "\n") != 1 ||
		!strings.Contains(got, "the role plain sets synchronous_commit to off") {
		t.Errorf("with a setting of the role: %s", got)
	}
}
