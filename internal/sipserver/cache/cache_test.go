package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

var start = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// countingStore is a Store with one account. It counts how often the account is read.
type countingStore struct {
	a     account.Account
	err   error
	reads int
	// during is called after the account was read and before it is returned.
	during  func()
	changed func(account.UID)
}

func (s *countingStore) OnChange(f func(account.UID)) { s.changed = f }

func (s *countingStore) Sealed(context.Context, int64, string, time.Time) (account.Account, error) {
	s.reads++
	a, err := s.a, s.err
	if s.during != nil {
		s.during()
	}
	return a, err
}

// fixture is a Cache of a countingStore, with a clock that the test sets.
type fixture struct {
	testing.TB
	countingStore
	now   time.Time
	cache *Cache
}

func newFixture(t testing.TB) *fixture {
	s := &fixture{TB: t, now: start}
	s.a = account.Account{
		Tenant: 1, UID: account.NewUID(start), Role: account.Guest, Sealed: []byte("sealed"),
	}
	s.cache = New(&s.countingStore, func() time.Time { return s.now })
	return s
}

// wantRole checks that a look-up returns the role, after a number of reads of the store.
func (s *fixture) wantRole(role account.Role, reads int) {
	s.Helper()
	before := s.countingStore.reads
	a, _, err := s.cache.Sealed(s.Context(), 1, "ann")
	if err != nil || a.Role != role || a.UID != s.a.UID || a.Tenant != 1 || string(a.Sealed) != "sealed" {
		s.Errorf("got %v, %v; want the role %s", a, err, role)
	}
	if got := s.countingStore.reads - before; got != reads {
		s.Errorf("the store was read %d times, want %d", got, reads)
	}
}

func TestCacheMaxAge(t *testing.T) {
	s := newFixture(t)
	s.wantRole(account.Guest, 1)
	s.a.Role = account.User // This is a change by another process, so changed is not called.
	s.now = start.Add(maxAge - 1)
	s.wantRole(account.Guest, 0)
	s.now = start.Add(maxAge)
	s.wantRole(account.User, 1)
	s.now = start.Add(maxAge - 1) // The clock is set back.
	s.wantRole(account.User, 1)
}

// TestCacheMaxAgeOfSlowRead checks that the age is measured from the start of the read.
func TestCacheMaxAgeOfSlowRead(t *testing.T) {
	s := newFixture(t)
	s.during = func() { s.now = start.Add(maxAge - 1) }
	s.wantRole(account.Guest, 1)
	s.during = nil
	s.wantRole(account.Guest, 0)
	s.now = start.Add(maxAge)
	s.wantRole(account.Guest, 1)
}

func TestCacheForget(t *testing.T) {
	for name, c := range map[string]struct {
		uid   func(account.UID) account.UID
		reads int
	}{
		"the account":     {func(u account.UID) account.UID { return u }, 1},
		"all accounts":    {func(account.UID) account.UID { return account.UID{} }, 1},
		"another account": {func(account.UID) account.UID { return account.NewUID(start) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			s.wantRole(account.Guest, 1)
			s.changed(c.uid(s.a.UID))
			s.wantRole(account.Guest, c.reads)
			s.wantRole(account.Guest, 0)
		})
	}
}

// TestCacheChangeDuringRead checks that the result of a read that overlaps a change is not cached.
func TestCacheChangeDuringRead(t *testing.T) {
	s := newFixture(t)
	s.during = func() {
		s.a.Role = account.User
		s.changed(s.a.UID)
	}
	if a, _, err := s.cache.Sealed(t.Context(), 1, "ann"); err != nil || a.Role != account.Guest {
		t.Errorf("the read returned %v, %v", a, err)
	}
	s.during = nil
	s.wantRole(account.User, 1)
	s.wantRole(account.User, 0)
}

func TestCacheActiveAccountsOnly(t *testing.T) {
	s := newFixture(t)
	s.a.Disabled = true
	s.wantRole(account.Guest, 1)
	s.wantRole(account.Guest, 1)
	for _, err := range []error{
		fault.New(fault.NotFound, "no such account"),
		fault.New(fault.Overloaded, "the store is down"),
		errors.New("the disk failed"),
	} {
		s.err = err
		for range 2 {
			before := s.countingStore.reads
			_, _, got := s.cache.Sealed(t.Context(), 1, "ann")
			if !errors.Is(got, err) || s.countingStore.reads != before+1 {
				t.Errorf("got %v after %d reads", got, s.countingStore.reads-before)
			}
		}
	}
}

func TestCacheOff(t *testing.T) {
	s := newFixture(t)
	s.cache.Off = true
	s.wantRole(account.Guest, 1)
	s.wantRole(account.Guest, 1)
}

func TestCacheKeys(t *testing.T) {
	c := newFixture(t).cache
	c.put(key{1, "ann"}, account.Account{UID: account.NewUID(start)}, start, 0)
	for _, other := range []key{{2, "ann"}, {1, "Ann"}, {1, "ann2"}, {1, ""}} {
		if _, ok, _ := c.get(other, start); ok {
			t.Errorf("%v gets the account of another key", other)
		}
	}
}

func TestCacheSize(t *testing.T) {
	c := newFixture(t).cache
	for i := range 3 * maxCached {
		numbered := key{1, fmt.Sprint("user", i)}
		c.put(numbered, account.Account{UID: account.NewUID(start)}, start, 0)
		if _, ok, _ := c.get(numbered, start); !ok {
			t.Fatalf("account %d is not cached", i)
		}
		if len(c.accounts) > maxCached || len(c.keys) != len(c.accounts) {
			t.Fatalf("%d accounts and %d keys are cached", len(c.accounts), len(c.keys))
		}
	}
	// An account that was deleted and created again has the same name but another UID.
	for range 3 {
		c.put(key{1, "ann"}, account.Account{UID: account.NewUID(start)}, start, 0)
	}
	if len(c.keys) != len(c.accounts) {
		t.Errorf("%d accounts and %d keys are cached", len(c.accounts), len(c.keys))
	}
}

func BenchmarkCacheHit(b *testing.B) {
	s := newFixture(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.cache.Sealed(b.Context(), 1, "ann"); err != nil {
			b.Fatal(err)
		}
	}
}
