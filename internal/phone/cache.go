package phone

import (
	"context"
	"strings"
	"sync"
	"time"

	"dialtone/internal/account"
)

const (
	// maxAge is how old an answer of the cache can be.
	maxAge = time.Second
	// maxCached bounds the number of accounts in the cache, at some 400 bytes each.
	maxCached = 1 << 14
)

// cache holds what look-ups read from the store of active accounts. It is safe for concurrent use.
//
// A look-up never gets what an earlier transaction of this process has changed: forget is called
// after each such transaction and before the change is answered. What another process changes, it
// gets at most maxAge later.
//
// Credentials stay sealed, as they are in the store. Accounts that are not active and names that do
// not exist are not cached: the names that strangers try are unlimited and would displace accounts,
// and an account that is activated or enabled, by any process, is found by the next look-up.
type cache struct {
	mu       sync.Mutex
	accounts map[cacheKey]cached
	keys     map[account.UID]cacheKey // of the accounts
	// changes counts the calls of forget. A read during which it moved may have seen the state
	// before a change, and is not stored.
	changes uint64
}

type cacheKey struct {
	tenant int64
	user   string
}

// cached is an active account, as of read or later.
type cached struct {
	uid    account.UID
	role   account.Role
	sealed []byte
	read   time.Time
}

func newCache() *cache {
	return &cache{accounts: make(map[cacheKey]cached), keys: make(map[account.UID]cacheKey)}
}

// get returns the account if it is cached and young enough. If not, the caller reads it from the
// store and calls put with the same time and with the count of changes that get returned before the
// read.
func (c *cache) get(key cacheKey, now time.Time) (a account.Account, ok bool, changes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.accounts[key]
	// A clock that was set back makes an age unknown.
	if age := now.Sub(found.read); !ok || age < 0 || age >= maxAge {
		return account.Account{}, false, c.changes
	}
	a = account.Account{Tenant: key.tenant, UID: found.uid, Role: found.role, Sealed: found.sealed}
	return a, true, c.changes
}

// put stores an active account, unless an account was changed since get returned the count of
// changes.
func (c *cache) put(key cacheKey, a account.Account, now time.Time, changes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if changes != c.changes {
		return
	}
	if old, ok := c.accounts[key]; ok {
		delete(c.keys, old.uid)
	} else if len(c.accounts) >= maxCached {
		c.clear()
	}
	key.user = strings.Clone(key.user) // it may be a part of a long request
	c.accounts[key] = cached{a.UID, a.Role, a.Sealed, now}
	c.keys[a.UID] = key
}

// forget removes an account, or all of them for the zero UID. When it has returned, no look-up gets
// what was read before.
func (c *cache) forget(uid account.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	if uid == (account.UID{}) {
		c.clear()
	} else if key, ok := c.keys[uid]; ok {
		delete(c.accounts, key)
		delete(c.keys, uid)
	}
}

func (c *cache) clear() {
	clear(c.accounts)
	clear(c.keys)
}

// Forget removes an account from the cache, or all accounts for the zero UID, so that look-ups
// which begin after it read the store. It is for changes that another process has made.
func (d *Registry) Forget(uid account.UID) { d.cache.forget(uid) }

// sealed is Store.Sealed by way of the cache.
func (d *Registry) sealed(ctx context.Context, tenant int64, user string) (account.Account, error) {
	now := d.Now()
	if d.NoCache {
		return d.Store.Sealed(ctx, tenant, user, now)
	}
	key := cacheKey{tenant, user}
	a, ok, changes := d.cache.get(key, now)
	if ok {
		return a, nil
	}
	a, err := d.Store.Sealed(ctx, tenant, user, now)
	if err == nil && !a.Disabled {
		d.cache.put(key, a, now, changes)
	}
	return a, err
}
