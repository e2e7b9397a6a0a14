package phonetest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/world"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// platform is a World whose accounts are exported to phone servers. The tenants phone.test and
// other.test have accounts in every state.
type platform struct {
	*world.World
	waiting world.Person // at phone.test

	// On PostgreSQL:
	url   string // of the database, with %s for the user and the password
	admin string // the URL of its owner
	using string // the URL for Kamailio, or empty for one of a new role

	// On SQLite:
	file   string // of the store
	export string // of the export
}

// onPostgres returns a platform with its store on a cluster.
func onPostgres(t testing.TB, c *postgrestest.Cluster) *platform {
	t.Helper()
	url, ring := c.Database(t), secret.NewRing(time.Now())
	p := newPlatform(t, world.OpenPostgres(t, url, ring), ring)
	scheme, rest, _ := strings.Cut(url, "://")
	_, rest, _ = strings.Cut(rest, "@")
	p.admin = url
	p.url, _, _ = strings.Cut(scheme+"://%s@"+rest, "?")
	return p
}

// onSQLite returns a platform with its store in a file. The directory of the export belongs to the
// group of the phone servers.
func onSQLite(t testing.TB) *platform {
	t.Helper()
	dir := phonetest.TempDir(t)
	exportDir := filepath.Join(dir, "directory")
	if err := os.Mkdir(exportDir, 0o750); err != nil {
		t.Fatal(err)
	}
	phonetest.Chgrp(t, exportDir)
	if err := os.Chmod(exportDir, 0o750|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	file, ring := filepath.Join(dir, "dialtone.db"), secret.NewRing(time.Now())
	p := newPlatform(t, world.OpenStore(t, file, ring), ring)
	p.file, p.export = file, filepath.Join(exportDir, "directory.db")
	return p
}

func newPlatform(t testing.TB, s *world.Store, ring *secret.Ring) *platform {
	t.Helper()
	p := &platform{World: world.New(t, world.Options{
		Tenants: []tenant.Tenant{{Host: "phone.test"}, {Host: "other.test"}},
		Store:   s, SealRing: ring, RealTime: true,
	})}
	p.Member("alex", world.WithPassword("alex's password"))
	p.At("other.test").Member("alex", world.WithPassword("the other alex's password"))
	p.Member("berta", world.WithPassword("berta's password"))
	p.Member("o_hara", world.WithPassword("it's \"p&ss\" Größe"))
	p.Member("held", world.WithPassword("held's password"))
	p.Disable("held")
	p.waiting = p.Join("waiting", world.WithPassword("waiting's password"))
	p.Must(s.EnableExport(t.Context(), func(int64, int64) {}))
	return p
}

// reopen opens the closed SQLite store again.
func (p *platform) reopen() {
	p.Helper()
	p.Store = world.OpenStore(p.TB, p.file, p.SealRing)
}
