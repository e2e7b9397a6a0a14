package conformance_test

import (
	"path/filepath"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/test/conformance"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/world"
)

var noon = teststore.Noon

func TestMain(m *testing.M) { postgrestest.Main(m) }

func TestStoreOnSQLite(t *testing.T) {
	conformance.Run(t, func(t *testing.T) conformance.Store {
		return openFile(t, secret.NewRing(noon))
	})
}

func TestExportOnSQLite(t *testing.T) {
	conformance.RunExport(t, func(t *testing.T) (conformance.Exporting, *secret.Ring) {
		ring := secret.NewRing(noon)
		return openFile(t, ring), ring
	})
}

func TestExportOnPostgres(t *testing.T) {
	c := postgrestest.Shared(t)
	conformance.RunExport(t, func(t *testing.T) (conformance.Exporting, *secret.Ring) {
		ring := secret.NewRing(noon)
		s, err := teststore.OpenPostgres(t.Context(), ring, "a", c.Database(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { world.CloseStore(t, s) })
		return s, ring
	})
}

// openFile opens a new SQLite database, and closes it at the end of the test.
func openFile(t *testing.T, ring *secret.Ring) *store.Store {
	t.Helper()
	return world.OpenStore(t, filepath.Join(t.TempDir(), "dialtone.db"), ring)
}
