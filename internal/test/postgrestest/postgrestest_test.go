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

	"dialtone/internal/test/process"
)

// The first thread of a process never ends. TestMain keeps it, so that tests run on threads that do.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if dir := os.Getenv("POSTGRESTEST_LAUNCH"); dir != "" {
		launchAndWait(dir)
	}
	Main(m)
}

// connection returns a connection that is closed when the test is over.
func connection(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// value returns the result of a query of one row and one column.
func value(t testing.TB, url, sql string) string {
	t.Helper()
	var v string
	if err := connection(t, url).QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestCrash(t *testing.T) {
	t.Parallel()
	c := Start(t)
	url := c.Database(t)
	c.Exec(t, url, "CREATE TABLE message (text text)")
	c.Exec(t, url, "INSERT INTO message VALUES ($1)", "hello")
	open := connection(t, url)
	first, address := c.Pid(), c.Addr()

	c.Crash(t)
	if err := open.Ping(t.Context()); err == nil {
		t.Error("a connection survived the crash")
	}
	if pid := c.Pid(); pid != 0 {
		t.Errorf("the process ID is %d after the crash", pid)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("the port accepts connections after the crash")
	}

	c.Restart(t)
	if c.Pid() == first || c.Pid() == 0 || c.Addr() != address {
		t.Errorf("process %d at %s became %d at %s", first, address, c.Pid(), c.Addr())
	}
	if got := value(t, url, "SELECT text FROM message"); got != "hello" {
		t.Errorf("the row is %q", got)
	}
	if !strings.Contains(c.Logs(), "automatic recovery in progress") {
		t.Errorf("no recovery, so no crash:\n%s", c.Logs())
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	c := Start(t, "max_connections=17", `cluster_name=it's a \`)
	first := c.Pid()
	c.Restart(t)
	if c.Pid() == first {
		t.Error("the process is the same")
	}
	if strings.Contains(c.Logs(), "automatic recovery in progress") {
		t.Errorf("a recovery after a shutdown:\n%s", c.Logs())
	}
	for name, want := range map[string]string{
		"max_connections": "17", "cluster_name": `it's a \`,
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
	} {
		if got := value(t, c.URL("postgres"), "SHOW "+name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestPromote(t *testing.T) {
	t.Parallel()
	primary := Start(t)
	url := primary.Database(t)
	name := value(t, url, "SELECT current_database()")
	standby := primary.Standby(t)
	primary.Exec(t, url, "CREATE TABLE message (text text); INSERT INTO message VALUES ('hello')")

	copied := func() error {
		conn, err := pgx.Connect(t.Context(), standby.URL(name))
		if err != nil {
			return err
		}
		defer conn.Close(t.Context())
		var text string
		return conn.QueryRow(t.Context(), "SELECT text FROM message").Scan(&text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), process.Timeout)
	defer cancel()
	if err := process.Poll(ctx, copied); err != nil {
		t.Fatal(err)
	}
	if err := execute(standby.URL(name), "INSERT INTO message VALUES ('no')"); code(err) != "25006" {
		t.Errorf("a write to the standby: %v", err)
	}

	// The URL leads to the primary, whether it is first or last.
	either := standby.URL(name, primary)
	port := "SELECT current_setting('port')"
	if got, want := value(t, either, port), fmt.Sprint(primary.port); got != want {
		t.Errorf("connected to port %s, the primary is on %s", got, want)
	}
	either = primary.URL(name, standby)
	primary.Crash(t)
	standby.Promote(t)
	standby.Exec(t, either, "INSERT INTO message VALUES ('again')")
	if got := value(t, either, "SELECT string_agg(text, ' ' ORDER BY text DESC) FROM message"); got != "hello again" {
		t.Errorf("the rows are %q", got)
	}
	if got, want := value(t, either, port), fmt.Sprint(standby.port); got != want {
		t.Errorf("connected to port %s, the new primary is on %s", got, want)
	}
}

func TestSyncStandby(t *testing.T) {
	t.Parallel()
	primary := Start(t)
	url := primary.Database(t)
	name := value(t, url, "SELECT current_database()")
	primary.Exec(t, url, "CREATE TABLE message (text text)")
	standby := primary.SyncStandby(t)
	primary.Exec(t, url, "INSERT INTO message VALUES ('hello')")

	standby.Crash(t)
	conn := connection(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), process.Timeout)
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "INSERT INTO message VALUES ('again')")
		answer <- err
	}()
	// The commit is in the WAL, and is not acknowledged.
	watch := connection(t, url)
	err := process.Poll(ctx, func() error {
		var waiting int
		err := watch.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").
			Scan(&waiting)
		if err == nil && waiting != 1 {
			err = fmt.Errorf("%d commits wait for the standby, want 1", waiting)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-answer:
		t.Fatalf("a commit was acknowledged without the standby: %v", err)
	default:
	}
	// The primary keeps the WAL for the standby, though it no longer needs it itself.
	for range 3 {
		primary.Exec(t, url, "SELECT pg_logical_emit_message(false, '', 'one more segment'), pg_switch_wal()")
	}
	primary.Exec(t, url, "CHECKPOINT")
	standby.Restart(t)
	if err := <-answer; err != nil {
		t.Fatal(err)
	}

	// No acknowledged commit is lost, and the new primary does not wait for a standby.
	primary.Crash(t)
	standby.Promote(t)
	if got := value(t, standby.URL(name),
		"SELECT string_agg(text, ' ' ORDER BY text DESC) FROM message"); got != "hello again" {
		t.Errorf("the rows are %q", got)
	}
	standby.Exec(t, primary.URL(name, standby), "INSERT INTO message VALUES ('alone')")

	// A standby of a cluster with a synchronous standby can be promoted too.
	next := standby.SyncStandby(t)
	last := standby.Standby(t)
	standby.Crash(t)
	last.Promote(t)
	last.Exec(t, last.URL(name), "INSERT INTO message VALUES ('still')")
	if got := value(t, next.URL(name), "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Error("the other standby was promoted too")
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
	ctx, cancel := context.WithTimeout(t.Context(), process.Timeout)
	defer cancel()
	err := process.Poll(ctx, func() error {
		if killed = c.KillBackends(t, "pg_sleep"); killed == 0 {
			return errors.New("no such backend")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; killed != 1 || severity(err) != "FATAL" || code(err) != "57P01" {
		t.Errorf("%d backends were killed; the query failed with %v", killed, err)
	}

	tx, err := idle.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := c.KillBackends(t, "idle in transaction"); n != 1 {
		t.Errorf("%d backends were killed", n)
	}
	if _, err := tx.Exec(t.Context(), "SELECT 1"); code(err) != "57P01" {
		t.Errorf("the transaction failed with %v", err)
	}
	if n := c.KillBackends(t, "nothing like it"); n != 0 {
		t.Errorf("%d backends were killed", n)
	}
	if err := bystander.Ping(t.Context()); err != nil {
		t.Errorf("an unrelated connection was cut: %v", err)
	}
	if n := c.KillBackends(t, ""); n != 1 {
		t.Errorf("%d backends were killed at last, want 1", n)
	}
}

// code returns the SQLSTATE of an error, or "".
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

func TestDatabase(t *testing.T) {
	t.Parallel()
	c := Shared(t)
	if c != Shared(t) {
		t.Fatal("two calls return two clusters")
	}
	var left string
	t.Run("use", func(t *testing.T) {
		one, two := c.Database(t), c.Database(t)
		c.Exec(t, one, "CREATE TABLE here (n int)")
		c.Exec(t, two, "CREATE TABLE here (n int)")
		if got := value(t, one, "SHOW server_encoding"); got != "UTF8" {
			t.Errorf("the encoding is %s", got)
		}
		if value(t, one, "SELECT ('b' < 'C')::text") != "true" {
			t.Error("text is sorted by bytes")
		}
		left = one
		if _, err := pgx.Connect(t.Context(), one); err != nil { // never closed
			t.Fatal(err)
		}
	})
	if _, err := pgx.Connect(t.Context(), left); code(err) != "3D000" {
		t.Errorf("the database was not dropped: %v", err)
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	c := Shared(t)
	for _, address := range []string{"host=127.0.0.1", "host=" + c.Dir} {
		for _, user := range []string{"postgres", "postgres password=wrong"} {
			conn, err := pgx.Connect(t.Context(), fmt.Sprintf(
				"%s port=%d database=postgres sslmode=disable user=%s", address, c.port, user))
			if err == nil {
				conn.Close(t.Context())
			}
			if code(err) != "28P01" && !strings.Contains(fmt.Sprint(err), "password") {
				t.Errorf("%s as %s: %v", address, user, err)
			}
		}
	}
}

func TestSharedCannotBeCrashed(t *testing.T) {
	t.Parallel()
	c := Shared(t)
	for name, disturb := range map[string]func(testing.TB){
		"Crash":        c.Crash,
		"Restart":      c.Restart,
		"KillBackends": func(t testing.TB) { c.KillBackends(t, "") },
		"Standby":      func(t testing.TB) { c.Standby(t) },
	} {
		r := &fatalRecorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { recover() }()
			disturb(r)
		}()
		<-done
		if !r.fatal {
			t.Errorf("%s is allowed on the shared cluster", name)
		}
	}
	if c.Pid() == 0 {
		t.Fatal("the shared cluster is down")
	}
}

// fatalRecorder records a call of Fatal instead of failing the test.
type fatalRecorder struct {
	testing.TB
	fatal bool
}

func (r *fatalRecorder) Helper() {}

func (r *fatalRecorder) Fatal(...any) {
	r.fatal = true
	panic("Fatal")
}

func TestStartError(t *testing.T) {
	t.Parallel()
	c, err := launchTemporary("", "no_such_setting=1")
	if err == nil {
		c.discard()
		t.Fatal("a cluster with an unknown setting started")
	}
	if !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("got %v", err)
	}
}

// Linux ends the server when the thread that started it ends, and the threads of a Go program come
// and go.
func TestServerOutlivesThread(t *testing.T) {
	t.Parallel()
	var c *Cluster
	var err error
	var caller sync.WaitGroup
	caller.Go(func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		c, err = launchTemporary("")
	})
	caller.Wait()
	if err != nil {
		t.Fatal(err)
	}
	c.discardAfter(t)
	if err := connection(t, c.URL("postgres")).Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	log := c.Logs()
	if !strings.Contains(log, "received fast shutdown request") || strings.Contains(log, "immediate shutdown") {
		t.Errorf("the server was not ended by Stop:\n%s", c.Logs())
	}
}

// A test process that is killed can neither stop its cluster nor remove it.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	if !process.EndsWithParent {
		t.Skip("on this system, a server does not end with its parent")
	}
	dir, err := os.MkdirTemp("", "dialtone-killed-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // another user may own the cluster in it
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
	if removeStale(dir); entries(t, dir) != 1 {
		t.Fatal("the directory was removed while its process runs")
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}

	child.Process.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), process.Timeout)
	defer cancel()
	err = process.Poll(ctx, func() error {
		c, err := pgx.Connect(ctx, url)
		if err == nil {
			c.Close(ctx)
			return errors.New("the server still runs")
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
		t.Error("a backend still runs")
	}
	child.Wait()
	if removeStale(dir); entries(t, dir) != 0 {
		t.Error("the directory of a killed process is not removed")
	}
}

// entries counts the files in a directory.
func entries(t *testing.T, dir string) int {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// launchAndWait is what TestKilledProcess runs in the process that it kills.
func launchAndWait(dir string) {
	c, err := launchTemporary(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(c.URL("postgres"))
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// BenchmarkDatabase measures creating and dropping a database, on the shared cluster and on one that
// waits for the disk.
func BenchmarkDatabase(b *testing.B) {
	own := Start(b)
	for name, c := range map[string]*Cluster{"Shared": Shared(b), "Start": own} {
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					name, err := c.create("template0")
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

// BenchmarkStart measures making and removing a shared cluster, and one of Start.
func BenchmarkStart(b *testing.B) {
	for name, in := range map[string]string{"Shared": memoryDir(), "Start": ""} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c, err := launchTemporary(in)
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

func TestCopies(t *testing.T) {
	c, fills := Shared(t), 0
	database := c.Copies(t, func(url string) error {
		fills++
		return execute(url, "CREATE TABLE filled (a int UNIQUE)")
	})
	for range 2 {
		// This fails in a database that has the row of the other copy.
		c.Exec(t, database(t), "INSERT INTO filled VALUES (1)")
	}
	if fills != 1 {
		t.Errorf("fill was called %d times, want once", fills)
	}
}
