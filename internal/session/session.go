package session

import (
	"context"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

const (
	// Life is how long a session lasts at most.
	Life = 7 * 24 * time.Hour
	// Idle is how long a session lasts without being used. It may be up to seenInterval less.
	Idle = 12 * time.Hour

	// earlierLife is the Life of the first versions of this program.
	earlierLife = 12 * time.Hour
)

// RevokedUntil returns the expiry times under which the store keeps the revocation of a session
// that was issued at a time. The first is the end of the session. The second is its end by
// earlierLife, under which servers of earlier versions store and look up revocations.
func RevokedUntil(issued time.Time) []time.Time {
	return []time.Time{issued.Add(Life), issued.Add(earlierLife)}
}

// skew is how far the clock of the server that issued a session may be ahead of ours. A session
// from further in the future was issued while a clock was wrong, and would last too long.
const skew = time.Minute

// owner returns the account of a token. A token names its account by the UID, and somebody who can
// write to the store could give its row another user name. So owner opens the account's credential,
// which is bound to both.
func (a *Authenticator) owner(
	ctx context.Context, t *tenant.Tenant, uid account.UID,
) (account.Account, error) {
	owner, err := a.deps.Accounts.FindUID(ctx, t.ID, uid)
	if err == nil {
		_, err = a.deps.Accounts.Credential(owner)
	}
	if err != nil {
		return account.Account{}, err
	}
	return owner, nil
}

// read returns the ticket of a session that has not reached Life. The session may have been issued in
// the future.
func (a *Authenticator) read(t *tenant.Tenant, token string) (k secret.Ticket, ok bool) {
	k, ok = a.deps.Signatures().session.Read(t.ID, token)
	return k, ok && a.deps.Now().Before(k.Issued.Add(Life))
}

// SignedIn returns the account of a session, by its token, and records the use. It fails with
// ErrDenied if there is no such session, or it has ended, with ErrFactorMissing if the person
// must first set up a second factor, and with secret.ErrSeal if the account's row was changed.
func (a *Authenticator) SignedIn(
	ctx context.Context, t *tenant.Tenant, token string, from account.Origin,
) (account.Account, error) {
	owner, _, err := a.signedIn(ctx, t, token, from)
	return owner, err
}

// SignedInToSetUp is SignedIn for the pages that set up a second factor: it works for an
// account without one, no matter how the session began. Once the account has a factor, it is
// the same as SignedIn.
func (a *Authenticator) SignedInToSetUp(
	ctx context.Context, t *tenant.Tenant, token string, from account.Origin,
) (account.Account, error) {
	owner, k, err := a.readSession(ctx, t, token, from)
	if err == nil && !FactorMissing(t, owner) {
		owner, _, err = a.checkHow(ctx, t, owner, k)
	}
	return owner, err
}

func (a *Authenticator) signedIn(
	ctx context.Context, t *tenant.Tenant, token string, from account.Origin,
) (account.Account, secret.Ticket, error) {
	owner, k, err := a.readSession(ctx, t, token, from)
	if err != nil {
		return owner, k, err
	}
	return a.checkHow(ctx, t, owner, k)
}

// checkHow returns a session and its account. Where the platform requires a second factor, it fails with
// ErrFactorMissing for an account without one, and with ErrDenied if the session began with the password alone.
func (a *Authenticator) checkHow(
	ctx context.Context, t *tenant.Tenant, owner account.Account, k secret.Ticket,
) (account.Account, secret.Ticket, error) {
	if !requiresFactor(t, owner) {
		return owner, k, nil
	}
	how, err := ByPassword, error(nil)
	if FactorMissing(t, owner) {
		err = ErrFactorMissing
	} else if how, err = a.how(ctx, owner, k.ID); err == nil && how == ByPassword {
		// It began before the factor existed or was required, or its record is lost. Another sign-in is needed.
		err = ErrDenied
	}
	if err != nil {
		return account.Account{}, secret.Ticket{}, err
	}
	return owner, k, nil
}

// How returns how the session of a token began, or ByPassword if that is unknown, and the
// session's account. It fails as SignedIn does, but like SignedInToSetUp it works without a
// second factor.
func (a *Authenticator) How(
	ctx context.Context, t *tenant.Tenant, token string, from account.Origin,
) (account.Account, How, error) {
	owner, k, err := a.readSession(ctx, t, token, from)
	if err != nil {
		return owner, ByPassword, err
	}
	how, err := a.how(ctx, owner, k.ID)
	return owner, how, err
}

func (a *Authenticator) readSession(
	ctx context.Context, t *tenant.Tenant, token string, from account.Origin,
) (account.Account, secret.Ticket, error) {
	refused := func(err error) (account.Account, secret.Ticket, error) {
		return account.Account{}, secret.Ticket{}, err
	}
	k, ok := a.read(t, token)
	if !ok || !k.Fresh(a.deps.Now(), Life, skew) {
		return refused(ErrDenied)
	}
	owner, err := a.owner(ctx, t, k.Account)
	if fault.Is(err, fault.NotFound) || err == nil && (owner.Disabled || owner.Epoch != k.Epoch) {
		return refused(ErrDenied)
	}
	if err != nil {
		return refused(err)
	}
	revoked, seen, err := a.deps.Store.Revoked(ctx, k.Account, k.ID, RevokedUntil(k.Issued)...)
	if err != nil {
		return refused(err)
	}
	// Without a record, the last use is assumed to be when the session was issued.
	if seen.Before(k.Issued) {
		seen = k.Issued
	}
	if revoked || a.deps.Now().Sub(seen) >= Idle {
		return refused(ErrDenied)
	}
	if a.uses.due(k.ID, seen) {
		a.uses.add(ctx, a.newRecord(owner, k, from))
	}
	return owner, k, nil
}

// SignOut ends a session. It succeeds if there is no such session.
func (a *Authenticator) SignOut(
	ctx context.Context, t *tenant.Tenant, token string, from account.Origin,
) error {
	k, ok := a.read(t, token)
	if !ok {
		return nil
	}
	// The write continues if the client disconnects.
	owner := account.Account{UID: k.Account, Tenant: t.ID, Epoch: k.Epoch}
	err := a.signOut(context.WithoutCancel(ctx), owner, k)
	e := audit.Event{
		Action: audit.SignOut, Outcome: "ok", Tenant: t.Host, Peer: from.Addr, Request: from.Request,
	}
	if err != nil {
		e.Outcome = "server_error"
	}
	a.deps.Audit.Record(ctx, e)
	return err
}

// signOut ends a session of an account.
func (a *Authenticator) signOut(ctx context.Context, owner account.Account, k secret.Ticket) error {
	r := Record{ID: k.ID, Account: owner.UID, Epoch: owner.Epoch, Began: k.Issued}
	return a.deps.Store.SignOut(ctx, r, a.deps.Now(), a.deps.Accounts.SessionEndLimit(owner, account.EndOne))
}
