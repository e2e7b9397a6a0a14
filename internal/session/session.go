// Package session implements signing in, and knows who is signed in and for how long.
//
// # Authentication
//
// A person proves the password in the Digest exchange of package digest. Neither the password nor
// its hash is sent. A wrong password, an unknown name and an account that an operator disabled get
// the same answer after the same work: for an unknown name, the store reads the row of another
// account, and a decoy is unsealed and checked. The remaining difference is a fraction of a
// microsecond (BenchmarkUnknownName). A person is told that the account is not activated yet, or
// that its owner has left, only after the right proof. Authenticate is the only implementation of
// this, for signing in, for a new activation message and for confirming a link.
//
// Wrong proofs are counted by name, known or not, and by address. Once a limit is reached, further
// attempts have to wait. The limits are exact on one server, even for concurrent attempts; several
// servers count separately. Nobody must be able to lock out the owner of an account by guessing
// passwords for the name, or by abusing an address that the owner shares. So a browser that signed
// up, confirmed a link, signed in or set a new password gets a device token. Attempts with a
// device token or with the newest link of a pending account are counted only by that token. A new
// password ends the earlier device tokens of the account.
//
// A person can also sign in with a passkey. The browser gets options with a challenge, and the authenticator
// signs it with the key of the passkey. The challenge is a ticket of package secret with ChallengeLife, which is
// spent by the first response with it. An unknown passkey, a wrong signature and a disabled account get the same
// answer. Wrong responses are counted only by address, or by the device token: nobody can guess a signature, and
// a name or an ID that anybody can send must not lock its owner out. Options for a new passkey need the
// password. Their challenge names the account and its epoch, so they end with its sessions.
//
// # The second step
//
// An account with an authenticator app also needs a code: one from the app, or a recovery code.
// Authenticate asks for it only after the right password, for every action. A code works once,
// across all servers. Wrong codes are limited per account, no matter which token comes with
// them.
//
// A platform can require a second factor for some accounts. If such an account has none yet, a
// session or a proof only permits setting one up. A session is valid only if it began with a
// code or a passkey. If the account has a passkey and no app, its password is accepted only
// together with such a session.
//
// # Sessions
//
// A session is a signed token in a cookie. It is valid without a row in a table, so signing in does not
// wait for a durable write. It is valid for at most Life, for Idle after its last use, not before it was
// issued, and only while the account's epoch is the one it was issued under: disabling or deleting an
// account and changing its password end its sessions with the next request, on every server. The browser
// that changed the password gets a new session. Signing out revokes one session, by its ID, in the
// store; after a number of revocations within a day, it raises the epoch instead, which needs no row.
// Reading a session also opens the account's credential: if somebody has put another user name into the
// row, it does not open, and the session does not become that of another person.
//
// The token is a ticket of package secret:
//
//	version (1 byte) ‖ ID (16) ‖ account (16) ‖ epoch (8) ‖ Unix seconds of issue (8) ‖ HMAC (32)
//
// The HMAC also covers the tenant. The ID alone is not a token, so the store, the API and the
// page can identify a session by it. A device token is a ticket without a time, whose epoch is
// the number of password changes.
//
// # The list
//
// A recorder writes beginnings and uses of sessions to the store, in the background and in
// transactions of bounded size. The records help people to recognize a session, and are used
// for the idle limit. Until a session is recorded, or if that fails, it is still valid, but not
// listed, and its last use is assumed to be when it was issued. A use is recorded at most once
// per seenInterval.
//
// # New browsers
//
// The transaction that records a session which began without a device token also decides whether the
// account was used with this browser before, and adds a message to its owner if not (NewBrowser).
// The answer to the sign-in does not wait for that.
//
// # What an attacker can do
//
// With a stolen cookie, an attacker can use the account's pages, change the display name and the
// language, see the list and end sessions, until the session ends. The attacker cannot learn the password.
// They cannot change it or the address, since each change needs a proof of the present password, and can
// register a phone only by a link of the page that sets one up. They cannot make the session last longer
// than Life after the sign-in. The session ends at once if the owner ends all other sessions or sets a new
// password, or if an operator disables the account. The owner sees it in the list once it is used from
// another network or browser for more than seenInterval. No message is sent about that, since nobody has
// signed in.
//
// With the password, an attacker can sign in. The owner gets a message about it, with a link that ends all
// sessions, unless the attacker has a device token of the owner as well, or uses a known kind of browser in
// a known network. Neither signing out nor ending other sessions prevents the message.
//
// A passkey cannot be phished: a browser uses it only at the host name of the tenant, and the
// response names the origin of the page. A captured response cannot be replayed. Somebody who
// gets a synchronized passkey, through the owner's account at the provider, can sign in until
// the owner removes it. A copy of a passkey with a counter is detected when both copies have
// been used.
//
// With a stolen device token, an attacker gets further attempts at guessing, and a sign-in with
// the password causes no message. The token gives nothing else. A captured proof cannot be
// replayed, because its nonce is spent. It permits guessing the password offline, which is one
// more reason for TLS.
//
// With the password but without a code, an attacker can neither sign in to an account with an
// authenticator app nor change its password or anything else. The attacker can register a phone, since
// SIP has no second step, learns that the account has an app, and can lock out the owner with wrong
// codes, until the owner sets another password by mail or, after many wrong codes, for a day. Neither
// a reset by mail nor the link of its message removes the app, so somebody with the mailbox also needs
// a code for the website, but not for phones. Without an app, the attacker can do everything that the
// owner can, and add an app of their own: the message about that has a link that removes it.
//
// With a copy of the database, nobody can make a token or a cookie: the database contains IDs,
// but no signing key. It shows when and from which network and kind of browser each account was
// used. Somebody who can write to the database can end sessions, hide them from the list, and
// lift revocations and the idle limit of stolen tokens, but cannot make tokens. They can set an
// epoch back, remove an authenticator app, and make a used code valid again. The secret of an
// app is sealed, and recovery codes are hashed under a key that is not in the database.
//
// With the signing key and a copy of the database, which contains the UIDs and epochs, anybody
// can make sessions of every account, and add passkeys without the password. The owner gets a
// message about a passkey. Rotate the keys with --revoke, which ends all sessions.
//
// In the browser of the owner, a script on a page of the site cannot read the cookie, but can use the
// session. Somebody with physical access to the browser can do what the cookie permits.
package session

import (
	"context"
	"log/slog"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/passkey"
	"dialtone/internal/secret"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
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

// DeviceLife is how long a browser keeps its device token.
const DeviceLife = 365 * 24 * time.Hour

// skew is how far the clock of the server that issued a session may be ahead of ours. A session
// from further in the future was issued while a clock was wrong, and would last too long.
const skew = time.Minute

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

// Signatures sign sessions, device tokens and shared nonces under one state of the signing keys.
type Signatures struct{ session, device, nonce, challenge, addition *secret.Tickets }

// NewSignatures returns Signatures under the keys of the ring.
func NewSignatures(r *secret.Ring) *Signatures {
	return &Signatures{
		session: secret.NewTickets(r, secret.TicketFormat{
			Purpose: "session", Version: 1, Account: true, Unit: time.Second, CodeSize: 32,
		}),
		device: secret.NewTickets(r, secret.TicketFormat{
			Purpose: "device", Version: 1, Account: true, CodeSize: 32,
		}),
		nonce: secret.NewTickets(r, secret.TicketFormat{
			Purpose: "sign-in nonce", Unit: time.Millisecond, CodeSize: 32,
		}),
		challenge: secret.NewTickets(r, secret.TicketFormat{
			Purpose: "passkey challenge", Version: 1, Unit: time.Millisecond, CodeSize: 32,
		}),
		addition: secret.NewTickets(r, secret.TicketFormat{
			Purpose: "new passkey challenge", Version: 1, Account: true, Unit: time.Millisecond, CodeSize: 32,
		}),
	}
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
