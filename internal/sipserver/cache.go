package sipserver

import (
	"context"
	"strings"
	"sync"
	"time"

	"dialtone/internal/account"
)

const (
	// maxAge is the maximum age of a cached account.
	maxAge = time.Second
	// maxCached is the maximum number of accounts in the cache, of about 400 bytes each.
	maxCached = 1 << 14
)

// cache holds active accounts that look-ups have read from the store. It is safe for concurrent
// use.
//
// A look-up sees every change that this process has answered before: forget is called after each
// transaction and before the change is answered. It sees changes of other processes at most maxAge
// later.
//
// Credentials stay sealed, as they are in the store. Inactive accounts and unknown names are not
// cached. So an account that any process activates or enables is found by the next look-up, and the
// names that strangers try cannot displace accounts.
type cache struct {
	mu       sync.Mutex
	accounts map[cacheKey]cached
	keys     map[account.UID]cacheKey // of the accounts
	// changes counts the calls of forget. If it increases during a read, the result may be
	// outdated and is not cached.
	changes uint64
}

type cacheKey struct {
	tenant int64
	user   string
}

// cached is an active account in the state of the time read, or later.
type cached struct {
	uid    account.UID
	role   account.Role
	sealed []byte
	read   time.Time
}

func newCache() *cache {
	return &cache{accounts: make(map[cacheKey]cached), keys: make(map[account.UID]cacheKey)}
}

// get returns the account if it is cached and younger than maxAge. If not, the caller reads it from
// the store and calls put with the same time and with the count of changes that get returned before
// the read.
func (c *cache) get(key cacheKey, now time.Time) (a account.Account, ok bool, changes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.accounts[key]
	// If the clock was set back, the age is unknown.
	if age := now.Sub(found.read); !ok || age < 0 || age >= maxAge {
		return account.Account{}, false, c.changes
	}
	a = account.Account{Tenant: key.tenant, User: key.user, UID: found.uid, Role: found.role, Sealed: found.sealed}
	return a, true, c.changes
}

// put stores an active account, unless any account was changed since get returned the count.
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
	key.user = strings.Clone(key.user) // it may be a substring of a long request
	c.accounts[key] = cached{a.UID, a.Role, a.Sealed, now}
	c.keys[a.UID] = key
}

// forget removes an account, or all accounts for the zero UID. After it has returned, get does not
// return what was read before the call.
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

// Forget removes an account from the cache, or all accounts for the zero UID. Look-ups that
// start afterwards read the store. Call it for changes that another process has made.
func (r *Registry) Forget(uid account.UID) { r.cache.forget(uid) }

// sealed returns the result of Store.Sealed, from the cache if possible.
func (r *Registry) sealed(
	ctx context.Context, tenant int64, user string,
) (a account.Account, cached bool, err error) {
	now := r.deps.Now()
	if r.deps.NoCache {
		a, err = r.deps.Store.Sealed(ctx, tenant, user, now)
		return a, false, err
	}
	key := cacheKey{tenant, user}
	a, ok, changes := r.cache.get(key, now)
	if ok {
		return a, true, nil
	}
	a, err = r.deps.Store.Sealed(ctx, tenant, user, now)
	if err == nil && !a.Disabled {
		r.cache.put(key, a, now, changes)
	}
	return a, false, err
}
