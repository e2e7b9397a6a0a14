package conformance_test

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/postgres"
	"dialtone/internal/test/conformance"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

// needed is a set of conformance tests that together run every statement that any of them runs.
// TestStoreOnPostgres determines it.
var needed map[string]bool

// doneTest is a conformance test that has run.
type doneTest struct {
	name       string
	took       time.Duration
	statements map[string]bool // that the recorder has seen
}

func TestStoreOnPostgres(t *testing.T) {
	var mu sync.Mutex
	var all []doneTest
	t.Cleanup(func() { needed = covering(all) })
	conformance.Run(t, emptyStores(t, migratedDatabases(t), func(d doneTest) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, d)
	}))
}

// covering returns a set of tests that together run every statement. From the slowest test to the
// fastest, it leaves out those whose statements all run in other tests of the set.
func covering(tests []doneTest) map[string]bool {
	in := make(map[string]int) // in how many tests of the set each statement runs
	for _, d := range tests {
		for s := range d.statements {
			in[s]++
		}
	}
	set := make(map[string]bool)
	slices.SortFunc(tests, func(a, b doneTest) int { return cmp.Compare(b.took, a.took) })
	for _, d := range tests {
		for s := range d.statements {
			if in[s] == 1 {
				set[d.name] = true
			}
		}
		if set[d.name] {
			continue
		}
		for s := range d.statements {
			in[s]--
		}
	}
	return set
}

func TestCovering(t *testing.T) {
	set := func(list ...string) map[string]bool {
		m := make(map[string]bool)
		for _, s := range list {
			m[s] = true
		}
		return m
	}
	got := covering([]doneTest{
		{"slow, nothing of its own", 9, set("a", "b")}, {"slow", 8, set("a", "c")},
		{"fast", 1, set("b", "d")}, {"as the fast one", 2, set("d")}, {"nothing", 3, nil},
	})
	if want := set("slow", "fast"); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
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
	open := emptyStores(t, pooled, func(d doneTest) {
		mu.Lock()
		defer mu.Unlock()
		run[d.name] = true
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
// failed is not reused. done is called after each test, whose name is without the name of all.
func emptyStores(
	all *testing.T, database func(testing.TB) string, done func(doneTest),
) func(*testing.T) conformance.Store {
	type emptied struct {
		*store.Store
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
			e, err := postgres.Open(all.Context(), "a", database(all), store.SealCheck(ring))
			if err != nil {
				t.Fatal(err)
			}
			all.Cleanup(func() { e.Close() })
			s.recorder = &recorder{Engine: e, ran: make(map[string]bool)}
			s.Store = teststore.On(s.recorder, phonetables.OnPostgres(e, ring))
			s.clear = clearing(t, e)
		}
		s.recorder.take()
		start := time.Now()
		t.Cleanup(func() {
			if t.Failed() {
				return
			}
			done(doneTest{strings.TrimPrefix(t.Name(), all.Name()+"/"), time.Since(start), s.recorder.take()})
			if err := s.recorder.Engine.Write(func(tx engine.Tx) error { return tx.Script(s.clear) }); err != nil {
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

// clearing returns statements that remove, in a transaction, what is added to a new store. They leave its schema
// version and its key, and its revisions, which only grow.
func clearing(t *testing.T, e engine.Engine) string {
	t.Helper()
	q := e.Reads(t.Context())
	var tables []string
	err := q.Each(func(row engine.Scanner) error {
		var name string
		err := row.Scan(&name)
		tables = append(tables, name)
		return err
	}, `SELECT relname FROM pg_class
		WHERE relkind = 'r' AND relnamespace = current_schema::regnamespace ORDER BY relname`)
	if err != nil {
		t.Fatal(err)
	}
	statements := "SET LOCAL session_replication_role = replica;" // without foreign keys and triggers
	for _, name := range tables {
		rows, err := engine.Count(q, `SELECT count(*) FROM "`+name+`"`)
		if err != nil {
			t.Fatal(err)
		}
		if rows == 0 {
			statements += ` DELETE FROM "` + name + `";`
		}
	}
	return statements
}

// migratedDatabases returns a function that creates databases with empty stores on the shared
// cluster. The migrations run once: they take longer than most tests of a store.
func migratedDatabases(t *testing.T) func(testing.TB) string {
	t.Helper()
	return postgrestest.Shared(t).Copies(t, func(url string) error {
		e, err := postgres.Open(t.Context(), "", url, nil)
		if err != nil {
			return err
		}
		return e.Close()
	})
}
