// Package account is the life of an account: signup, activation, and what operators and owners do with it.
//
//	    7 days without the link, or declined
//	   +------------------------------------> gone, name free
//	   |
//	waiting --link or operator--> active
//	   |  ^                         |  ^
//	   +--+------ operator ---------+--+
//	   v                            v
//	disabled, and the link does     disabled
//	not activate the account
//
//	An account that is enabled is again what it was: waiting or active.
//
//	active --its owner leaves--> leaving --after 7 days--> closed
//	   ^                            |
//	   +--link for that, operator---+
//
//	An operator can disable an account that is leaving. It is erased all the same, unless an operator
//	enables it.
//
//	active, disabled or leaving --delete--> closed: the row only keeps the name, so that nobody gets it again,
//	                               until an operator frees the name
//
// # Guarantees
//
// A signup is one store transaction and one message file. When it is answered, both exist and
// survive a crash; when it fails, neither does. The same holds for a new link. A form that is
// sent again, because its answer was lost, is recognized by its user name, address and HA1. If it has
// the captcha of the account too, wrong passwords of others do not prevent that.
//
// # Signing up
//
//  1. All rules that need no store are checked.
//  2. The message is staged: written to the pickup directory under a name that no mail server
//     takes. A failure of that directory shows here, while there is nothing to undo.
//  3. One transaction takes the places under the limits, spends the captcha, and adds the account
//     and the outbox entry. It is durable when it returns.
//  4. The message is published under its final name. If that fails, step 3 is undone.
//  5. The signup is answered.
//
// Package outbox makes the message durable without a sync for each.
//
// # A new link
//
// A person who has proved the password of a pending account can have a new link, and correct the
// address that it goes to. It is staged, committed and published like that of a signup, with an
// outbox entry of its own. The older link is invalid from the commit on, and is remembered until
// the account expires, so that a person who opens it learns why. They learn nothing about the
// account, since the first address may have been somebody else's. The older outbox entry stays
// until the new message is on disk or withdrawn, so that undoing the new link restores everything
// as it was.
//
// # A stolen message
//
// A person who can read an activation message has its token, and no password. With it they can activate
// the account, which is no use without the password, but not sign in, and not confirm it; at a tenant
// that requires the password too, they cannot even activate it. Or they can remove the account while it
// is pending (DeclineStore), as the owner of an address may who did not sign up. Then the tenant sends no
// other activation message to the address for 24 hours, so the owner has to wait, or use another address.
// They learn the user name, from the page behind the activation link. Once the account is active, all that
// the token still does is that wrong passwords are counted for it, and not for the user name.
//
// An older message can remove the account only if it went to the address that the account has now. The
// first message of a person who mistyped the address went to a stranger, who must not be able to remove
// the account after the address was corrected. That an older link went to the address is forgotten when
// the address changes, also if it is changed back later.
//
// # Confirmation
//
// An opened link proves little: mail scanners open links, and a mistyped address has an owner too.
// So an account is confirmed, apart from being active, once somebody had both the newest link and
// the password. Nothing else confirms it, neither a link alone nor an operator. A tenant may
// require both for activation (tenant.ActivationConfirm), and then a link alone only leads to the
// form for the password. At other tenants a browser that has opened the link sends its token when
// its owner signs in. Confirming activates a pending account, may be repeated, and starts no
// session.
//
// # A new password
//
// A person who has proved the present password can set another one. The new credential, the end of
// all sessions and device tokens, the notifications of phone servers, the audit trail's row and the
// message to the owner are one transaction. Nothing is staged and nothing undone: the message is
// written after the commit, from the outbox entry (docs/decisions/0042). Of concurrent changes that
// prove the same password, one succeeds: Account.Passwords tells which password was proved.
//
// Somebody who has learned the password can change it. The message tells the owner, and has a link
// for that case. Neither a session cookie nor a copy of the database is enough, and a copy of the
// database with the key file is, since it gives every HA1 (see Credentials).
//
// # A forgotten password
//
// Somebody who forgot a password leaves a row in the store, whatever the text is. A worker looks for the
// account later, so that neither the answer nor its time says whether there is one. The message goes to the
// address of the account, never to what was written. Its link works once, for an hour, for any active account
// of that address, and until one of their passwords is changed. It proves the mailbox, so it confirms the
// account. Opening it changes nothing, since mail scanners open links.
//
// Somebody with a stolen reset message can set the password within that hour, and no later. They cannot do it
// unnoticed: the owner gets a message about the change, whose link ends all sessions and makes another reset
// link. That works for 7 days, however often the password was changed in the meantime, so with both messages
// stolen, or the mailbox itself, the account is lost until an operator sets another address. The link of the second
// message alone gives a reset link too, as that of a message about a new browser or wrong codes does: they are as
// valuable as a reset message. Neither works on a disabled account, at another tenant, or twice. The store has
// only the hashes of their tokens; the outbox has the tokens, sealed, until the files of the messages are on disk.
//
// An operator can make a reset link without a message. It is for one account, and does not confirm it. The
// same holds for the one that somebody gets who did not change the password. Neither ends with a change by
// proof of the password, which the attacker may know, but with the next reset.
//
// Until the owner has set another password, an attacker who knows the present one can sign in with it, also
// after the owner has ended all sessions.
//
// Somebody who can write to the database, without any key, can have a reset link sent to another address, or
// make a row for a link, and so take an account over: addresses and links are not bound to the account by a
// key, unlike credentials.
//
// # Leaving
//
// A person who has proved the password can leave. The account is held from then on, so that everything that
// refuses a disabled account refuses it too, in programs of earlier versions as well: signing in, look-ups
// by phone servers, exports, links. Sessions end. 7 days later Sweep erases it, as a deletion by an operator
// does, with a margin of a day in case the clock is ahead. The name stays taken, so that nobody else gets the
// calls.
//
// Somebody who has learned the password can leave in the name of the owner, and so can somebody who finds a page where
// the password is filled in. The message about it has a link with which the owner stays, for the 7 days. It only makes
// the account active again: somebody with a stolen message about leaving can do no more than that, and cannot sign in.
// The links for changes that the owner did not make do the same before they do what they are for. Otherwise an attacker
// could change the address, and the message about leaving would not reach the owner. A new password by a reset link
// ends a leave in the same transaction, and reset links outlive it: somebody who knows the password could otherwise
// leave again and again, faster than the owner can stay and choose another one. None of them works on an account
// that an operator has disabled, at another tenant, twice, or after the account was erased.
//
// # Taking the data along
//
// A session, or a proof of the password, gives everything that is held about the person (Data), without credentials,
// tokens and links. So somebody with a stolen cookie learns the name, the address, the networks of sessions and which
// phones were used, as they do from the pages.
//
// # Passkeys
//
// Somebody who has proved the password can add passkeys, up to MaxPasskeys, and sign in with them on the web
// (package session). Adding or removing one, the account's Factors, the audit trail's row and the message to
// the owner are one transaction. The link of any message about a change
// removes the second factors that were added since, as it sets the address back.
//
// The credential of a passkey is sealed, bound to the tenant, the account's UID, the RP ID and the credential
// ID. With a copy of the database, with or without the key file, nobody can sign in with a passkey: it has
// public keys only. Somebody who can write to the database cannot add one, nor give one to another account,
// but can remove one, bring back one that was removed, or set its counter back. With the key file too, they
// can add one.
//
// Somebody with the password can add a passkey of their own, and keeps it when the password is changed. The
// message tells the owner, whose "this was not me" removes it, and the list of passkeys shows it.
//
// # Another address
//
// A person who has proved the password can have a message sent to another address, whose link makes it the
// account's (ProfileStore). The link is for the address, so it proves that mailbox and confirms the account.
// It ends with every change of the password or of the address. The message to the previous address has a link
// that sets it back, ends all sessions, and makes a reset link. It works for 7 days, through any number of
// later changes, and ends the links that went to addresses which the account got later: of several people who
// say that they did not change the address, the one whose address the account had first is right.
//
// Somebody who has learned the password can so move the account to a mailbox of their own. The owner learns of
// it from the message to the previous address, and has those 7 days. Uses of links that go to the later mailbox are
// counted apart, and end no link without a message that was made before (package throttle). After those days, or with
// the mailbox of the previous address in the hands of the attacker too, only an operator can help
// (Service.ReplaceEmail). Somebody with a stolen message to the new address can do what its owner asked for, and
// no more. Somebody with a stolen message to the previous address can take the account over, as with a stolen
// reset message.
//
// Neither the answer nor its time says whether another account has the address. An address whose owner has
// declined an account within 24 hours gets no message, and the answer does not say so either.
//
// The display name and the language need no proof of the password: a session is enough. Somebody with a stolen
// cookie can change both, which other people may see in a call, and nothing else of the account.
//
// # Accounts of other platforms
//
// An Import adds accounts with the hashes that they have elsewhere. Their passwords are not checked. They may have no
// address: then they get no messages about changes, and nobody can have a link sent for a forgotten password. Anyone
// who knows the password can add an address, and so take over such an account unnoticed, as with an account whose
// mailbox is dead.
//
// # Credentials
//
// What a browser sends is password-equivalent (package digest). It is sealed before it reaches the
// store, bound to the tenant, the account's UID and its user name, under a key that is not in the
// store. Names and addresses are checked as the bytes that were received: a user name is part of its
// HA1, so it is never folded or trimmed. Neither the page nor the server normalizes a password
// (docs/decisions/0041).
package account

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/i18n"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/throttle"
)

// PendingLife is how long an account can be activated.
const PendingLife = 7 * 24 * time.Hour

// UID identifies an account forever, even after its name was given to another one. It consists of
// 48 bits of Unix milliseconds and random bits (a UUIDv7, RFC 9562 section 5.7), so that accounts
// that were created together are stored together. Half of it may be derived from the nonce of a
// captcha, which is random too.
type UID [16]byte

// NewUID returns a new UID.
func NewUID(now time.Time) (u UID) {
	rand.Read(u[6:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(u[:6], ms[2:])
	u[6] = 0x70 | u[6]&0x0f
	u[8] = 0x80 | u[8]&0x3f
	return u
}

// FirstUID and LastUID return the least and the greatest UID that NewUID may return in the millisecond of a time.
func FirstUID(at time.Time) UID { return boundUID(at, 0) }

// LastUID is described at FirstUID.
func LastUID(at time.Time) UID { return boundUID(at, 0xff) }

// boundUID returns a UID with the millisecond of a time, and other bytes that are all the same.
func boundUID(at time.Time, other byte) UID {
	const most = 1<<48 - 1 // far in the future
	u := UID(bytes.Repeat([]byte{other}, len(UID{})))
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(min(max(at.UnixMilli(), 0), most)))
	copy(u[:6], ms[2:])
	return u
}

// signupUID returns the UID of an account that is made with a captcha. Its last half is derived from
// the captcha's nonce, which is random and known only to the sender of the form, so that the same
// form can be recognized later.
func signupUID(now time.Time, nonce [16]byte) UID {
	u := NewUID(now)
	sum := sha256.Sum256(append([]byte("signup "), nonce[:]...))
	copy(u[8:], sum[:])
	u[8] = 0x80 | u[8]&0x3f
	return u
}

// madeWith reports whether the account was made with the captcha of a nonce.
func (u UID) madeWith(nonce [16]byte) bool {
	made := signupUID(time.Time{}, nonce)
	return bytes.Equal(u[8:], made[8:])
}

func (u UID) String() string { return hex.EncodeToString(u[:]) }

// Role is what an account may do on the platform.
type Role string

// The roles of the published contract. Every account starts as a guest.
const (
	Guest   Role = "guest"
	User    Role = "user"
	SIPOnly Role = "siponly"
	Admin   Role = "admin"
)

// Roles are all roles.
var Roles = []Role{Guest, User, SIPOnly, Admin}

// Account is one person's account at one tenant.
type Account struct {
	UID    UID
	Tenant int64
	User   string
	Name   string
	// Email is empty for an account that was imported without an address. It gets no messages.
	Email string
	Role  Role
	// Lang is the language of messages to the person.
	Lang i18n.Tag
	// Disabled is true until activation, and for a held account.
	Disabled bool
	// Held means that an operator disabled the account, or that its owner has left. No link ends that, but
	// the one for an owner who stays.
	Held bool
	// Set is the state that somebody last gave the account. The account may have left it since.
	Set     SetState
	Created time.Time
	// Expires is when an account that was not activated is gone.
	Expires time.Time
	// Activated is zero for a pending account.
	Activated time.Time
	// Confirmed is when somebody first had both the link and the password, or zero. Only then is
	// the address known to belong to the account's owner.
	Confirmed time.Time
	// Epoch increases with every change that has to end the account's sessions.
	Epoch int64
	// Sealed is the digest.Credential, sealed by a Sealer.
	Sealed []byte
	// HasSHA256 means that the credential has a SHA-256 digest.
	HasSHA256 bool
	// Passwords is how often the password was changed, the owner said that somebody else uses the account
	// (NotMe), or an operator set the address. Each ends device tokens and proofs of the password.
	Passwords int64
	// Emails is how often the address was changed since the activation.
	Emails int64
	// Leaving is when the account is to be erased, because its owner has left, or zero. Until then it is held.
	// An operator who disables it meanwhile changes neither.
	Leaving time.Time
	// Factors are the second factors of the account.
	Factors Factors
	// Net is the network that the signup came from, as audit.Network returns it, or empty.
	Net string
	// FirstSignIn is when the person first signed in on the website or by the API, or zero if that is not known.
	FirstSignIn time.Time
	// NotSignedIn means that the person has not signed in yet.
	NotSignedIn bool
}

// Factors is a set of second factors. Its values are stored.
type Factors int64

// The second factors.
const (
	// FactorApp is an authenticator app.
	FactorApp Factors = 1 << iota
	// FactorPasskey is at least one passkey.
	FactorPasskey
)

// String returns the factors as words, or "none".
func (fs Factors) String() string { return cmp.Or(strings.Join(fs.Words(), " "), "none") }

// Words returns a word for each of the factors.
func (fs Factors) Words() []string {
	list := []string{}
	if fs.Has(FactorApp) {
		list = append(list, "app")
	}
	if fs.Has(FactorPasskey) {
		list = append(list, "passkey")
	}
	return list
}

// Has reports whether one of the factors f is among them.
func (fs Factors) Has(f Factors) bool { return fs&f != 0 }

// State is what an account can do at the moment. Every account is in one of them.
type State string

// The states. Others may follow: on_hold.
const (
	// Waiting means that the account has not been activated.
	Waiting State = "waiting"
	Active  State = "active"
	// Disabled means that an operator disabled it, before or after its activation.
	Disabled State = "disabled"
	// Leaving means that its owner has left. It is erased at Account.Leaving, unless the owner returns.
	Leaving State = "leaving"
	// Closed means that it was deleted after it was active. Nothing is left but its name, and no method
	// returns it as an account.
	Closed State = "closed"
)

// States are the states that an account can be in.
var States = []State{Waiting, Active, Disabled, Leaving}

// SetState is the state that an operator gave an account, or its owner who left or stayed.
type SetState struct {
	State  State // empty if nobody did
	At     time.Time
	By     string
	Reason string
}

// State returns the state of the account.
func (a Account) State() State {
	switch {
	case a.Held && !a.Leaving.IsZero() && a.Set.State != Disabled:
		return Leaving
	case a.Held:
		return Disabled
	case a.Pending():
		return Waiting
	default:
		return Active
	}
}

// Since returns since when the account is in its state, and by whom and why. If nobody gave it this
// state, by and reason are empty. The time is zero if it is not known.
func (a Account) Since() (at time.Time, by, reason string) {
	state := a.State()
	switch {
	case a.Set.State == state:
		return a.Set.At, a.Set.By, a.Set.Reason
	case state == Active:
		return a.Activated, "", ""
	case state == Waiting:
		return a.Created, "", ""
	default: // disabled by an older program
		return time.Time{}, "", ""
	}
}

// Pending reports whether the account has not been activated yet.
func (a Account) Pending() bool { return a.Activated.IsZero() }

// WellFormedUser reports whether a text has the form of a user name, reserved or not.
func WellFormedUser(user string) bool {
	var seen class
	for i := range len(user) {
		seen |= classes[user[i]]
	}
	return user != "" && len(user) <= maxUser && seen&(foreign|capital) == 0
}

// Service implements signup, activation and account administration on a Store and an Outbox. It is
// safe for concurrent use.
type Service struct {
	deps        Deps
	buckets     throttle.Buckets
	credentials Sealer
	// forgottenNames seals what people wrote who forgot a password. Its purpose never changes.
	forgottenNames *secret.Vault
	// passkeys seals passkeys. Its purpose never changes.
	passkeys *secret.Vault
	// appSecrets seals the secrets of authenticator apps, and recoveryCodes hashes recovery codes. Their
	// purposes never change.
	appSecrets    *secret.Vault
	recoveryCodes *secret.MAC
	failures      *throttle.Signups
	reserved      sync.Map // string (the tenant's words) -> Reserved
	decoys        sync.Map // int64 (the tenant) -> Account
	started       time.Time
}

// Deps are the dependencies of a Service. A Service for the administration of accounts needs
// no Captcha, and an Outbox only for its links.
type Deps struct {
	Store  Store
	Outbox *outbox.Outbox
	// Captcha returns the issuer for the present signing keys.
	Captcha func() *captcha.Issuer
	// SealRing is the ring of seal.key.
	SealRing *secret.Ring
	// OldForm reports whether programs of an earlier version may use the store, which open only the
	// older form of credentials (Sealer). Nil means that there are none.
	OldForm func() bool
	// Passwords limits wrong passwords, together with package session. Only Signup needs it.
	Passwords *throttle.Passwords
	Audit     audit.Log
	Log       *slog.Logger
	Now       func() time.Time
	// AddressCeiling is how many signups an hour one address gets at all tenants together, or zero
	// for no such limit.
	AddressCeiling int
	// OneTenant reports whether there is only one tenant. Then the limit on messages to one person
	// from all tenants together, which the tenant's own limit is below, is not counted. Nil means
	// that it is counted.
	OneTenant func() bool
	// Dev lifts the limits on signups from one address for this machine, so that a developer can
	// sign up as often as needed.
	Dev bool
}

// NewService returns a Service.
func NewService(d Deps) *Service {
	return &Service{
		deps:           d,
		buckets:        throttle.NewBuckets(d.SealRing),
		credentials:    NewSealer(d.SealRing),
		forgottenNames: secret.NewVault(d.SealRing, "forgotten name"),
		appSecrets:     newAppSecrets(d.SealRing),
		recoveryCodes:  secret.NewMAC(d.SealRing, "recovery code"),
		passkeys:       newPasskeyVault(d.SealRing),
		started:        d.Now(),
		failures:       throttle.NewSignups(d.Now),
	}
}

// Origin is where a request comes from.
type Origin struct {
	Addr    netip.Addr
	Request string // the request's ID, for the log
	// Agent is the header User-Agent, which may be any text. It is neither logged nor stored.
	Agent string
}

// Find returns the account of a user. It fails with fault.NotFound.
func (s *Service) Find(ctx context.Context, tenant int64, user string) (Account, error) {
	return s.deps.Store.Find(ctx, tenant, user, s.deps.Now())
}

// FindUID returns the account with the UID. It fails with fault.NotFound.
func (s *Service) FindUID(ctx context.Context, tenant int64, uid UID) (Account, error) {
	return s.deps.Store.FindUID(ctx, tenant, uid, s.deps.Now())
}
