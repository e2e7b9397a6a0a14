package cache

import (
	"fmt"
	"testing"

	"dialtone/internal/account"
)

// TestCacheKeepsAccounts checks that accounts stay in the cache until it is full.
func TestCacheKeepsAccounts(t *testing.T) {
	c := newFixture(t).cache
	keyOf := func(i int) key { return key{1, fmt.Sprint("user", i)} }
	for i := range maxCached {
		c.put(keyOf(i), account.Account{UID: account.NewUID(start)}, start, 0)
	}
	for i := range maxCached {
		if _, ok, _ := c.get(keyOf(i), start); !ok {
			t.Fatalf("account %d of %d is not cached", i, maxCached)
		}
	}
	c.put(keyOf(0), account.Account{UID: account.NewUID(start)}, start, 0) // again
	if _, ok, _ := c.get(keyOf(1), start); !ok {
		t.Error("storing an account again displaces others")
	}
	c.put(keyOf(maxCached), account.Account{UID: account.NewUID(start)}, start, 0)
	if len(c.accounts) != 1 || len(c.keys) != 1 {
		t.Errorf("%d accounts and %d keys are cached after one too many", len(c.accounts), len(c.keys))
	}
}

func TestCacheCountsChanges(t *testing.T) {
	c := newFixture(t).cache
	for want := range uint64(3) {
		if _, _, changes := c.get(key{1, "ann"}, start); changes != want {
			t.Errorf("%d changes, want %d", changes, want)
		}
		c.Forget(account.NewUID(start))
	}
}
