package account

import (
	"context"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// Undone is what the link of a message about a change undoes.
type Undone struct {
	// Account is the account before the change. If its owner has left, NotMe keeps it from being erased.
	Account Account
	// Email is the address that the account has afterwards.
	Email string
	// Emails is how often the address had been changed when the message was made. It identifies
	// the mailbox that got the link.
	Emails int64
	// App reports whether an authenticator app is removed. Passkeys is how many passkeys are removed.
	App      bool
	Passkeys int
	// Codes is how many recovery codes are removed while the app stays.
	Codes int
}

// NotMeRefusal is the error of NotMe for the limit of an account.
func NotMeRefusal(w throttle.Wait) error {
	return named(limitRule("changes.link", fault.Limit(w.For,
		"too many links in messages about changes were used today; wait before using another one")), w)
}

// NotMeLink returns what NotMe with the link would undo. It changes nothing. It fails with ErrLinkUsed.
func (s *Service) NotMeLink(ctx context.Context, t *tenant.Tenant, text string) (Undone, error) {
	link, ok := s.link(text)
	if !ok {
		return Undone{}, ErrLinkUsed
	}
	return s.deps.Store.NotMeLink(ctx, t.ID, link, s.deps.Now())
}

// NotMe is for somebody who did not make a change. It uses up the link of the message about it,
// undoes what ResetStore.NotMe describes, ends all sessions, and returns the changed account
// and the path of a reset link. It fails with ErrLinkUsed and fault.Limited.
func (s *Service) NotMe(
	ctx context.Context, t *tenant.Tenant, text string, from Origin,
) (a Account, reset string, err error) {
	next, n := s.unsentLink(ResetLife)
	undone, err := s.NotMeLink(ctx, t, text)
	if err == nil {
		link, _ := s.link(text)
		a, err = s.deps.Store.NotMe(byOwner(ctx, from), t.ID, link, n, s.deps.Now(), throttle.Allowance{
			Bucket: s.buckets.Of("not me", t.ID, ofAddress(undone.Account, undone.Emails)),
			Rule:   throttle.NotMePerAccount,
			Limit:  throttle.LimitNotMe,
		})
	}
	s.record(ctx, audit.PasswordNotMe, t, a, from, err)
	return a, mailmsg.Path(mailmsg.Reset, next), refusedLink(err)
}
