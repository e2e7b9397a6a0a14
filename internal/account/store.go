package account

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/captcha"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/throttle"
)

// Store keeps accounts. It is all that a Service needs; other users take one of its parts.
//
// Every method is one transaction: it happens completely or not at all, it is durable when it
// returns, and any process may call it at any time. An account that was not activated before it
// expired counts as missing everywhere. Package conformance states these rules as tests: an
// implementation is right if it passes them.
type Store interface {
	SignupStore
	LinkStore
	Finder
	PageStore
	AdminStore
	ImportStore
	PersonStore
	ResetStore
	PasskeyStore
	ProfileStore
	DeclineStore
	LeaveStore
	DataStore
	TwoStepStore
	Sweeper
}

// SignupStore adds pending accounts.
type SignupStore interface {
	// Create adds a pending account and the outbox entry of its message. It checks in this order,
	// and fails with the first that does not hold: a place under each rule of Address
	// (fault.Limited); the captcha (fault.Captcha); the name (fault.Conflict); a place for the
	// recipient under each rule (fault.Limited). A captcha that is ours is spent by success, by a wrong answer and
	// by a conflict. Every other failure changes nothing. Concurrent calls never get more places,
	// captchas or names than there are. A Create that fails with fault.ErrInDoubt has to be undone.
	Create(ctx context.Context, s Signup, now time.Time) error

	// Undo reverses a Create whose message could not be published: account, outbox entry, places
	// and captcha. It leaves an account alone that was activated, disabled or acknowledged in the meantime or
	// has a newer link. It may be repeated.
	Undo(ctx context.Context, s Signup, now time.Time) error

	// Acknowledge makes Undo leave a pending account alone, because somebody is being told that the
	// account exists. It may be repeated. It fails with fault.NotFound if there is no such account.
	Acknowledge(ctx context.Context, tenant int64, uid UID, now time.Time) error
}

// LinkStore replaces and spends activation links.
type LinkStore interface {
	LinkHasher

	// Activate enables the account that the token was issued for, once. Of any number of concurrent
	// calls one succeeds, and the others fail with ErrActive. It also fails with ErrExpired,
	// ErrHeld, ErrReplaced for a link that Resend has replaced, and fault.NotFound for a token of
	// no account of the tenant. The account is returned with ErrActive, ErrExpired and ErrHeld as
	// well.
	Activate(ctx context.Context, tenant int64, token [32]byte, now time.Time) (Account, error)

	// Linked returns the account that Activate would enable, and fails as that does. It changes
	// nothing.
	Linked(ctx context.Context, tenant int64, token [32]byte, now time.Time) (Account, error)

	// Confirm records that somebody has both the token and the password of the account with the
	// UID, and enables the account if it is pending. It may be repeated, and the first time is
	// kept. It fails with ErrExpired, ErrHeld, and fault.NotFound for a token that was not issued
	// for this account or that Resend has replaced.
	Confirm(
		ctx context.Context, tenant int64, token [32]byte, uid UID, now time.Time,
	) (Account, error)

	// Resend gives a pending account a new link and the address that the new message goes to. The
	// link before becomes invalid, and its outbox entry is marked as replaced. It checks in this
	// order, and fails with the first that does not hold: the account exists (fault.NotFound); it
	// is not held (ErrHeld), and pending (ErrActive); its address is still Was (ErrAddressChanged);
	// each of Allowances permits another use (fault.Limited). A failure changes nothing. The account
	// still expires when it would have. Of concurrent calls each replaces the link of another, and
	// no more of them succeed than the allowances permit.
	Resend(ctx context.Context, r LinkReplacement, now time.Time) error

	// UndoResend reverses a Resend whose message could not be published: the link and the address
	// before it are valid again, unless there was another Resend since, and the places are free. It
	// leaves an account alone that was activated in the meantime. It may be repeated.
	UndoResend(ctx context.Context, r LinkReplacement, now time.Time) error
}

// LinkHasher names the tokens of links in calls of the store.
type LinkHasher interface {
	// LinkHash returns what the store keeps of the token of a link, from which the token cannot be found.
	LinkHash(secret.Token) [32]byte
}

// Finder reads accounts.
type Finder interface {
	// Find returns the account of a user. It fails with fault.NotFound, and then takes as long as it
	// takes to find an account.
	Find(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)

	// FindUID returns the account with the UID. It fails with fault.NotFound.
	FindUID(ctx context.Context, tenant int64, uid UID, now time.Time) (Account, error)

	// List calls each for every account of the tenant, ordered by user, until each fails, and returns
	// that failure.
	List(ctx context.Context, tenant int64, now time.Time, each func(Account) error) error
}

// AdminStore is for operators. Its methods fail with fault.NotFound. A method that changes something
// adds the change to the audit trail, in the same transaction, with the cause that audit.CauseOf
// returns for ctx.
type AdminStore interface {
	// Enable ends a hold: the account is active, or waits again if it was disabled while it waited. One whose
	// owner has left stays. It fails with ErrWaiting for a waiting account, and changes nothing of an active one.
	Enable(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)
	// EnableNow is like Enable, and also activates an account that waits or was disabled while it
	// waited.
	EnableNow(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)
	// Disable holds the account and ends its sessions and links. Of one that is disabled already, time, operator and
	// reason are replaced together if the cause has a reason, and kept together otherwise. The trail has both changes.
	Disable(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)
	// SetRole changes the role. It changes nothing of an account that has it.
	SetRole(ctx context.Context, tenant int64, user string, role Role, now time.Time) (Account, error)
	// Delete removes all that is known of the account. The name of one that was active stays taken.
	Delete(ctx context.Context, tenant int64, user string, now time.Time) error
	// Rename sets the display name of an account in any state. It changes nothing of an account that has it.
	Rename(ctx context.Context, tenant int64, user, name string, now time.Time) (Account, error)
	// EndSessions ends all sessions of the account.
	EndSessions(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)
	// AddAccount adds an account, with its message unless it has none. A server that takes the message over writes
	// it. AddAccount fails with ErrTaken.
	AddAccount(ctx context.Context, n Addition, now time.Time) (Account, error)
	// SendAgain gives a waiting account another link and another message, and another address unless that is empty. It
	// ends the links before. An account that was added without a password gets r.SetPassword, another one
	// r.Activation; their Until does not count. A server that takes the message over writes it. SendAgain fails with
	// ErrActive, and with ErrHeld for an account that is disabled.
	SendAgain(ctx context.Context, r Resending, now time.Time) (Account, error)
	// ClosedNames calls each for every user name of the tenant that a deleted account keeps from
	// others, in order, until each fails, and returns that failure.
	ClosedNames(ctx context.Context, tenant int64, each func(ClosedName) error) error
	// FreeName gives up such a name, so that anybody can sign up with it.
	FreeName(ctx context.Context, tenant int64, user string, now time.Time) error
}

// ClosedName is the user name of a deleted account.
type ClosedName struct {
	User   string
	Closed time.Time
}

// Sweeper removes old rows.
type Sweeper interface {
	// Sweep removes at most limit rows of each kind that are no longer needed: accounts that had
	// expired by expired, and expired captchas, revoked sessions and uses. Without more, up to a tenth of the uses
	// may have expired.
	Sweep(ctx context.Context, now, expired time.Time, limit int) (Swept, error)
	// CorrectFuture sets times to now that were written while a clock was ahead: places under limits,
	// notifications and deliveries that would wait longer than they ever have to. It returns how many
	// it found. It may take several calls to find the places of a large store.
	CorrectFuture(ctx context.Context, now time.Time) (int64, error)
}

// Signup is a new account with everything that its transaction checks and takes.
type Signup struct {
	Account Account
	// Token is the hash of the activation token.
	Token [32]byte
	// Message and SealedToken make the outbox entry.
	Message     mailmsg.ID
	SealedToken []byte
	Captcha     captcha.Proof
	// Address are the allowances of the client's address that the signup uses. Recipient and
	// RecipientMore are those of the recipient of its message.
	Address       []throttle.Allowance
	Recipient     throttle.Allowance
	RecipientMore []throttle.Allowance
	// CheckOnly makes every check and writes no account. It is for a message that could not be
	// staged: a person whose name is taken gets that error, not the one of the pickup directory.
	CheckOnly bool
}

func (s Signup) ref() outbox.Ref {
	return outbox.Ref{Tenant: s.Account.Tenant, Account: s.Account.UID, Message: s.Message}
}

// Addition is an account that an operator adds.
type Addition struct {
	// Account is what it is to be, also its state.
	Account Account
	// Token is the hash of the activation token. If nobody is to have one, it is random.
	Token [32]byte
	// Notice is the message, of the kind mailmsg.Activation with the activation token, or mailmsg.SetPassword. If it
	// is zero, there is no message.
	Notice Notice
	// Allowances are those of the recipient.
	Allowances []throttle.Allowance
}

// Resending is what SendAgain needs.
type Resending struct {
	Tenant      int64
	User        string
	Email       string
	Activation  Notice
	SetPassword Notice
	// Allowances are those of the recipient.
	Allowances []throttle.Allowance
}

// LinkReplacement is a new link for a pending account, with everything that its transaction checks
// and takes.
type LinkReplacement struct {
	// Account has the address that the account gets. Was is the one it had when it was read.
	Account Account
	Was     string
	// Token, Message and SealedToken are as in Signup. Made is when the message was made.
	Token       [32]byte
	Message     mailmsg.ID
	SealedToken []byte
	Made        time.Time
	// Allowances are first that of the account, and then those of the recipient.
	Allowances []throttle.Allowance
	// Forgotten is the row that asked for the link, or zero. Resend removes it, whether it succeeds or
	// refuses, and fails with ErrHandled if it is gone.
	Forgotten ForgottenID
	// Net is the network that asked for the link, if Forgotten is not zero.
	Net string
	// CheckOnly makes every check and writes nothing, as in Signup.
	CheckOnly bool
}

func (r LinkReplacement) ref() outbox.Ref {
	return outbox.Ref{Tenant: r.Account.Tenant, Account: r.Account.UID, Message: r.Message}
}

// Swept is what a Sweep removed.
type Swept struct {
	Accounts int64 // expired accounts
	Others   int64 // captchas, places and revoked sessions
	More     bool  // a kind reached the limit
}

// Errors of Activate, Linked, Confirm and Resend, besides fault.NotFound. Only somebody who has the
// account's own token or password gets them.
var (
	ErrActive  = fault.New(fault.Conflict, "the account is active already")
	ErrExpired = fault.New(fault.NotFound, "the account was not activated in time")
	ErrHeld    = fault.New(fault.Conflict, "an operator has disabled the account")
	// ErrWaiting is for operators only.
	ErrWaiting = fault.New(fault.Conflict, "the account waits for its activation and is not disabled")
	// ErrReplaced comes without an account: the older message may have gone to somebody else.
	ErrReplaced = fault.New(fault.NotFound, "a newer message has replaced this link")
)

// Errors of Create.
var (
	ErrCaptcha = fault.New(fault.Captcha, "the answer does not match the question, or the question "+
		"is too old or was answered before; answer a new one")
	ErrTaken = fault.New(fault.Conflict, "the user name is taken; choose another one")
)

// ErrAddressChanged means that the address of an account was changed after it was read.
var ErrAddressChanged = &fault.Error{
	Kind: fault.Overloaded, RetryAfter: time.Second,
	Message: "the account's address was changed at the same moment, and nothing was sent; try again",
}

// AddressLimit is the error of Create for an origin that has no place left, with the time to wait.
func AddressLimit(wait time.Duration) error {
	return limitRule("accounts", fault.Limit(wait, "too many accounts were created from your network; "+
		"wait before trying again, or use another network"))
}

// RecipientLimit is the error of Create and Resend for a recipient, with the time to wait.
func RecipientLimit(wait time.Duration) error {
	return limitRule("recipient", fault.Limit(wait, "too many messages to this e-mail address today; "+
		"look for an earlier one, or wait"))
}

// ResendLimit is the error of Resend for one account, with the time to wait.
func ResendLimit(wait time.Duration) error {
	return fault.Limit(wait, "the message cannot be sent again today; "+
		"look for it in the spam folder, or wait")
}

// AddressChangeLimit is the error of Resend for an account whose address was changed, with the time
// to wait.
func AddressChangeLimit(wait time.Duration) error {
	return fault.Limit(wait, "the address can be changed once a day; "+
		"wait, or sign up again with the right address and another user name")
}

// TenantLimit is the error of Create at a tenant that has reached its ceiling, with the time to wait.
func TenantLimit(wait time.Duration) error {
	return limitRule("platform",
		fault.Limit(wait, "too many people are signing up here at the moment; try again later"))
}

// limitRule returns an error with a rule, by which programs tell the limits apart.
func limitRule(rule string, err *fault.Error) error {
	err.Rule = rule
	return err
}

// SignupRefusal is the error of Create for the limits that Signup.Address lists.
func SignupRefusal(w throttle.Wait) error {
	if w.Limit == throttle.LimitTenant {
		return named(TenantLimit(w.For), w)
	}
	return named(AddressLimit(w.For), w)
}

// RecipientRefusal is the error of Create and Resend for the limits of a recipient.
func RecipientRefusal(w throttle.Wait) error {
	if w.Limit == throttle.LimitAddressChange {
		return named(AddressChangeLimit(w.For), w)
	}
	return named(RecipientLimit(w.For), w)
}

// ResendRefusal is the error of Resend for the limit of an account.
func ResendRefusal(w throttle.Wait) error { return named(ResendLimit(w.For), w) }

// named adds the name of the limit to its error, for the log.
func named(err error, w throttle.Wait) error {
	if fe, ok := errors.AsType[*fault.Error](err); ok {
		fe.Limit = w.Limit
	}
	return err
}
