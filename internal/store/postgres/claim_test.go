package postgres_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
	"dialtone/internal/test/postgrestest"
)

// Two processes with the name of one node do not run at the same time.
func TestClaimNode(t *testing.T) {
	url, ring, ctx := postgrestest.Shared(t).Database(t), secret.NewRing(noon), t.Context()
	open := func() *testStore { return openStore(t, ring, "a", url) }
	beat := func(s *testStore) error {
		_, err := s.TakeOver(ctx)
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	never := func() { t.Error("a process waits unnecessarily") }
	ignore := func() {}

	first := open()
	must(first.ClaimNode(ctx, "here", never))
	must(beat(first))
	second := open()
	// This heartbeat happens while the second process waits.
	err := second.ClaimNode(ctx, "there", func() { must(beat(first)) })
	if !errors.Is(err, engine.ErrNodeAlive) {
		t.Errorf("a copy, while the first process is alive: %v", err)
	}
	must(beat(first))

	// After a process was killed, another at the same place can start at once.
	restarted := open()
	must(restarted.ClaimNode(ctx, "here", never))
	if err := beat(first); !errors.Is(err, engine.ErrNodeAlive) {
		t.Errorf("a heartbeat after another process has claimed the name: %v", err)
	}
	must(beat(restarted))

	// At another place, another can start when the first has shown no sign of life.
	defer postgres.SetClaimTimeout(time.Millisecond)()
	waited := false
	must(second.ClaimNode(ctx, "there", func() { waited = true }))
	if !waited {
		t.Error("a process at another place does not wait")
	}
	if err := beat(restarted); !errors.Is(err, engine.ErrNodeAlive) {
		t.Errorf("a heartbeat of a process that was cut off, after another has claimed the name: %v", err)
	}

	// A place that is not known is never the same place.
	unknown := open()
	must(unknown.ClaimNode(ctx, "", ignore))
	waited = false
	must(open().ClaimNode(ctx, "", func() { waited = true }))
	if !waited {
		t.Error("a process at an unknown place does not wait")
	}
}

func TestClaimNodeAfterEnd(t *testing.T) {
	url, ring, ctx := postgrestest.Shared(t).Database(t), secret.NewRing(noon), t.Context()
	never := func() { t.Error("a process waits unnecessarily") }
	for _, c := range []struct {
		claim string
		end   func(*testStore) error
	}{
		{"shut down cleanly", func(s *testStore) error { return s.Close() }},
		{"was followed by other servers", func(s *testStore) error {
			return s.engine.Write(func(tx engine.Tx) error {
				_, err := tx.Exec(`DELETE FROM node`)
				return err
			})
		}},
		{"was of an earlier version", func(s *testStore) error {
			return s.engine.Write(func(tx engine.Tx) error {
				_, err := tx.Exec(`UPDATE node SET beat = beat + 1, instance = ''`)
				return err
			})
		}},
	} {
		s := openStore(t, ring, "a", url)
		if err := s.ClaimNode(ctx, "here", never); err != nil {
			t.Fatal(err)
		}
		if err := c.end(s); err != nil {
			t.Fatal(err)
		}
		next := openStore(t, ring, "a", url)
		if err := next.ClaimNode(ctx, "there", never); err != nil {
			t.Errorf("after a process that %s: %v", c.claim, err)
		}
		if err := next.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestClaimNodeAtTheSameTime(t *testing.T) {
	defer postgres.SetClaimTimeout(time.Millisecond)()
	url, ring, ctx := postgrestest.Shared(t).Database(t), secret.NewRing(noon), t.Context()
	dead := openStore(t, ring, "a", url)
	if err := dead.ClaimNode(ctx, "dead", func() {}); err != nil {
		t.Fatal(err)
	}
	var claimed atomic.Int32
	var all, ready sync.WaitGroup
	ready.Add(8)
	for range 8 {
		s := openStore(t, ring, "a", url)
		all.Go(func() {
			err := s.ClaimNode(ctx, "copy", func() { // all have read the row when one of them claims the name
				ready.Done()
				ready.Wait()
			})
			if err == nil {
				claimed.Add(1)
			} else if !errors.Is(err, engine.ErrNodeAlive) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := claimed.Load(); n != 1 {
		t.Errorf("%d processes have claimed the name", n)
	}
}
