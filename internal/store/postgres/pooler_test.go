package postgres_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/store/postgres"
	"dialtone/internal/test/postgrestest"
)

// eachPoolMode runs a test behind PgBouncer in the modes that allow transactions.
func eachPoolMode(t *testing.T, run func(t *testing.T, through func(url string) string)) {
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			c := postgrestest.Shared(t)
			run(t, c.PgBouncer(t, mode, c.Addr()))
		})
	}
}

func TestNodesThroughPgBouncer(t *testing.T) {
	eachPoolMode(t, func(t *testing.T, through func(string) string) {
		// In session mode, all connections must fit into PgBouncer's pool of 20.
		nodesShareEveryLimit(t, through(postgrestest.Shared(t).Database(t))+"&pool_max_conns=5", 2)
	})
}

// PgBouncer loses the server around the commit of a group.
func TestSignupCommitWithoutAnswerToPgBouncer(t *testing.T) {
	c := postgrestest.Shared(t)
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			signupCommitWithoutAnswer(t, 3, func(t *testing.T) (proxied, direct *testStore, p *proxy, tenantID int64) {
				ring, url := secret.NewRing(noon), c.Database(t)
				p = newProxy(t, c.Addr())
				direct = openStore(t, ring, "direct", url)
				proxied = openStore(t, ring, "proxied", c.PgBouncer(t, mode, p.Addr().String())(url))
				return proxied, direct, p, addTenant(t, direct, "phone.test")
			})
		})
	}
}

// Old versions of PgBouncer report ERROR, as a server does, when they have lost the server.
func TestPoolerErrorIsNoServerAnswer(t *testing.T) {
	for _, c := range []struct {
		severity, code string
		answered       bool
	}{{"ERROR", "23505", true}, {"ERROR", "08P01", false}, {"FATAL", "08P01", false}, {"FATAL", "57P01", false}} {
		err := fmt.Errorf("commit: %w", &pgconn.PgError{Severity: c.severity, Code: c.code})
		if got := postgres.Answered(err) != nil; got != c.answered {
			t.Errorf("%s %s is taken for an answer of the server: %v", c.severity, c.code, got)
		}
	}
}

// The settings of the program and of the URL apply to reads and writes, but do not persist on the
// connections of the pooler, which other programs share.
func TestSettingsThroughPgBouncer(t *testing.T) {
	c := postgrestest.Shared(t)
	eachPoolMode(t, func(t *testing.T, through func(string) string) {
		direct := c.Database(t)
		s := openStore(t, nil, "a", through(direct)+"&work_mem=5MB")
		const setting = `SELECT current_setting('work_mem') || ' ' || current_setting('enable_seqscan') || ' ' ||
			current_setting('idle_in_transaction_session_timeout')`
		const want = "5MB off 5s"
		var got string
		if err := s.engine.Reads(t.Context()).Row(setting).Scan(&got); err != nil || got != want {
			t.Errorf("in a read, the settings are %q, want %q: %v", got, want, err)
		}
		if err := s.engine.WriteRow(setting, &got); err != nil || got != want {
			t.Errorf("in a write, the settings are %q, want %q: %v", got, want, err)
		}
		conn, err := s.engine.Pool().Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		if err := conn.QueryRow(t.Context(), setting).Scan(&got); err != nil || got == want {
			t.Errorf("after the transactions, the settings are %q: %v", got, err)
		}
	})
}

// Statements outside of a store take any of the pooler's connections.
func TestSealedThroughPgBouncer(t *testing.T) {
	eachPoolMode(t, func(t *testing.T, through func(string) string) {
		url := through(postgrestest.Shared(t).Database(t))
		openStore(t, secret.NewRing(noon), "a", url)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if sealed, err := postgres.Sealed(t.Context(), url); err != nil || !sealed {
					t.Errorf("the database is sealed: %v, %v", sealed, err)
				}
				if _, err := postgres.SchemaVersion(t.Context(), url); err != nil {
					t.Error(err)
				}
				if exists, err := postgres.HasStore(t.Context(), url); err != nil || !exists {
					t.Errorf("there is a store: %v, %v", exists, err)
				}
			})
		}
		all.Wait()
	})
}

// A copy detects a running server behind a pooler, but not one that has ended, however long the
// pooler keeps its connections.
func TestCopyDuringServerThroughPgBouncer(t *testing.T) {
	c := postgrestest.Shared(t)
	eachPoolMode(t, func(t *testing.T, through func(string) string) {
		direct := c.Database(t)
		server := openStore(t, nil, "a", through(direct))
		other := openStore(t, nil, "b", through(direct))
		command := openStore(t, nil, "", direct)
		for _, s := range []*testStore{server, other} {
			if _, err := command.engine.Snapshot(t.Context()); !fault.Is(err, fault.Conflict) {
				t.Errorf("a copy while a server runs: %v", err)
			}
			s.Close()
		}
		eventually(t, "a copy starts after the servers have ended", func() bool {
			snapshot, err := command.engine.Snapshot(t.Context())
			if err == nil {
				err = snapshot.Close()
			}
			return err == nil
		})
		if _, err := openStore(t, nil, "", through(direct)).engine.Snapshot(t.Context()); err == nil ||
			!strings.Contains(err.Error(), "give the URL of PostgreSQL itself") {
			t.Errorf("a copy through the pooler: %v", err)
		}
	})
}

func TestPgBouncerRefused(t *testing.T) {
	c := postgrestest.Shared(t)
	for name, test := range map[string]struct{ mode, parameter, want string }{
		"statement mode": {"statement", "", "set its pool_mode to transaction or session"},
		"options": {"transaction", "&options=" + url.QueryEscape("-c work_mem=5MB"),
			"make the settings with ALTER ROLE"},
	} {
		t.Run(name, func(t *testing.T) {
			through := c.PgBouncer(t, test.mode, c.Addr())
			s, err := openPostgres(t.Context(), nil, "a", through(c.Database(t))+test.parameter)
			if err == nil {
				s.Close()
			}
			if !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
