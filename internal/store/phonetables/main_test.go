package phonetables_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"

	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/world"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, exportChild(dir))
		os.Exit(1)
	}
	postgrestest.Main(m)
}

func noProgress(int64, int64) {}

var (
	noon      = teststore.Noon
	newSignup = teststore.Signup
	addTenant = world.AddTenant
)

// testStore is a store with its parts.
type testStore struct {
	*store.Store
	engine engine.Engine
	tables *phonetables.Tables
}

// openStore opens a store on PostgreSQL, and closes it at the end of the test.
func openStore(t *testing.T, ring *secret.Ring, node, url string) *testStore {
	t.Helper()
	e, err := postgres.Open(t.Context(), node, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	tables := phonetables.OnPostgres(e, ring)
	return &testStore{teststore.On(e, tables), e, tables}
}

// openFile opens a store on SQLite, and closes it at the end of the test.
func openFile(t *testing.T, ring *secret.Ring) *testStore {
	t.Helper()
	e, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	tables := phonetables.OnSQLite(e, ring)
	return &testStore{teststore.On(e, tables), e, tables}
}

// execSQLite runs SQL on a database that no store has open.
func execSQLite(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(query)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
