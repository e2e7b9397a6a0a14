// Package account is the life of an account: signup, activation, and what operators and owners do with an account.
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
//	Enabling an account returns it to the state that it had before: waiting or active.
//
//	active --its owner leaves--> leaving --after 7 days--> closed
//	   ^                            |
//	   +--link for that, operator---+
//
//	An operator can disable an account that is leaving. It is still erased, unless an operator
//	enables it.
//
//	active, disabled or leaving --delete--> closed: the row only keeps the name, so that nobody gets it again,
//	                               until an operator frees the name
//
// # Guarantees
//
// A signup is one store transaction and one message file. When Signup returns without an error,
// both exist and survive a crash; when it fails, neither does. The same holds for a new link. A
// form that is sent again because its answer was lost is recognized by its user name, address
// and HA1. If it also has the captcha that the account was made with, other people's wrong
// passwords do not prevent that.
//
// # Signing up
//
//  1. All rules that need no store are checked.
//  2. The message is staged: written to the pickup directory under a name that no mail server
//     takes. A failure of that directory is found here, while there is nothing to undo.
//  3. One transaction takes the places under the limits, spends the captcha, and adds the account
//     and the outbox entry. It is durable when it returns.
//  4. The message is published under its final name. If that fails, step 3 is undone.
//  5. The signup is answered.
//
// Package outbox makes messages durable without one sync per message.
//
// # A new link
//
// A person who has proved the password of a pending account can ask for a new link, and correct
// the address that it goes to. Its message is staged, committed and published like that of a
// signup, with an outbox entry of its own. The commit invalidates the older link, which is
// remembered until the account expires, so that a person who opens it learns why. They learn
// nothing about the account, since the first address may have been somebody else's. The older
// outbox entry stays until the new message is on disk or withdrawn, so that undoing the new link
// restores everything as it was.
//
// # A stolen message
//
// A person who can read an activation message has its token, and no password. With the token they can
// activate the account, which is useless without the password. They can neither sign in nor confirm the
// account; at a tenant that requires the password too, they cannot even activate it. While the account is
// pending, they can remove it (DeclineStore), since the owner of an address who did not sign up can do
// that. Then the tenant sends no other activation message to the address for 24 hours, so the owner has to
// wait, or use another address. They learn the user name, from the page behind the activation link. Once
// the account is active, the token has only one use: wrong passwords sent with it are counted for the
// token instead of the user name.
//
// An older message can remove the account only if it went to the address that the account has now. The
// first message of a person who mistyped the address went to a stranger, who must not be able to remove
// the account after the address was corrected. When the address changes, the recorded addresses of
// older links are dropped, and they stay dropped if the address is changed back later.
//
// # Confirmation
//
// An opened link proves little: mail scanners open links, and a mistyped address has an owner too.
// So being confirmed is separate from being active: an account is confirmed once somebody had both
// the newest link and the password. A link alone does not confirm it, and neither does an
// operator. A tenant can require both for activation (tenant.ActivationConfirm); then a link alone
// only leads to the form for the password. At other tenants a browser that has opened the link
// sends its token when its owner signs in. Confirming activates a pending account, can be
// repeated, and starts no session.
//
// # A new password
//
// A person who has proved the present password can set another one. One transaction stores the new
// credential, ends all sessions and device tokens, and adds the notifications of phone servers, the
// row of the audit trail and the message to the owner. Nothing is staged, and nothing needs to be undone: the
// message is written after the commit, from the outbox entry (docs/decisions/0042). Of concurrent changes
// that prove the same password, one succeeds: Account.Passwords tells which password was proved.
//
// Somebody who has learned the password can change it. The message tells the owner, and has a
// link for that case. A session cookie is not enough to change it, and neither is a copy of the
// database. A copy of the database together with the key file is enough, since it reveals every
// HA1 (see Credentials).
//
// # A forgotten password
//
// A request by somebody who forgot a password adds a row to the store, whatever text they
// entered. A worker looks for the account later, so that neither the answer nor its timing
// reveals whether there is one. The message goes to the address of the account, never to the
// entered text. Its link works once, for an hour, for any active account of that address, until
// one of their passwords is changed. It proves the mailbox, so it confirms the account. Opening
// it changes nothing, since mail scanners open links.
//
// Somebody with a stolen reset message can set the password only within that hour. They cannot do it unnoticed: the
// owner gets a message about the change, whose link ends all sessions and makes another reset link. The second link
// works for 7 days, however often the password is changed in the meantime. So with both messages stolen, or the
// mailbox itself, the account is lost until an operator sets another address. The link of the second message alone
// gives a reset link too, as does the link of a message about a new browser or wrong codes: these messages are as
// valuable as a reset message. No link works on a disabled account, at another tenant, or twice. The store contains
// only the hashes of their tokens; the outbox contains the tokens, sealed, until the files of the messages are on
// disk.
//
// An operator can make a reset link without a message. It is for one account, and does not
// confirm it. The same holds for the reset link that NotMe makes. Such a link is not ended by a
// change with proof of the password, which an attacker may know, but by the next reset.
//
// Until the owner has set another password, an attacker who knows the present one can sign in
// with it, even after the owner has ended all sessions.
//
// Somebody who can write to the database, without any key, can have a reset link sent to
// another address, or add a row for a link, and so take over an account: addresses and links
// are not bound to the account by a key, unlike credentials.
//
// # Leaving
//
// A person who has proved the password can leave. The account is then held. So whatever refuses
// a disabled account refuses it too, even in earlier versions of the program: sign-ins,
// look-ups by phone servers, exports, links. Its sessions end. 7 days later, plus a day in case
// the clock is ahead, Sweep erases the account as Delete does. The name stays taken, so that
// nobody else gets its calls.
//
// Somebody who has learned the password can leave in the name of the owner, and so can somebody who finds a page where
// the password is filled in. The message about it has a link with which the owner stays, for the 7 days. It only makes
// the account active again: somebody with a stolen message about leaving can do no more than that, and cannot sign in.
// The links of messages about other changes ("this was not me") first make the account active again, too. Otherwise
// an attacker could change the address, and the message about leaving would not reach the owner. Setting a new
// password by a reset link ends the leave in the same transaction, and leaving ends no reset links: otherwise
// somebody who knows the password could leave again and again, faster than the owner can stay and choose another
// one. None of them works on an account that an operator has disabled, at another tenant, twice, or after the
// account was erased.
//
// # Taking the data along
//
// A session, or a proof of the password, gives access to everything that is stored about the person (Data), without
// credentials, tokens and links. So somebody with a stolen cookie learns the name, the address, the networks of
// sessions and which phones were used, as they do from the pages.
//
// # Passkeys
//
// Somebody who has proved the password can add passkeys, up to MaxPasskeys, and sign in with them on the web
// (package session). One transaction adds or removes a passkey, updates the account's Factors, and adds the
// row of the audit trail and the message to the owner. The link of any message about a change removes the
// second factors that were added since the change, and sets the address back.
//
// The credential of a passkey is sealed, bound to the tenant, the account's UID, the RP ID and the credential
// ID. With a copy of the database, with or without the key file, nobody can sign in with a passkey: it has
// public keys only. Somebody who can write to the database can neither add a passkey nor give one to another
// account, but can remove one, restore one that was removed, or set its counter back. With the key file too,
// they can add one.
//
// Somebody with the password can add a passkey of their own, and keeps it when the password is changed. The
// message tells the owner, whose "this was not me" removes it, and the list of passkeys shows it.
//
// # Another address
//
// A person who has proved the password can have a message sent to another address, whose link makes it the
// address of the account (ProfileStore). Opening the link proves control of that mailbox, so it confirms the
// account. The link ends with every change of the password or of the address. The message to the previous
// address has a link that sets it back, ends all sessions, and makes a reset link. It works for 7 days,
// through any number of later changes, and ends the links that went to addresses which the account got later:
// of several people who say that they did not change the address, the one whose address the account had first
// is right.
//
// So somebody who has learned the password can move the account to a mailbox of their own. The owner learns of it
// from the message to the previous address, and has those 7 days. Uses of links that were sent to the later
// mailbox have a limit of their own, and end no older link that was made without a message (package throttle).
// After those days, or if the attacker also controls the mailbox of the previous address, only an operator can
// help (Service.ReplaceEmail). Somebody with a stolen message to the new address can only do what its owner asked
// for. Somebody with a stolen message to the previous address can take the account over, as with a stolen reset
// message.
//
// Neither the answer nor its timing reveals whether another account has the address. An address
// whose owner has declined an account within 24 hours gets no message, and the answer does not
// reveal that either.
//
// The display name and the language need no proof of the password: a session is enough. Somebody with a stolen
// cookie can change both, which other people may see in a call, and nothing else of the account.
//
// # Accounts of other platforms
//
// An Import adds accounts with their hashes from another platform. Their passwords are not checked. They can lack
// an address: then they get no messages about changes, and nobody can request a link for a forgotten password.
// Anyone who knows the password can add an address, and so take over such an account unnoticed, as with an
// account whose mailbox is dead.
//
// # Credentials
//
// What a browser sends is password-equivalent (package digest). It is sealed before it reaches the
// store, bound to the tenant, the account's UID and its user name, under a key that is not in the
// store. Names and addresses are checked as the bytes that were received: a user name is part of its
// HA1, so it is never folded or trimmed. Passwords are normalized neither by the page nor by the
// server (docs/decisions/0041).
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

// UID identifies an account forever, even after its name was given to another account. It
// consists of 48 bits of Unix milliseconds, and random bits (a UUIDv7, RFC 9562 section 5.7),
// so that accounts that were created together are stored together. Half of it may be derived
// from the nonce of a captcha, which is random too.
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

// FirstUID and LastUID return the least and the greatest UID that NewUID can return in the millisecond of at.
func FirstUID(at time.Time) UID { return boundUID(at, 0) }

// LastUID is the upper bound; see FirstUID.
func LastUID(at time.Time) UID { return boundUID(at, 0xff) }

// boundUID returns a UID with the millisecond of at, in which all remaining bytes are other.
func boundUID(at time.Time, other byte) UID {
	const maxMillis = 1<<48 - 1 // far in the future
	u := UID(bytes.Repeat([]byte{other}, len(UID{})))
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(min(max(at.UnixMilli(), 0), maxMillis)))
	copy(u[:6], ms[2:])
	return u
}

// signupUID returns the UID of an account that is made with a captcha. Its second half is derived from
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
	// Held means that an operator disabled the account, or that its owner has left. Only the
	// link for an owner who stays ends that.
	Held bool
	// Set is the state that somebody last gave the account. The account may have left it since.
	Set     SetState
	Created time.Time
	// Expires is when the account is removed if it was not activated.
	Expires time.Time
	// Activated is zero for a pending account.
	Activated time.Time
	// Confirmed is when somebody first had both the link and the password, or zero. The address
	// is known to belong to the account's owner only if this is set.
	Confirmed time.Time
	// Epoch increases with every change that has to end the account's sessions.
	Epoch int64
	// Sealed is the digest.Credential, sealed by a Sealer.
	Sealed []byte
	// HasSHA256 means that the credential has a SHA-256 digest.
	HasSHA256 bool
	// Passwords counts changes of the password, uses of NotMe by the owner, and addresses set
	// by an operator. Each of them ends device tokens and invalidates proofs of the password.
	Passwords int64
	// Emails is how often the address was changed since the activation.
	Emails int64
	// Leaving is when the account will be erased because its owner has left, or zero. Until
	// then it is held. An operator who disables the account before that changes neither.
	Leaving time.Time
	// Factors are the second factors of the account.
	Factors Factors
	// Net is the network that the signup came from, as audit.Network returns it, or empty.
	Net string
	// FirstSignIn is when the person first signed in on the website or by the API, or zero if unknown.
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

// Has reports whether fs contains any of the factors f.
func (fs Factors) Has(f Factors) bool { return fs&f != 0 }

// State is what an account can currently do. Every account is in exactly one state.
type State string

// The states. More may be added, such as on_hold.
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

// SetState is a state that an operator gave an account, or its owner by leaving or staying.
type SetState struct {
	State  State // empty if nobody set one
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

// Since returns since when the account has been in its state, who gave it that state, and why.
// If nobody did, by and reason are empty. The time is zero if unknown.
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
	// forgottenNames seals what people entered who forgot a password. Its purpose string never changes.
	forgottenNames *secret.Vault
	// passkeys seals passkeys. Its purpose string never changes.
	passkeys *secret.Vault
	// appSecrets seals the secrets of authenticator apps, and recoveryCodes hashes recovery
	// codes. Their purpose strings never change.
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
	// Captcha returns the issuer for the current signing keys.
	Captcha func() *captcha.Issuer
	// SealRing is the ring of seal.key.
	SealRing *secret.Ring
	// OldForm reports whether earlier versions of the program, which can open only the older
	// form of credentials (Sealer), may use the store. Nil means that none does.
	OldForm func() bool
	// Passwords limits wrong passwords, together with package session. Only Signup needs it.
	Passwords *throttle.Passwords
	Audit     audit.Log
	Log       *slog.Logger
	Now       func() time.Time
	// AddressCeiling is the limit of signups per hour for one address at all tenants together.
	// Zero means no such limit.
	AddressCeiling int
	// OneTenant reports whether there is only one tenant. Then the limit on messages to one
	// person from all tenants together is not counted, since the tenant's own limit is lower.
	// Nil means that it is counted.
	OneTenant func() bool
	// Dev lifts the limits on signups from one address for loopback addresses, so that a
	// developer can sign up as often as needed.
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
	Request string // the ID of the request, for the log
	// Agent is the User-Agent header, which can be any text. It is neither logged nor stored.
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
