package account

import (
	"context"
	"crypto/sha256"
	"encoding/json"

	"dialtone/internal/fault"
)

// Version is that of an account at a moment. Another state, name, address, role or credential is another version, and
// so is everything else that operators see of the account itself.
type Version [16]byte

// Version returns the version of the account.
func (a Account) Version() Version {
	text, err := json.Marshal(a)
	if err != nil {
		panic("account: an account always marshals: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return Version(sum[:])
}

type versionKey struct{}

// OnlyIf returns a context for a change of an account on the condition that the account has a version. The change fails
// with fault.Changed otherwise. The store checks that in the transaction of the change, so of several changes on the
// same condition one succeeds.
func OnlyIf(ctx context.Context, v Version) context.Context {
	return context.WithValue(ctx, versionKey{}, v)
}

// ErrChanged refuses a change on a condition that does not hold.
var ErrChanged = fault.New(fault.Changed,
	"the account has changed since you read it; read it again and decide again")

// CheckVersion fails with ErrChanged unless an account has the version that a context requires, if it requires one.
func CheckVersion(ctx context.Context, a Account) error {
	if v, ok := ctx.Value(versionKey{}).(Version); ok && v != a.Version() {
		return ErrChanged
	}
	return nil
}
