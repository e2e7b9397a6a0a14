package postgrestest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	rand2 "math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience is how long anything is waited for.
const patience = time.Minute

// Cluster is a PostgreSQL server and its data. Its methods may be called by several at a time, but it is for one of them to
// begin and end it.
type Cluster struct {
	// Dir has the data ("data"), what the server said ("log") and its socket.
	Dir string

	installed installation
	port      int
	password  string
	name      string // of a standby, to its primary
	shared    bool
	held      *os.File // the folder, where it is a temporary one

	mu     sync.Mutex
	server *process // nil where none was begun
}

// Launch makes a cluster in a folder, which is made if need be and which the cluster takes possession of, and starts it.
// Settings are as in "max_connections=20". Whoever launches it stops it, and removes the folder.
func Launch(dir string, settings ...string) (*Cluster, error) {
	c, err := prepared(dir)
	if err != nil {
		return nil, err
	}
	c.password = rand.Text()
	if err := c.init(); err != nil {
		return nil, err
	}
	if err := c.set("postgresql.conf", settings...); err != nil {
		return nil, err
	}
	if err := c.beginSomewhere(); err != nil {
		return nil, err
	}
	return c, nil
}

// standbys counts those of this process, for their names.
var standbys atomic.Int64

// LaunchStandby makes a standby in a folder as Launch does a cluster. It returns when the standby follows.
func (c *Cluster) LaunchStandby(dir string) (*Cluster, error) {
	s, err := prepared(dir)
	if err != nil {
		return nil, err
	}
	s.password, s.name = c.password, fmt.Sprintf("standby_%d", standbys.Add(1))
	// A slot keeps what the standby has not read yet, so that it can be down for as long as a test likes.
	backup := s.installed.command(s.Dir, "pg_basebackup", "--pgdata", s.data(), "--write-recovery-conf", "--create-slot", "--slot", s.name,
		"--checkpoint=fast", "--no-sync", "--dbname", fmt.Sprintf("host=127.0.0.1 port=%d user=postgres sslmode=disable application_name=%s", c.port, s.name))
	backup.Env = append(backup.Env, "PGPASSWORD="+c.password)
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	// What commits on the primary wait for is copied. Here they would wait for ever, after a promotion.
	if err := s.set("postgresql.auto.conf", "synchronous_standby_names="); err != nil {
		return nil, err
	}
	if err := s.beginSomewhere(); err != nil {
		return nil, err
	}
	if err := c.untilFollowed(s, "state", "streaming"); err != nil {
		return nil, errors.Join(err, s.end(syscall.SIGQUIT))
	}
	return s, nil
}

// CommitOn makes every commit on the cluster wait for a standby of it, from its return.
func (c *Cluster) CommitOn(s *Cluster) error {
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + s.name + "'", "SELECT pg_reload_conf()"} {
		if err := execute(c.URL("postgres"), sql); err != nil {
			return err
		}
	}
	return c.untilFollowed(s, "sync_state", "sync")
}

// untilFollowed waits until the cluster says of a standby what is wanted.
func (c *Cluster) untilFollowed(s *Cluster, column, wanted string) error {
	err := within("the standby", func(ctx context.Context, conn *pgx.Conn) error {
		return until(ctx, nil, func() error {
			var is string
			err := conn.QueryRow(ctx, "SELECT coalesce(max("+column+"), 'absent') FROM pg_stat_replication WHERE application_name = $1", s.name).Scan(&is)
			if err == nil && is != wanted {
				err = fmt.Errorf("it is %s and not %s", is, wanted)
			}
			return err
		})
	}, c.URL("postgres"))
	if err != nil {
		return fmt.Errorf("%w\n%s", err, s.Logs())
	}
	return nil
}

// prepared is a cluster without data.
func prepared(dir string) (*Cluster, error) {
	installed, err := find()
	if err != nil {
		return nil, err
	}
	// PostgreSQL works in the folder, and from somewhere else.
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &Cluster{Dir: dir, installed: installed}, installed.give(dir)
}

func (c *Cluster) data() string { return filepath.Join(c.Dir, "data") }

// init makes the data.
func (c *Cluster) init() error {
	password := filepath.Join(c.Dir, "password")
	if err := os.WriteFile(password, []byte(c.password+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(password)
	if err := c.installed.give(password); err != nil {
		return err
	}
	// It is not synced: that is for power cuts, and there are none.
	args := []string{"--pgdata", c.data(), "--username=postgres", "--pwfile", password, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--no-sync"}
	if c.installed.major >= 15 {
		args = append(args, "--locale-provider=icu", "--icu-locale=en")
	}
	if out, err := c.installed.command(c.Dir, "initdb", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// set appends settings to one of the cluster's files. The last one of a name holds.
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

// beginSomewhere begins the cluster for the first time, on a port that it can have.
func (c *Cluster) beginSomewhere() error {
	var err error
	for range 5 {
		if c.port, err = freePort(); err != nil {
			return err
		}
		// Between freePort and here somebody else may have come.
		if err = c.Begin(); err == nil || !strings.Contains(c.Logs(), "could not bind") {
			return err
		}
		os.Remove(c.log())
	}
	return err
}

// freePort is one that nobody listens on, below those that systems give to clients. From among those, a client could have
// it while the cluster is down; one that tries to connect to it over and over could even reach itself.
func freePort() (int, error) {
	const lowest, highest = 10000, 32767
	var err error
	for range 100 {
		var l net.Listener
		port := lowest + rand2.IntN(highest-lowest+1)
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

// Begin starts a cluster that is down, and waits until it lets people in.
func (c *Cluster) Begin() error {
	if c.Pid() != 0 {
		return errors.New("the cluster to begin is up")
	}
	log, err := os.OpenFile(c.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := c.installed.command(c.Dir, "postgres", "-D", c.data(), "-h", "127.0.0.1", "-p", strconv.Itoa(c.port), "-k", c.Dir)
	cmd.Stdout, cmd.Stderr = log, log
	server, err := start(cmd)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.server = server
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = until(ctx, server.ended, func() error {
		if err := c.ready(server.cmd.Process.Pid); err != nil {
			return err
		}
		conn, err := connect(ctx, c.URL("postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
	if err != nil {
		return errors.Join(fmt.Errorf("PostgreSQL does not start: %w\n%s", err, c.Logs()), c.end(syscall.SIGQUIT))
	}
	return nil
}

// ready looks into the file where the server says whether it lets people in. To ask it instead would fill its log with
// refusals.
func (c *Cluster) ready(pid int) error {
	file, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return err
	}
	lines := strings.Split(string(file), "\n")
	if len(lines) < 8 || lines[0] != strconv.Itoa(pid) || strings.TrimSpace(lines[7]) != "ready" {
		return errors.New("it is not ready")
	}
	return nil
}

// Stop ends the cluster in order. It does nothing to one that is down.
func (c *Cluster) Stop() error { return c.end(syscall.SIGINT) }

// end has the server end and waits until it has.
func (c *Cluster) end(how os.Signal) error {
	c.mu.Lock()
	server := c.server
	c.mu.Unlock()
	if server == nil {
		return nil
	}
	if err := server.cmd.Process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-server.ended:
		return nil
	case <-time.After(patience):
		server.cmd.Process.Kill() // what it has started notices
		<-server.ended
		return fmt.Errorf("PostgreSQL had to be killed\n%s", c.Logs())
	}
}

// Addr is where the cluster listens.
func (c *Cluster) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// URL is that of a database; "postgres" is there always. With others, which are standbys of the cluster or were, it is
// that of whichever can be written to.
func (c *Cluster) URL(database string, others ...*Cluster) string {
	hosts, attributes := c.Addr(), "sslmode=disable"
	for _, o := range others {
		hosts += "," + o.Addr()
		attributes = "sslmode=disable&target_session_attrs=read-write"
	}
	return fmt.Sprintf("postgres://postgres:%s@%s/%s?%s", c.password, hosts, url.PathEscape(database), attributes)
}

// Pid is that of the server's first process, 0 where it is down.
func (c *Cluster) Pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return 0
	}
	select {
	case <-c.server.ended:
		return 0
	default:
		return c.server.cmd.Process.Pid
	}
}

func (c *Cluster) log() string { return filepath.Join(c.Dir, "log") }

// Logs is the end of what the server said.
func (c *Cluster) Logs() string {
	const most = 8 << 10
	f, err := os.Open(c.log())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err.Error()
	}
	text := make([]byte, min(end, most))
	if _, err := f.ReadAt(text, end-int64(len(text))); err != nil {
		return err.Error()
	}
	if _, whole, cut := bytes.Cut(text, []byte("\n")); cut && end > most {
		text = whole
	}
	return string(text)
}

// until tries again and again until there is no error, the context is done or, where ended is given, it is closed.
func until(ctx context.Context, ended <-chan struct{}, try func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return fmt.Errorf("it has ended; before, %w", err)
		case <-ctx.Done():
			return fmt.Errorf("not in %v: %w", patience, err)
		}
	}
}

// ourselves is the application's name of the connections that are made here.
const ourselves = "postgrestest"

func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = ourselves
	return pgx.ConnectConfig(ctx, config)
}

// within does something on a connection of its own, and not for ever.
func within(what string, do func(context.Context, *pgx.Conn) error, url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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
	return within(sql, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	}, url)
}
