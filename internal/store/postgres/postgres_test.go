package postgres_test

import (
	"context"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
	"dialtone/internal/test/conformance"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

func TestMain(m *testing.M) {
	postgrestest.Main(m)
}

var (
	midday   = teststore.Noon
	noon     = teststore.Noon
	newcomer = teststore.Signup
)

// Store is a store with its engine.
type Store struct {
	*store.Store
	engine *postgres.Engine
}

// OpenPostgres opens a store. Without a ring its keys are not checked.
func OpenPostgres(ctx context.Context, ring *secret.Ring, node, url string) (*Store, error) {
	var check func(engine.Tx) error
	if ring != nil {
		check = store.SealCheck(ring)
	}
	e, err := postgres.Open(ctx, node, url, check)
	if err != nil {
		return nil, err
	}
	return &Store{teststore.OnPostgres(e, ring), e}, nil
}

// openStore opens a store, and closes it at the end of the test.
func openStore(t *testing.T, ring *secret.Ring, node, url string) *Store {
	t.Helper()
	s, err := OpenPostgres(t.Context(), ring, node, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStoreOnPostgres(t *testing.T) {
	c := postgrestest.Shared(t)
	conformance.Run(t, func(t *testing.T) conformance.Store {
		return openStore(t, secret.NewRing(noon), "a", c.Database(t))
	})
}
