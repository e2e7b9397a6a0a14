package store_test

import (
	"context"
	"testing"

	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

// bothEngines opens an empty store on each engine. They are closed when the test ends.
func bothEngines(t *testing.T) (*sqlite.Engine, *postgres.Engine) {
	t.Helper()
	onFile := openSQLite(t)
	onServer, err := postgres.Open(t.Context(), "a", postgrestest.Shared(t).Database(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { onServer.Close() })
	return onFile, onServer
}

// countingEngine counts the rows that its reads return.
type countingEngine struct {
	engine.Engine
	rows *int
}

func (e countingEngine) Reads(ctx context.Context) engine.Querier {
	return countingQuerier{e.Engine.Reads(ctx), e.rows}
}

type countingQuerier struct {
	engine.Querier
	rows *int
}

func (q countingQuerier) Row(query string, args ...any) engine.Scanner {
	return countingScanner{q.Querier.Row(query, args...), q.rows}
}

type countingScanner struct {
	engine.Scanner
	rows *int
}

func (s countingScanner) Scan(dst ...any) error {
	err := s.Scanner.Scan(dst...)
	if err == nil {
		*s.rows++
	}
	return err
}

// Find reads one row, whether or not an account with the name exists, so that both cases take the
// same time.
func TestFindReadsARowForEveryName(t *testing.T) {
	onFile, onServer := bothEngines(t)
	ring, rows := secret.NewRing(noon), 0
	for name, s := range map[string]*store.Store{
		"SQLite":     teststore.On(countingEngine{onFile, &rows}, phonetables.OnSQLite(onFile, ring)),
		"PostgreSQL": teststore.On(countingEngine{onServer, &rows}, phonetables.OnPostgres(onServer, ring)),
	} {
		ctx := t.Context()
		// Tenants with smaller and greater ids have other names.
		var ids []int64
		for _, host := range []string{"a.test", "phone.test", "z.test"} {
			ids = append(ids, addTenant(t, s, host))
		}
		for i, users := range [][]string{{"zoe", "only-a"}, {"bob", "dan", "gone", "late"}, {"bob", "amy", "only-z"}} {
			for _, user := range users {
				a := newSignup(ids[i], user)
				if user == "zoe" { // the first row of the table, which is read for every unknown name
					clear(a.Account.UID[:8])
				}
				if err := s.Create(ctx, a, noon); err != nil {
					t.Fatal(err)
				}
				if user == "gone" {
					if _, err := s.Confirm(ctx, ids[i], a.Token, a.Account.UID, noon); err != nil {
						t.Fatal(err)
					}
					if err := s.Delete(ctx, ids[i], "gone", noon); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for user, known := range map[string]bool{
			"bob": true, "dan": true, "late": true, "": false, "a": false, "bo": false, "bob ": false, "bobby": false,
			"Bob": false, "gone": false, "only-a": false, "only-z": false, "zoe": false, "zz": false, "é": false,
		} {
			rows = 0
			a, err := s.Find(ctx, ids[1], user, noon)
			if rows != 1 {
				t.Errorf("%s: %q: %d rows were read, want 1", name, user, rows)
			}
			if known && (err != nil || a.User != user || a.Tenant != ids[1]) ||
				!known && (!fault.Is(err, fault.NotFound) || a.User != "") {
				t.Errorf("%s: %q: got %+v, %v", name, user, a, err)
			}
		}
	}
}
