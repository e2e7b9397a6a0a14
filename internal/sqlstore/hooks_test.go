package sqlstore

import (
	"slices"
	"sync"
	"testing"
	"time"

	"dialtone/internal/hook"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/test/postgrestest"
)

// waitingFor is how many notices wait for each hook, by its name.
func (s *Store) waitingFor(t *testing.T) map[string]int64 {
	t.Helper()
	list, err := s.Hooks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(map[string]int64)
	for _, h := range list {
		waiting[h.Name] = h.Waiting
	}
	return waiting
}

// A hook is for tenants of every database of the platform, also of one that comes later.
func TestHooksOfSeveralDatabases(t *testing.T) {
	ctx, ring := t.Context(), secret.NewRing(midday)
	urls := []string{postgrestest.Shared(t).Database(t), postgrestest.Shared(t).Database(t)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	alone := openCluster(t, ring, "a", Cluster{URL: urls[0]})
	early := hook.Hook{ID: hook.ID{1}, Name: "early", AllTenants: true, Created: midday}
	gone := hook.Hook{ID: hook.ID{2}, Name: "gone", AllTenants: true, Created: midday}
	must(alone.AddHook(ctx, early))
	must(alone.AddHook(ctx, gone))

	both := openCluster(t, ring, "b", Cluster{URL: urls[0]}, Cluster{Number: 1, URL: urls[1]})
	must(both.ShareHooks(ctx))
	far, err := both.AddTenant(ctx, tenant.Tenant{Host: "far.test", Realm: "far.test", Cluster: 1, Created: midday})
	must(err)
	late := hook.Hook{ID: hook.ID{3}, Name: "late", Tenants: []int64{far.ID}, Created: midday}
	must(both.AddHook(ctx, late))
	must(both.SetTenant(ctx, far, midday))
	_, err = both.AddTenant(ctx, tenant.Tenant{Host: "near.test", Realm: "near.test", Created: midday})
	must(err)
	if got := both.waitingFor(t); got["early"] != 3 || got["gone"] != 3 || got["late"] != 1 {
		t.Errorf("waiting are %v", got)
	}

	// Removed where the second database is not known: the next who knows it takes the hook from there too.
	must(alone.RemoveHook(ctx, "gone"))
	anew := hook.Hook{ID: hook.ID{4}, Name: "gone", AllTenants: true, Created: midday}
	must(alone.AddHook(ctx, anew))
	for range 2 {
		must(both.ShareHooks(ctx))
	}
	if got := both.waitingFor(t); got["gone"] != 0 {
		t.Errorf("waiting are %v", got)
	}
	due, err := both.Due(ctx, midday)
	must(err)
	if len(due) != 2 {
		t.Errorf("due are %+v", due)
	}
	list, err := both.Claim(ctx, early.ID, midday, midday.Add(time.Minute), 10)
	must(err)
	var results []hook.Result
	var hosts []string
	for i, n := range list {
		hosts = append(hosts, n.Host)
		results = append(results, hook.Result{Notification: n})
		if i == 0 {
			results[0].Failure = "no"
		}
	}
	if slices.Sort(hosts); !slices.Equal(hosts, []string{"far.test", "far.test", "near.test"}) {
		t.Errorf("claimed are %v", hosts)
	}
	must(both.Report(ctx, results, midday))
	list, err = both.Claim(ctx, late.ID, midday, midday.Add(time.Minute), 10)
	must(err)
	must(both.Report(ctx, []hook.Result{{Notification: list[0], Failure: "no", RetryAt: midday}}, midday.Add(time.Second)))
	states, err := both.Hooks(ctx)
	must(err)
	for _, h := range states {
		switch {
		case h.Name == "early" && (h.Waiting != 0 || h.GivenUp != 1 || h.LastError != "no"),
			h.Name == "late" && (h.Waiting != 1 || h.GivenUp != 0 || !h.LastFailure.Equal(midday.Add(time.Second)) || !h.Oldest.Equal(midday)):
			t.Errorf("got %+v", h)
		}
	}
}

// Two claims meet at one notice: the second waits until the first is committed, and then finds nothing.
func TestClaimWaitsForAnother(t *testing.T) {
	ctx := t.Context()
	s := openCluster(t, secret.NewRing(midday), "a", Cluster{URL: postgrestest.Shared(t).Database(t)})
	h := hook.Hook{ID: hook.ID{1}, Name: "a", AllTenants: true, Created: midday}
	if err := s.AddHook(ctx, h); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"a.test", "b.test"} {
		addedTenant(t, s, host)
	}
	var first, second []hook.Notification
	var other sync.WaitGroup
	err := s.homes[0].write(func(tx transaction) (err error) {
		if first, err = claimIn(tx, h.ID, midday, midday.Add(time.Hour), 1); err != nil {
			return err
		}
		other.Go(func() {
			var err error
			if second, err = s.Claim(ctx, h.ID, midday, midday.Add(time.Minute), 1); err != nil {
				t.Error(err)
			}
		})
		eventually(t, "the second waits", func() bool {
			return s.number(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
		})
		return nil
	})
	other.Wait()
	if err != nil || len(first) != 1 || len(second) != 0 {
		t.Errorf("the first has %d, the second %d, %v", len(first), len(second), err)
	}
}
