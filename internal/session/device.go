package session

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// DeviceLife is how long a browser keeps its device token.
const DeviceLife = 365 * 24 * time.Hour

// ownerToken returns the ID of a device token or link that proves that an attempt comes from
// the owner of the user name, or "".
func (a *Authenticator) ownerToken(
	ctx context.Context, t *tenant.Tenant, user string, at Attempt,
) (string, error) {
	// Tokens of the first versions of the program are not accepted: they were issued for a
	// name, which may belong to another account after an operator freed it. The browser gets a
	// new token at the next sign-in.
	if k, ok := a.deps.Signatures().device.Read(t.ID, at.Device); ok {
		// When the token was issued, the name may have belonged to another account.
		owner, err := a.owner(ctx, t, k.Account)
		if err == nil && owner.User == user && owner.Passwords == k.Epoch {
			return string(k.ID[:]), nil
		} else if err != nil && !fault.Is(err, fault.NotFound) && !errors.Is(err, secret.ErrSeal) {
			return "", err
		}
	}
	if at.Link == "" {
		return "", nil
	}
	if has, err := a.deps.Accounts.HasLink(ctx, t.ID, user, at.Link); err != nil || !has {
		return "", err
	}
	return at.Link, nil
}

// isDevice reports whether a text is a device token of an account. It does not access the store.
func (a *Authenticator) isDevice(t *tenant.Tenant, owner account.Account, device string) bool {
	k, ok := a.deps.Signatures().device.Read(t.ID, device)
	return ok && k.Account == owner.UID && k.Epoch == owner.Passwords
}

// DeviceToken returns a device token for the owner of an account, good for DeviceLife or until the
// password changes. The token's epoch is the number of password changes. Tokens of earlier
// versions have epoch zero, as if they had been issued before the first change.
func (a *Authenticator) DeviceToken(t *tenant.Tenant, owner account.Account) string {
	k := secret.NewTicket(a.deps.Now())
	k.Account, k.Epoch = owner.UID, owner.Passwords
	return a.deps.Signatures().device.Issue(t.ID, k)
}
