package account

import (
	"cmp"
	"context"
	"errors"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// record writes the outcome of a use case to the audit log, without secrets and with a masked address.
func (s *Service) record(
	ctx context.Context, action audit.Action, t *tenant.Tenant, a Account, from Origin, err error,
) {
	s.recordDetail(ctx, action, t, a, from, err, "")
}

// recordDetail is record with a detail, which is used if err has none.
func (s *Service) recordDetail(ctx context.Context, action audit.Action, t *tenant.Tenant, a Account, from Origin,
	err error, detail string) {
	e := audit.Event{
		Action: action, Outcome: auditReason(err), Tenant: t.Host, User: a.User,
		Peer: from.Addr, Request: from.Request, Detail: detail,
	}
	if a.Email != "" {
		e.Email = audit.MaskEmail(a.Email)
	}
	if fe, ok := errors.AsType[*fault.Error](err); ok {
		e.Detail = cmp.Or(fe.Field, fe.Limit)
	}
	s.deps.Audit.Record(ctx, e)
}

// recordUndo records that a signup or a new link was undone.
func (s *Service) recordUndo(
	ctx context.Context, action audit.Action, t *tenant.Tenant, user string, err error,
) {
	s.deps.Audit.Record(ctx, audit.Event{
		Action: action, Outcome: auditReason(err), Tenant: t.Host, User: user,
	})
}

// auditReason returns the outcome in the audit log for an error.
func auditReason(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrActive):
		return "already_active"
	case errors.Is(err, ErrExpired):
		return "expired"
	case errors.Is(err, ErrHeld):
		return "held"
	case errors.Is(err, ErrReplaced):
		return "replaced"
	case errors.Is(err, errOpened):
		return "opened"
	case errors.Is(err, errRepeated):
		return "repeated"
	}
	switch fault.KindOf(err) {
	case fault.Invalid:
		return "invalid_request"
	case fault.Limited:
		return "rate_limited"
	case fault.Captcha:
		return "captcha_failed"
	case fault.Conflict:
		return "conflict"
	case fault.NotFound:
		return "not_found"
	case fault.NotActivated:
		return "not_activated"
	case fault.Closed:
		return "signups_closed"
	case fault.Overloaded:
		return "overloaded"
	default:
		return "server_error"
	}
}
