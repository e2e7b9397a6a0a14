package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/process"
)

// An outage of the database is logged when it begins and when it ends, not for each attempt, and so
// are changes of readiness.
func TestOutageOfDatabaseIsLoggedOnce(t *testing.T) {
	t.Parallel()
	url := postgrestest.Shared(t).Database(t)
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	name := conf.Database
	conf.Database = "postgres"
	admin, err := pgx.ConnectConfig(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	allow := func(allowed bool) {
		t.Helper()
		_, err := admin.Exec(t.Context(), fmt.Sprintf(`ALTER DATABASE %s WITH ALLOW_CONNECTIONS %t`, name, allowed))
		if err == nil && !allowed {
			_, err = admin.Exec(t.Context(),
				`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, launch{
		data: filepath.Join(t.TempDir(), "data"), env: []string{"DIALTONE_DATABASE=" + url},
	})
	eventually := func(what string, reached func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*startWithin)
		defer cancel()
		if err := process.Poll(ctx, func() error {
			if !reached() {
				return fmt.Errorf("not yet: %s", what)
			}
			return nil
		}); err != nil {
			t.Fatalf("%v\n%s", err, p.stderr)
		}
	}
	ready := func(want int) func() bool {
		return func() bool {
			resp, err := http.Get(p.operators + "/readyz")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == want
		}
	}
	logged := func(event string) int { return p.stderr.Count(`"msg":"` + event + `"`) }
	const refresh = "refresh of tenants and phone servers "

	eventually("ready", ready(200))
	allow(false)
	// Nobody requests /readyz until then.
	eventuallyLogged(t, p, `"msg":"not ready","check":"store"`, 1)
	eventually("not ready", ready(503))
	// A heartbeat comes every ten seconds, and thirty refreshes in the same time.
	eventually("a heartbeat has failed", func() bool { return logged("heartbeat failed") > 0 })
	allow(true)
	eventuallyLogged(t, p, `"msg":"ready again","check":"store"`, 1)
	eventually("ready again", ready(200))
	eventually("the end is logged", func() bool {
		return logged(refresh+"works again") > 0 && logged("heartbeat works again") > 0
	})
	p.mustStop(t)
	for _, event := range []string{
		refresh + "failed", refresh + "works again", "heartbeat failed", "heartbeat works again",
		`not ready","check":"store`, `ready again","check":"store`,
	} {
		if n := logged(event); n != 1 {
			t.Errorf("%q is logged %d times", event, n)
		}
	}
	for _, event := range []string{"outbox flush ", "export update "} {
		if failed := logged(event + "failed"); failed > 1 || logged(event+"works again") != failed {
			t.Errorf("%q is logged %d times", event+"failed", failed)
		}
	}
	if strings.Contains(p.stderr.String(), `"check":"keys"`) {
		t.Error("the keys are said not to be ready")
	}
}
