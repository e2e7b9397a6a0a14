package phonetest_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/process"
)

// workers is how many processes of deploy/kamailio/kamailio.cfg connect to the database: for UDP, for
// TCP, and for timers.
const workers = 4 + 4 + 3

// idleConnections counts the idle connections of the roles of one kind of server.
func (p *platform) idleConnections(kind string) (n int) {
	p.Helper()
	conn, err := pgx.Connect(p.Context(), p.admin)
	p.Must(err)
	defer conn.Close(p.Context())
	p.Must(conn.QueryRow(p.Context(), `SELECT count(*) FROM pg_stat_activity
		WHERE usename LIKE $1 || '%' AND state = 'idle'`, kind).Scan(&n))
	return n
}

// TestDatabaseUnavailable tests that phones do not get "wrong password" while the database is down.
func TestDatabaseUnavailable(t *testing.T) {
	t.Parallel()
	c := postgrestest.Start(t)
	p := onPostgres(t, c)
	k := p.kamailio()
	a := phonetest.Apache(t, "dbd.conf", exampleRealm, "phone.test",
		exampleConninfo("digest"), conninfo(t, p.role("digest")))
	alex := &phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Password: "alex's password"}
	alex.Registers(t, 200)
	if got := a.Page(t, "alex", "alex's password"); got != "200" {
		t.Fatalf("got %s", got)
	}
	// Kamailio ends if a worker cannot connect at the start. It also makes connections that it closes
	// again, so the number must have settled.
	last := 0
	process.Eventually(t, "every worker is connected", func() error {
		n := p.idleConnections("kamailio")
		settled := n == last
		if last = n; n < workers || !settled {
			time.Sleep(200 * time.Millisecond)
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
	c.Crash(t)
	for _, password := range []string{"alex's password", "guessed"} {
		away := *alex
		away.Password = password
		if r := away.Registers(t, 503); r.Header.Get("Retry-After") == "" {
			t.Error("the response has no Retry-After")
		}
		// Apache answers 401 when the connection breaks, and 500 after that.
		if got := a.Page(t, "alex", password); got != "500" && got != "401" {
			t.Errorf("Apache: got %s", got)
		}
	}
	c.Restart(t)
	process.Eventually(t, "Kamailio connects again", func() error {
		r, err := alex.Register()
		if err == nil && r.Status != 200 {
			err = fmt.Errorf("%s", r)
		}
		return err
	})
	process.Eventually(t, "Apache connects again", func() error {
		if got := a.Page(t, "alex", "alex's password"); got != "200" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}

// TestSQLiteWithoutServer tests that a phone server reads the export while Dialtone does not run, and
// sees changes that it makes later.
func TestSQLiteWithoutServer(t *testing.T) {
	t.Parallel()
	p := onSQLite(t)
	p.Must(p.Store.Close())
	if as := phonetest.Unprivileged(t); as != nil {
		if info, err := os.Stat(p.export); err != nil || info.Mode().Perm()&0o022 != 0 {
			t.Fatalf("the phone server could write: %v, %v", info, err)
		}
	}
	k := p.kamailio() // starts while no process has the file open
	alex := &phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Password: "alex's password"}
	alex.Registers(t, 200)
	p.reopen()
	p.Disable("alex")
	alex.Registers(t, 401)
	p.Must(p.Store.Close())
	alex.Registers(t, 401)
	p.reopen()
}
