package operator

import (
	"context"
	"time"

	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/tenant"
)

// MessageStore reads and changes the messages that were not sent.
type MessageStore interface {
	// Unsent returns up to limit messages of a tenant in a state, newest first. It examines
	// only a limited number of the newest messages of all tenants.
	Unsent(ctx context.Context, tenant int64, state delivery.State, limit int) ([]delivery.Delivery, error)
	// Delivery, Retry and Discard are those of delivery.Store.
	Delivery(ctx context.Context, message mailmsg.ID) (delivery.Delivery, error)
	Retry(ctx context.Context, message mailmsg.ID, now time.Time) (delivery.Delivery, error)
	Discard(ctx context.Context, message mailmsg.ID, why string, now time.Time) (delivery.Delivery, error)
}

// Unsent returns up to limit messages of a tenant in each of the states failed, deferred and
// waiting, newest first. Since they contain people's addresses, it is recorded in the audit
// trail like List.
func (s *Service) Unsent(ctx context.Context, c Caller, t *tenant.Tenant, limit int) (list []delivery.Delivery,
	err error) {
	if err := c.Check(AccountsRead, t); err != nil {
		return nil, err
	}
	for _, state := range []delivery.State{delivery.Failed, delivery.Deferred, delivery.Waiting} {
		some, err := s.deps.Store.Unsent(ctx, t.ID, state, limit)
		if err != nil {
			return nil, err
		}
		list = append(list, some...)
	}
	s.Listed(ctx, c, t)
	return list, nil
}

// RetryMessage is delivery.Store.Retry for a message of a tenant.
func (s *Service) RetryMessage(ctx context.Context, c Caller, t *tenant.Tenant, id mailmsg.ID,
	reason string) (delivery.Delivery, error) {
	return s.changeMessage(ctx, c, t, id, reason, func(ctx context.Context) (delivery.Delivery, error) {
		return s.deps.Store.Retry(ctx, id, s.deps.Now())
	})
}

// DiscardMessage is delivery.Store.Discard for a message of a tenant.
func (s *Service) DiscardMessage(ctx context.Context, c Caller, t *tenant.Tenant, id mailmsg.ID,
	reason string) (delivery.Delivery, error) {
	return s.changeMessage(ctx, c, t, id, reason, func(ctx context.Context) (delivery.Delivery, error) {
		return s.deps.Store.Discard(ctx, id, "discarded by an operator", s.deps.Now())
	})
}

func (s *Service) changeMessage(ctx context.Context, c Caller, t *tenant.Tenant, id mailmsg.ID, reason string,
	do func(context.Context) (delivery.Delivery, error)) (delivery.Delivery, error) {
	if err := c.Check(AccountsWrite, t); err != nil {
		return delivery.Delivery{}, err
	}
	ctx, err := c.With(ctx, reason)
	if err != nil {
		return delivery.Delivery{}, err
	}
	d, err := s.deps.Store.Delivery(ctx, id)
	if err != nil {
		return delivery.Delivery{}, err
	}
	if d.Tenant != t.ID {
		return delivery.Delivery{}, fault.New(fault.NotFound, "there is no such message")
	}
	return do(ctx)
}
