package session

import (
	"context"
	"log/slog"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/passkey"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// Accounts are the methods of account.Service that an Authenticator needs.
type Accounts interface {
	// Find returns the account of a user. It fails with fault.NotFound.
	Find(ctx context.Context, tenant int64, user string) (account.Account, error)
	// FindUID returns the account with the UID. It fails with fault.NotFound.
	FindUID(ctx context.Context, tenant int64, uid account.UID) (account.Account, error)
	// Credential opens the sealed credential of an account.
	Credential(account.Account) (digest.Credential, error)
	// Decoy returns an account that does not exist, whose credential matches no password and
	// costs as much to open as a real one.
	Decoy(tenant int64) account.Account
	// UseCode uses up a code of an account's authenticator app, or a recovery code. It fails with
	// account.ErrCodeWrong, and after too many wrong codes with fault.Limited; with account.ErrHeld,
	// account.ErrPasswordChanged or fault.NotFound for an account that has changed since.
	UseCode(ctx context.Context, t *tenant.Tenant, a account.Account, code string, from account.Origin) error
	// HasLink reports whether a text is the newest link of the pending account of a user.
	HasLink(ctx context.Context, tenant int64, user, link string) (bool, error)
	// SessionEndLimit returns the limit of an account for a way to end sessions.
	SessionEndLimit(account.Account, account.SessionEnd) throttle.Allowance
	// Passkeys returns the passkeys of an account.
	Passkeys(ctx context.Context, t *tenant.Tenant, owner account.Account) ([]account.OwnPasskey, error)
	// UsePasskey verifies a response of a passkey, stores its use, and returns its account.
	UsePasskey(ctx context.Context, t *tenant.Tenant, response passkey.Assertion) (account.UID, error)
}

// Store stores the IDs of revoked sessions and spent nonces, and the list of sessions.
type Store interface {
	// Revoked reports whether an ID was stored under one of the times. It also returns when the
	// session was last used by its record, or zero without a record.
	Revoked(ctx context.Context, uid account.UID, id [16]byte, until ...time.Time) (bool, time.Time, error)
	// RecordSessions adds or updates records in one transaction. It leaves out sessions that have ended.
	// If an account has more than MaxListed records, it keeps the most recently used. Callers must sort
	// the records, so that concurrent calls cannot deadlock.
	//
	// The transaction also adds the notices of new browsers, as NewBrowser describes, each with
	// a row of the audit trail. It returns the records whose notices were added.
	RecordSessions(ctx context.Context, list []Record) ([]Noticed, error)
	// Sessions returns the records of an account, at most MaxListed, without those that ended, the
	// last used one first.
	Sessions(ctx context.Context, uid account.UID, epoch int64, now time.Time) ([]Record, error)
	// SignOut revokes a session of an account: it stores the ID under the times of
	// RevokedUntil, until each of them, removes the record, and takes a place under each limit.
	// If a limit is reached, it ends all sessions of the account instead, for which it stores
	// no ID. It does nothing if the session was already revoked, or its epoch is not the
	// account's. It uses ID, Account, Epoch and Began.
	SignOut(ctx context.Context, r Record, now time.Time, limits ...throttle.Allowance) error
	// End is SignOut for a session of an account by its ID. It fails with ErrNoSession if the account has no record
	// of it under this epoch.
	End(ctx context.Context, uid account.UID, epoch int64, id [16]byte, now time.Time,
		limits ...throttle.Allowance) error
	// EndOthers raises the epoch of an account to that of own, removes all records and adds
	// own, unless its ID is zero, with a row of the audit trail. It takes a place under each
	// limit. It fails with ErrDenied if the account is no longer in the epoch before that of
	// own, and with fault.Limited.
	EndOthers(ctx context.Context, own Record, now time.Time, limits ...throttle.Allowance) error
	// Spend stores an ID until it expires, and reports whether this was the first call for the
	// ID. Exactly one of several concurrent calls is the first. A crash of the database can lose
	// the IDs of the last second.
	Spend(ctx context.Context, tenant int64, id [16]byte, expires time.Time) (first bool, err error)
}

// Authenticator proves passwords, and starts, reads and ends sessions. It is safe for concurrent
// use.
type Authenticator struct {
	deps   Deps
	nonces nonces
	uses   *uses
}

// Deps are the dependencies of an Authenticator.
type Deps struct {
	Accounts Accounts
	Store    Store
	// Signatures returns the Signatures under the current signing keys.
	Signatures func() *Signatures
	// Passwords limits wrong proofs.
	Passwords *throttle.Passwords
	// Nodes means that other servers share the store, so that a challenge of one server may be answered at another.
	Nodes bool
	// Notices makes and writes messages about sign-ins with a new browser. If it is nil, there are none.
	Notices Notices
	Audit   audit.Log
	// Counts counts who signs in for the first time. It may be nil.
	Counts *stats.Counter
	// Log gets failures to write the list of sessions. It may be nil.
	Log *slog.Logger
	Now func() time.Time
}

// NewAuthenticator returns an Authenticator.
func NewAuthenticator(d Deps) *Authenticator {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	a := &Authenticator{
		deps:   d,
		nonces: localNonces{digest.NewNonces(d.Now)},
		uses:   newUses(d),
	}
	if d.Nodes {
		a.nonces = sharedNonces{d.Store, d.Signatures, d.Now}
	}
	return a
}

// record never logs a name that cannot be a user name: people sometimes type their password into that field.
func (a *Authenticator) record(
	ctx context.Context, action audit.Action, t *tenant.Tenant, user string, from account.Origin,
	outcome string,
) {
	a.recordDetail(ctx, action, t, user, from, outcome, "")
}

func (a *Authenticator) recordDetail(
	ctx context.Context, action audit.Action, t *tenant.Tenant, user string, from account.Origin,
	outcome, detail string,
) {
	if !account.WellFormedUser(user) {
		user = ""
	}
	a.deps.Audit.Record(ctx, audit.Event{
		Action: action, Outcome: outcome, Tenant: t.Host, User: user,
		Peer: from.Addr, Request: from.Request, Detail: detail,
	})
}
