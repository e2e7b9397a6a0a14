package tenant

import (
	"context"
	"crypto/sha256"
	"encoding/json"

	"dialtone/internal/fault"
)

// Version is that of a tenant's settings at a moment.
type Version [16]byte

// Version returns the version of a tenant as the store has it.
func (t Tenant) Version() Version {
	text, err := json.Marshal([]any{t.ID, t.Host, t.Realm, t.PublicURL, t.Settings, t.Logo.Type, t.Logo.Data})
	if err != nil {
		panic("tenant: a tenant always marshals: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return Version(sum[:])
}

type versionKey struct{}

// OnlyIf returns a context for SetTenant on the condition that the tenant has a version. It fails with fault.Changed
// otherwise. The store checks that in the transaction of the change.
func OnlyIf(ctx context.Context, v Version) context.Context {
	return context.WithValue(ctx, versionKey{}, v)
}

// ErrChanged refuses a change on a condition that does not hold.
var ErrChanged = fault.New(fault.Changed,
	"the tenant has changed since you read it; read it again and decide again")

// RequiredVersion returns the version that a context requires of a tenant.
func RequiredVersion(ctx context.Context) (Version, bool) {
	v, ok := ctx.Value(versionKey{}).(Version)
	return v, ok
}
