package account

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

// Activate is called when a link is opened. It spends the token and activates the account. At a
// tenant that also requires the password, it only returns the account, which stays pending. It
// fails with the errors of LinkStore.Activate, and with fault.NotFound for a text that is not a
// token.
func (s *Service) Activate(
	ctx context.Context, t *tenant.Tenant, text string, from Origin,
) (Account, error) {
	var a Account
	err := error(fault.New(fault.NotFound, "no such link"))
	if link, ok := s.link(text); ok {
		if t.Confirms() {
			a, err = s.deps.Store.Linked(ctx, t.ID, link, s.deps.Now())
		} else {
			// The write continues if the client disconnects, so that no link is left half used.
			ctx := context.WithoutCancel(ctx)
			a, err = s.deps.Store.Activate(ctx, t.ID, link, s.deps.Now())
		}
	}
	recorded := err
	if err == nil && a.Pending() {
		recorded = errOpened
	}
	s.record(ctx, audit.Activate, t, a, from, recorded)
	return a, err
}

// errOpened is recorded in the audit log when a link is opened at a tenant that also requires the password.
var errOpened = errors.New("link opened, password required")

// ErrLink means that a link does not belong to the account whose password was proved.
var ErrLink = fault.Field("token", "this is not the link of that account, or a newer message has "+
	"replaced it; open the link of the newest message")

// link returns the hash that the store keeps of the token in a text. ok is false if the text is not a token.
func (s *Service) link(text string) (hash [32]byte, ok bool) {
	token, ok := secret.ParseToken(text)
	return s.deps.Store.LinkHash(token), ok
}

// Confirm takes the token of a link from somebody who has proved the password of a. It can be
// repeated. It fails with ErrLink, ErrExpired and ErrHeld.
func (s *Service) Confirm(
	ctx context.Context, t *tenant.Tenant, a Account, text string, from Origin,
) (Account, error) {
	err, detail := error(ErrLink), ""
	if link, ok := s.link(text); ok {
		now := s.deps.Now().UTC().Truncate(time.Microsecond) // the store's precision
		var confirmed Account
		confirmed, err = s.deps.Store.Confirm(context.WithoutCancel(ctx), t.ID, link, a.UID, now)
		switch {
		case err == nil && (!a.Confirmed.IsZero() || !confirmed.Confirmed.Equal(now)):
			a, detail = confirmed, stats.Repeated
		case err == nil && confirmed.Activated.Equal(now):
			a, detail = confirmed, stats.Activated
		case err == nil:
			a = confirmed
		case fault.Is(err, fault.NotFound) && !errors.Is(err, ErrExpired):
			err = ErrLink
		}
	}
	s.recordDetail(ctx, audit.Confirm, t, a, from, err, detail)
	return a, err
}

// HasLink reports whether a text is the newest link of the account of a user, or the link that
// activated it.
func (s *Service) HasLink(ctx context.Context, tenant int64, user, text string) (bool, error) {
	link, ok := s.link(text)
	if !ok {
		return false, nil
	}
	a, err := s.deps.Store.Linked(ctx, tenant, link, s.deps.Now())
	switch {
	case err == nil, errors.Is(err, ErrActive):
		return a.User == user, nil
	case errors.Is(err, ErrHeld), fault.Is(err, fault.NotFound):
		return false, nil
	}
	return false, err
}
