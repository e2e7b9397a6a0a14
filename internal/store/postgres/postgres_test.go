package postgres_test

import (
	"context"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/postgres"
	"dialtone/internal/tenant"
	"dialtone/internal/test/conformance"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

func TestMain(m *testing.M) {
	postgrestest.Main(m)
}

var (
	noon      = teststore.Noon
	newSignup = teststore.Signup
)

// testStore is a store with its engine.
type testStore struct {
	*store.Store
	engine *postgres.Engine
}

// openPostgres opens a store. Without a ring its keys are not checked.
func openPostgres(ctx context.Context, ring *secret.Ring, node, url string) (*testStore, error) {
	var check func(engine.Tx) error
	if ring != nil {
		check = store.SealCheck(ring)
	}
	e, err := postgres.Open(ctx, node, url, check)
	if err != nil {
		return nil, err
	}
	return &testStore{teststore.OnPostgres(e, ring), e}, nil
}

// openStore opens a store, and closes it at the end of the test.
func openStore(t *testing.T, ring *secret.Ring, node, url string) *testStore {
	t.Helper()
	s, err := openPostgres(t.Context(), ring, node, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// addTenant adds a tenant and returns its id.
func addTenant(t *testing.T, s interface {
	AddTenant(context.Context, tenant.Tenant) (tenant.Tenant, error)
}, host string) int64 {
	t.Helper()
	added, err := s.AddTenant(t.Context(), tenant.Tenant{Host: host, Realm: host, Created: noon})
	if err != nil {
		t.Fatal(err)
	}
	return added.ID
}

// needed is a set of conformance tests that together run every statement that any of them runs.
// TestStoreOnPostgres determines it.
var needed = make(map[string]bool)

func TestStoreOnPostgres(t *testing.T) {
	var mu sync.Mutex
	ran := make(map[string]bool)
	conformance.Run(t, emptyStores(t, migratedDatabases(t), func(test string, statements map[string]bool) {
		mu.Lock()
		defer mu.Unlock()
		for s := range statements {
			if !ran[s] {
				ran[s], needed[test] = true, true
			}
		}
	}))
}

// Through a pooler, statements are unnamed, their arguments have other types, and each runs in a
// transaction with the settings. What they do is the same. So after TestStoreOnPostgres, the tests that
// together run each statement once are enough. If that test has not run, as in make test-long, all of
// them run. Session mode guarantees more than transaction mode, so only transaction mode is tested.
func TestStoreThroughPgBouncer(t *testing.T) {
	c, database := postgrestest.Shared(t), migratedDatabases(t)
	through := c.PgBouncer(t, "transaction", c.Addr())
	var mu sync.Mutex
	run := make(map[string]bool)
	pooled := func(t testing.TB) string { return through(database(t)) }
	open := emptyStores(t, pooled, func(test string, _ map[string]bool) {
		mu.Lock()
		defer mu.Unlock()
		run[test] = true
	})
	conformance.RunSome(t, open, func(test string) bool { return len(needed) == 0 || needed[test] })
	t.Cleanup(func() {
		if len(needed) > 0 && !maps.Equal(run, needed) {
			t.Errorf("%d tests ran, want %d", len(run), len(needed))
		}
	})
}

// emptyStores returns a function that returns an empty store. Stores are emptied and reused: a new
// database and its connections take ten times the processor time of a test. A store whose test has
// failed is not reused. done is called after each test with its name, without the name of all, and with
// the statements that the recorder has seen.
func emptyStores(
	all *testing.T, database func(testing.TB) string, done func(test string, statements map[string]bool),
) func(*testing.T) conformance.Store {
	type emptied struct {
		*testStore
		recorder *recorder
		clear    string // the statements that empty it
	}
	var mu sync.Mutex
	var idle []emptied
	take := func() (s emptied, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if n := len(idle); n > 0 {
			s, idle = idle[n-1], idle[:n-1]
			return s, true
		}
		return s, false
	}
	return func(t *testing.T) conformance.Store {
		s, ok := take()
		if !ok {
			ring := secret.NewRing(noon)
			s.testStore = openStore(all, ring, "a", database(all))
			s.recorder = &recorder{Engine: s.engine, ran: make(map[string]bool)}
			s.Store = teststore.On(s.recorder, phonetables.OnPostgres(s.engine, ring))
			s.clear = clearing(t, s.testStore)
		}
		s.recorder.take()
		t.Cleanup(func() {
			if t.Failed() {
				return
			}
			done(strings.TrimPrefix(t.Name(), all.Name()+"/"), s.recorder.take())
			// The test's context has ended.
			err := s.engine.Pool().AcquireFunc(all.Context(), func(c *pgxpool.Conn) error {
				return c.Conn().PgConn().Exec(all.Context(), s.clear).Close()
			})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			idle = append(idle, s)
		})
		return s
	}
}

// clearing returns statements that remove what is added to a new store. They leave its schema version
// and its key, and its revisions, which only grow.
func clearing(t *testing.T, s *testStore) string {
	t.Helper()
	rows, err := s.engine.Pool().Query(t.Context(), `SELECT relname FROM pg_class
		WHERE relkind = 'r' AND relnamespace = current_schema::regnamespace ORDER BY relname`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	// Foreign keys and triggers do nothing in this transaction.
	statements := "BEGIN; SET LOCAL session_replication_role = replica;"
	for _, name := range tables {
		var empty bool
		query := `SELECT NOT EXISTS (SELECT FROM "` + name + `")`
		if err := s.engine.Pool().QueryRow(t.Context(), query).Scan(&empty); err != nil {
			t.Fatal(err)
		}
		if empty {
			statements += ` DELETE FROM "` + name + `";`
		}
	}
	return statements + " COMMIT"
}

// migratedDatabases returns a function that creates databases with empty stores on the shared
// cluster. The migrations run once: they take longer than most tests of a store.
func migratedDatabases(t *testing.T) func(testing.TB) string {
	t.Helper()
	return postgrestest.Shared(t).Copies(t, func(url string) error {
		s, err := openPostgres(t.Context(), nil, "", url)
		if err != nil {
			return err
		}
		return s.Close()
	})
}
