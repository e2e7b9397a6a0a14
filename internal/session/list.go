package session

import (
	"context"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// MaxListed is how many sessions of an account the store keeps. If there are more, the least
// recently used ones are no longer listed, but remain valid.
const MaxListed = 50

// ErrNoSession means that an account has no session with an ID.
var ErrNoSession = fault.New(fault.NotFound,
	"there is no such session of your account; it may have ended already, so load the list again")

// Sessions returns the listed sessions of the account of a session, the most recently used first, and the ID
// of the session itself, which is always among them. It fails as SignedIn does.
func (a *Authenticator) Sessions(
	ctx context.Context, t *tenant.Tenant, token string, from account.Origin,
) (list []Record, current [16]byte, err error) {
	owner, k, err := a.signedIn(ctx, t, token, from)
	if err != nil {
		return nil, current, err
	}
	now := a.deps.Now()
	if list, err = a.deps.Store.Sessions(ctx, owner.UID, owner.Epoch, now); err != nil {
		return nil, current, err
	}
	own := a.newRecord(owner, k, from)
	if i := slices.IndexFunc(list, func(r Record) bool { return r.ID == k.ID }); i >= 0 {
		list[i].Seen = now
	} else {
		own.How, _ = a.uses.how(k.ID)
		list = append(list[:min(len(list), MaxListed-1)], own)
	}
	slices.SortStableFunc(list, func(x, y Record) int { return y.Seen.Compare(x.Seen) })
	return list, k.ID, nil
}

// SessionsOf returns the listed sessions of an account, the most recently used first.
func (a *Authenticator) SessionsOf(ctx context.Context, owner account.Account) ([]Record, error) {
	return a.deps.Store.Sessions(ctx, owner.UID, owner.Epoch, a.deps.Now())
}

// EndOf ends one session of an account, by its ID. It fails with ErrNoSession.
func (a *Authenticator) EndOf(
	ctx context.Context, t *tenant.Tenant, owner account.Account, id [16]byte, from account.Origin,
) error {
	err := a.endOne(context.WithoutCancel(ctx), owner, id)
	a.recordEnd(ctx, t, owner, from, "one", err)
	return err
}

// byOwner returns a context for a change by the owner of an account, which continues if the client disconnects.
func byOwner(ctx context.Context, from account.Origin) context.Context {
	return audit.ByPerson(context.WithoutCancel(ctx), from.Addr, from.Request)
}

// EndAllOf ends all sessions of an account, listed or not. It fails with ErrDenied if the account's sessions
// were ended in the meantime, and with fault.Limited.
func (a *Authenticator) EndAllOf(
	ctx context.Context, t *tenant.Tenant, owner account.Account, from account.Origin,
) error {
	none := Record{Account: owner.UID, Epoch: owner.Epoch + 1}
	err := a.deps.Store.EndOthers(byOwner(ctx, from), none, a.deps.Now(),
		a.deps.Accounts.SessionEndLimit(owner, account.EndByProof))
	a.recordEnd(ctx, t, owner, from, "all", err)
	return err
}

// End ends one session of the account of a session, by its ID. It fails with ErrNoSession if the
// account has none with this ID, and otherwise as SignedIn does.
func (a *Authenticator) End(
	ctx context.Context, t *tenant.Tenant, token string, id [16]byte, from account.Origin,
) error {
	owner, k, err := a.signedIn(ctx, t, token, from)
	if err != nil {
		return err
	}
	write := context.WithoutCancel(ctx) // if the client disconnects
	if id == k.ID {
		err = a.signOut(write, owner, k)
	} else {
		err = a.endOne(write, owner, id)
	}
	a.recordEnd(ctx, t, owner, from, "one", err)
	return err
}

func (a *Authenticator) endOne(ctx context.Context, owner account.Account, id [16]byte) error {
	return a.deps.Store.End(ctx, owner.UID, owner.Epoch, id, a.deps.Now(),
		a.deps.Accounts.SessionEndLimit(owner, account.EndOne))
}

// EndOthers ends all other sessions of the account of a session, listed or not, and returns a token
// that continues this one: it has the same start time, so it does not last longer. It fails as SignedIn
// does, and with fault.Limited.
func (a *Authenticator) EndOthers(
	ctx context.Context, t *tenant.Tenant, token string, from account.Origin,
) (string, error) {
	owner, k, err := a.signedIn(ctx, t, token, from)
	if err != nil {
		return "", err
	}
	how, err := a.how(ctx, owner, k.ID)
	if err != nil {
		return "", err
	}
	owner.Epoch++
	next, r := a.issue(t, owner, k.Issued, from)
	r.How = how
	err = a.deps.Store.EndOthers(byOwner(ctx, from), r, a.deps.Now(),
		a.deps.Accounts.SessionEndLimit(owner, account.EndBySession))
	a.recordEnd(ctx, t, owner, from, "others", err)
	if err != nil {
		return "", err
	}
	return next, nil
}

// how returns how a session began, or ByPassword if it is unknown.
func (a *Authenticator) how(ctx context.Context, owner account.Account, id [16]byte) (How, error) {
	if how, waits := a.uses.how(id); waits {
		return how, nil
	}
	list, err := a.deps.Store.Sessions(ctx, owner.UID, owner.Epoch, a.deps.Now())
	for _, r := range list {
		if r.ID == id {
			return r.How, err
		}
	}
	return ByPassword, err
}

func (a *Authenticator) recordEnd(
	ctx context.Context, t *tenant.Tenant, owner account.Account, from account.Origin, what string, err error,
) {
	outcome := "ok"
	switch {
	case fault.Is(err, fault.NotFound):
		outcome = "not_found"
	case fault.Is(err, fault.Unauthorized):
		outcome = "denied"
	case fault.Is(err, fault.Limited):
		outcome = "rate_limited"
	case err != nil:
		outcome = "server_error"
	}
	a.recordDetail(ctx, audit.SessionsEnd, t, owner.User, from, outcome, what)
}

// issue makes the token of a session, and its record. Tokens are made nowhere else.
func (a *Authenticator) issue(
	t *tenant.Tenant, owner account.Account, began time.Time, from account.Origin,
) (string, Record) {
	k := secret.NewTicket(began.Truncate(time.Second)) // the precision of the token
	k.Account, k.Epoch = owner.UID, owner.Epoch
	return a.deps.Signatures().session.Issue(t.ID, k), a.newRecord(owner, k, from)
}

// newRecord returns the record of a session that is being used.
func (a *Authenticator) newRecord(owner account.Account, k secret.Ticket, from account.Origin) Record {
	return Record{
		ID: k.ID, Account: owner.UID, Epoch: owner.Epoch, Began: k.Issued.UTC(), Seen: a.deps.Now().UTC(),
		Net: audit.Network(from.Addr), Browser: BrowserOf(from.Agent), First: owner.NotSignedIn,
	}
}

// Run writes beginnings and uses of sessions to the store until ctx is done.
func (a *Authenticator) Run(ctx context.Context) { a.uses.run(ctx) }

// Flush writes all waiting beginnings and uses of sessions to the store.
func (a *Authenticator) Flush(ctx context.Context) error { return a.uses.flush(ctx) }
