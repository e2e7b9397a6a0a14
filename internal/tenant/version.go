package tenant

import (
	"context"
	"crypto/sha256"
	"encoding/json"

	"dialtone/internal/fault"
)

// Version identifies the content of a tenant's settings at one moment.
type Version [16]byte

// Version returns the version of a tenant that was read from the store.
func (t Tenant) Version() Version {
	text, err := json.Marshal([]any{t.ID, t.Host, t.Realm, t.PublicURL, t.Settings, t.Logo.Type, t.Logo.Data})
	if err != nil {
		panic("tenant: a tenant always marshals: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return Version(sum[:])
}

type versionKey struct{}

// OnlyIf returns a context for SetTenant that requires the tenant to have version v. Otherwise
// SetTenant fails with fault.Changed. The store checks this in the transaction of the change.
func OnlyIf(ctx context.Context, v Version) context.Context {
	return context.WithValue(ctx, versionKey{}, v)
}

// ErrChanged means that the tenant no longer has the version that OnlyIf requires.
var ErrChanged = fault.New(fault.Changed,
	"the tenant has changed since you read it; read it again and decide again")

// RequiredVersion returns the version that a context requires of a tenant.
func RequiredVersion(ctx context.Context) (Version, bool) {
	v, ok := ctx.Value(versionKey{}).(Version)
	return v, ok
}
