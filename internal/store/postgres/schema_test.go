package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/postgres"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

func TestOldAndNewProgramSideBySide(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(noon)
	old := openStore(t, ring, "old", url)
	tenantID := addTenant(t, old, "phone.test")
	first, second, err := teststore.LaterMigrations(postgres.Dialect)
	if err != nil {
		t.Fatal(err)
	}
	upgrade := func(s *testStore, to []migrations.Migration) {
		t.Helper()
		err := s.engine.Write(func(tx engine.Tx) error {
			if err := tx.Lock(postgres.SchemaLock); err != nil {
				return err
			}
			return migrations.Apply(tx, to, noon)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	load := startLoad(old, tenantID)
	load.waitForSignups(100)
	newer := openStore(t, ring, "new", url)
	newer.engine.KnowNext() // as a program of the next version
	upgrade(newer, first)
	upgrade(newer, first) // as another node of the next version
	other := startLoad(newer, addTenant(t, newer, "other.test"))
	other.waitForSignups(100)
	load.waitForSignups(100)
	for _, s := range []*testStore{old, newer, openStore(t, ring, "late", url)} {
		if err := s.Ready(t.Context()); err != nil {
			t.Errorf("after the first migration: %v", err)
		}
	}
	load.end()
	other.end()
	load.check(t, old)
	other.check(t, newer)
	upgrade(newer, second)
	if err := old.Ready(t.Context()); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("the old program, after the second migration: %v", err)
	}
	if err := newer.Ready(t.Context()); err != nil {
		t.Errorf("the new program, after the second migration: %v", err)
	}
	if _, err := openPostgres(t.Context(), ring, "a", url); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("start of the old program: %v", err)
	}
}

func TestConcurrentMigration(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(noon)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			s, err := openPostgres(t.Context(), ring, fmt.Sprint(i), url)
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(s.Ready(t.Context()), s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// Earlier versions could spread a platform over several databases, each with a number in the upper
// bits of its tenants' ids. Each of those databases can still be used by itself.
func TestDatabaseOfSplitPlatform(t *testing.T) {
	const number = 7
	c, ring := postgrestest.Shared(t), secret.NewRing(noon)
	url := c.Database(t)
	if s, err := openPostgres(t.Context(), ring, "a", url); err != nil || s.Close() != nil {
		t.Fatal(err)
	}
	c.Exec(t, url, `UPDATE cluster SET number = 7`)
	c.Exec(t, url, fmt.Sprintf(`ALTER TABLE tenant ALTER COLUMN id RESTART WITH %d`, number<<32+1))
	for _, host := range []string{"one.test", "two.test"} {
		s := openStore(t, ring, "a", url)
		id := addTenant(t, s, host)
		if id>>32 != number {
			t.Errorf("the id of %s is %d", host, id)
		}
		ctx, a := t.Context(), newSignup(id, "ann")
		if err := s.Create(ctx, a, noon); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Activate(ctx, id, a.Token, noon); err != nil {
			t.Errorf("Activate at %s: %v", host, err)
		}
		sent := []outbox.Ref{{Tenant: id, Account: a.Account.UID, Message: a.Message}}
		if left, err := s.Ack(ctx, sent, noon); err != nil || len(left) > 0 {
			t.Errorf("Ack at %s: %v are left, %v", host, left, err)
		}
		if _, err := s.Disable(ctx, id, "ann", noon); err != nil {
			t.Errorf("Disable at %s: %v", host, err)
		}
		if got, err := s.Find(ctx, id, "ann", noon); err != nil || !got.Disabled {
			t.Errorf("Find at %s: %+v, %v", host, got, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	s := openStore(t, ring, "a", url)
	list, _, err := s.Tenants(t.Context())
	if err != nil || len(list) != 2 || list[0].Host != "one.test" || list[1].Host != "two.test" {
		t.Errorf("the tenants are %+v, %v", list, err)
	}
	if got := s.count(t, `SELECT number FROM cluster`); got != number {
		t.Errorf("the number of the database is now %d", got)
	}
}

// A new database keeps the number 0, so that an earlier version does not assign another number.
func TestNewDatabaseHasNumberZero(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(noon)
	for range 2 {
		s := openStore(t, ring, "a", url)
		n, rows := s.count(t, `SELECT max(number) FROM cluster`), s.count(t, `SELECT count(*) FROM cluster`)
		if n != 0 || rows != 1 {
			t.Errorf("got number %d in %d rows, want 0 in 1", n, rows)
		}
	}
}
