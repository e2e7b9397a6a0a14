package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/postgres"
	"dialtone/internal/tenant"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

func (s *Store) users(t *testing.T, list []outbox.Entry, err error) (users []string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range list {
		users = append(users, w.User)
	}
	return users
}

func (s *Store) waitingUsers(t *testing.T) []string {
	t.Helper()
	list, err := s.Pending(t.Context())
	return s.users(t, list, err)
}

func (s *Store) adopted(t *testing.T) []string {
	t.Helper()
	list, err := s.TakeOver(t.Context())
	return s.users(t, list, err)
}

func TestTakeOverOfDeadNode(t *testing.T) {
	defer postgres.SetLease(time.Minute)()
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(midday)
	var nodes []*Store
	for _, name := range []string{"dead", "b", "c", "alive"} {
		nodes = append(nodes, openStore(t, ring, name, url))
	}
	home, err := nodes[0].AddTenant(t.Context(),
		tenant.Tenant{Host: "phone.test", Realm: "phone.test", Created: midday})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range nodes {
		for range 3 - i%2 {
			if got := s.adopted(t); got != nil {
				t.Fatalf("%v were taken from nodes that live", got)
			}
		}
	}
	for i, user := range []string{"ann", "bob"} {
		if err := nodes[0].Create(t.Context(), newcomer(home.ID, user), midday.Add(time.Duration(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := nodes[3].Create(t.Context(), newcomer(home.ID, "eve"), midday); err != nil {
		t.Fatal(err)
	}
	heirs := nodes[1:3]
	for _, s := range heirs {
		s.adopted(t) // sees how far everybody's beat is
	}
	nodes[3].adopted(t)  // lives on
	postgres.SetLease(0) // and now the time has passed
	var mu sync.Mutex
	var taken []string
	var all sync.WaitGroup
	seen := make([][]engine.ExpiredLease, len(heirs)) // both look before one of them takes
	for i, s := range heirs {
		expired, err := s.engine.Expired(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		seen[i] = slices.DeleteFunc(expired, func(l engine.ExpiredLease) bool { return l.Node != "dead" })
		if len(seen[i]) != 1 {
			t.Fatalf("expired are %v", expired)
		}
	}
	for i, s := range heirs {
		all.Go(func() {
			list, err := s.TakeOverFrom(t.Context(), seen[i])
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, w := range list {
				taken = append(taken, w.User)
			}
		})
	}
	all.Wait()
	if slices.Sort(taken); !slices.Equal(taken, []string{"ann", "bob"}) {
		t.Errorf("two heirs took %v", taken)
	}
	if got := nodes[0].waitingUsers(t); got != nil {
		t.Errorf("the dead one has still %v", got)
	}
	if got := nodes[3].waitingUsers(t); !slices.Equal(got, []string{"eve"}) {
		t.Errorf("the living one has %v", got)
	}
	// It was not dead after all. What it lost it does not take back, and it can go on.
	postgres.SetLease(time.Hour)
	if got := nodes[0].adopted(t); got != nil {
		t.Errorf("the one that is back took %v", got)
	}
	if err := nodes[0].Create(t.Context(), newcomer(home.ID, "ida"), midday); err != nil {
		t.Fatal(err)
	}
	if got := nodes[0].waitingUsers(t); !slices.Equal(got, []string{"ida"}) {
		t.Errorf("the one that is back has %v", got)
	}
	// A beat that was raised after it was looked at saves a node.
	old := []engine.ExpiredLease{{Node: "alive", Heartbeat: 1}}
	if list, err := nodes[1].TakeOverFrom(t.Context(), old); err != nil || list != nil {
		t.Errorf("an old beat of a living node: %v, %v", list, err)
	}
}

func TestTakeOverOfRowsWithoutNode(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(midday)
	command, node := openStore(t, ring, "", url), openStore(t, ring, "a", url)
	home, err := command.AddTenant(t.Context(),
		tenant.Tenant{Host: "phone.test", Realm: "phone.test", Created: midday})
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Create(t.Context(), newcomer(home.ID, "ann"), midday); err != nil {
		t.Fatal(err)
	}
	if got := node.waitingUsers(t); got != nil {
		t.Errorf("before: %v", got)
	}
	if got := node.adopted(t); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("adopted: %v", got)
	}
	if got := node.adopted(t); got != nil {
		t.Errorf("adopted again: %v", got)
	}
	if got := command.waitingUsers(t); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("a command sees %v, and not everything", got)
	}
}

func TestOldAndNewProgramSideBySide(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(midday)
	old := openStore(t, ring, "old", url)
	home, err := old.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test", Created: midday})
	if err != nil {
		t.Fatal(err)
	}
	first, second, err := teststore.LaterMigrations(postgres.Dialect)
	if err != nil {
		t.Fatal(err)
	}
	upgrade := func(s *Store, to []migrations.Migration) {
		t.Helper()
		err := s.engine.Write(func(tx engine.Tx) error {
			if err := tx.Lock(postgres.SchemaLock); err != nil {
				return err
			}
			return migrations.Apply(tx, to, midday)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	load := startLoad(old, home.ID)
	load.until(100)
	// The new version's node: the same program, which knows one step more, and uses it.
	fresh := openStore(t, ring, "new", url)
	fresh.engine.KnowNext()
	upgrade(fresh, first)
	upgrade(fresh, first) // another node of the new version finds it done
	other := startLoad(fresh, addedTenant(t, fresh, "other.test"))
	other.until(100)
	load.until(100)
	for _, s := range []*Store{old, fresh, openStore(t, ring, "late", url)} {
		if err := s.Ready(t.Context()); err != nil {
			t.Errorf("after the first step: %v", err)
		}
	}
	load.check(t, old)
	other.check(t, fresh)
	upgrade(fresh, second)
	if err := old.Ready(t.Context()); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("the old program, after the second step: %v", err)
	}
	if err := fresh.Ready(t.Context()); err != nil {
		t.Errorf("the new program, after the second step: %v", err)
	}
	if _, err := OpenPostgres(t.Context(), ring, "a", url); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("a start of the old program: %v", err)
	}
}

func addedTenant(t *testing.T, s interface {
	AddTenant(context.Context, tenant.Tenant) (tenant.Tenant, error)
}, host string) int64 {
	t.Helper()
	added, err := s.AddTenant(t.Context(), tenant.Tenant{Host: host, Realm: host, Created: midday})
	if err != nil {
		t.Fatal(err)
	}
	return added.ID
}

func TestConcurrentMigration(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(midday)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			s, err := OpenPostgres(t.Context(), ring, fmt.Sprint(i), url)
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
func TestDatabaseOfFormerPlatform(t *testing.T) {
	const number = 7
	c, ring := postgrestest.Shared(t), secret.NewRing(midday)
	url := c.Database(t)
	if s, err := OpenPostgres(t.Context(), ring, "a", url); err != nil || s.Close() != nil {
		t.Fatal(err)
	}
	c.Exec(t, url, `UPDATE cluster SET number = 7`)
	c.Exec(t, url, fmt.Sprintf(`ALTER TABLE tenant ALTER COLUMN id RESTART WITH %d`, number<<32+1))
	for _, host := range []string{"one.test", "two.test"} { // each by a store of its own
		s := openStore(t, ring, "a", url)
		id := addedTenant(t, s, host)
		if id>>32 != number {
			t.Errorf("the id of %s is %d", host, id)
		}
		ctx, a := t.Context(), newcomer(id, "ann")
		if err := s.Create(ctx, a, midday); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Activate(ctx, id, a.Token, midday); err != nil {
			t.Errorf("activate at %s: %v", host, err)
		}
		sent := []outbox.Ref{{Tenant: id, Account: a.Account.UID, Message: a.Message}}
		if left, err := s.Ack(ctx, sent); err != nil || len(left) > 0 {
			t.Errorf("settle at %s: %v are left, %v", host, left, err)
		}
		if _, err := s.Disable(ctx, id, "ann", midday); err != nil {
			t.Errorf("disable at %s: %v", host, err)
		}
		if got, err := s.Find(ctx, id, "ann", midday); err != nil || !got.Disabled {
			t.Errorf("find at %s: %+v, %v", host, got, err)
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
	if got := s.number(t, `SELECT number FROM cluster`); got != number {
		t.Errorf("the number of the database is now %d", got)
	}
}

// A new database keeps the number 0, so that an earlier version does not number it again.
func TestNewDatabaseIsNumbered(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(midday)
	for range 2 {
		s := openStore(t, ring, "a", url)
		n, rows := s.number(t, `SELECT max(number) FROM cluster`), s.number(t, `SELECT count(*) FROM cluster`)
		if n != 0 || rows != 1 {
			t.Errorf("number %d in %d rows", n, rows)
		}
	}
}
