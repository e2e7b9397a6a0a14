package postgrestest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The first thread of a process is the one that never ends. It is kept for TestMain, so that tests run on those that do.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if dir := os.Getenv("POSTGRESTEST_LAUNCH"); dir != "" {
		launchAndWait(dir)
	}
	Main(m)
}

// connection is one that is closed when the test is over.
func connection(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// value is what a query of one row and column answers.
func value(t testing.TB, url, sql string) string {
	t.Helper()
	var v string
	if err := connection(t, url).QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestWhatWasCommittedIsThereAfterACrash(t *testing.T) {
	t.Parallel()
	c := Start(t)
	url := c.Database(t)
	c.Exec(t, url, "CREATE TABLE said (what text)")
	c.Exec(t, url, "INSERT INTO said VALUES ($1)", "hello")
	open := connection(t, url)
	first, address := c.Pid(), c.Addr()

	c.Crash(t)
	if err := open.Ping(t.Context()); err == nil {
		t.Error("a connection outlived the server")
	}
	if pid := c.Pid(); pid != 0 {
		t.Errorf("it crashed and its process is %d", pid)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("it crashed and something listens")
	}

	c.Restart(t)
	if c.Pid() == first || c.Pid() == 0 || c.Addr() != address {
		t.Errorf("process %d at %s is now %d at %s", first, address, c.Pid(), c.Addr())
	}
	if got := value(t, url, "SELECT what FROM said"); got != "hello" {
		t.Errorf("what was said is now %q", got)
	}
	if !strings.Contains(c.Logs(), "automatic recovery in progress") {
		t.Errorf("it did not recover, so it had not crashed:\n%s", c.Logs())
	}
}

func TestRestartIsInOrder(t *testing.T) {
	t.Parallel()
	c := Start(t, "max_connections=17", `cluster_name=it's a \`)
	first := c.Pid()
	c.Restart(t)
	if c.Pid() == first {
		t.Error("it was not restarted")
	}
	if strings.Contains(c.Logs(), "automatic recovery in progress") {
		t.Errorf("it recovered:\n%s", c.Logs())
	}
	for name, want := range map[string]string{"max_connections": "17", "cluster_name": `it's a \`, "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"} {
		if got := value(t, c.URL("postgres"), "SHOW "+name); got != want {
			t.Errorf("%s is %s and not %s", name, got, want)
		}
	}
}

func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	primary := Start(t)
	url := primary.Database(t)
	name := value(t, url, "SELECT current_database()")
	standby := primary.Standby(t)
	primary.Exec(t, url, "CREATE TABLE said (what text); INSERT INTO said VALUES ('hello')")

	copied := func() error {
		conn, err := pgx.Connect(t.Context(), standby.URL(name))
		if err != nil {
			return err
		}
		defer conn.Close(t.Context())
		var said string
		return conn.QueryRow(t.Context(), "SELECT what FROM said").Scan(&said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := until(ctx, nil, copied); err != nil {
		t.Fatal(err)
	}
	if err := execute(standby.URL(name), "INSERT INTO said VALUES ('no')"); code(err) != "25006" {
		t.Errorf("a standby was written to: %v", err)
	}

	// The one that can be written to is found, first or last.
	either := standby.URL(name, primary)
	port := "SELECT current_setting('port')"
	if got, want := value(t, either, port), fmt.Sprint(primary.port); got != want {
		t.Errorf("led to %s and not to the primary on %s", got, want)
	}
	either = primary.URL(name, standby)
	primary.Crash(t)
	standby.Promote(t)
	standby.Exec(t, either, "INSERT INTO said VALUES ('again')")
	if got := value(t, either, "SELECT string_agg(what, ' ' ORDER BY what DESC) FROM said"); got != "hello again" {
		t.Errorf("what was said is %q", got)
	}
	if got, want := value(t, either, port), fmt.Sprint(standby.port); got != want {
		t.Errorf("led to %s and not to the new primary on %s", got, want)
	}
}

func TestCommitsWaitForASyncStandby(t *testing.T) {
	t.Parallel()
	primary := Start(t)
	url := primary.Database(t)
	name := value(t, url, "SELECT current_database()")
	primary.Exec(t, url, "CREATE TABLE said (what text)")
	standby := primary.SyncStandby(t)
	primary.Exec(t, url, "INSERT INTO said VALUES ('hello')")

	standby.Crash(t)
	conn := connection(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "INSERT INTO said VALUES ('again')")
		answer <- err
	}()
	// It is in the log, and is not acknowledged.
	watch := connection(t, url)
	err := until(ctx, nil, func() error {
		var waiting int
		err := watch.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").Scan(&waiting)
		if err == nil && waiting != 1 {
			err = fmt.Errorf("%d commits wait for the standby", waiting)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-answer:
		t.Fatalf("a commit was acknowledged without the standby (%v)", err)
	default:
	}
	// What the standby has missed is kept for it, though the primary needs it no more.
	for range 3 {
		primary.Exec(t, url, "SELECT pg_logical_emit_message(false, '', 'one more segment'), pg_switch_wal()")
	}
	primary.Exec(t, url, "CHECKPOINT")
	standby.Restart(t)
	if err := <-answer; err != nil {
		t.Fatal(err)
	}

	// Nothing acknowledged is lost, and the new primary waits for nobody.
	primary.Crash(t)
	standby.Promote(t)
	if got := value(t, standby.URL(name), "SELECT string_agg(what, ' ' ORDER BY what DESC) FROM said"); got != "hello again" {
		t.Errorf("what was said is %q", got)
	}
	standby.Exec(t, primary.URL(name, standby), "INSERT INTO said VALUES ('alone')")

	// A standby of a cluster that waits for one can be promoted too.
	next := standby.SyncStandby(t)
	last := standby.Standby(t)
	standby.Crash(t)
	last.Promote(t)
	last.Exec(t, last.URL(name), "INSERT INTO said VALUES ('still')")
	if got := value(t, next.URL(name), "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Error("the other standby was promoted with it")
	}
}

func TestKillBackends(t *testing.T) {
	t.Parallel()
	c := Start(t)
	url := c.Database(t)
	busy, idle, bystander := connection(t, url), connection(t, url), connection(t, url)
	ended := make(chan error, 1)
	go func() {
		_, err := busy.Exec(context.Background(), "SELECT pg_sleep(600)")
		ended <- err
	}()
	killed := 0
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := until(ctx, nil, func() error {
		if killed = c.KillBackends(t, "pg_sleep"); killed == 0 {
			return errors.New("no such backend")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; killed != 1 || severity(err) != "FATAL" || code(err) != "57P01" {
		t.Errorf("%d backends were killed; the connection says %v", killed, err)
	}

	tx, err := idle.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := c.KillBackends(t, "idle in transaction"); n != 1 {
		t.Errorf("%d backends were killed", n)
	}
	if _, err := tx.Exec(t.Context(), "SELECT 1"); code(err) != "57P01" {
		t.Errorf("the transaction says %v", err)
	}
	if n := c.KillBackends(t, "nothing like it"); n != 0 {
		t.Errorf("%d backends were killed", n)
	}
	if err := bystander.Ping(t.Context()); err != nil {
		t.Errorf("a bystander was hit: %v", err)
	}
	if n := c.KillBackends(t, ""); n != 1 {
		t.Errorf("%d backends were left to kill", n)
	}
}

// code is what PostgreSQL calls an error.
func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func severity(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.SeverityUnlocalized
	}
	return ""
}

func TestDatabasesAreApartAndDropped(t *testing.T) {
	t.Parallel()
	c := Shared(t)
	if c != Shared(t) {
		t.Fatal("it is not one cluster")
	}
	var left string
	t.Run("use", func(t *testing.T) {
		one, two := c.Database(t), c.Database(t)
		c.Exec(t, one, "CREATE TABLE here (n int)")
		c.Exec(t, two, "CREATE TABLE here (n int)")
		if got := value(t, one, "SHOW server_encoding"); got != "UTF8" {
			t.Errorf("texts are in %s", got)
		}
		if value(t, one, "SELECT ('b' < 'C')::text") != "true" {
			t.Error("texts are sorted by bytes")
		}
		left = one
		if _, err := pgx.Connect(t.Context(), one); err != nil { // nobody closes it
			t.Fatal(err)
		}
	})
	if _, err := pgx.Connect(t.Context(), left); code(err) != "3D000" {
		t.Errorf("the database is there after its test: %v", err)
	}
}

func TestWithoutThePasswordNobodyEnters(t *testing.T) {
	t.Parallel()
	c := Shared(t)
	for _, address := range []string{"host=127.0.0.1", "host=" + c.Dir} {
		for _, user := range []string{"postgres", "postgres password=wrong"} {
			conn, err := pgx.Connect(t.Context(), fmt.Sprintf("%s port=%d database=postgres sslmode=disable user=%s", address, c.port, user))
			if err == nil {
				conn.Close(t.Context())
			}
			if code(err) != "28P01" && !strings.Contains(fmt.Sprint(err), "password") {
				t.Errorf("%s as %s: %v", address, user, err)
			}
		}
	}
}

// A test that hits others is refused before it does.
func TestSharedIsNotCrashed(t *testing.T) {
	t.Parallel()
	c := Shared(t)
	for name, hit := range map[string]func(testing.TB){
		"Crash":        c.Crash,
		"Restart":      c.Restart,
		"KillBackends": func(t testing.TB) { c.KillBackends(t, "") },
		"Standby":      func(t testing.TB) { c.Standby(t) },
	} {
		r := &refused{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { recover() }()
			hit(r)
		}()
		<-done
		if !r.fatal {
			t.Errorf("%s is allowed", name)
		}
	}
	if c.Pid() == 0 {
		t.Fatal("the shared cluster is down")
	}
}

// refused notes that a test was failed.
type refused struct {
	testing.TB
	fatal bool
}

func (r *refused) Helper() {}

func (r *refused) Fatal(...any) {
	r.fatal = true
	panic("the end of the test")
}

func TestAClusterThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	c, err := temporary("", "no_such_setting=1")
	if err == nil {
		c.discard()
		t.Fatal("it started")
	}
	if !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("it says %v", err)
	}
}

// The system ends the server when the thread ends that started it, and the threads of a Go program come and go.
func TestServerOutlivesThreads(t *testing.T) {
	t.Parallel()
	var c *Cluster
	var err error
	var caller sync.WaitGroup
	caller.Go(func() {
		runtime.LockOSThread() // a goroutine that ends like this takes its thread along
		c, err = temporary("")
	})
	caller.Wait()
	if err != nil {
		t.Fatal(err)
	}
	c.endWith(t)
	if err := connection(t, c.URL("postgres")).Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(c.Logs(), "received fast shutdown request") || strings.Contains(c.Logs(), "immediate shutdown") {
		t.Errorf("it was not we who ended it:\n%s", c.Logs())
	}
}

// A test process that is killed has no time to end its cluster, or to remove it.
func TestKilledProcessLeavesNothing(t *testing.T) {
	t.Parallel()
	if !endsWithUs {
		t.Skip("only Linux tells a process that its parent has ended")
	}
	dir, err := os.MkdirTemp("", "dialtone-killed-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // the cluster's folder is in it, and its owner may be another
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "POSTGRESTEST_LAUNCH="+dir)
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url = strings.TrimSpace(url)
	conn := connection(t, url)
	if sweep(dir); folders(t, dir) != 1 {
		t.Fatal("a folder was removed that its process holds")
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}

	child.Process.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = until(ctx, nil, func() error {
		c, err := pgx.Connect(ctx, url)
		if err == nil {
			c.Close(ctx)
			return errors.New("the server lives")
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a backend lives")
	}
	child.Wait()
	if sweep(dir); folders(t, dir) != 0 {
		t.Error("the folder of a killed process is not removed")
	}
}

// folders counts what is in a folder.
func folders(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// launchAndWait is the process that is killed.
func launchAndWait(dir string) {
	c, err := temporary(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(c.URL("postgres"))
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// What a test pays for a database, made and dropped: on the cluster of all tests, and on one that waits for the disk.
func BenchmarkDatabase(b *testing.B) {
	own := Start(b)
	for name, c := range map[string]*Cluster{"Shared": Shared(b), "Start": own} {
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					name, err := c.create()
					if err == nil {
						err = c.drop(name)
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// What a process pays for its shared cluster, and a test for one of its own.
func BenchmarkStart(b *testing.B) {
	for name, in := range map[string]string{"Shared": memory(), "Start": ""} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c, err := temporary(in)
				if err == nil {
					err = c.discard()
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
