package session

import (
	"context"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/tenant"
)

// Grant is what a browser gets after signing in.
type Grant struct {
	Session string // for a cookie, good for Life
	Device  string // for a cookie, good for DeviceLife
}

// SignIn starts a session for an account whose owner has signed in. device is the device token that came
// with the request, or empty. Without one of this account, the owner may get a message (NewBrowser). It
// fails with ErrNotActivated.
func (a *Authenticator) SignIn(
	ctx context.Context, t *tenant.Tenant, owner account.Account, device string, from account.Origin, how How,
) (Grant, error) {
	if owner.Disabled {
		a.recordDetail(ctx, audit.SignIn, t, owner.User, from, "not_activated", string(how))
		return Grant{}, ErrNotActivated
	}
	a.recordDetail(ctx, audit.SignIn, t, owner.User, from, "ok", string(how))
	return a.grant(ctx, t, owner, from, how, a.deps.Notices != nil && !a.isDevice(t, owner, device)), nil
}

// Continue returns the Grant for a browser whose owner has made a change that ended all
// sessions of the account, or gave it a second factor. how is how the owner proved their
// presence.
func (a *Authenticator) Continue(
	ctx context.Context, t *tenant.Tenant, owner account.Account, from account.Origin, how How,
) Grant {
	return a.grant(ctx, t, owner, from, how, false)
}

// grant starts a session for a person who has just signed in, and records it soon. mayBeNew
// means that the owner may get a message about the browser.
func (a *Authenticator) grant(
	ctx context.Context, t *tenant.Tenant, owner account.Account, from account.Origin, how How,
	mayBeNew bool,
) Grant {
	token, r := a.issue(t, owner, a.deps.Now(), from)
	if r.First {
		a.uses.countFirst(t, r)
	}
	if r.How = how; mayBeNew {
		a.uses.addSignIn(ctx, t, owner, from, r)
	} else {
		a.uses.add(ctx, r)
	}
	return Grant{Session: token, Device: a.DeviceToken(t, owner)}
}
