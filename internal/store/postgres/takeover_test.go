package postgres_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
	"dialtone/internal/test/postgrestest"
)

// usersOf returns the users of outbox entries.
func usersOf(t *testing.T, list []outbox.Entry, err error) (users []string) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	for _, e := range list {
		users = append(users, e.User)
	}
	return users
}

func (s *testStore) pendingUsers(t *testing.T) []string {
	t.Helper()
	list, err := s.Pending(t.Context())
	return usersOf(t, list, err)
}

// takeOver calls TakeOver, and returns the users whose messages the node has taken over.
func (s *testStore) takeOver(t *testing.T) []string {
	t.Helper()
	list, err := s.TakeOver(t.Context())
	return usersOf(t, list, err)
}

func TestTakeOverOfDeadNode(t *testing.T) {
	defer postgres.SetLease(time.Minute)()
	ctx, url, ring := t.Context(), postgrestest.Shared(t).Database(t), secret.NewRing(noon)
	var nodes []*testStore
	for _, name := range []string{"dead", "b", "c", "alive"} {
		nodes = append(nodes, openStore(t, ring, name, url))
	}
	dead, others, alive := nodes[0], nodes[1:3], nodes[3]
	tenantID := addTenant(t, dead, "phone.test")
	for i, s := range nodes {
		for range 3 - i%2 {
			if got := s.takeOver(t); got != nil {
				t.Fatalf("%v were taken over from living nodes", got)
			}
		}
	}
	for i, user := range []string{"ann", "bob"} {
		if err := dead.Create(ctx, newSignup(tenantID, user), noon.Add(time.Duration(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := alive.Create(ctx, newSignup(tenantID, "eve"), noon); err != nil {
		t.Fatal(err)
	}
	for _, s := range others {
		s.takeOver(t) // sees the heartbeats of all nodes
	}
	alive.takeOver(t)    // increments its heartbeat
	postgres.SetLease(0) // the leases of the heartbeats seen so far expire
	expired := make([][]engine.ExpiredLease, len(others))
	for i, s := range others { // both see the expired lease before one of them takes over
		list, err := s.engine.Expired(ctx)
		if err != nil {
			t.Fatal(err)
		}
		expired[i] = slices.DeleteFunc(list, func(l engine.ExpiredLease) bool { return l.Node != "dead" })
		if len(expired[i]) != 1 {
			t.Fatalf("expired are %v", list)
		}
	}
	var mu sync.Mutex
	var taken []string
	var all sync.WaitGroup
	for i, s := range others {
		all.Go(func() {
			list, err := s.TakeOverFrom(ctx, expired[i])
			mu.Lock()
			defer mu.Unlock()
			taken = append(taken, usersOf(t, list, err)...)
		})
	}
	all.Wait()
	if slices.Sort(taken); !slices.Equal(taken, []string{"ann", "bob"}) {
		t.Errorf("two nodes took over %v", taken)
	}
	if got := dead.pendingUsers(t); got != nil {
		t.Errorf("the dead node still has %v", got)
	}
	if got := alive.pendingUsers(t); !slices.Equal(got, []string{"eve"}) {
		t.Errorf("the living node has %v", got)
	}
	// The node was not dead. It does not get back what was taken over, and can continue.
	postgres.SetLease(time.Hour)
	if got := dead.takeOver(t); got != nil {
		t.Errorf("the node that is back took over %v", got)
	}
	if err := dead.Create(ctx, newSignup(tenantID, "ida"), noon); err != nil {
		t.Fatal(err)
	}
	if got := dead.pendingUsers(t); !slices.Equal(got, []string{"ida"}) {
		t.Errorf("the node that is back has %v", got)
	}
	// Nothing is taken over from a node that has incremented its heartbeat in the meantime.
	old := []engine.ExpiredLease{{Node: "alive", Heartbeat: 1}}
	if list, err := others[0].TakeOverFrom(ctx, old); err != nil || list != nil {
		t.Errorf("with an old heartbeat of a living node: %v, %v", list, err)
	}
}

func TestTakeOverOfRowsWithoutNode(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(noon)
	command, node := openStore(t, ring, "", url), openStore(t, ring, "a", url)
	tenantID := addTenant(t, command, "phone.test")
	if err := command.Create(t.Context(), newSignup(tenantID, "ann"), noon); err != nil {
		t.Fatal(err)
	}
	if got := node.pendingUsers(t); got != nil {
		t.Errorf("the node has %v before it takes over", got)
	}
	if got := node.takeOver(t); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("took over %v", got)
	}
	if got := node.takeOver(t); got != nil {
		t.Errorf("took over %v again", got)
	}
	if got := command.pendingUsers(t); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("a command sees %v, want every message", got)
	}
}
