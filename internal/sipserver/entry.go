package sipserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// Entry is what a phone server gets about an active account.
type Entry struct {
	// Username is the name that was looked up: alice or alice@realm. The hashes are for exactly
	// this name in the tenant's realm.
	Username string
	// Tenant is shared and must not be modified.
	Tenant  *tenant.Tenant
	Account account.UID
	Role    account.Role
	HA1     digest.HA1
	// SHA256 is nil if the account has no such hash.
	SHA256 *digest.HA1SHA256
	// Cached means that the store was not read.
	Cached bool
}

// ErrNoAccount is the error of every look-up that finds no active account.
var ErrNoAccount = fault.New(fault.NotFound,
	"no active account with that name and realm is visible to this phone server")

// Find looks up the active account that a phone authenticates as, by the user name and realm of its
// response. It fails with ErrNoAccount, and with fault.Overloaded if the store cannot be read.
func (r *Registry) Find(ctx context.Context, c *Caller, realm, username string) (Entry, error) {
	t, ok := r.deps.Tenants.ByRealm(realm)
	if !ok || !slices.Contains(c.Tenants, t.ID) {
		return Entry{}, ErrNoAccount
	}
	user, withRealm := cutRealm(username, t.Realm)
	if !account.WellFormedUser(user) {
		return Entry{}, ErrNoAccount
	}
	a, cached, err := r.cache.Sealed(ctx, t.ID, user)
	if fault.Is(err, fault.NotFound) {
		return Entry{}, ErrNoAccount
	}
	if err != nil {
		return Entry{}, storeUnavailable(err)
	}
	// The credential is opened before the account's state is checked, so that the time of a look-up
	// hardly depends on the state.
	hashes, err := r.deps.Accounts.Credential(a)
	if err != nil {
		return Entry{}, fmt.Errorf("account %s of %s: %w", user, t.Host, err)
	}
	if a.Disabled {
		return Entry{}, ErrNoAccount
	}
	e := Entry{
		Username: username, Tenant: t, Account: a.UID, Role: a.Role, HA1: hashes.HA1, SHA256: hashes.SHA256,
		Cached: cached,
	}
	if withRealm {
		if hashes.HA1B == nil {
			return Entry{}, ErrNoAccount
		}
		e.HA1, e.SHA256 = *hashes.HA1B, nil
	}
	return e, nil
}

// cutRealm removes @realm from a user name. The realm must be spelled as the tenant's, since
// another spelling has another hash.
func cutRealm(username, realm string) (user string, cut bool) {
	if user, ok := strings.CutSuffix(username, realm); ok && strings.HasSuffix(user, "@") {
		return user[:len(user)-1], true
	}
	return username, false
}

// OnlyTenant returns the tenant of a server that may ask about a single one. It is the tenant that
// a name without a realm belongs to.
func (r *Registry) OnlyTenant(c *Caller) (*tenant.Tenant, bool) {
	if len(c.Tenants) != 1 {
		return nil, false
	}
	return r.deps.Tenants.ByID(c.Tenants[0])
}

// storeUnavailable is the error of a look-up that the store did not answer. It must not be taken for ErrNoAccount.
func storeUnavailable(cause error) error {
	return &fault.Error{
		Kind:       fault.Overloaded,
		Message:    "the account store cannot be read at the moment; ask again",
		RetryAfter: 2 * time.Second,
		Cause:      cause,
	}
}
