package sqlstore_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"dialtone/internal/postgrestest"
	"dialtone/internal/secret"
	"dialtone/internal/sqlstore"
	"dialtone/internal/storetest"
)

func TestLinearizable(t *testing.T) {
	testLinearizable(t, func(t *testing.T) func() (*sqlstore.Store, error) {
		path, ring := filepath.Join(t.TempDir(), "dialtone.db"), secret.NewRing(noon)
		return func() (*sqlstore.Store, error) { return sqlstore.Open(t.Context(), path, ring) }
	})
}

func TestLinearizableOnPostgres(t *testing.T) {
	c := postgrestest.Shared(t)
	testLinearizable(t, func(t *testing.T) func() (*sqlstore.Store, error) {
		url, ring := c.Database(t), secret.NewRing(noon)
		return func() (*sqlstore.Store, error) {
			return sqlstore.OpenPostgres(t.Context(), ring, "a", sqlstore.Cluster{URL: url})
		}
	})
}

// testLinearizable has some histories made on a database each.
func testLinearizable(t *testing.T, database func(*testing.T) (open func() (*sqlstore.Store, error))) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			open := database(t)
			var last *sqlstore.Store
			next := func(t *testing.T) storetest.Store {
				s, err := open()
				if err != nil {
					t.Fatal(err)
				}
				last = s
				return s
			}
			t.Cleanup(func() { shut(t, last) })
			storetest.Linearizable(t, next, func(t *testing.T, _ storetest.Store) storetest.Store {
				shut(t, last)
				return next(t)
			}, seed, 2000)
		})
	}
}
