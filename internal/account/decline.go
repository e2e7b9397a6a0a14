package account

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// DeclineStore removes a pending account for somebody who got its activation message and did not sign
// up.
type DeclineStore interface {
	// LinkedAddress returns the pending account whose activation link has the token, or had it
	// before Resend replaced the link with one to the same address. It fails with ErrActive or
	// ErrHeld, and then returns the account as well, with ErrReplaced if the message of the
	// link went to another address than the account has now, and with fault.NotFound.
	LinkedAddress(ctx context.Context, tenant int64, token [32]byte, now time.Time) (Account, error)

	// Decline removes the account that LinkedAddress returns, with its links and messages, and
	// uses up the allowance. It fails as LinkedAddress does, and with ErrAddressChanged if the
	// account no longer has the address in d. If Decline and Activate run concurrently, exactly
	// one of them succeeds.
	Decline(ctx context.Context, d Decline, now time.Time) error
}

// Decline is the removal of a pending account, with everything that its transaction needs.
type Decline struct {
	// Account is what LinkedAddress returned for Token.
	Account Account
	Token   [32]byte
	// Recipient are the allowances of the account's address. Decline takes all their places;
	// Places are the IDs of these.
	Recipient []throttle.Allowance
	Places    [][16]byte
}

// Errors of Declinable and Decline.
var (
	ErrDeclineActive = &fault.Error{
		Kind: fault.Conflict, Rule: "active", Cause: ErrActive,
		Message: "the account is active, so this link cannot remove it; sign in, or choose a new password",
	}
	ErrDeclineHeld = &fault.Error{
		Kind: fault.Conflict, Rule: "held", Cause: ErrHeld,
		Message: "an operator has disabled the account, so this link cannot remove it; contact the operator",
	}
	// ErrDeclineGone does not reveal whether there is an account: the message may have gone to an address
	// that was mistyped.
	ErrDeclineGone = fault.New(fault.NotFound,
		"no account with your address waits for this link; there is nothing left to remove")
)

// Declinable returns the pending account that Decline would remove, and fails as Decline does. It changes nothing.
func (s *Service) Declinable(ctx context.Context, t *tenant.Tenant, text string) (Account, error) {
	link, ok := s.link(text)
	if !ok {
		return Account{}, ErrDeclineGone
	}
	a, err := s.deps.Store.LinkedAddress(ctx, t.ID, link, s.deps.Now())
	return a, declineError(err)
}

// Decline removes the pending account whose activation message has this token, for somebody who did
// not sign up. For 24 hours, the tenant sends no activation message to the address, and no message
// that would confirm it for an account. Decline fails with ErrDeclineActive or ErrDeclineHeld, and
// then returns the account as well, and with ErrDeclineGone.
func (s *Service) Decline(ctx context.Context, t *tenant.Tenant, text string, from Origin) (Account, error) {
	a, err := s.Declinable(ctx, t, text)
	if err == nil {
		err = s.decline(ctx, t, a, text, from)
	}
	s.record(ctx, audit.AccountDecline, t, a, from, err)
	return a, err
}

// decline removes an account that Declinable returned.
func (s *Service) decline(ctx context.Context, t *tenant.Tenant, a Account, text string, from Origin) error {
	link, _ := s.link(text)
	now := s.deps.Now()
	d := Decline{Account: a, Token: link, Recipient: []throttle.Allowance{
		s.recipient(t, a.Email)[0], s.emailRecipient(t, a.Email)[0],
	}}
	for range throttle.MessagesPerRecipient.Limit {
		d.Places = append(d.Places, NewUID(now))
	}
	return declineError(s.deps.Store.Decline(byOwner(ctx, from), d, now))
}

// declineError turns an error of a DeclineStore into the one that a person reads.
func declineError(err error) error {
	switch {
	case errors.Is(err, ErrActive):
		return ErrDeclineActive
	case errors.Is(err, ErrHeld):
		return ErrDeclineHeld
	case fault.Is(err, fault.NotFound):
		return ErrDeclineGone
	}
	return err
}
