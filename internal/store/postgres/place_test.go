package postgres_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"dialtone/internal/store/migrations"
	"dialtone/internal/store/postgres"
	"dialtone/internal/test/postgrestest"
)

const tablesIn = `SELECT count(*) FROM pg_tables WHERE schemaname = $1`

// A schema that comes before that of the store in the search_path gets no second store.
func TestNoSecondStoreInEarlierSchema(t *testing.T) {
	c := postgrestest.Shared(t)
	url := c.Database(t)
	open := func(change migrations.Change) error {
		e, err := postgres.OpenTo(t.Context(), change, "", url, nil)
		if err != nil {
			return err
		}
		return e.Close()
	}
	if exists, err := postgres.HasStore(t.Context(), url); exists || err != nil {
		t.Fatalf("an empty database: %v, %v", exists, err)
	}
	for _, change := range []migrations.Change{migrations.Nothing, migrations.Upgrade} {
		if err := open(change); !errors.Is(err, migrations.ErrNoTables) {
			t.Errorf("an empty database opened to %d: %v", change, err)
		}
	}
	if n := tables(t, url, "public"); n != 0 {
		t.Fatalf("the database got %d tables", n)
	}
	if err := open(migrations.Create); err != nil {
		t.Fatal(err)
	}
	c.Exec(t, url, `CREATE SCHEMA "Early one"; CREATE SCHEMA later;
		DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = "Early one", public, later', current_database());
		END$$`)
	check := func() {
		t.Helper()
		for _, change := range []migrations.Change{migrations.Nothing, migrations.Upgrade, migrations.Create} {
			err := open(change)
			if !errors.Is(err, postgres.ErrMisplaced) || !strings.Contains(err.Error(), `"Early one"`) ||
				!strings.Contains(err.Error(), `SET search_path = "public"`) {
				t.Errorf("opened to %d: %v", change, err)
			}
		}
		if _, err := postgres.HasStore(t.Context(), url); !errors.Is(err, postgres.ErrMisplaced) {
			t.Errorf("HasStore: %v", err)
		}
	}
	check()
	if n := tables(t, url, "Early one"); n != 0 {
		t.Errorf("the earlier schema got %d tables", n)
	}
	// Another program has a table of that name there.
	c.Exec(t, url, `CREATE TABLE "Early one".schema_version (version TEXT, checksum TEXT, installed_on TIMESTAMP)`)
	check()

	c.Exec(t, url, `DROP TABLE "Early one".schema_version; DROP SCHEMA "Early one"`)
	if err := open(migrations.Nothing); err != nil {
		t.Errorf("without the earlier schema: %v", err)
	}
	if used, hidden, err := postgres.Hidden(t.Context(), url); used != "public" || hidden != nil || err != nil {
		t.Errorf("Hidden: %s, %v, %v", used, hidden, err)
	}
	// Of two stores, the first is used, and the other one is reported.
	c.Exec(t, url, `CREATE TABLE later.schema_version (version BIGINT, checksum TEXT, applied BIGINT)`)
	if err := open(migrations.Upgrade); err != nil {
		t.Errorf("with a second store: %v", err)
	}
	used, hidden, err := postgres.Hidden(t.Context(), url)
	if used != "public" || !slices.Equal(hidden, []string{"later"}) || err != nil {
		t.Errorf("Hidden: %s, %v, %v", used, hidden, err)
	}
}

// A store of an older program is not changed unless that is allowed.
func TestOpenToNothing(t *testing.T) {
	c := postgrestest.Shared(t)
	url := c.Database(t)
	e, err := postgres.Open(t.Context(), "", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	c.Exec(t, url, `DELETE FROM schema_version WHERE version = $1`, migrations.Newest(postgres.Dialect))
	before, err := postgres.SchemaVersion(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.OpenTo(t.Context(), migrations.Nothing, "", url, nil); !errors.Is(err, migrations.ErrOlder) {
		t.Errorf("an older schema: %v", err)
	}
	if after, err := postgres.SchemaVersion(t.Context(), url); after != before || err != nil {
		t.Errorf("the schema has version %d now, not %d: %v", after, before, err)
	}
}

func tables(t *testing.T, url, schema string) (n int) {
	t.Helper()
	conn, err := postgres.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), tablesIn, schema).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
