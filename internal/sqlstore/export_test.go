package sqlstore_test

import (
	"path/filepath"
	"testing"

	"dialtone/internal/postgrestest"
	"dialtone/internal/secret"
	"dialtone/internal/storetest"
)

func TestExport(t *testing.T) {
	storetest.RunExport(t, func(t *testing.T) (storetest.Exporting, *secret.Ring) {
		ring := secret.NewRing(noon)
		return open(t, filepath.Join(t.TempDir(), "dialtone.db"), ring), ring
	})
}

func TestExportOnPostgres(t *testing.T) {
	c := postgrestest.Shared(t)
	storetest.RunExport(t, func(t *testing.T) (storetest.Exporting, *secret.Ring) {
		ring := secret.NewRing(noon)
		return openNode(t, c.Database(t), ring, "a"), ring
	})
}
