package account

import (
	"time"

	"dialtone/internal/i18n"
)

// PendingLife is how long an account can be activated.
const PendingLife = 7 * 24 * time.Hour

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
	// Disabled is true until activation, and for a held account. It is not the state Disabled.
	Disabled bool
	// Held means that an operator disabled the account, or that its owner has left. No link ends it,
	// except that an owner who left can stay.
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
