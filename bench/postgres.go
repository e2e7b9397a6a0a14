package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/secret"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

// launchPostgres starts a PostgreSQL server with settings in the directory of the run.
func launchPostgres(o options, settings ...string) (*postgrestest.Cluster, error) {
	// It does not run as root, and must be able to enter the directory.
	if err := os.Chmod(o.dir, 0o711); err != nil {
		return nil, err
	}
	return postgrestest.Launch(filepath.Join(o.dir, "postgres"), settings...)
}

// shared measures signups of one and of two servers on one PostgreSQL database, and plain INSERTs of
// the same rows by pgbench: one transaction for each signup, prepared statements, as many connections
// as the servers have clients, and synchronous_commit on. Servers, clients and database share the
// processors of one machine.
func shared(ctx context.Context, o options) error {
	c, err := launchPostgres(o, "max_connections=400")
	if err != nil {
		return err
	}
	defer c.Stop()
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, conns := range o.conns {
		if err := sharedRound(ctx, o, c, conn, conns); err != nil {
			return err
		}
	}
	return million(ctx, o, c, conn)
}

// million measures the size of a million accounts, and how fast one is found by tenant and name.
func million(ctx context.Context, o options, c *postgrestest.Cluster, admin *pgx.Conn) error {
	if _, err := admin.Exec(ctx, "CREATE DATABASE million"); err != nil {
		return err
	}
	if _, err := newPlain(ctx, o, c.URL("million"), 1); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, c.URL("million"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	const accounts = 1_000_000
	if _, err := conn.Exec(ctx, `INSERT INTO account (uid, tenant, username, name, email, role, held,
			created, expires, activated, epoch, credential, has_sha256, token)
		SELECT int8send(i::bigint) || uuid_send(gen_random_uuid())::bytea, 1, 'user' || i,
			'Alex Example', 'user' || i || '@example.org', 'guest', FALSE, i, i, i, 0,
			decode(repeat('5a', 97), 'hex'), TRUE,
			uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
		FROM generate_series(1, $1::int) i`, accounts); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `VACUUM ANALYZE account`); err != nil {
		return err
	}
	var table, all int64
	row := conn.QueryRow(ctx, `SELECT pg_table_size('account'), pg_total_relation_size('account')`)
	if err := row.Scan(&table, &all); err != nil {
		return err
	}
	program, err := postgrestest.Program("pgbench")
	if err != nil {
		return err
	}
	script := filepath.Join(o.dir, "find.pgbench")
	text := fmt.Sprintf("\\set i random(1, %d)\n"+
		"SELECT uid, name, email, role, held, activated, credential FROM account "+
		"WHERE tenant = 1 AND username = 'user' || :i::bigint AND closed IS NULL;\n", accounts)
	if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "--no-vacuum", "--protocol=prepared", "--client=16",
		"--jobs=2", "--time=5", "--file="+script, c.URL("million"))
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	m := tps.FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("the output of pgbench has no rate:\n%s", out)
	}
	fmt.Printf("### PostgreSQL, a million active accounts\n\n%d bytes each, %d of them for indexes; "+
		"%s look-ups by name per second (pgbench, 16 connections)\n",
		all/accounts, (all-table)/accounts, m[1])
	return nil
}

func sharedRound(ctx context.Context, o options, c *postgrestest.Cluster, conn *pgx.Conn, conns int) error {
	database, plain := fmt.Sprintf("dialtone%d", conns), fmt.Sprintf("plain%d", conns)
	for _, name := range []string{database, plain} {
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
			return err
		}
	}
	pgbench, err := newPlain(ctx, o, c.URL(plain), conns)
	if err != nil {
		return err
	}
	var nodes []*process
	for i := range sharers {
		data := filepath.Join(o.dir, fmt.Sprintf("node-%d-%d", conns, i+1))
		if i > 0 {
			if err := copyKeys(data, nodes[0].data); err != nil {
				return err
			}
		}
		p, err := startDialtone(ctx, o.binary, data, "DIALTONE_DATABASE="+c.URL(database))
		if err != nil {
			return err
		}
		defer p.stop()
		nodes = append(nodes, p)
	}
	captchas, err := prefetch(nodes[0].target, captchaRate*int((2+sharers)*o.duration.Seconds()+1))
	if err != nil {
		return err
	}
	slice := o.duration / turns
	on := func(nodes ...*process) func() (figures, error) {
		return func() (figures, error) {
			var mu sync.Mutex
			var all figures
			var running sync.WaitGroup
			for _, p := range nodes {
				running.Go(func() {
					f := drive(conns/len(nodes), p.target, slice, signups(captchas))
					mu.Lock()
					defer mu.Unlock()
					all.rate += f.rate
					all.add(f)
				})
			}
			running.Wait()
			return all, nil
		}
	}
	fmt.Printf("### PostgreSQL, %d connections\n\n| | per second | p50 | p99 | max | ratio |\n"+
		"| --- | --- | --- | --- | --- | --- |\n", conns)
	one, limit, of, err := compare(on(nodes[0]), func() (figures, error) { return pgbench(slice) }, byRate)
	if err != nil {
		return err
	}
	fmt.Printf("| pgbench, the same rows by plain INSERTs | %8.0f | | | | |\n", limit.rate)
	fmt.Printf("| signups, one server | %s | %s |\n", one, asText(of, "of pgbench"))
	two, _, of, err := compare(on(nodes[:2]...), on(nodes[0]), byRate)
	if err != nil {
		return err
	}
	fmt.Printf("| signups, two servers | %s | %s |\n", two, asText(of, "of one server"))
	for _, f := range []figures{one, two} {
		if f.failed > 0 {
			fmt.Printf("\n%d of them failed, the first with: %v\n", f.failed, f.firstFailure)
		}
	}
	groups, ok := newShares(sharers, sharePart)
	if !ok {
		fmt.Printf("\nServers with a part of a processor each were not measured: this system has no control " +
			"groups.\n\n")
		return nil
	}
	defer groups.end()
	for i, p := range nodes {
		if err := groups.put(i, p.cmd.Process.Pid); err != nil {
			return err
		}
		defer p.stop() // before the groups are removed
	}
	fmt.Printf("\nservers with %.2f of a processor each, %d connections in all:\n\n"+
		"| servers | signups per second | p50 | p99 | max | ratio |\n"+
		"| --- | --- | --- | --- | --- | --- |\n", sharePart, conns)
	for n := 2; n <= sharers; n++ {
		f, one, of, err := compare(on(nodes[:n]...), on(nodes[0]), byRate)
		if err != nil {
			return err
		}
		if n == 2 {
			fmt.Printf("| 1 | %s | |\n", one)
		}
		fmt.Printf("| %d | %s | %s |\n", n, f, asText(of, "of one"))
	}
	fmt.Println()
	return nil
}

// sharers is the number of servers that get sharePart of a processor each, as if each were on a small
// machine of its own.
const (
	sharers   = 4
	sharePart = 0.2
)

// copyKeys copies the keys of one server to another.
func copyKeys(to, from string) error {
	keys := filepath.Join(to, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"seal.key", "sign.key"} {
		text, err := os.ReadFile(filepath.Join(from, "keys", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(keys, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// plainScript inserts the rows of one signup, with as many random values as a signup has.
const plainScript = `\set a random(1, 9000000000000000000)
\set b random(1, 9000000000000000000)
BEGIN;
INSERT INTO spent (expires, nonce) VALUES ((extract(epoch FROM now()) * 1000000)::bigint, uuid_send(gen_random_uuid()));
INSERT INTO taken (bucket, at, account, until)
	VALUES (uuid_send(gen_random_uuid()), (extract(epoch FROM now()) * 1000000)::bigint,
	int8send(:a::bigint) || int8send(:b::bigint), (extract(epoch FROM now()) * 1000000)::bigint + 1);
INSERT INTO taken (bucket, at, account, until)
	VALUES (uuid_send(gen_random_uuid()), (extract(epoch FROM now()) * 1000000)::bigint,
	int8send(:a::bigint) || int8send(:b::bigint), (extract(epoch FROM now()) * 1000000)::bigint + 2);
INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires, epoch,
		credential, has_sha256, token)
	VALUES (int8send((extract(epoch FROM now()) * 1000000)::bigint) || int8send(:b::bigint), 1,
	'plain' || :a::bigint, 'Alex Example', 'plain' || :a::bigint || '@example.org', 'guest', FALSE,
	(extract(epoch FROM now()) * 1000000)::bigint,
	(extract(epoch FROM now()) * 1000000)::bigint + 604800000000, 0,
	decode(repeat('5a', 97), 'hex'), TRUE,
	uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
INSERT INTO outbox (account, message, token)
	VALUES (int8send((extract(epoch FROM now()) * 1000000)::bigint) || int8send(:b::bigint),
	uuid_send(gen_random_uuid()), decode(repeat('a5', 64), 'hex'));
COMMIT;
`

var tps = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \(without`)

// newPlain creates the schema of the program in a database, and returns a function that makes
// pgbench fill it.
func newPlain(ctx context.Context, o options, url string, conns int) (func(time.Duration) (figures, error), error) {
	program, err := postgrestest.Program("pgbench")
	if err != nil {
		return nil, err
	}
	store, err := teststore.OpenPostgres(ctx, secret.NewRing(time.Now()), "", url)
	if err != nil {
		return nil, err
	}
	if err := store.Close(); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `INSERT INTO tenant (id, host, realm, public_url, settings, created)
		VALUES (1, 'localhost', 'localhost', '', '{}', 0)`); err != nil {
		return nil, err
	}
	script := filepath.Join(o.dir, "signup.pgbench")
	if err := os.WriteFile(script, []byte(plainScript), 0o644); err != nil {
		return nil, err
	}
	return func(d time.Duration) (figures, error) {
		seconds := max(1, int(d.Round(time.Second).Seconds()))
		cmd := exec.CommandContext(ctx, program, "--no-vacuum", "--protocol=prepared",
			"--client="+strconv.Itoa(conns), "--jobs="+strconv.Itoa(min(2, conns)),
			"--time="+strconv.Itoa(seconds), "--file="+script, "--random-seed=rand", url)
		cmd.Stderr = io.Discard
		out, err := cmd.Output()
		if err != nil {
			return figures{}, fmt.Errorf("pgbench: %w\n%s", err, out)
		}
		m := tps.FindSubmatch(out)
		if m == nil {
			return figures{}, fmt.Errorf("the output of pgbench has no rate:\n%s", out)
		}
		rate, err := strconv.ParseFloat(string(m[1]), 64)
		return figures{rate: rate}, err
	}, nil
}
