// Package throttle limits how often something may be tried.
//
// There are three kinds of limit, for different needs. What a person is granted (a signup, a
// message) is limited by a Rule. It is counted exactly, across restarts and all nodes: the
// store keeps the times under a Bucket and decides in the transaction that takes a place.
// Failed attempts (a captcha, a password) must be cheap to count: they are counted in memory,
// in a Failures of bounded size. What programs do tens of thousands of times a second is
// limited by a Rate, which is a single number.
//
// The first two are sliding windows: a place is freed when the oldest of the last Limit times
// is Per ago, and not at the start of an hour or a day.
//
// # Who can fill a limit
//
// Somebody who can fill a limit can use it to block the owner of an account. So actions that
// the owner needs to recover an account are counted separately from actions of an attacker who
// has only the name, only a session cookie, only the password, or the mailbox that the account
// was moved to.
//
//	limit                    counted by                  who can fill it        what it blocks
//	PasswordsPerAccount      account                     password               a new password by the old one; not
//	                                                                            by a link
//	ResetsPerNetwork         account, network            name, in that network  links for people in that network
//	ResetsPerAccount         account                     name, from 4 networks  messages with links for a day; not
//	                                                                            links, NotMe, or operators
//	ResetsPerRecipient       address                     name, from 4 networks  the same
//	ResetsPerPerson          address, all tenants        name, from 10 networks the same
//	ResetUsesPerAccount      account, changes of address that mailbox           links to that mailbox; none without
//	                                                                            a message
//	NotMePerAccount          account, changes of address that mailbox           links to that mailbox, not those to
//	                                                                            mailboxes before it
//	EmailRequestsPerAccount  account                     password               another address; not the way back to
//	                                                                            the one before
//	LeavesPerAccount         account                     password               leaving; not staying or a reset
//	FactorChangesPerAccount  account                     password               another app or passkey
//	FactorRemovalsPerAccount account                     password               nothing: there are no more to remove
//	RecoveryCodesPerAccount  account                     password, code         other recovery codes
//	SessionEndsPerAccount    account, and how            cookie; password       ends of sessions by a cookie; those
//	                                                                            by the password apart
//	WrongCodes               account, password           password               codes, until there is a new password
//	WrongCodesInAll          account                     password, mailbox      codes for a day; no new password
//	ChangesPerAccount        account, kind of change     cookie; password       changes of the name and the
//	                                                                            language; beginnings of an app apart
//	ForgottenPerAddress      network                     anybody in it          rows from the network
//	FailedSignIns            name                        name                   unknown browsers, 15 minutes; those
//	                                                                            that have a device token are counted
//	                                                                            apart, and a reset gives one
//
// The limits of signups and of activation messages are for accounts that nobody uses yet.
package throttle

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"

	"dialtone/internal/secret"
)

// Rule permits Limit times within any interval of length Per.
type Rule struct {
	Limit int
	Per   time.Duration
}

// The rules of the published contract.
var (
	// SignupsPerAddress holds for an IPv4 address and for an IPv6 /64.
	SignupsPerAddress = Rule{3, time.Hour}
	// SignupsPerSite holds in addition for an IPv6 /48, the size that a customer usually gets.
	SignupsPerSite = Rule{30, time.Hour}
	// MessagesPerRecipient holds for one e-mail address.
	MessagesPerRecipient = Rule{3, 24 * time.Hour}
	// MessagesPerPerson holds for one e-mail address at all tenants together.
	MessagesPerPerson = Rule{10, 24 * time.Hour}
	// AddressChangesPerAccount holds for messages of one account that go to an address other
	// than the previous one. So the owner of a pending account cannot have messages sent to
	// many strangers.
	AddressChangesPerAccount = Rule{1, 24 * time.Hour}
	// ResendsPerAccount holds for the messages of one account after the first.
	ResendsPerAccount = Rule{3, 24 * time.Hour}
	// ForgottenPerAddress holds for requests by people who forgot their password, from an IPv4
	// address or an IPv6 /64. ForgottenPerSite holds in addition for an IPv6 /48.
	ForgottenPerAddress = Rule{10, time.Hour}
	ForgottenPerSite    = Rule{30, time.Hour}
	// PasswordsPerAccount holds for changes of the password of one account by somebody who knows it. Each
	// sends a message.
	PasswordsPerAccount = Rule{10, 24 * time.Hour}
	// FactorChangesPerAccount holds for second factors that are added to one account, and
	// FactorRemovalsPerAccount for those that are removed. The latter is the maximum that can
	// exist within a day: the app, 20 passkeys, and those added that day. So nobody can prevent
	// the owner from removing what they added. Each change sends a message.
	FactorChangesPerAccount  = Rule{10, 24 * time.Hour}
	FactorRemovalsPerAccount = Rule{31, 24 * time.Hour}
	// SessionEndsPerAccount holds for ending all sessions of one account, separately by a
	// session and by a proof of the password.
	SessionEndsPerAccount = Rule{100, 24 * time.Hour}
	// SignOutsPerAccount holds for revocations of single sessions of one account, which are
	// stored until the sessions would have expired. It refuses nothing: the next one ends all
	// sessions, which needs only one number.
	SignOutsPerAccount = Rule{200, 24 * time.Hour}
	// RecoveryCodesPerAccount holds for renewing the recovery codes of one account.
	RecoveryCodesPerAccount = Rule{10, 24 * time.Hour}
	// WrongCodes holds for wrong codes of second factors of one account, with the right password.
	WrongCodes = Rule{10, time.Hour}
	// WrongCodesInAll holds for wrong codes of one account across changes of its password.
	WrongCodesInAll = Rule{50, 24 * time.Hour}
	// WrongCodesNoticed is the number of wrong codes, with the right password, after which the
	// owner of an account gets a message.
	WrongCodesNoticed = Rule{3, 24 * time.Hour}
	// ResetsPerNetwork holds for messages with a reset link of one account that are requested from one network
	// (IPv4 /24, IPv6 /48). It is below ResetsPerAccount and ResetsPerRecipient, so a stranger in one network
	// cannot keep the owner from a link. ResetsPerPerson holds for one e-mail address at all tenants together.
	ResetsPerNetwork   = Rule{3, 24 * time.Hour}
	ResetsPerAccount   = Rule{10, 24 * time.Hour}
	ResetsPerRecipient = Rule{10, 24 * time.Hour}
	ResetsPerPerson    = Rule{30, 24 * time.Hour}
	// ResetUsesPerAccount holds for changes of the password of one account by a link in a message for a forgotten
	// password, and NotMePerAccount for uses of links in messages about its changes. Both are counted separately
	// for each address that the account had. A reset link that was not sent, by NotMe or for an operator, has no
	// limit.
	ResetUsesPerAccount = Rule{10, 24 * time.Hour}
	NotMePerAccount     = Rule{10, 24 * time.Hour}
	// ChangesPerAccount holds for changes of one account that send no message: for changes of
	// the name, the language and the names of passkeys together, and separately for starting to
	// set up an authenticator app.
	ChangesPerAccount = Rule{100, 24 * time.Hour}
	// LeavesPerAccount holds for how often the owner of one account leaves. Each time sends a message.
	LeavesPerAccount = Rule{3, 24 * time.Hour}
	// EmailRequestsPerAccount holds for the messages of one account that confirm another
	// address. It is not above MessagesPerRecipient, so a person with one account reaches this
	// limit first.
	EmailRequestsPerAccount = Rule{3, 24 * time.Hour}
	// FailedSignups holds for failed signups from one address. The address is an IPv4 address or an
	// IPv6 /64.
	FailedSignups = Rule{60, 10 * time.Minute}
	// FailedSignupsPerSite holds in addition for an IPv6 /48.
	FailedSignupsPerSite = Rule{180, 10 * time.Minute}
	// FailedSignIns holds for wrong passwords for one name, known or not, and for one known device
	// or link.
	FailedSignIns = Rule{10, 15 * time.Minute}
	// FailedSignInsPerAddress holds for wrong passwords from one address, for any names. The address
	// is an IPv4 address or an IPv6 /64.
	FailedSignInsPerAddress = Rule{100, 15 * time.Minute}
	// FailedSignInsPerSite holds in addition for an IPv6 /48.
	FailedSignInsPerSite = Rule{300, 15 * time.Minute}
	// WrongTokens holds for look-ups with a wrong token from one address.
	WrongTokens = Rule{60, 10 * time.Minute}
)

// Longest is the longest time of the rules whose places the store keeps. Each signup and each new
// link takes a place under such a rule.
const Longest = 24 * time.Hour

// WrongTokenBuckets is the maximum number of addresses for which wrong tokens are counted. It bounds the memory.
const WrongTokenBuckets = 1 << 12

// Bucket identifies what is counted. It is a keyed hash, so that the store needs neither IP
// addresses nor e-mail addresses for counting.
type Bucket [16]byte

// Buckets makes Buckets under a key of the installation.
type Buckets struct{ mac *secret.MAC }

// NewBuckets uses the oldest key of the ring, so that a new key does not reset the counts.
func NewBuckets(r *secret.Ring) Buckets { return Buckets{secret.NewMAC(r.Oldest(), "throttle bucket")} }

// Of returns the bucket of one thing of a kind at a tenant. Tenant 0 stands for all tenants together.
func (b Buckets) Of(kind string, tenant int64, thing string) Bucket {
	// Little-endian, unlike in tickets: the counts in the store must survive an upgrade.
	var t [8]byte
	binary.LittleEndian.PutUint64(t[:], uint64(tenant))
	sum := b.mac.Sum([]byte(kind), t[:], []byte(thing))
	return Bucket(sum[:16])
}

// memoryBuckets makes Buckets that are only kept in memory, under a random key. Usually the
// input fits into one block of the hash, while an HMAC hashes several.
type memoryBuckets struct{ key [16]byte }

func newMemoryBuckets() *memoryBuckets {
	m := &memoryBuckets{}
	rand.Read(m.key[:])
	return m
}

// of is Buckets.Of. The kind must not contain a zero byte.
func (m *memoryBuckets) of(kind string, tenant int64, thing string) Bucket {
	var room [256]byte
	b := append(append(append(room[:0], m.key[:]...), kind...), 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(tenant))
	sum := sha256.Sum256(append(b, thing...))
	return Bucket(sum[:16])
}

// Allowance is a place to take under a rule.
type Allowance struct {
	Bucket Bucket
	Rule   Rule
	// Limit is a short name of the limit, for the log.
	Limit string
}

// Wait is how long a limit refuses another use. It is zero if no limit is reached.
type Wait struct {
	For   time.Duration
	Limit string // that of the Allowance
}

// Max returns the longer wait.
func (w Wait) Max(other Wait) Wait {
	if other.For > w.For {
		return other
	}
	return w
}

// The limits that an Allowance or a Guess names.
const (
	LimitAddress       = "address"        // signups, or wrong passwords, from an address
	LimitSite          = "site"           // signups, or wrong passwords, from an IPv6 /48
	LimitInstallation  = "installation"   // signups from an address at all tenants
	LimitTenant        = "tenant"         // signups at a tenant
	LimitRecipient     = "recipient"      // messages to an e-mail address
	LimitPerson        = "person"         // messages to an e-mail address, from all tenants
	LimitResend        = "resend"         // messages of an account
	LimitAddressChange = "address_change" // changes of an account's e-mail address
	LimitPassword      = "password"       // changes of an account's password
	LimitFactors       = "factors"        // changes of an account's second factors
	LimitCode          = "code"           // wrong codes of an account's second factor
	LimitReset         = "reset"          // messages with a reset link of an account
	LimitNotMe         = "not_me"         // uses of links in messages about changes of an account
	LimitLeave         = "leave"          // leaves of an account's owner
	LimitChanges       = "changes"        // changes of an account that send no message
	LimitSessions      = "sessions"       // ends of all sessions of an account
	LimitRecoveryCodes = "recovery_codes" // renewals of an account's recovery codes
	LimitFailures      = "failures"       // failed signups from an address
	LimitFailuresSite  = "failures_site"  // failed signups from an IPv6 /48
	LimitName          = "name"           // wrong passwords for a name
	LimitDevice        = "device"         // wrong passwords with a device token or a link
)

// Signup returns the allowances of a signup from an address. An IPv4-mapped address counts as
// the IPv4 address, and an IPv6 address for its /64 and its /48.
func (b Buckets) Signup(tenant int64, addr netip.Addr) []Allowance {
	return b.origin("signup", tenant, addr, SignupsPerAddress, SignupsPerSite)
}

// Forgotten returns the allowances of a request by somebody who forgot their password.
// Addresses are treated as in Signup.
func (b Buckets) Forgotten(tenant int64, addr netip.Addr) []Allowance {
	return b.origin("forgotten", tenant, addr, ForgottenPerAddress, ForgottenPerSite)
}

func (b Buckets) origin(kind string, tenant int64, addr netip.Addr, perAddress, perSite Rule) []Allowance {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return []Allowance{{b.Of(kind, tenant, addr.String()), perAddress, LimitAddress}}
	}
	return []Allowance{
		{b.Of(kind, tenant, prefix(addr, 64)), perAddress, LimitAddress},
		{b.Of(kind, tenant, prefix(addr, 48)), perSite, LimitSite},
	}
}

// Party returns the part of an address that one person is assumed to hold: the whole of IPv4, or an
// IPv6 /64.
func Party(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	return prefix(addr, 64)
}

// site returns the /48 of an IPv6 address. It returns false for an IPv4 address.
func site(addr netip.Addr) (string, bool) {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return "", false
	}
	return prefix(addr, 48), true
}

func prefix(addr netip.Addr, bits int) string {
	p, err := addr.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return p.String()
}
