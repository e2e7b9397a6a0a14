package account

import (
	"context"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// Grace is how long an owner who has left can still change their mind and stay.
const Grace = 7 * 24 * time.Hour

// ErrLeaving means that the password is right, and that the owner of the account has left.
var ErrLeaving = fault.New(fault.Leaving, "the owner of this account has left, and it will be erased; "+
	"to keep it, open the link in the message about that, choose a new password by a reset link, or ask the operator")

// LeaveStore is for people who leave, and for those who change their mind and stay.
type LeaveStore interface {
	// Leave holds an active account until it is erased at l.Until, ends its sessions, and ends the link
	// that would set another address. It takes a place under each limit. It fails with fault.NotFound
	// for an account that does not exist or is not active, with ErrHeld, with ErrPasswordChanged if the
	// proof is of an older password, and with fault.Limited. Exactly one of several concurrent calls
	// succeeds.
	Leave(ctx context.Context, l Departure, now time.Time) (Account, error)

	// Stay uses up the link of the message that Leave added, and makes the account active again. It fails with
	// ErrLinkUsed, with ErrHeld if an operator has disabled the account since, and with fault.NotFound if the
	// account is gone.
	Stay(ctx context.Context, tenant int64, token [32]byte, now time.Time) (Account, error)

	// StayLink returns the account that Stay would make active, unchanged. It fails with
	// ErrLinkUsed where Stay fails.
	StayLink(ctx context.Context, tenant int64, token [32]byte, now time.Time) (Account, error)

	// Overdue returns up to limit accounts that were due to be erased by a time, the longest overdue first.
	Overdue(ctx context.Context, by time.Time, limit int) ([]Account, error)

	// EraseOverdue erases an account that Overdue returned, as Delete does, and reports whether
	// it did. It leaves an account alone that Overdue would no longer return. Exactly one of
	// several concurrent calls erases it.
	EraseOverdue(ctx context.Context, a Account, by, now time.Time) (bool, error)
}

// Departure is what Leave needs.
type Departure struct {
	// Account is the one whose password was proved.
	Account Account
	// Notice is the message to the owner. Its Until is when the account is erased.
	Notice
	// Allowances are those of the account.
	Allowances []throttle.Allowance
}

// LeaveRefusal is the error of Leave for the limit of an account.
func LeaveRefusal(w throttle.Wait) error {
	return named(limitRule("leave", fault.Limit(w.For, "the owner of this account has left and stayed too often "+
		"today; wait before leaving again, or ask the operator to delete the account")), w)
}

// Leave holds an account for somebody who has proved its password, so that it is erased after
// Grace. Its owner gets a message, with a link for staying. When Leave returns nil, the change
// and the message's outbox entry are durable; when it fails, neither exists, except with
// fault.ErrInDoubt. It returns the changed account. It fails with ErrNotActivated, and with the
// errors of LeaveStore.Leave.
func (s *Service) Leave(ctx context.Context, t *tenant.Tenant, proved Account, from Origin) (Account, error) {
	a, err := s.leave(ctx, proved, from)
	s.record(ctx, audit.AccountLeave, t, proved, from, err)
	return a, err
}

func (s *Service) leave(ctx context.Context, proved Account, from Origin) (Account, error) {
	if proved.Pending() {
		return Account{}, ErrNotActivated
	}
	d := Departure{
		Account: proved, Notice: s.newNotice(proved, mailmsg.Leaving, Grace, audit.Network(from.Addr)),
		Allowances: []throttle.Allowance{{
			Bucket: s.buckets.Of("leave", proved.Tenant, proved.UID.String()),
			Rule:   throttle.LeavesPerAccount,
			Limit:  throttle.LimitLeave,
		}},
	}
	a, err := s.deps.Store.Leave(byOwner(ctx, from), d, s.deps.Now())
	if err != nil {
		a = proved
	}
	s.writeAfter(a, d.Notice, err)
	return a, err
}

// StayLink returns the account that a link to stay would keep. It changes nothing. It fails with ErrLinkUsed.
func (s *Service) StayLink(ctx context.Context, t *tenant.Tenant, text string) (Account, error) {
	link, ok := s.link(text)
	if !ok {
		return Account{}, ErrLinkUsed
	}
	return s.deps.Store.StayLink(ctx, t.ID, link, s.deps.Now())
}

// Stay makes an account active again, for an owner who has left and opens the link of the message about that. It
// starts no session. It fails with ErrLinkUsed.
func (s *Service) Stay(ctx context.Context, t *tenant.Tenant, text string, from Origin) (Account, error) {
	var a Account
	err := error(ErrLinkUsed)
	if link, ok := s.link(text); ok {
		a, err = s.deps.Store.Stay(byOwner(ctx, from), t.ID, link, s.deps.Now())
	}
	s.record(ctx, audit.AccountStay, t, a, from, err)
	return a, refusedLink(err)
}

// EraseOverdue erases accounts a day after their Grace has ended, in case the clock is ahead.
// It returns how many it erased. tenantOf returns the tenant with an ID.
func (s *Service) EraseOverdue(
	ctx context.Context, tenantOf func(int64) (*tenant.Tenant, bool),
) (n int, err error) {
	now := s.deps.Now()
	if err := s.CheckClock(); err != nil {
		return 0, err
	}
	by := now.Add(-linkMemory)
	list, err := s.deps.Store.Overdue(ctx, by, sweepLimit)
	for _, a := range list {
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		erased, err := s.deps.Store.EraseOverdue(ctx, a, by, now)
		if err != nil {
			return n, err
		}
		if !erased {
			continue
		}
		n++
		e := audit.Event{Action: audit.AccountDelete, Outcome: "ok", User: a.User, Detail: "left"}
		if t, ok := tenantOf(a.Tenant); ok {
			e.Tenant = t.Host
		}
		s.deps.Audit.Record(ctx, e)
	}
	return n, err
}
