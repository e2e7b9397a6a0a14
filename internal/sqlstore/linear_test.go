package sqlstore_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/sqlstore"
	"dialtone/internal/storetest"
)

func TestLinearizable(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			path, ring := filepath.Join(t.TempDir(), "dialtone.db"), secret.NewRing(noon)
			var last *sqlstore.Store
			open := func(t *testing.T) storetest.Store {
				s, err := sqlstore.Open(t.Context(), path, ring)
				if err != nil {
					t.Fatal(err)
				}
				last = s
				return s
			}
			t.Cleanup(func() { shut(t, last) })
			storetest.Linearizable(t, open, func(t *testing.T, _ storetest.Store) storetest.Store {
				shut(t, last)
				return open(t)
			}, seed, 2000)
		})
	}
}
