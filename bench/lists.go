package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/sqlite/conn"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

// The tenants of lists: one has almost all accounts, and the others have some of the oldest.
const (
	largeTenant, mediumTenant, smallTenant = 1, 2, 3
	mediumSize, smallSize                  = 5000, 100
)

// lists measures pages of lists of accounts, on both engines.
func lists(ctx context.Context, o options) error {
	c, err := launchPostgres(o)
	if err != nil {
		return err
	}
	defer c.Stop()
	ring := secret.NewRing(time.Now())
	for _, n := range o.lists {
		began := time.Now().Add(-100 * 24 * time.Hour)
		lite, err := listsOnSQLite(ctx, filepath.Join(o.dir, fmt.Sprintf("lists-%d.db", n)), ring, n, began)
		if err != nil {
			return err
		}
		postgres, err := listsOnPostgres(ctx, c, ring, n, began)
		if err != nil {
			return err
		}
		fmt.Printf("### Pages of 50 of %d accounts\n\n", n)
		fmt.Println("| query | SQLite p50 | p90 | max | processor time | PostgreSQL p50 | p90 | max | first page |")
		fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
		var worst [2]time.Duration
		for _, q := range listQueries(began) {
			cpu := ownTime()
			a, first, err := pages(ctx, lite, q)
			if err != nil {
				return err
			}
			cpu = (ownTime() - cpu) / time.Duration(len(a.all))
			b, other, err := pages(ctx, postgres, q)
			if err != nil {
				return err
			}
			if first != other {
				return fmt.Errorf("%s: %d accounts on SQLite, %d on PostgreSQL", q.name, first, other)
			}
			fmt.Printf("| %s | %s | %s | %s | %s | %s | %s | %s | %d |\n", q.name, show(a.p50), show(p90(a)),
				show(a.max), show(cpu), show(b.p50), show(p90(b)), show(b.max), first)
			worst[0], worst[1] = max(worst[0], a.max), max(worst[1], b.max)
		}
		fmt.Printf("\nthe slowest page took %s on SQLite and %s on PostgreSQL\n", show(worst[0]), show(worst[1]))
		if err := lite.Close(); err != nil {
			return err
		}
		if err := postgres.Close(); err != nil {
			return err
		}
	}
	return nil
}

func p90(f figures) time.Duration { return f.all[len(f.all)*9/10] }

// ownTime returns the processor time of this process, in which SQLite runs.
func ownTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// listQuery is a list of a tenant.
type listQuery struct {
	name   string
	tenant int64
	account.Query
}

func listQueries(began time.Time) []listQuery {
	no := false
	net := netip.MustParsePrefix
	return []listQuery{
		{"all", largeTenant, account.Query{}},
		{"all of a tenant with 5,000, which are the oldest", mediumTenant, account.Query{}},
		{"all of a tenant with 100, which are the oldest", smallTenant, account.Query{}},
		{"all of a tenant without accounts", 4, account.Query{}},
		{"active", largeTenant, account.Query{States: []account.State{account.Active}}},
		{"waiting or disabled", largeTenant, account.Query{States: []account.State{account.Waiting, account.Disabled}}},
		{"leaving (there are none)", largeTenant, account.Query{States: []account.State{account.Leaving}}},
		{"admins, which are the oldest", largeTenant, account.Query{Roles: []account.Role{account.Admin}}},
		{"not confirmed", largeTenant, account.Query{Confirmed: &no}},
		{"a /24 with 100", largeTenant, account.Query{Net: net("10.0.7.0/24")}},
		{"a /24 without accounts", largeTenant, account.Query{Net: net("192.0.2.0/24")}},
		{"a /12 without accounts", largeTenant, account.Query{Net: net("172.16.0.0/12")}},
		{"an IPv6 /40", largeTenant, account.Query{Net: net("2001:db8::/40")}},
		{"of one hour", largeTenant, account.Query{
			Since: began.Add(50 * 24 * time.Hour), Before: began.Add(50*24*time.Hour + time.Hour)}},
		{"before the oldest", largeTenant, account.Query{Before: began.Add(-time.Hour)}},
		{"text p (almost all user names)", largeTenant, account.Query{Text: "p"}},
		{"text person00000001", largeTenant, account.Query{Text: "person00000001"}},
		{"text mail1 (addresses)", largeTenant, account.Query{Text: "MAIL1"}},
		{"text Zoe (names, one in 100)", largeTenant, account.Query{Text: "Zoe"}},
		{"text i (names of another case)", largeTenant, account.Query{Text: "i"}},
		{"text é (names of another case)", largeTenant, account.Query{Text: "é"}},
		{"text q (nothing)", largeTenant, account.Query{Text: "q"}},
		{"text Zoe of the tenant with 100", smallTenant, account.Query{Text: "Zoe"}},
		{"text p, and admins", largeTenant, account.Query{Text: "p", Roles: []account.Role{account.Admin}}},
		{"text mail, and leaving", largeTenant, account.Query{Text: "mail", States: []account.State{account.Leaving}}},
	}
}

// pages reads the first pages of a list, several times, and returns how long each took and how many accounts are on
// the first one.
func pages(ctx context.Context, s *store.Store, q listQuery) (f figures, first int, err error) {
	const rounds, most, limit = 10, 20, 50
	var all []time.Duration
	for range rounds {
		next := ""
		for i := range most {
			began := time.Now()
			p, err := s.Page(ctx, q.tenant, q.Query, next, limit, began)
			if err != nil {
				return f, 0, fmt.Errorf("%s: %w", q.name, err)
			}
			all = append(all, time.Since(began))
			if i == 0 {
				first = len(p.Accounts)
			}
			if next = p.Next; next == "" {
				break
			}
		}
	}
	f.summarize(slices.Clone(all))
	return f, first, nil
}

var listColumns = []string{"uid", "tenant", "username", "name", "email", "role", "held", "created", "expires",
	"activated", "epoch", "credential", "has_sha256", "token", "confirmed", "signup_net"}

// listRow returns the values of account i of n in listColumns.
func listRow(i, n int, began time.Time) []any {
	at := began.Add(time.Duration(float64(i) / float64(n) * float64(100*24*time.Hour)))
	uid := account.NewUID(at)
	tenant, role, net := largeTenant, account.Guest, fmt.Sprintf("10.%d.%d.0/24", i%10000/256, i%10000%256)
	switch {
	case i < smallSize:
		tenant = smallTenant
	case i < smallSize+mediumSize:
		tenant = mediumTenant
	case i < smallSize+mediumSize+10:
		role = account.Admin
	case i%100 == 1:
		role = account.User
	}
	if i%50 == 7 {
		net = fmt.Sprintf("2001:db8:%x::/48", i%0xffff)
	}
	names := []string{"Alex Example", "Bea Example", "Émile Example", "\u0130pek Example", "Chris Example"}
	name := names[i%len(names)]
	if i%100 == 3 {
		name = "Zoe Example"
	}
	expires := at.Add(account.PendingLife)
	var activated, confirmed any = at.UnixMicro(), nil
	if i%50 == 3 {
		activated, expires = nil, time.Now().Add(account.PendingLife)
	}
	if i%3 == 0 {
		confirmed = at.UnixMicro()
	}
	token := make([]byte, 32)
	rand.Read(token)
	return []any{
		uid[:], tenant, fmt.Sprintf("person%08d", i), name, fmt.Sprintf("Mail%d@example.org", i), string(role),
		i%100 == 4, at.UnixMicro(), expires.UnixMicro(), activated, 0, make([]byte, 97), true, token, confirmed, net,
	}
}

func listsOnSQLite(ctx context.Context, path string, ring *secret.Ring, n int, began time.Time) (*store.Store, error) {
	s, err := teststore.Open(ctx, path, ring)
	if err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	c, err := conn.Open(path, conn.Options{})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Script(`PRAGMA synchronous = OFF; PRAGMA journal_mode = DELETE; PRAGMA cache_size = -200000; BEGIN;
		INSERT INTO tenant (host, realm, public_url, settings, created) VALUES ('a.test', 'a', '', '{}', 0),
			('b.test', 'b', '', '{}', 0), ('c.test', 'c', '', '{}', 0)`); err != nil {
		return nil, err
	}
	insert := `INSERT INTO account (`
	values := ``
	for i, column := range listColumns {
		if i > 0 {
			insert, values = insert+`, `, values+`, `
		}
		insert, values = insert+column, values+fmt.Sprintf(`$%d`, i+1)
	}
	for i := range n {
		if _, err := c.Exec(insert+`) VALUES (`+values+`)`, listRow(i, n, began)...); err != nil {
			return nil, err
		}
	}
	if err := c.Script(`COMMIT`); err != nil {
		return nil, err
	}
	return teststore.Open(ctx, path, ring)
}

func listsOnPostgres(ctx context.Context, c *postgrestest.Cluster, ring *secret.Ring, n int,
	began time.Time) (*store.Store, error) {
	admin, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return nil, err
	}
	defer admin.Close(ctx)
	database := fmt.Sprintf("lists%d", n)
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+database); err != nil {
		return nil, err
	}
	s, err := teststore.OpenPostgres(ctx, ring, "", c.URL(database))
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, c.URL(database))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `INSERT INTO tenant (id, host, realm, public_url, settings, created) VALUES
		(1, 'a.test', 'a', '', '{}', 0), (2, 'b.test', 'b', '', '{}', 0), (3, 'c.test', 'c', '', '{}', 0)`)
	if err != nil {
		return nil, err
	}
	i := -1
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"account"}, listColumns, pgx.CopyFromFunc(func() ([]any, error) {
		if i++; i == n {
			return nil, nil
		}
		return listRow(i, n, began), nil
	}))
	if err != nil {
		return nil, err
	}
	// autovacuum would do this eventually.
	_, err = conn.Exec(ctx, `VACUUM ANALYZE account`)
	return s, err
}
