// Package postgrestest gives tests, and the benchmark program, PostgreSQL servers of their own: real ones, made with initdb
// in a temporary folder from the PostgreSQL that the system has installed. The system's own cluster is never touched.
//
// There are two kinds of cluster. Shared is one for all tests of a process, for tests that want a database and nothing
// else; it is fast, in memory where the system has the room, and nobody may crash it. Start makes one for a test that
// crashes it, cuts its connections or gives it standbys; it is on the disk and as durable as PostgreSQL is by default.
//
// A cluster differs from what would be convenient where an operator's may. Who connects must have the password. It sorts
// text as people do and not by bytes (ICU's "en"), and its time zone is Auckland, so that what relies on either by
// accident is found out.
//
// Root is refused by PostgreSQL. Where root runs the tests, PostgreSQL runs as the user "postgres" or else "nobody", and
// the cluster's folder is theirs. The folders above must let them through, which those of testing.T.TempDir do not.
//
// Promises: a cluster listens on 127.0.0.1 alone, on the same port all its life, and one that is outside what the system
// gives to clients, so that no client takes it while the cluster is down. What waits, waits for a fact and not longer than
// a minute. When the process that started a cluster ends, however it ends, the cluster ends (on Linux; elsewhere one that
// is killed leaves it). Whoever is killed leaves the folder, dialtone-postgrestest-*; the next to come removes it.
//
// Not in it: power cuts. A crash here is one of processes; what PostgreSQL has written, the system still has.
package postgrestest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// shared is the cluster of Shared, if a test has asked for it.
var shared struct {
	main    atomic.Bool
	once    sync.Once
	cluster *Cluster
	err     error
}

// Main runs the tests and ends the cluster that they shared. A package whose tests use Shared has
//
//	func TestMain(m *testing.M) { postgrestest.Main(m) }
func Main(m *testing.M) {
	shared.main.Store(true)
	m.Run()
	if c := shared.cluster; c != nil {
		if err := c.discard(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// Shared is the cluster of this test process. The first to ask waits until it has started.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	if !shared.main.Load() {
		t.Fatal("who uses Shared has TestMain call postgrestest.Main, so that it is ended")
	}
	shared.once.Do(func() {
		// It never crashes, so nothing is gained by waiting for the disk.
		c, err := temporary(memory(), "fsync=off", "full_page_writes=off", "max_connections=300")
		if err == nil {
			c.shared = true
		}
		shared.cluster, shared.err = c, err
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster
}

// Start makes a cluster for this test, with settings as in "max_connections=20". It is gone when the test is over, and if
// the test has failed, what PostgreSQL said last is in its output.
func Start(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	c, err := temporary("", settings...)
	if err != nil {
		t.Fatal(err)
	}
	c.endWith(t)
	return c
}

// temporary launches a cluster in a temporary folder.
func temporary(in string, settings ...string) (*Cluster, error) {
	return inFolder(in, func(dir string) (*Cluster, error) { return Launch(dir, settings...) })
}

// inFolder launches something in a temporary folder, which it holds.
func inFolder(in string, launch func(dir string) (*Cluster, error)) (*Cluster, error) {
	held, err := folder(in)
	if err != nil {
		return nil, err
	}
	c, err := launch(held.Name())
	if err != nil {
		os.RemoveAll(held.Name())
		held.Close()
		return nil, err
	}
	c.held = held
	return c, nil
}

// endWith ends and removes the cluster when the test is over.
func (c *Cluster) endWith(t testing.TB) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("PostgreSQL at %s said last:\n%s", c.Addr(), c.Logs())
		}
		if err := c.discard(); err != nil {
			t.Error(err)
		}
	})
}

// discard ends the cluster without care for what is in it, and removes it.
func (c *Cluster) discard() error {
	if err := c.end(syscall.SIGQUIT); err != nil {
		return err
	}
	defer c.held.Close()
	return os.RemoveAll(c.Dir)
}

// own refuses for the shared cluster what would hit the other tests.
func (c *Cluster) own(t testing.TB) {
	t.Helper()
	if c.shared {
		t.Fatal("this is for a cluster of the test's own, of Start; others are at work on the shared one")
	}
}

// databases counts those of this process, over all clusters: a standby has those of its primary.
var databases atomic.Int64

// Database makes an empty database and returns its URL. On the shared cluster it is dropped when the test is over, whoever
// is still connected; on another it goes with the cluster.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	name, err := c.create()
	if err != nil {
		t.Fatal(err)
	}
	if c.shared {
		t.Cleanup(func() {
			if err := c.drop(name); err != nil {
				t.Error(err)
			}
		})
	}
	return c.URL(name)
}

func (c *Cluster) create() (name string, err error) {
	name = fmt.Sprintf("test_%d", databases.Add(1))
	// Nobody can connect to template0, so nobody can be in the way.
	return name, execute(c.URL("postgres"), "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8'")
}

func (c *Cluster) drop(name string) error {
	return execute(c.URL("postgres"), "DROP DATABASE "+name+" WITH (FORCE)")
}

// Exec runs a statement on a connection of its own; without arguments, it may be several.
func (c *Cluster) Exec(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	if err := execute(url, sql, args...); err != nil {
		t.Fatal(err)
	}
}

// Crash ends the cluster at once, as pg_ctl stop -m immediate does: nothing is finished, and the next start recovers from
// the log. It returns when the server's process has ended.
func (c *Cluster) Crash(t testing.TB) {
	t.Helper()
	c.own(t)
	if c.Pid() == 0 {
		t.Fatal("the cluster to be crashed is down")
	}
	if err := c.end(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
}

// Restart begins the cluster again on its port, and waits until it lets people in. One that runs is stopped before, as for
// an upgrade.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	c.own(t)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.Begin(); err != nil {
		t.Fatal(err)
	}
}

// Standby makes a standby of the cluster, which can be read, and waits until it follows. Commits do not wait for it. It has
// the cluster's password, and is gone when the test is over.
func (c *Cluster) Standby(t testing.TB) *Cluster {
	t.Helper()
	c.own(t)
	s, err := inFolder("", c.LaunchStandby)
	if err != nil {
		t.Fatal(err)
	}
	s.endWith(t)
	return s
}

// SyncStandby makes a standby as Standby does. From its return, each commit on the cluster waits until the standby has it
// on its disk too: while the standby is down, for ever.
func (c *Cluster) SyncStandby(t testing.TB) *Cluster {
	t.Helper()
	s := c.Standby(t)
	if err := c.CommitOn(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// Promote makes a standby a primary, and returns when it can be written to. It does nothing to its former primary.
func (c *Cluster) Promote(t testing.TB) {
	t.Helper()
	err := within("the promotion", func(ctx context.Context, conn *pgx.Conn) error {
		var done bool
		if err := conn.QueryRow(ctx, "SELECT pg_promote()").Scan(&done); err != nil {
			return err
		}
		if !done {
			return fmt.Errorf("not done in its time\n%s", c.Logs())
		}
		return nil
	}, c.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
}

// KillBackends cuts the connections whose state is matching ("idle in transaction"), or whose query has it in its text
// (the last one, where none runs); all, for "". Those of this package are left. It returns when they are gone, and how many.
func (c *Cluster) KillBackends(t testing.TB, matching string) int {
	t.Helper()
	c.own(t)
	var gone int
	err := within("killing backends", func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `
			SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 20000))
			FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND application_name <> $2
			  AND (state = $1 OR strpos(query, $1) > 0)`, matching, ourselves).Scan(&gone)
	}, c.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	return gone
}
