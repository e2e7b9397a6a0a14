package postgres_test

import (
	"context"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/world"
)

func TestMain(m *testing.M) {
	postgrestest.Main(m)
}

var (
	noon      = teststore.Noon
	newSignup = teststore.Signup
	addTenant = world.AddTenant
)

// testStore is a store with its engine.
type testStore struct {
	*store.Store
	engine *postgres.Engine
}

// openPostgres opens a store. Without a ring its keys are not checked.
func openPostgres(ctx context.Context, ring *secret.Ring, node, url string) (*testStore, error) {
	var check func(engine.Tx) error
	if ring != nil {
		check = store.SealCheck(ring)
	}
	e, err := postgres.Open(ctx, node, url, check)
	if err != nil {
		return nil, err
	}
	return &testStore{teststore.OnPostgres(e, ring), e}, nil
}

// openStore opens a store, and closes it at the end of the test.
func openStore(t *testing.T, ring *secret.Ring, node, url string) *testStore {
	t.Helper()
	s, err := openPostgres(t.Context(), ring, node, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
