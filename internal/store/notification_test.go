package store

import (
	"sync"
	"testing"
	"time"

	"dialtone/internal/hook"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/postgres"
	"dialtone/internal/tenant"
	"dialtone/internal/test/postgrestest"
)

// Of two concurrent claims of one notification, the second waits until the first is committed, and
// then finds nothing.
func TestConcurrentClaims(t *testing.T) {
	ctx := t.Context()
	noon := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	e, err := postgres.Open(ctx, "a", postgrestest.Shared(t).Database(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s, err := New(e, phonetables.OnPostgres(e, nil))
	if err != nil {
		t.Fatal(err)
	}
	h := hook.Hook{ID: hook.ID{1}, Name: "a", AllTenants: true, Created: noon}
	if err := s.AddHook(ctx, h); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"a.test", "b.test"} {
		_, err := s.AddTenant(ctx, tenant.Tenant{Host: host, Realm: host, Created: noon})
		if err != nil {
			t.Fatal(err)
		}
	}
	var first, second []hook.Notification
	var concurrent sync.WaitGroup
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		if first, err = claimIn(tx, h.ID, noon, noon.Add(time.Hour), 1); err != nil {
			return err
		}
		concurrent.Go(func() {
			var err error
			if second, err = s.Claim(ctx, h.ID, noon, noon.Add(time.Minute), 1); err != nil {
				t.Error(err)
			}
		})
		for waiting := int64(0); waiting == 0 && err == nil; { // until the second claim waits for a lock
			waiting, err = engine.Count(s.engine.Reads(ctx), `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock'`)
		}
		return err
	})
	concurrent.Wait()
	if err != nil || len(first) != 1 || len(second) != 0 {
		t.Errorf("the first claim has %d notifications, the second %d; %v", len(first), len(second), err)
	}
}
