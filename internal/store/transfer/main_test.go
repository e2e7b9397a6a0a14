package transfer

import (
	"context"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/world"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

var (
	noon      = teststore.Noon
	newSignup = teststore.Signup
	addTenant = world.AddTenant
)

// testStore is a store with its engine.
type testStore struct {
	*store.Store
	engine engine.Engine
}

// openFile opens a store on SQLite.
func openFile(ctx context.Context, path string, ring *secret.Ring) (*testStore, error) {
	e, err := sqlite.Open(ctx, path, store.SealCheck(ring))
	if err != nil {
		return nil, err
	}
	return &testStore{teststore.OnSQLite(e, ring), e}, nil
}

// openPostgres opens a store on PostgreSQL.
func openPostgres(ctx context.Context, ring *secret.Ring, node, url string) (*testStore, error) {
	e, err := postgres.Open(ctx, node, url, store.SealCheck(ring))
	if err != nil {
		return nil, err
	}
	return &testStore{teststore.OnPostgres(e, ring), e}, nil
}

// openStore opens a store on PostgreSQL, and closes it at the end of the test.
func openStore(t *testing.T, ring *secret.Ring, node, url string) *testStore {
	t.Helper()
	s, err := openPostgres(t.Context(), ring, node, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// makeEmpty creates an SQLite database with the schema and no rows.
func makeEmpty(t *testing.T, path string) error {
	t.Helper()
	e, err := sqlite.Open(t.Context(), path, nil)
	if err != nil {
		return err
	}
	return e.Close()
}
