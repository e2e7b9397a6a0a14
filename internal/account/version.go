package account

import (
	"context"
	"crypto/sha256"
	"encoding/json"

	"dialtone/internal/fault"
)

// Version identifies the content of an account at one moment. It changes with the state, name,
// address, role and credential, and with everything else that operators see of the account
// itself.
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

// OnlyIf returns a context for a change of an account that requires the account to have version
// v. Otherwise the change fails with fault.Changed. The store checks this in the transaction of
// the change, so exactly one of several changes with the same condition succeeds.
func OnlyIf(ctx context.Context, v Version) context.Context {
	return context.WithValue(ctx, versionKey{}, v)
}

// ErrChanged means that the account no longer has the version that OnlyIf requires.
var ErrChanged = fault.New(fault.Changed,
	"the account has changed since you read it; read it again and decide again")

// CheckVersion fails with ErrChanged unless an account has the version that a context requires, if it requires one.
func CheckVersion(ctx context.Context, a Account) error {
	if v, ok := ctx.Value(versionKey{}).(Version); ok && v != a.Version() {
		return ErrChanged
	}
	return nil
}
