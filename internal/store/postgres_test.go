package store_test

import (
	"fmt"
	"os"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/test/conformance"
	"dialtone/internal/test/postgrestest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		fmt.Fprintln(os.Stderr, exportChild(dir))
		os.Exit(1)
	}
	postgrestest.Main(m)
}

// openNode opens a database of PostgreSQL for a node, and closes it at the end of the test.
func openNode(t *testing.T, url string, ring *secret.Ring, node string) *store.Store {
	t.Helper()
	s, err := store.OpenPostgres(t.Context(), ring, node, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, s) })
	return s
}

func TestStoreOnPostgres(t *testing.T) {
	c := postgrestest.Shared(t)
	conformance.Run(t, func(t *testing.T) conformance.Store {
		return openNode(t, c.Database(t), secret.NewRing(noon), "a")
	})
}
