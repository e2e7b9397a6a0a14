package postgrestest

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/test/process"
)

// Cluster is a PostgreSQL server and its data. Its methods may be called concurrently, except those
// that start and stop it.
type Cluster struct {
	// Dir holds the data, in "data", and the server's socket.
	Dir string

	installed installation
	port      int
	password  string
	verifier  string // the password as PostgreSQL and PgBouncer store it
	name      string // by which its primary knows a standby
	shared    bool
	lock      *os.File // on Dir, if it is a temporary directory
	log       process.Log

	mu     sync.Mutex
	server *process.Process // nil if none was started

	admin     sync.Mutex
	adminConn *pgx.Conn // which creates and drops databases; nil before the first one
}

// Launch creates a cluster in a directory and starts it. It creates the directory if it does not
// exist, and gives it to the user that PostgreSQL runs as. Settings look like "max_connections=20".
// The caller stops the cluster and removes the directory.
func Launch(dir string, settings ...string) (*Cluster, error) {
	return launch(dir, (*Cluster).initdb, settings)
}

func launch(dir string, createData func(*Cluster) error, settings []string) (*Cluster, error) {
	c, err := newCluster(dir)
	if err != nil {
		return nil, err
	}
	if err := createData(c); err != nil {
		return nil, err
	}
	if err := c.set("postgresql.conf", settings...); err != nil {
		return nil, err
	}
	if err := c.startOnFreePort(); err != nil {
		return nil, err
	}
	return c, nil
}

// standbys counts the standbys of this process, for their names.
var standbys atomic.Int64

// LaunchStandby creates a standby in a directory, as Launch creates a cluster. It returns when the
// standby streams from the primary.
func (c *Cluster) LaunchStandby(dir string) (*Cluster, error) {
	s, err := newCluster(dir)
	if err != nil {
		return nil, err
	}
	s.password, s.verifier, s.name = c.password, c.verifier, fmt.Sprintf("standby_%d", standbys.Add(1))
	// The slot keeps the WAL that the standby has not read yet, so that a test may stop the standby
	// for any time.
	primary := fmt.Sprintf("host=127.0.0.1 port=%d user=postgres sslmode=disable application_name=%s",
		c.port, s.name)
	backup := s.installed.command(s.Dir, "pg_basebackup", "--pgdata", s.data(), "--write-recovery-conf",
		"--create-slot", "--slot", s.name, "--checkpoint=fast", "--no-sync", "--dbname", primary)
	backup.Env = append(backup.Env, "PGPASSWORD="+c.password)
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	// The primary's setting was copied. After a promotion, commits would wait forever.
	if err := s.set("postgresql.auto.conf", "synchronous_standby_names="); err != nil {
		return nil, err
	}
	if err := s.startOnFreePort(); err != nil {
		return nil, err
	}
	if err := c.waitForStandby(s, "state", "streaming"); err != nil {
		return nil, errors.Join(err, s.end(syscall.SIGQUIT))
	}
	return s, nil
}

// CommitOn makes the cluster wait, at every commit after CommitOn has returned, until a standby has
// the commit on its disk.
func (c *Cluster) CommitOn(s *Cluster) error {
	for _, sql := range []string{
		"ALTER SYSTEM SET synchronous_standby_names = '" + s.name + "'", "SELECT pg_reload_conf()",
	} {
		if err := execute(c.URL("postgres"), sql); err != nil {
			return err
		}
	}
	return c.waitForStandby(s, "sync_state", "sync")
}

// waitForStandby waits until a column of the standby's row in pg_stat_replication has a value.
func (c *Cluster) waitForStandby(s *Cluster, column, want string) error {
	query := "SELECT coalesce(max(" + column + "), 'absent') FROM pg_stat_replication " +
		"WHERE application_name = $1"
	wait := func(ctx context.Context, conn *pgx.Conn) error {
		return process.Poll(ctx, func() error {
			var got string
			err := conn.QueryRow(ctx, query, s.name).Scan(&got)
			if err == nil && got != want {
				err = fmt.Errorf("its %s is %s, not %s", column, got, want)
			}
			return err
		})
	}
	if err := withConnection(c.URL("postgres"), "waiting for the standby", wait); err != nil {
		return fmt.Errorf("%w\n%s", err, s.Logs())
	}
	return nil
}

// newCluster returns a cluster without data.
func newCluster(dir string) (*Cluster, error) {
	installed, err := find()
	if err != nil {
		return nil, err
	}
	// PostgreSQL runs in the directory, so a relative path would mislead it.
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &Cluster{Dir: dir, installed: installed}, process.Chown(dir, installed.as)
}

// scramVerifier returns what PostgreSQL stores for a password, as RFC 5803 defines it. It uses one
// iteration, not 4096: clients, servers and poolers would repeat them for each of thousands of
// connections, and a random password does not need them.
func scramVerifier(password string) (string, error) {
	salt := []byte(rand.Text())
	salted, err := pbkdf2.Key(sha256.New, password, salt, 1, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(text string) []byte {
		m := hmac.New(sha256.New, salted)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return "SCRAM-SHA-256$1:" + encode(salt) + "$" + encode(stored[:]) + ":" + encode(mac("Server Key")), nil
}

func (c *Cluster) data() string { return filepath.Join(c.Dir, "data") }

// initdb creates the data, with a random password.
func (c *Cluster) initdb() (err error) {
	c.password = rand.Text()
	if c.verifier, err = scramVerifier(c.password); err != nil {
		return err
	}
	password := filepath.Join(c.Dir, "password")
	if err := os.WriteFile(password, []byte(c.verifier+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(password)
	if err := process.Chown(password, c.installed.as); err != nil {
		return err
	}
	// Without --no-sync, initdb would protect the data against a power cut.
	args := []string{"--pgdata", c.data(), "--username=postgres", "--pwfile", password,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"}
	if c.installed.major >= 15 {
		args = append(args, "--locale-provider=icu", "--icu-locale=en")
	}
	if out, err := c.installed.command(c.Dir, "initdb", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// copyData creates the data as a copy of the template's, which takes a tenth of the processor time of initdb.
func (c *Cluster) copyData() error {
	from, err := template()
	if err != nil {
		return err
	}
	c.password, c.verifier = from.password, from.verifier
	if out, err := exec.Command("cp", "-a", from.data(), c.data()).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the template: %w\n%s", err, out)
	}
	return nil
}

// set appends settings to one of the cluster's configuration files. PostgreSQL uses the last value
// of a setting.
func (c *Cluster) set(file string, settings ...string) error {
	f, err := os.OpenFile(filepath.Join(c.data(), file), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	quote := strings.NewReplacer(`\`, `\\`, "'", "''")
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		if _, err := fmt.Fprintf(f, "%s = '%s'\n", name, quote.Replace(value)); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// startOnFreePort starts the cluster for the first time, and chooses its port.
func (c *Cluster) startOnFreePort() error {
	var err error
	for range 5 {
		if c.port, err = process.FreePort(); err != nil {
			return err
		}
		// Another process may have taken the port since.
		if err = c.Begin(); err == nil || !strings.Contains(c.log.String(), "could not bind") {
			return err
		}
		c.log.Reset()
	}
	return err
}

// Begin starts a cluster that is down, and waits until it accepts connections.
func (c *Cluster) Begin() error {
	if c.Pid() != 0 {
		return errors.New("the cluster is already running")
	}
	cmd := c.installed.command(c.Dir, "postgres", "-D", c.data(), "-h", "127.0.0.1",
		"-p", strconv.Itoa(c.port), "-k", c.Dir)
	cmd.Stdout, cmd.Stderr = &c.log, &c.log
	server, err := process.Start(cmd, syscall.SIGQUIT)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.server = server
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), process.Timeout)
	defer cancel()
	err = server.WaitReady(ctx, func() error {
		if err := c.ready(server.Pid()); err != nil {
			return err
		}
		conn, err := connect(ctx, c.URL("postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
	if err != nil {
		err = fmt.Errorf("PostgreSQL does not start: %w\n%s", err, c.Logs())
		return errors.Join(err, c.end(syscall.SIGQUIT))
	}
	return nil
}

// ready reads from the server's PID file whether it accepts connections. Trying to connect before
// would fill the log with refusals.
func (c *Cluster) ready(pid int) error {
	file, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return err
	}
	lines := strings.Split(string(file), "\n")
	if len(lines) < 8 || lines[0] != strconv.Itoa(pid) || strings.TrimSpace(lines[7]) != "ready" {
		return errors.New("PostgreSQL is not ready")
	}
	return nil
}

// Stop shuts the cluster down. It does nothing to one that is down.
func (c *Cluster) Stop() error { return c.end(syscall.SIGINT) }

// end sends the server a signal and waits until it has ended.
func (c *Cluster) end(signal os.Signal) error {
	c.mu.Lock()
	server := c.server
	c.mu.Unlock()
	if server == nil {
		return nil
	}
	if err := server.Stop(signal, process.Timeout); err != nil {
		return fmt.Errorf("%w\n%s", err, c.Logs())
	}
	return nil
}

// Addr returns the address that the cluster listens on.
func (c *Cluster) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// URL returns the URL of a database. The database "postgres" always exists. With others, which are
// or were standbys of the cluster, a connection to the URL leads to the one that can be written to.
func (c *Cluster) URL(database string, others ...*Cluster) string {
	hosts, attributes := c.Addr(), "sslmode=disable"
	for _, o := range others {
		hosts += "," + o.Addr()
		attributes = "sslmode=disable&target_session_attrs=read-write"
	}
	return fmt.Sprintf("postgres://postgres:%s@%s/%s?%s",
		c.password, hosts, url.PathEscape(database), attributes)
}

// Pid returns the process ID of the postmaster, or 0 if the cluster is down.
func (c *Cluster) Pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil || c.server.Ended() {
		return 0
	}
	return c.server.Pid()
}

// Logs returns the end of the server's log.
func (c *Cluster) Logs() string { return c.log.Tail() }

// applicationName is the application name of the connections that this package makes.
const applicationName = "postgrestest"

func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = applicationName
	return pgx.ConnectConfig(ctx, config)
}

// withConnection calls do with a new connection and a limit of process.Timeout. what describes the
// action in errors.
func withConnection(url, what string, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), process.Timeout)
	defer cancel()
	conn, err := connect(ctx, url)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer conn.Close(ctx)
	if err := do(ctx, conn); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func execute(url, sql string, args ...any) error {
	return withConnection(url, sql, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	})
}
