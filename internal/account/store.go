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

// Store stores accounts. It is everything that a Service needs; other users depend on one of its parts.
//
// Every method is one transaction: it happens completely or not at all, it is durable when it
// returns, and any process may call it at any time. An account that was not activated before it
// expired counts as missing everywhere. Package conformance has these rules as tests, which
// every implementation must pass.
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
	// Create adds a pending account and the outbox entry of its message. It checks the
	// following in this order, and fails with the first that does not hold: a place under each
	// rule of Address (fault.Limited); the captcha (fault.Captcha); the name (fault.Conflict);
	// a place for the recipient under each rule (fault.Limited). A captcha that this server
	// issued is spent by success, by a wrong answer and by a conflict. Every other failure
	// changes nothing. Concurrent calls never exceed a limit, and never share a captcha or a
	// name. A Create that fails with fault.ErrInDoubt must be undone.
	Create(ctx context.Context, s Signup, now time.Time) error

	// Undo reverses a Create whose message could not be published: account, outbox entry,
	// places and captcha. It leaves an account alone that was activated, disabled or
	// acknowledged in the meantime, or that has a newer link. It is idempotent.
	Undo(ctx context.Context, s Signup, now time.Time) error

	// Acknowledge makes Undo leave a pending account alone, because somebody is being told that
	// the account exists. It is idempotent. It fails with fault.NotFound if there is no such
	// account.
	Acknowledge(ctx context.Context, tenant int64, uid UID, now time.Time) error
}

// LinkStore replaces and spends activation links.
type LinkStore interface {
	LinkHasher

	// Activate enables the account that the token was issued for, once. Exactly one of several
	// concurrent calls succeeds, and the others fail with ErrActive. It also fails with
	// ErrExpired, ErrHeld, ErrReplaced for a link that Resend has replaced, and fault.NotFound
	// for a token that belongs to no account of the tenant. With ErrActive, ErrExpired and
	// ErrHeld it also returns the account.
	Activate(ctx context.Context, tenant int64, token [32]byte, now time.Time) (Account, error)

	// Linked returns the account that Activate would enable, and fails as Activate does. It changes
	// nothing.
	Linked(ctx context.Context, tenant int64, token [32]byte, now time.Time) (Account, error)

	// Confirm records that somebody has both the token and the password of the account with the
	// UID, and enables the account if it is pending. It can be repeated, and keeps the first
	// time. It fails with ErrExpired, ErrHeld, and fault.NotFound for a token that was not
	// issued for this account or that Resend has replaced.
	Confirm(
		ctx context.Context, tenant int64, token [32]byte, uid UID, now time.Time,
	) (Account, error)

	// Resend gives a pending account a new link and the address that the new message goes to. The
	// previous link becomes invalid, and its outbox entry is marked as replaced. It checks the
	// following in this order, and fails with the first that does not hold: the account exists
	// (fault.NotFound); it is not held (ErrHeld), and pending (ErrActive); its address is still Was
	// (ErrAddressChanged); each of Allowances permits another use (fault.Limited). A failure changes
	// nothing. The account's expiry does not change. Each of several concurrent calls replaces the
	// link of the one before, and no more of them succeed than the allowances permit.
	Resend(ctx context.Context, r LinkReplacement, now time.Time) error

	// UndoResend reverses a Resend whose message could not be published: the previous link and
	// address are valid again, unless there was another Resend since, and the places are freed.
	// It leaves an account alone that was activated in the meantime. It is idempotent.
	UndoResend(ctx context.Context, r LinkReplacement, now time.Time) error
}

// LinkHasher hashes tokens of links for calls of the store.
type LinkHasher interface {
	// LinkHash returns the hash by which the store knows the token of a link. The token cannot be computed from it.
	LinkHash(secret.Token) [32]byte
}

// Finder reads accounts.
type Finder interface {
	// Find returns the account of a user. It fails with fault.NotFound, and then takes as long as it
	// takes to find an account.
	Find(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)

	// FindUID returns the account with the UID. It fails with fault.NotFound.
	FindUID(ctx context.Context, tenant int64, uid UID, now time.Time) (Account, error)

	// List calls each for every account of the tenant, ordered by user, until each returns an
	// error, and returns that error.
	List(ctx context.Context, tenant int64, now time.Time, each func(Account) error) error
}

// AdminStore is for operators. Its methods fail with fault.NotFound. A method that changes something
// adds the change to the audit trail, in the same transaction, with the cause that audit.CauseOf
// returns for ctx.
type AdminStore interface {
	// Enable ends a hold: the account becomes active, or waits again if it was waiting when it
	// was disabled. An account whose owner has left is no longer erased. It fails with
	// ErrWaiting for a waiting account, and changes nothing of an active one.
	Enable(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)
	// EnableNow is like Enable, and also activates an account that is waiting or was waiting when it was disabled.
	EnableNow(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)
	// Disable holds the account and ends its sessions and links. If the account is disabled
	// already, its time, operator and reason are replaced if the cause has a reason, and kept
	// otherwise. The audit trail gets a row in both cases.
	Disable(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)
	// SetRole changes the role. It changes nothing of an account that has it.
	SetRole(ctx context.Context, tenant int64, user string, role Role, now time.Time) (Account, error)
	// Delete removes everything that is stored about the account. The name of one that was active stays taken.
	Delete(ctx context.Context, tenant int64, user string, now time.Time) error
	// Rename sets the display name of an account in any state. It changes nothing of an account that has it.
	Rename(ctx context.Context, tenant int64, user, name string, now time.Time) (Account, error)
	// EndSessions ends all sessions of the account.
	EndSessions(ctx context.Context, tenant int64, user string, now time.Time) (Account, error)
	// AddAccount adds an account, with its message if it has one. A server takes the message
	// over and writes it. AddAccount fails with ErrTaken.
	AddAccount(ctx context.Context, n Addition, now time.Time) (Account, error)
	// SendAgain gives a waiting account another link and another message, and another address
	// unless r.Email is empty. It ends the previous links. An account that was added without a
	// password gets r.SetPassword, any other r.Activation; their Until is ignored. A server
	// takes the message over and writes it. SendAgain fails with ErrActive, and with ErrHeld
	// for an account that is disabled.
	SendAgain(ctx context.Context, r Resending, now time.Time) (Account, error)
	// ClosedNames calls each for every user name of the tenant that a deleted account still
	// occupies, in order, until each returns an error, and returns that error.
	ClosedNames(ctx context.Context, tenant int64, each func(ClosedName) error) error
	// FreeName releases such a name, so that anybody can sign up with it.
	FreeName(ctx context.Context, tenant int64, user string, now time.Time) error
}

// ClosedName is the user name of a deleted account.
type ClosedName struct {
	User   string
	Closed time.Time
}

// Sweeper removes old rows.
type Sweeper interface {
	// Sweep removes at most limit rows of each kind that are no longer needed: accounts that
	// had expired by expired, and expired captchas, revoked sessions and places under limits.
	// When Swept.More is false, up to a tenth of the places may still be expired ones.
	Sweep(ctx context.Context, now, expired time.Time, limit int) (Swept, error)
	// CorrectFuture corrects times that were written while a clock was ahead: it sets places
	// under limits, notifications and deliveries to now if they would wait longer than they
	// ever need to. It returns how many it found. In a large store it may take several calls to
	// find all places.
	CorrectFuture(ctx context.Context, now time.Time) (int64, error)
}

// Signup is a new account with everything that its transaction checks and takes.
type Signup struct {
	Account Account
	// Token is the hash of the activation token.
	Token [32]byte
	// Message and SealedToken are the outbox entry.
	Message     mailmsg.ID
	SealedToken []byte
	Captcha     captcha.Proof
	// Address are the allowances of the client's address that the signup uses. Recipient and
	// RecipientMore are those of the recipient of its message.
	Address       []throttle.Allowance
	Recipient     throttle.Allowance
	RecipientMore []throttle.Allowance
	// CheckOnly makes every check and writes no account. It is set if the message could not be
	// staged: a person whose name is taken gets that error instead of the one of the pickup
	// directory.
	CheckOnly bool
}

func (s Signup) ref() outbox.Ref {
	return outbox.Ref{Tenant: s.Account.Tenant, Account: s.Account.UID, Message: s.Message}
}

// Addition is an account that an operator adds.
type Addition struct {
	// Account is the account to add, including its state.
	Account Account
	// Token is the hash of the activation token. If nobody gets one, it is random.
	Token [32]byte
	// Notice is the message, of the kind mailmsg.Activation with the activation token, or mailmsg.SetPassword. If it
	// is zero, there is no message.
	Notice Notice
	// Allowances are those of the recipient.
	Allowances []throttle.Allowance
}

// Resending is another message for a waiting account, with everything that SendAgain needs.
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
	// Account has the address that the account gets. Was is the address that it had when it was read.
	Account Account
	Was     string
	// Token, Message and SealedToken are as in Signup. Made is when the message was made.
	Token       [32]byte
	Message     mailmsg.ID
	SealedToken []byte
	Made        time.Time
	// Allowances are first that of the account, and then those of the recipient.
	Allowances []throttle.Allowance
	// Forgotten is the row that requested the link, or zero. Resend removes it even if it
	// refuses the link, and fails with ErrHandled if it is gone.
	Forgotten ForgottenID
	// Net is the network that the request came from, if Forgotten is not zero.
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
	// ErrReplaced is returned without the account: the older message may have gone to somebody else.
	ErrReplaced = fault.New(fault.NotFound, "a newer message has replaced this link")
)

// Errors of Create.
var (
	ErrCaptcha = fault.New(fault.Captcha, "the answer does not match the question, or the question "+
		"is too old or was answered before; answer a new one")
	ErrTaken = fault.New(fault.Conflict, "the user name is taken; choose another one")
)

// ErrAddressChanged means that the address of an account was changed after the account was read.
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

// limitRule sets the rule of an error, by which programs distinguish the limits.
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
