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

// Resend sends a pending account a new message with a new link, for somebody who has proved the
// account's password. If email is not empty, it becomes the account's address. When Resend returns
// nil, the message exists and survives a crash; when it fails, the previous link and address stay
// valid. It returns the changed account. It fails with fault.Invalid, fault.Limited, and the
// errors of LinkStore.Resend.
func (s *Service) Resend(
	ctx context.Context, t *tenant.Tenant, a Account, email string, from Origin,
) (Account, error) {
	r := LinkReplacement{Account: a, Was: a.Email}
	var err error
	if email != "" {
		r.Account.Email, err = CleanEmail(email)
	}
	if err == nil {
		// From here on, the work continues if the client disconnects: it is completed or undone.
		err = s.resend(context.WithoutCancel(ctx), t, r, s.deps.Now())
	}
	s.record(ctx, audit.Resend, t, r.Account, from, err)
	return r.Account, err
}

func (s *Service) resend(
	ctx context.Context, t *tenant.Tenant, r LinkReplacement, now time.Time,
) error {
	link := s.deps.Outbox.NewLink(t.ID)
	r.Token, r.Message, r.SealedToken = s.deps.Store.LinkHash(link.Token), link.Message, link.Sealed
	// The store's precision is microseconds. A message that is written again must have the same times.
	r.Made = now.UTC().Truncate(time.Microsecond)
	r.Allowances = append([]throttle.Allowance{{
		Bucket: s.buckets.Of("resend", t.ID, r.Account.UID.String()),
		Rule:   throttle.ResendsPerAccount,
		Limit:  throttle.LimitResend,
	}}, s.recipient(t, r.Account.Email)...)
	if r.Forgotten != (ForgottenID{}) {
		r.Allowances = s.resetAllowances(t, r.Account, r.Net)
	}
	if RecipientKey(r.Account.Email) != RecipientKey(r.Was) {
		r.Allowances = append(r.Allowances, throttle.Allowance{
			Bucket: s.buckets.Of("address change", t.ID, r.Account.UID.String()),
			Rule:   throttle.AddressChangesPerAccount,
			Limit:  throttle.LimitAddressChange,
		})
	}
	staged, err := s.stage(t, r.Account, link, r.Made, true)
	if err != nil {
		r.CheckOnly = true
		return errors.Join(s.deps.Store.Resend(ctx, r, now), err)
	}
	undo := func(ctx context.Context) error { return s.undoResend(ctx, t, r) }
	if err := s.deps.Store.Resend(ctx, r, now); err != nil {
		staged.Discard()
		if errors.Is(err, fault.ErrInDoubt) {
			s.deps.Outbox.UndoLater(undo)
		}
		return err
	}
	if err := staged.Publish(); err != nil {
		return errors.Join(err, inDoubt(s.deps.Outbox.Undo(ctx, undo)))
	}
	s.deps.Outbox.Published(r.ref(), staged)
	return nil
}

func (s *Service) undoResend(ctx context.Context, t *tenant.Tenant, r LinkReplacement) error {
	err := s.deps.Store.UndoResend(ctx, r, s.deps.Now())
	s.recordUndo(ctx, audit.UndoResend, t, r.Account.User, err)
	return err
}
