package phone

import (
	"context"
	"slices"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// Entry is what a phone server is told of an active account.
type Entry struct {
	// Username is what was asked for: alice or alice@realm. The hashes are of this very name, in the tenant's realm.
	Username string
	// Tenant is shared: it is read, never written.
	Tenant *tenant.Tenant
	Role   account.Role
	HA1    digest.HA1
	// SHA256 is nil where the account has no such hash.
	SHA256 *digest.HA1SHA256
}

// ErrNone is every look-up that finds no active account.
var ErrNone = fault.New(fault.NotFound, "there is no active account of that name and realm that this phone server may ask about")

// Find is the active account that a phone answers for with a user name in a realm. It fails with ErrNone, and with fault.Overloaded
// where that is not known, since the store cannot be asked.
func (d *Registry) Find(ctx context.Context, c *Caller, realm, username string) (Entry, error) {
	t, ok := d.Tenants.ByRealm(realm)
	if !ok || !slices.Contains(c.Tenants, t.ID) {
		return Entry{}, ErrNone
	}
	user, withRealm := cutRealm(username, t.Realm)
	if !account.WellFormedUser(user) {
		return Entry{}, ErrNone
	}
	a, err := d.sealed(ctx, t.ID, user)
	if fault.Is(err, fault.NotFound) {
		return Entry{}, ErrNone
	} else if err != nil {
		return Entry{}, unavailable(err)
	}
	// Opened before it is looked whether it may be told: one that is not active costs what an active one does.
	hashes, err := d.Accounts.Credential(a)
	if err != nil {
		return Entry{}, err
	}
	if a.Disabled {
		return Entry{}, ErrNone
	}
	e := Entry{Username: username, Tenant: t, Role: a.Role, HA1: hashes.HA1, SHA256: hashes.SHA256}
	if withRealm {
		if hashes.HA1B == nil {
			return Entry{}, ErrNone
		}
		e.HA1, e.SHA256 = *hashes.HA1B, nil
	}
	return e, nil
}

// cutRealm takes @realm off a user name. It has to be written as the tenant's is: in another case it makes another hash.
func cutRealm(username, realm string) (user string, cut bool) {
	if user, ok := strings.CutSuffix(username, realm); ok && strings.HasSuffix(user, "@") {
		return user[:len(user)-1], true
	}
	return username, false
}

// OnlyTenant is the tenant of a server that may ask about a single one: what a name without a realm means there.
func (d *Registry) OnlyTenant(c *Caller) (*tenant.Tenant, bool) {
	if len(c.Tenants) != 1 {
		return nil, false
	}
	return d.Tenants.ByID(c.Tenants[0])
}

// unavailable is a look-up that the store did not answer. To say so is not to say that there is no such account.
func unavailable(why error) error {
	return &fault.Error{
		Kind: fault.Overloaded, Message: "the account store cannot be asked at the moment, so it is not known whether there is such an account; ask again",
		RetryAfter: 2 * time.Second, Cause: why,
	}
}
