// Package account is the life of an account: asked for, activated, disabled, deleted.
//
//	            7 days without the link
//	   +------------------------------------> gone, name free
//	   |
//	pending --link or operator--> active --operator--> disabled
//	   |                            ^----operator---------+
//	   +--operator disables: the link is worth nothing
//
//	active or disabled --delete--> closed: the row keeps the name alone, so that nobody gets it again
//
// # Signing up
//
// A signup is one store transaction and one message file, and both are there when it is answered, or neither:
//
//  1. Everything that needs no store is checked.
//  2. The message is staged: written in the pickup directory under a name that no mail agent takes. Trouble with that
//     directory shows here, while there is nothing to undo.
//  3. One transaction takes the places under the limits, spends the captcha, adds the account and an outbox row. It is
//     durable when it returns.
//  4. The message is published: renamed to its *.eml name. Should that fail, the transaction of step 3 is undone.
//  5. Only now is the signup answered.
//
// The message file is not synced by itself, which would cost more than all the rest. The outbox row stands in for it: it
// holds the link's token, sealed, and stays until the file is known to be on the disk. After a crash every row that is
// left has its message written again, the same bytes under the same name. So a message may come twice after a crash, with
// one Message-ID; it is never missing.
//
// # Another message
//
// Whoever has proved the password of a pending account can have a new link, and mend the address that it goes to. It is staged,
// committed and published like that of a signup, with an outbox row of its own. The older link is worth nothing from the commit on,
// and is remembered until the week is over, so that whoever opens it is told why; that person is told nothing of the account, since the
// first address may have been somebody else's. The outbox row of the older message stays until that is safe or withdrawn, so that
// undoing the new link gives back all that was before.
//
// # Confirmed
//
// That a link was opened proves little: mail scanners open links, and a mistyped address has an owner too. So it is noted apart from being
// active when one pair of hands had both the newest link and the password, and nothing else sets that: not a link, not an operator. A
// tenant may want both before anything happens (tenant.ActivationConfirm); then a link alone only shows where the password goes. At
// other tenants a browser that has opened the link hands its token over when its owner signs in. Confirming activates what is pending,
// may be repeated, and gives no session.
//
// # Credentials
//
// What the browser sends is password-equivalent (package digest). It is sealed before it reaches the store, bound to the
// tenant and the account's uid, under a key that is not in the store. Names and addresses are checked as the bytes that
// came in: a user name is part of its HA1, so it is never folded or trimmed.
package account

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"

	"dialtone/internal/captcha"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/throttle"
)

// PendingLife is how long an account waits for its link.
const PendingLife = 7 * 24 * time.Hour

// UID names an account for ever, also after its name has gone to another: 48 bits of Unix milliseconds, then random bits
// (RFC 9562 §5.7), so that accounts made together lie together in the store.
type UID [16]byte

// NewUID makes a UID.
func NewUID(now time.Time) (u UID) {
	rand.Read(u[6:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(u[:6], ms[2:])
	u[6] = 0x70 | u[6]&0x0f
	u[8] = 0x80 | u[8]&0x3f
	return u
}

func (u UID) String() string { return hex.EncodeToString(u[:]) }

// Role is what an account may do on the platform.
type Role string

// The roles of the published contract. Every account is born a guest.
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
	Email  string
	Role   Role
	// Lang is the language that the person is written to in.
	Lang i18n.Tag
	// Disabled is true until activation, and again after an operator has disabled the account.
	Disabled bool
	// Held says that an operator disabled the account. No link undoes it.
	Held    bool
	Created time.Time
	// Expires is when an account that was not activated is gone.
	Expires time.Time
	// Activated is zero until then.
	Activated time.Time
	// Confirmed is when somebody first had both the link and the password, or zero: only then is the address known to be that of
	// the account's owner. A link alone may have been opened by a mail scanner, or by the owner of a mistyped address.
	Confirmed time.Time
	// Epoch rises with everything that must end the account's sessions.
	Epoch int64
	// Sealed is the digest.Credential, sealed for the tenant and UID.
	Sealed []byte
	// HasSHA256 says that the credential has a SHA-256 digest.
	HasSHA256 bool
}

// Pending reports whether the account waits for its link.
func (a Account) Pending() bool { return a.Activated.IsZero() }

// Admission is a new account with everything that its transaction checks and takes.
type Signup struct {
	Account Account
	// Token is the hash of the activation token.
	Token [32]byte
	// Message and SealedToken make the outbox row.
	Message     mailmsg.ID
	SealedToken []byte
	Captcha     captcha.Proof
	// Address are the places that it takes for where it comes from, Recipient for where its message goes.
	Address   []throttle.Allowance
	Recipient throttle.Allowance
	// CheckOnly goes through every check and writes no account: for a message that could not be staged, so that a person
	// whose name is taken hears that, and not of our trouble.
	CheckOnly bool
}

// Waiting is an outbox row: an account whose message is not yet known to be on the disk.
type OutboxEntry struct {
	Message     mailmsg.ID
	SealedToken []byte
	// Made is when the message was made.
	Made time.Time
	// Replaced says that the link in it is worth nothing any more.
	Replaced bool
	Account  Account
}

// Sent names an outbox row.
type OutboxRef struct {
	Tenant  int64
	Account UID
	Message mailmsg.ID
}

// What Activate fails with besides fault.NotFound. Only somebody with the account's own token meets them.
var (
	ErrActive  = fault.New(fault.Conflict, "the account is active already")
	ErrExpired = fault.New(fault.NotFound, "the account was not activated in time")
	ErrHeld    = fault.New(fault.Conflict, "an operator has disabled the account")
	// ErrReplaced comes without an account: the older message may have gone to somebody else's address.
	ErrReplaced = fault.New(fault.NotFound, "a newer message holds the link that counts")
)

// ErrUnknown means that the store lost its database during a commit and cannot say in time whether
// the transaction happened. A Create or Resend that fails with it has to be undone.
var ErrUnknown = fault.ErrInDoubt

// Store keeps accounts. Every method is one transaction: it happens whole or not at all, it is durable when it returns,
// and any process may call it at any time. A user whose activation time has run out counts as absent everywhere. Package
// storetest states these rules as tests; an implementation is right when it passes them.
type Store interface {
	// Create adds a pending account. It checks, and the first that fails wins: a place under each Address rule
	// (fault.Limited); the captcha (fault.Captcha); the name (fault.Conflict); a place for the Recipient (fault.Limited).
	// A captcha of ours is spent by success, by a wrong answer and by a conflict. Every other failure leaves nothing.
	// Of any number of concurrent calls, places, captcha and name go to no more of them than there are.
	Create(ctx context.Context, a Signup, now time.Time) error

	// Undo takes back a Create whose message could not be published: account, outbox row, places and captcha. It leaves
	// an account alone that was activated meanwhile, or has had a newer link. It may be repeated.
	Undo(ctx context.Context, a Signup, now time.Time) error

	// Activate enables the account that the token was issued for, once. Of any number of concurrent calls one succeeds;
	// the others fail with ErrActive. Further failures: ErrExpired, ErrHeld, ErrReplaced for a link that Resend has replaced,
	// and fault.NotFound for a token of no account of the tenant. The account comes with ErrActive, ErrExpired and ErrHeld too.
	Activate(ctx context.Context, tenant int64, token [32]byte, now time.Time) (Account, error)

	// Linked is the account that Activate would enable, and fails as that does. It changes nothing.
	Linked(ctx context.Context, tenant int64, token [32]byte, now time.Time) (Account, error)

	// Confirm notes that whoever has the token has proved the password of the account with the uid, and enables the account if it
	// is pending. It may be repeated, and the first time stays. It fails with ErrExpired, ErrHeld, and fault.NotFound for a token
	// that was not issued for this account, or that Resend has replaced.
	Confirm(ctx context.Context, tenant int64, token [32]byte, uid UID, now time.Time) (Account, error)

	// Resend gives a pending account a new link, and the address that the new message goes to. The link before is worth
	// nothing from then on, and its message is marked as replaced in the outbox. It checks, and the first that fails wins: the
	// account is there (fault.NotFound); it is not held (ErrHeld), and pending (ErrActive); its address is still Was
	// (ErrMended); a place under each of Places (fault.Limited). A failure leaves nothing. When the account is gone does
	// not change. Of concurrent calls each replaces the link of another, and no more of them succeed than there are places.
	Resend(ctx context.Context, r LinkReplacement, now time.Time) error

	// UndoResend takes back a Resend whose message could not be published: the link and the address before count again,
	// unless another Resend came since, and the places are free. It leaves an account alone that was activated meanwhile. It
	// may be repeated.
	UndoResend(ctx context.Context, r LinkReplacement, now time.Time) error

	// Find is the account of a user. It fails with fault.NotFound.
	Find(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)

	// FindUID is the account with the uid. It fails with fault.NotFound.
	FindUID(ctx context.Context, tenant int64, uid UID, now time.Time) (Account, error)

	// List calls each for every account of the tenant in order of user, until each fails; it returns that failure.
	List(ctx context.Context, tenant int64, now time.Time, each func(Account) error) error

	// Enable ends the wait for the link, and a hold. Disable holds the account and ends its sessions. SetRole changes the
	// role. They fail with fault.NotFound.
	Enable(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)
	Disable(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)
	SetRole(ctx context.Context, tenant int64, user string, role Role, now time.Time) (Account, error)

	// Delete removes all that is known of an account. The name of one that was active stays taken. It fails with
	// fault.NotFound.
	Delete(ctx context.Context, tenant int64, user string, now time.Time) error

	// Waiting are this node's outbox rows, oldest first.
	PendingMessages(ctx context.Context) ([]OutboxEntry, error)

	// Settle removes outbox rows, and those of older messages of the same account and node. Those that are gone do not matter.
	// With an error it returns those that may be there still.
	Ack(ctx context.Context, sent []OutboxRef) (left []OutboxRef, err error)

	// Hand is Settle for a server that sends its messages by a relay: in the same transaction in which an outbox row goes, its message
	// begins to wait for that (package delivery). Of a row that is gone nothing is made. Older messages of the account that were
	// handed over before this one was made, and wait still, are discarded.
	Enqueue(ctx context.Context, sent []OutboxRef, now time.Time) (left []OutboxRef, err error)

	// Adopt tells the other nodes that share the store that this one lives, and makes the outbox rows of a node that has died
	// this node's own; it returns those. A node that calls it more often than every twenty seconds is not taken for dead.
	TakeOver(ctx context.Context) ([]OutboxEntry, error)

	// Sweep removes at most limit rows of each kind that have had their time: accounts that had expired by expired, and
	// spent captchas, revoked sessions and taken places that count no more.
	Sweep(ctx context.Context, now, expired time.Time, limit int) (Swept, error)
}

// Swept is what a Sweep did.
type Swept struct {
	Accounts int64 // expired accounts that went
	Others   int64 // spent captchas, places and revoked sessions that went
	More     bool  // a kind reached the limit
}

// Mailbox is the SMTP pickup directory.
type Mailbox interface {
	// Stage writes the message under a name that no agent takes.
	Stage(l mailmsg.Message) (StagedMessage, error)
	// Withdraw removes a message that nobody has taken yet. One that is gone does not matter.
	Withdraw(id mailmsg.ID) error
	// Sync makes everything durable that was published before the call.
	Sync() error
}

// Draft is a staged message. One of its methods is called, once.
type StagedMessage interface {
	// Publish gives the message its name, whole; what had the name is replaced.
	Publish() error
	// Discard removes it.
	Discard()
}

// WellFormedUser reports whether a text has the form of a user name, reserved or not.
func WellFormedUser(user string) bool {
	var seen class
	for i := range len(user) {
		seen |= classes[user[i]]
	}
	return user != "" && len(user) <= maxUser && seen&(foreign|capital) == 0
}
