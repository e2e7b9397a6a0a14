// Package cache holds active accounts that look-ups have read from the store.
//
// A look-up sees every change that this process has answered before: the store calls Forget after
// each transaction and before the change is answered. It sees changes of other processes at most
// a second later.
//
// Credentials stay sealed, as they are in the store. Inactive accounts and unknown names are not
// cached. So an account that any process activates or enables is found by the next look-up, and the
// names that strangers try cannot displace accounts.
package cache

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

// Store is what a Cache reads. It is part of sipserver.Store.
type Store interface {
	Sealed(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error)
	OnChange(f func(uid account.UID))
}

// Cache holds accounts. It is safe for concurrent use.
type Cache struct {
	// Off makes every call of Sealed read the store. Set it before the first call.
	Off bool

	store Store
	now   func() time.Time

	mu       sync.Mutex
	accounts map[key]cached
	keys     map[account.UID]key // of the accounts
	// changes counts the calls of Forget. If it increases during a read, the result may be
	// outdated and is not cached.
	changes uint64
}

type key struct {
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

// New returns an empty cache of the accounts of a store.
func New(s Store, now func() time.Time) *Cache {
	c := &Cache{store: s, now: now, accounts: make(map[key]cached), keys: make(map[account.UID]key)}
	s.OnChange(c.Forget)
	return c
}

// get returns the account if it is cached and younger than maxAge. If not, the caller reads it from
// the store and calls put with the same time and with the count of changes that get returned before
// the read.
func (c *Cache) get(key key, now time.Time) (a account.Account, ok bool, changes uint64) {
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
func (c *Cache) put(key key, a account.Account, now time.Time, changes uint64) {
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

// Forget removes an account, or all accounts for the zero UID. After it has returned, Sealed does not
// return what was read before the call. Call it for changes that another process has made.
func (c *Cache) Forget(uid account.UID) {
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

func (c *Cache) clear() {
	clear(c.accounts)
	clear(c.keys)
}

// Sealed returns the result of Store.Sealed, from the cache if possible.
func (c *Cache) Sealed(
	ctx context.Context, tenant int64, user string,
) (a account.Account, cached bool, err error) {
	now := c.now()
	if c.Off {
		a, err = c.store.Sealed(ctx, tenant, user, now)
		return a, false, err
	}
	key := key{tenant, user}
	a, ok, changes := c.get(key, now)
	if ok {
		return a, true, nil
	}
	a, err = c.store.Sealed(ctx, tenant, user, now)
	if err == nil && !a.Disabled {
		c.put(key, a, now, changes)
	}
	return a, false, err
}
