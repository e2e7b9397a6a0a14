package phonetables_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
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
	"dialtone/internal/tenant"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
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

// open opens the store at path, and closes it at the end of the test.
func open(t *testing.T, path string, ring *secret.Ring) *store.Store {
	t.Helper()
	s, err := teststore.Open(t.Context(), path, ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func closeStore(t *testing.T, s io.Closer) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

type tenantStore interface {
	AddTenant(context.Context, tenant.Tenant) (tenant.Tenant, error)
}

// addTenant adds a tenant and returns its id.
func addTenant(t *testing.T, s tenantStore, host string) int64 {
	t.Helper()
	added, err := s.AddTenant(t.Context(), tenant.Tenant{Host: host, Realm: host, Created: noon})
	if err != nil {
		t.Fatal(err)
	}
	return added.ID
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
