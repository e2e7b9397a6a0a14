package account

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

const (
	// ResetLife is how long a reset link works.
	ResetLife = time.Hour
	// MaxResetLife is the longest lifetime of a reset link that an operator makes.
	MaxResetLife = 7 * 24 * time.Hour
)

// ResetStore is for people who have forgotten their password.
type ResetStore interface {
	// AddForgotten adds a row for somebody who forgot their password, and takes a place under
	// each limit of the sender. If it fails with fault.Limited, it changes nothing. It does not
	// look for the account.
	AddForgotten(ctx context.Context, f Forgotten, now time.Time) error

	// Forgotten returns up to limit rows, oldest first, without the first skip rows.
	Forgotten(ctx context.Context, skip, limit int) ([]Forgotten, error)

	// RemoveForgotten removes a row, and reports whether it existed. Exactly one of several
	// concurrent calls removes it.
	RemoveForgotten(ctx context.Context, id ForgottenID) (bool, error)

	// OfEmail returns the accounts with an address, ignoring case, ordered by user.
	OfEmail(ctx context.Context, tenant int64, email string, now time.Time) ([]Account, error)

	// AddResetLink adds a reset link for an account that is active or whose owner has left, and its message unless
	// that is zero. The link replaces the reset links that went to the account's address. With a message it is for all
	// such accounts of the address. Without one it is for this account only, and also replaces the account's reset
	// links without a message, which otherwise only a reset and NotMe do. It first removes the row r.Forgotten, if
	// there is one, and takes a place under each limit. With the kind mailmsg.SetPassword it replaces the link of
	// that kind of a waiting account, which must have one, and keeps its expiry. It fails with ErrHandled if the
	// row is gone. It also fails with fault.NotFound for an account that does not exist or was not activated, with
	// ErrHeld if an operator has disabled it, and with fault.Limited; then only the row is removed.
	AddResetLink(ctx context.Context, r NewResetLink, now time.Time) (Account, error)

	// HasPasswordLink reports whether a waiting account was added without a password (mailmsg.SetPassword).
	HasPasswordLink(ctx context.Context, uid UID) (bool, error)

	// ResetLink returns the accounts that a reset link is for, which are active or whose owners have left, ordered by
	// user, and when it expires. The link of mailmsg.SetPassword is for one account, which may be waiting.
	// ResetLink changes nothing. It fails with ErrLinkUsed.
	ResetLink(ctx context.Context, tenant int64, token [32]byte, now time.Time) ([]Account, time.Time, error)

	// NotMe uses up the link of a message about a change (mailmsg.NotMe), ends all sessions of its
	// account, and adds a reset link n without a message, as AddResetLink does. If somebody has left in
	// the owner's name, the account becomes active again. If the address was changed since the message,
	// it is set back to the one that the message went to, and links that went to later ones end. Reset
	// links without a message end unless they are older than that address. A pending change of the
	// address ends. The second factors that were added since the message are removed. If the message was
	// about recovery codes that were used or replaced, all recovery codes are removed, since somebody
	// else may have the list, but the app stays. Device tokens and proofs of the password end. It takes a
	// place under each limit of the account. It fails with ErrLinkUsed, ErrHeld and fault.Limited, and
	// with fault.NotFound for an account that does not exist.
	NotMe(ctx context.Context, tenant int64, token [32]byte, n Notice, now time.Time,
		limits ...throttle.Allowance) (Account, error)

	// NotMeLink returns what NotMe with the link would undo. It changes nothing. It fails with
	// ErrLinkUsed where NotMe fails.
	NotMeLink(ctx context.Context, tenant int64, token [32]byte, now time.Time) (Undone, error)
}

// NewResetLink is a reset link, with everything that its transaction checks and takes.
type NewResetLink struct {
	Tenant int64
	User   string
	Notice
	// Forgotten is the row that asked for the link, or zero.
	Forgotten ForgottenID
	// Allowances are those of the account and of the recipient.
	Allowances []throttle.Allowance
	// TakenOver means that a server writes the message, and not this process.
	TakenOver bool
}

// writeAfter writes the message of a change whose transaction ended with err. If it is unknown
// whether the transaction was committed, a later flush of the outbox finds out.
func (s *Service) writeAfter(a Account, n Notice, err error) {
	switch {
	case err == nil:
		s.write(a, n)
	case errors.Is(err, fault.ErrInDoubt):
		s.deps.Outbox.Recheck(outbox.Ref{Tenant: a.Tenant, Account: a.UID, Message: n.Message})
	}
}

// MakeResetLink makes a reset link for an operator without sending it, and returns its URL. It fails
// with fault.NotFound for an account that does not exist or was not activated, and with ErrHeld if it is disabled.
func (s *Service) MakeResetLink(
	ctx context.Context, t *tenant.Tenant, user string, life time.Duration,
) (address string, until time.Time, err error) {
	token, n := s.unsentLink(life)
	_, err = s.deps.Store.AddResetLink(ctx, NewResetLink{Tenant: t.ID, User: user, Notice: n}, s.deps.Now())
	return t.PublicURL + mailmsg.Path(mailmsg.Reset, token), n.Until, err
}

// unsentLink returns a reset link without a message.
func (s *Service) unsentLink(life time.Duration) (secret.Token, Notice) {
	made := s.deps.Now().UTC().Truncate(time.Microsecond)
	token := secret.NewTokenAt(made)
	return token, Notice{
		Kind: mailmsg.Reset, Token: s.deps.Store.LinkHash(token), Made: made, Until: made.Add(life),
	}
}

// ResetLink returns the accounts that a reset link is for, ordered by user, and when it expires. It
// changes nothing. It fails with ErrLinkUsed.
func (s *Service) ResetLink(ctx context.Context, t *tenant.Tenant, text string) ([]Account, time.Time, error) {
	link, ok := s.link(text)
	if !ok {
		return nil, time.Time{}, ErrLinkUsed
	}
	return s.deps.Store.ResetLink(ctx, t.ID, link, s.deps.Now())
}

// Reset sets a new password for one of the accounts of a reset link. If the account's owner has left, it
// becomes active again, and the message about the new password says so. Reset starts no session. It fails
// with fault.Invalid and fault.Limited, and with ErrLinkUsed for any link and account that do not belong
// together, whether or not there is such an account.
func (s *Service) Reset(
	ctx context.Context, t *tenant.Tenant, text, user string, p PasswordForm, from Origin,
) (Account, error) {
	a, err := s.reset(ctx, t, text, user, p, from)
	s.record(ctx, audit.PasswordReset, t, a, from, err)
	return a, refusedLink(err)
}

// refusedLink returns ErrLinkUsed if err means that the account was disabled or deleted after
// the link was read, and other errors unchanged.
func refusedLink(err error) error {
	if errors.Is(err, ErrHeld) || fault.Is(err, fault.NotFound) {
		return ErrLinkUsed
	}
	return err
}

func (s *Service) reset(
	ctx context.Context, t *tenant.Tenant, text, user string, p PasswordForm, from Origin,
) (Account, error) {
	list, _, err := s.ResetLink(ctx, t, text)
	if err != nil {
		return Account{}, err
	}
	i := slices.IndexFunc(list, func(a Account) bool { return a.User == user })
	if i < 0 {
		return Account{}, ErrLinkUsed
	}
	a, err := s.newCredential(t, list[i], p)
	if err != nil {
		return list[i], err
	}
	link, _ := s.link(text)
	c := PasswordChange{
		Account: a, Link: &link,
		Allowances: []throttle.Allowance{{
			Bucket: s.buckets.Of("reset use", t.ID, ofAddress(a, a.Emails)),
			Rule:   throttle.ResetUsesPerAccount,
			Limit:  throttle.LimitPassword,
		}},
		First:  list[i].Pending(),
		Notice: s.newNotice(a, mailmsg.PasswordChanged, NoticeLife, audit.Network(from.Addr)),
	}
	now := s.deps.Now()
	changed, err := s.deps.Store.SetPassword(byOwner(ctx, from), c, now)
	if err != nil {
		changed = list[i]
	} else if !c.First && changed.Set.State == Active && changed.Set.At.Equal(now.Truncate(time.Microsecond)) {
		c.Detail = mailmsg.Stays // as in the entry that the store added
		s.record(ctx, audit.AccountStay, t, changed, from, nil)
	}
	if !c.First {
		s.writeAfter(changed, c.Notice, err)
	}
	return changed, err
}

// ofAddress returns the name of a bucket for one address of an account: the one that it has
// after n changes. So somebody who has moved the account to another mailbox cannot use up the
// places of those who had it before.
func ofAddress(a Account, n int64) string { return a.UID.String() + " " + strconv.FormatInt(n, 10) }

// byOwner returns a context for a change by the account's owner, which continues if the client
// disconnects.
func byOwner(ctx context.Context, from Origin) context.Context {
	return audit.ByPerson(context.WithoutCancel(ctx), from.Addr, from.Request)
}
