package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite/conn"
)

// growth prints figures for increasing numbers of accounts, on SQLite or on PostgreSQL.
func growth(ctx context.Context, o options) error {
	const conns = 64
	newDatabase := func(int) (string, error) { return "", nil }
	if o.postgres {
		c, err := launchPostgres(o)
		if err != nil {
			return err
		}
		defer c.Stop()
		admin, err := pgx.Connect(ctx, c.URL("postgres"))
		if err != nil {
			return err
		}
		defer admin.Close(ctx)
		newDatabase = func(n int) (string, error) {
			name := fmt.Sprintf("growth%d", n)
			_, err := admin.Exec(ctx, "CREATE DATABASE "+name)
			return c.URL(name), err
		}
	}
	fmt.Println("| accounts | first answer | memory at start | signups/s | p50 | p99 " +
		"| processor time, each | KiB written, each | sign-ins/s | p50 | p99 | processor time, each | peak memory |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, n := range o.accounts {
		database, err := newDatabase(n)
		if err != nil {
			return err
		}
		if err := growthAt(ctx, o, n, conns, database); err != nil {
			return err
		}
	}
	return nil
}

// growthAt prints the figures at a number of accounts.
func growthAt(ctx context.Context, o options, n, conns int, database string) (err error) {
	data := filepath.Join(o.dir, fmt.Sprintf("growth-%d", n))
	users, err := populate(ctx, o.binary, data, database, n)
	if err != nil {
		return err
	}
	p, err := startDialtone(ctx, o.binary, data, "DIALTONE_DATABASE="+database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	idle := p.memory("VmRSS")
	captchas, err := prefetch(p.target, int(12000*o.duration.Seconds()))
	if err != nil {
		return err
	}
	signedUp, err := p.driveWithUsage(conns, o.duration, signups(captchas))
	if err != nil {
		return err
	}
	signedIn, err := p.driveWithUsage(conns, o.duration, signins(users))
	if err != nil {
		return err
	}
	if signedUp.failed+signedIn.failed > 0 {
		fmt.Printf("failed: %d %v, %d %v\n",
			signedUp.failed, signedUp.firstFailure, signedIn.failed, signedIn.firstFailure)
	}
	signupCost, signupWritten := signedUp.perRequest()
	signinCost, _ := signedIn.perRequest()
	fmt.Printf("| %d | %s | %.0f MiB | %.0f | %s | %s | %d µs | %.1f | %.0f | %s | %s | %d µs | %.0f MiB |\n",
		n, show(p.first), idle,
		signedUp.rate, show(signedUp.p50), show(signedUp.p99),
		signupCost.Microseconds(), float64(signupWritten)/1024,
		signedIn.rate, show(signedIn.p50), show(signedIn.p99), signinCost.Microseconds(), p.memory("VmHWM"))
	return nil
}

// populate creates a data directory, and a store with n active accounts in it or in a PostgreSQL
// database. It writes their rows as the program would, sealed under the directory's own key, since
// a signup for each would take too long. It returns the names of some of them.
func populate(ctx context.Context, binary, data, database string, n int) (users []string, err error) {
	p, err := startDialtone(ctx, binary, data, "DIALTONE_DATABASE="+database)
	if err != nil {
		return nil, err
	}
	if err := p.stop(); err != nil {
		return nil, err
	}
	ring, err := keyfile.Read(filepath.Join(data, "keys", "seal.key"))
	if err != nil {
		return nil, err
	}
	sealer := account.NewSealer(ring)
	at := time.Now().Add(-30 * 24 * time.Hour)
	row := func(i int) []any {
		user := userName(uint64(i))
		made := at.Add(time.Duration(i) * time.Millisecond)
		a := account.Account{Tenant: 1, UID: account.NewUID(made), User: user}
		b, sha := digest.ComputeB(user, realm, password), digest.ComputeSHA256(user, realm, password)
		c := digest.Credential{HA1: digest.Compute(user, realm, password), HA1B: &b, SHA256: &sha}
		sealer.Seal(&a, c)
		token := secret.NewTokenAt(made).OrderedHash()
		if i%max(1, n/5000) == 0 {
			users = append(users, user)
		}
		return []any{a.UID[:], 1, user, "Alex Example", user + "@example.org", "guest", false, made.UnixMicro(),
			made.Add(account.PendingLife).UnixMicro(), made.UnixMicro(), 0, a.Sealed, true, token[:]}
	}
	if database != "" {
		err = populatePostgres(ctx, database, n, row)
		return users, err
	}
	err = populateSQLite(filepath.Join(data, "dialtone.db"), n, row)
	return users, err
}

// populated are the columns of the rows that populate writes.
var populated = []string{"uid", "tenant", "username", "name", "email", "role", "held", "created", "expires",
	"activated", "epoch", "credential", "has_sha256", "token"}

func populatePostgres(ctx context.Context, database string, n int, row func(int) []any) error {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	i := -1
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"account"}, populated, pgx.CopyFromFunc(func() ([]any, error) {
		if i++; i == n {
			return nil, nil
		}
		return row(i), nil
	}))
	if err != nil {
		return err
	}
	// autovacuum and the checkpointer would do this eventually.
	_, err = conn.Exec(ctx, `VACUUM ANALYZE account`)
	if err == nil {
		_, err = conn.Exec(ctx, `CHECKPOINT`)
	}
	return err
}

func populateSQLite(path string, n int, row func(int) []any) error {
	c, err := conn.Open(path, conn.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Script(`PRAGMA synchronous = OFF; PRAGMA journal_mode = DELETE;
		PRAGMA foreign_keys = 1; PRAGMA cache_size = -200000; BEGIN`); err != nil {
		return err
	}
	insert := `INSERT INTO account (` + strings.Join(populated, ", ") + `) VALUES (` +
		engine.Placeholders(1, len(populated)) + `)`
	for i := range n {
		if _, err := c.Exec(insert, row(i)...); err != nil {
			return err
		}
	}
	if err := c.Script(`COMMIT`); err != nil {
		return err
	}
	// The rows were written without syncs. They must be on disk before anything is measured.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
