package phonetables_test

import (
	"path/filepath"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/test/conformance"
	"dialtone/internal/test/postgrestest"
)

func TestExportOnSQLite(t *testing.T) {
	conformance.RunExport(t, func(t *testing.T) (conformance.Exporting, *secret.Ring) {
		ring := secret.NewRing(noon)
		return open(t, filepath.Join(t.TempDir(), "dialtone.db"), ring), ring
	})
}

func TestExportOnPostgres(t *testing.T) {
	c := postgrestest.Shared(t)
	conformance.RunExport(t, func(t *testing.T) (conformance.Exporting, *secret.Ring) {
		ring := secret.NewRing(noon)
		return openStore(t, ring, "a", c.Database(t)).Store, ring
	})
}
