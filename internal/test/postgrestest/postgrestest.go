// Package postgrestest runs PostgreSQL servers for tests and for the benchmark program. They are
// made with initdb in temporary directories, from the PostgreSQL that is installed on the system. It
// never touches the system's own cluster.
//
// There are two kinds of cluster. Shared is one cluster for all tests of a process that need only a
// database. It is fast, since it does not sync, and no test may crash it. Start makes a cluster for
// a test that crashes it, cuts its connections or adds standbys. It has PostgreSQL's default
// settings, and so it syncs. Both are in memory if there is space. Files there survive the process
// that wrote them, as on a disk. Only in benchmarks is the cluster of Start on the disk.
//
// A cluster listens on 127.0.0.1 only, and keeps its port. Every wait is for a condition, and ends
// after process.Timeout. When the process that started a cluster ends, even by SIGKILL, the cluster
// ends too (on Linux; elsewhere it keeps running). A killed process leaves the directory
// dialtone-postgrestest-*, which the next process removes.
//
// Some settings are unusual, to find code that relies on the usual ones: connections need the
// password, text is sorted by the rules of English (ICU's "en") and not by bytes, and the time zone
// is Auckland.
//
// PostgreSQL refuses to run as root. If the tests run as root, it runs as the user "postgres", or
// else as "nobody", who must be able to enter the directories above the cluster's. Those of
// testing.T.TempDir do not allow that.
//
// A crash here is a crash of processes. This package does not simulate power cuts.
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

	"dialtone/internal/test/process"
)

// shared is the cluster of Shared.
var shared struct {
	main    atomic.Bool
	once    sync.Once
	cluster *Cluster // nil before the first call of Shared
	err     error

	template *Cluster // nil before the first call of template
}

// template returns a cluster that never runs. Its data is copied to the clusters of this test process.
var template = sync.OnceValues(func() (c *Cluster, err error) {
	shared.template, err = inTempDir(memoryDir(), func(dir string) (*Cluster, error) {
		c, err := newCluster(dir)
		if err != nil {
			return nil, err
		}
		return c, c.initdb()
	})
	return shared.template, err
})

// Main runs the tests, then stops the cluster that they shared, removes the template, and returns the exit status
// of the tests. A package whose tests use Shared has
//
//	func TestMain(m *testing.M) { postgrestest.Main(m) }
func Main(m *testing.M) (status int) {
	shared.main.Store(true)
	status = m.Run()
	for _, c := range []*Cluster{shared.cluster, shared.template} {
		if c == nil {
			continue
		}
		if err := c.discard(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	return status
}

// Shared returns the cluster of this test process. The first call starts it.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	if !shared.main.Load() {
		t.Fatal("TestMain must call postgrestest.Main, which stops the shared cluster")
	}
	shared.once.Do(func() {
		c, err := launchTemporary(memoryDir(), "max_connections=300")
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

// Start makes a cluster for this test. Settings look like "max_connections=20". The cluster is
// removed when the test is over. If the test has failed, its output shows the end of PostgreSQL's log.
func Start(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	parent := memoryDir()
	if _, benchmark := t.(*testing.B); benchmark {
		parent = "" // its commits wait for the disk
	}
	c, err := launchTemporary(parent, settings...)
	if err != nil {
		t.Fatal(err)
	}
	c.discardAfter(t)
	return c
}

// launchTemporary makes a cluster in a temporary directory below parent.
func launchTemporary(parent string, settings ...string) (*Cluster, error) {
	createData := (*Cluster).initdb
	if shared.main.Load() {
		createData = (*Cluster).copyData
	}
	return inTempDir(parent, func(dir string) (*Cluster, error) { return launch(dir, createData, settings) })
}

// inTempDir calls launch with a new temporary directory, which stays locked as long as the cluster
// exists.
func inTempDir(parent string, launch func(dir string) (*Cluster, error)) (*Cluster, error) {
	lock, err := makeTempDir(parent)
	if err != nil {
		return nil, err
	}
	c, err := launch(lock.Name())
	if err != nil {
		os.RemoveAll(lock.Name())
		lock.Close()
		return nil, err
	}
	c.lock = lock
	return c, nil
}

// discardAfter discards the cluster when the test is over.
func (c *Cluster) discardAfter(t testing.TB) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the log of PostgreSQL at %s:\n%s", c.Addr(), c.Logs())
		}
		if err := c.discard(); err != nil {
			t.Error(err)
		}
	})
}

// discard ends the cluster without a shutdown, and removes it.
func (c *Cluster) discard() error {
	if err := c.end(syscall.SIGQUIT); err != nil {
		return err
	}
	defer c.lock.Close()
	return os.RemoveAll(c.Dir)
}

// refuseShared fails a test that is about to disturb the others on the shared cluster.
func (c *Cluster) refuseShared(t testing.TB) {
	t.Helper()
	if c.shared {
		t.Fatal("other tests use the shared cluster; start another one with postgrestest.Start")
	}
}

// databases counts the databases of this process on all clusters: a standby has those of its
// primary.
var databases atomic.Int64

// Database makes an empty database and returns its URL. On the shared cluster it is dropped when the
// test is over, even with open connections. On another cluster it is removed with the cluster.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	// It refuses connections, so that it can always be copied.
	return c.database(t, "template0")
}

// Copies creates a database, calls fill with its URL, and returns a function that creates copies of
// the database, as Database creates empty ones. fill must close its connections: a database with
// connections cannot be copied. On the shared cluster, t must outlast the tests that use copies.
func (c *Cluster) Copies(t testing.TB, fill func(url string) error) (database func(testing.TB) string) {
	t.Helper()
	template, err := c.create("template0")
	if err != nil {
		t.Fatal(err)
	}
	c.dropAfter(t, template)
	if err := fill(c.URL(template)); err != nil {
		t.Fatal(err)
	}
	return func(t testing.TB) string {
		t.Helper()
		return c.database(t, template)
	}
}

// database makes a copy of the database template.
func (c *Cluster) database(t testing.TB, template string) string {
	t.Helper()
	name, err := c.create(template)
	if err != nil {
		t.Fatal(err)
	}
	c.dropAfter(t, name)
	return c.URL(name)
}

// dropAfter drops a database of the shared cluster when the test is over.
func (c *Cluster) dropAfter(t testing.TB, name string) {
	if !c.shared {
		return
	}
	t.Cleanup(func() {
		if err := c.drop(name); err != nil {
			t.Error(err)
		}
	})
}

func (c *Cluster) create(template string) (name string, err error) {
	name = fmt.Sprintf("test_%d", databases.Add(1))
	sql := "CREATE DATABASE " + name + " TEMPLATE " + template + " ENCODING 'UTF8'"
	if c.shared && c.installed.major >= 15 {
		// The default, a copy through the WAL and the shared buffers, takes five times the processor
		// time. This one makes two checkpoints, which cost little on a cluster that does not sync.
		sql += " STRATEGY file_copy"
	}
	return name, c.administer(sql)
}

func (c *Cluster) drop(name string) error {
	return c.administer("DROP DATABASE " + name + " WITH (FORCE)")
}

// administer runs a statement outside of a transaction. On the shared cluster it keeps its
// connection, since a new one takes a third of the processor time of a new database. Other clusters
// may be down between two calls.
func (c *Cluster) administer(sql string) error {
	if !c.shared {
		return execute(c.URL("postgres"), sql)
	}
	c.admin.Lock()
	defer c.admin.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), process.Timeout)
	defer cancel()
	if c.adminConn == nil || c.adminConn.IsClosed() {
		conn, err := connect(ctx, c.URL("postgres"))
		if err != nil {
			return err
		}
		c.adminConn = conn
	}
	if _, err := c.adminConn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// Exec runs a statement on a new connection. Without arguments, sql may have several statements.
func (c *Cluster) Exec(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	if err := execute(url, sql, args...); err != nil {
		t.Fatal(err)
	}
}

// Crash ends the cluster immediately, as pg_ctl stop -m immediate does: the next start recovers
// from the WAL. It returns when the server's process has ended.
func (c *Cluster) Crash(t testing.TB) {
	t.Helper()
	c.refuseShared(t)
	if c.Pid() == 0 {
		t.Fatal("the cluster to crash is down")
	}
	if err := c.end(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
}

// Restart starts the cluster again on its port, and waits until it accepts connections. If it runs,
// it is shut down first.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	c.refuseShared(t)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.Begin(); err != nil {
		t.Fatal(err)
	}
}

// Standby makes a standby of the cluster, which accepts reads, and waits until it streams. Commits
// do not wait for it. It has the cluster's password, and is removed when the test is over.
func (c *Cluster) Standby(t testing.TB) *Cluster {
	t.Helper()
	c.refuseShared(t)
	s, err := inTempDir(memoryDir(), c.LaunchStandby)
	if err != nil {
		t.Fatal(err)
	}
	s.discardAfter(t)
	return s
}

// SyncStandby makes a standby as Standby does. Every commit after that waits until the standby has
// it on its disk too. While the standby is down, commits wait forever.
func (c *Cluster) SyncStandby(t testing.TB) *Cluster {
	t.Helper()
	s := c.Standby(t)
	if err := c.CommitOn(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// Promote makes a standby a primary, and returns when it accepts writes. It does nothing to the
// former primary.
func (c *Cluster) Promote(t testing.TB) {
	t.Helper()
	promote := func(ctx context.Context, conn *pgx.Conn) error {
		var done bool
		if err := conn.QueryRow(ctx, "SELECT pg_promote()").Scan(&done); err != nil {
			return err
		}
		if !done {
			return fmt.Errorf("pg_promote timed out\n%s", c.Logs())
		}
		return nil
	}
	if err := withConnection(c.URL("postgres"), "promoting the standby", promote); err != nil {
		t.Fatal(err)
	}
}

// KillBackends cuts the connections whose state is matching ("idle in transaction") or whose query,
// the current or the last one, contains it. The empty string matches all. It spares the connections
// of this package. When they are gone, it returns how many were cut.
func (c *Cluster) KillBackends(t testing.TB, matching string) int {
	t.Helper()
	c.refuseShared(t)
	var killed int
	kill := func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `
			SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 20000))
			FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND application_name <> $2
			  AND (state = $1 OR strpos(query, $1) > 0)`, matching, applicationName).Scan(&killed)
	}
	if err := withConnection(c.URL("postgres"), "killing backends", kill); err != nil {
		t.Fatal(err)
	}
	return killed
}
