package operator

import (
	"context"
	"errors"
	"slices"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// TenantStore reads and changes one tenant.
type TenantStore interface {
	// Tenant returns a tenant, read from the store. It fails with fault.NotFound.
	Tenant(ctx context.Context, id int64) (tenant.Tenant, error)
}

// Tenant returns a tenant, read from the store. A tenant.Table can be up to a second behind.
func (s *Service) Tenant(ctx context.Context, c Caller, t *tenant.Tenant) (tenant.Tenant, error) {
	if err := c.Check(TenantRead, t); err != nil {
		return tenant.Tenant{}, err
	}
	return s.deps.Store.Tenant(ctx, t.ID)
}

// setAttempts is how often SetTenant tries a change that conflicts with concurrent ones.
const setAttempts = 10

// SetTenant changes settings of a tenant, and returns the changed tenant. edit gets the current tenant. It
// is called again if the tenant has changed concurrently, so that no change of others is lost. Settings
// that determine where secrets go also need the scope accounts:write (maySet). With a condition in ctx
// (tenant.OnlyIf), SetTenant fails with fault.Changed unless the condition holds. It also fails with
// fault.Invalid and fault.Conflict.
func (s *Service) SetTenant(ctx context.Context, c Caller, t *tenant.Tenant, reason string,
	edit func(tenant.Tenant) (tenant.Tenant, error)) (tenant.Tenant, error) {
	if err := c.Check(TenantWrite, t); err != nil {
		return tenant.Tenant{}, err
	}
	ctx, err := c.With(ctx, reason)
	if err != nil {
		return tenant.Tenant{}, err
	}
	required, conditional := tenant.RequiredVersion(ctx)
	for range setAttempts {
		old, err := s.deps.Store.Tenant(ctx, t.ID)
		if err != nil {
			return tenant.Tenant{}, err
		}
		if conditional && old.Version() != required {
			return tenant.Tenant{}, tenant.ErrChanged
		}
		next, err := edit(old)
		if err != nil {
			return tenant.Tenant{}, err
		}
		if _, err := account.NewReserved(next.Reserved); err != nil {
			return tenant.Tenant{}, fault.Field("reserved", "%v", err)
		}
		if next, err = tenant.New(next); err != nil {
			return tenant.Tenant{}, err
		}
		if err := c.maySet(t, old, next); err != nil {
			return tenant.Tenant{}, err
		}
		err = s.deps.Store.SetTenant(tenant.OnlyIf(ctx, old.Version()), next, s.deps.Now())
		switch {
		case err == nil:
			return next, nil
		case !fault.Is(err, fault.Changed) || conditional:
			return tenant.Tenant{}, err
		}
	}
	return tenant.Tenant{}, errTenantKeepsChanging
}

// ReserveName adds a user name to those that nobody can sign up with. Existing accounts with
// that name or one that looks like it are not affected. It fails as SetTenant does.
func (s *Service) ReserveName(ctx context.Context, c Caller, t *tenant.Tenant, user, reason string) error {
	_, err := s.SetTenant(ctx, c, t, reason, func(x tenant.Tenant) (tenant.Tenant, error) {
		if !slices.Contains(x.Reserved, user) {
			x.Reserved = append(slices.Clone(x.Reserved), user)
		}
		return x, nil
	})
	return err
}

// MaxReserved is how many names of its own a tenant can reserve. A list that is already longer cannot grow.
const MaxReserved = 1000

// maySet checks the rules for a change of settings by a caller.
//
// Some settings determine where people and phones send secrets: the links of messages lead to
// the public URL, and phones sign in at the SIP server. The other links and the footer appear
// on pages and in messages that ask for a password, so they could lead people to a page that
// steals it. Somebody who changes these settings can take over accounts, so they also need the
// scope accounts:write. A person can set neither the public URL nor the sender of messages.
func (c Caller) maySet(t *tenant.Tenant, old, next tenant.Tenant) error {
	if len(next.Reserved) > max(MaxReserved, len(old.Reserved)) {
		return fault.Field("reserved", "a tenant reserves at most %d names of its own", MaxReserved)
	}
	sender := old.PublicURL != next.PublicURL || old.MailFrom != next.MailFrom
	if sender && c.Actor.Kind == audit.Admin {
		return fault.New(fault.Forbidden, "the address of the platform and the sender of its messages are set on the "+
			"command line or by a token")
	}
	redirects := sender || old.ReplyTo != next.ReplyTo || old.Support != next.Support ||
		old.SIPServer != next.SIPServer || old.SIPTransport != next.SIPTransport ||
		old.SIPWebSocket != next.SIPWebSocket || old.AcrobitsCloud != next.AcrobitsCloud ||
		old.TermsURL != next.TermsURL || old.PrivacyURL != next.PrivacyURL || old.ImprintURL != next.ImprintURL ||
		old.MailFooter != next.MailFooter || !slices.Equal(old.TURNURIs, next.TURNURIs) ||
		!slices.Equal(old.Origins, next.Origins)
	if redirects {
		return c.Check(AccountsWrite, t)
	}
	return nil
}

var errTenantKeepsChanging = errors.New("others changed the tenant during every attempt to change it")
