package phonetest_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/postgrestest"
)

// workers are those of deploy/kamailio/kamailio.cfg that connect: for UDP, for TCP, and for Kamailio's own timers.
const workers = 4 + 4 + 3

// connections are those of the roles of one kind of server.
func (p *platform) connections(kind string) (n int) {
	p.Helper()
	conn, err := pgx.Connect(p.Context(), p.admin)
	p.must(err)
	defer conn.Close(p.Context())
	p.must(conn.QueryRow(p.Context(), `SELECT count(*) FROM pg_stat_activity WHERE usename LIKE $1 || '%' AND state = 'idle'`, kind).Scan(&n))
	return n
}

// A database that is away is no reason to tell a phone that its password is wrong.
func TestServersWithoutTheirDatabase(t *testing.T) {
	t.Parallel()
	c := postgrestest.Start(t)
	p := onPostgres(t, c)
	k, _ := p.kamailio()
	a := phonetest.Apache(t, "dbd.conf", exampleRealm, "phone.test",
		"host=127.0.0.1 port=5432 dbname=dialtone user=dialtone_digest password=choose-one connect_timeout=5", conninfo(t, p.role("digest")))
	alex := &phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Password: "alex's password"}
	alex.Registers(t, 200)
	if got := a.Page(t, "alex", "alex's password"); got != "200" {
		t.Fatalf("got %s", got)
	}
	// A worker of Kamailio that cannot connect when it begins ends all of it.
	phonetest.Eventually(t, "every worker is connected", func() error {
		if n := p.connections("kamailio"); n < workers {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	c.Crash(t)
	for _, password := range []string{"alex's password", "guessed"} {
		away := *alex
		away.Password = password
		if r := away.Registers(t, 503); r.Header.Get("Retry-After") == "" {
			t.Error("the phone is not told when to try again")
		}
		// Apache takes a connection that has just broken for a name that nobody has, and says 500 from then on.
		if got := a.Page(t, "alex", password); got != "500" && got != "401" {
			t.Errorf("Apache: got %s", got)
		}
	}
	c.Restart(t)
	phonetest.Eventually(t, "Kamailio finds the database again", func() error {
		r, err := alex.Register()
		if err == nil && r.Status != 200 {
			err = fmt.Errorf("%s", r)
		}
		return err
	})
	phonetest.Eventually(t, "Apache finds the database again", func() error {
		if got := a.Page(t, "alex", "alex's password"); got != "200" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}

// A phone server that may only read goes on while the program is not there, and sees what it does when it is back.
func TestSQLiteWithoutTheProgram(t *testing.T) {
	t.Parallel()
	p := onSQLite(t)
	p.must(p.Close())
	if as := phonetest.Unprivileged(t); as != nil {
		if info, err := os.Stat(p.directory); err != nil || info.Mode().Perm()&0o022 != 0 {
			t.Fatalf("the phone server could write: %v, %v", info, err)
		}
	}
	k, _ := p.kamailio() // which begins when nobody has the file open
	alex := &phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Password: "alex's password"}
	alex.Registers(t, 200)
	p.reopen()
	p.disable("alex", "phone.test")
	alex.Registers(t, 401)
	p.must(p.Close())
	alex.Registers(t, 401)
	p.reopen()
}
