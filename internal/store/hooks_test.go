package store

import (
	"sync"
	"testing"
	"time"

	"dialtone/internal/phone"
	"dialtone/internal/secret"
	"dialtone/internal/test/postgrestest"
)

// Of two concurrent claims of one notice, the second waits until the first is committed, and then finds nothing.
func TestClaimWaitsForAnother(t *testing.T) {
	ctx := t.Context()
	s := openStore(t, secret.NewRing(midday), "a", postgrestest.Shared(t).Database(t))
	h := phone.Hook{ID: phone.HookID{1}, Name: "a", Everyone: true, Created: midday}
	if err := s.AddHook(ctx, h); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"a.test", "b.test"} {
		addedTenant(t, s, host)
	}
	var first, second []phone.Notification
	var other sync.WaitGroup
	err := s.engine.write(func(tx transaction) (err error) {
		if first, err = claimIn(tx, h.ID, midday, midday.Add(time.Hour), 1); err != nil {
			return err
		}
		other.Go(func() {
			var err error
			if second, err = s.Claim(ctx, h.ID, midday, midday.Add(time.Minute), 1); err != nil {
				t.Error(err)
			}
		})
		eventually(t, "the second claim waits", func() bool {
			return s.number(t, `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
		})
		return nil
	})
	other.Wait()
	if err != nil || len(first) != 1 || len(second) != 0 {
		t.Errorf("the first has %d, the second %d, %v", len(first), len(second), err)
	}
}
