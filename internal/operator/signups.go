package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// SignupsStore opens and closes signups.
type SignupsStore interface {
	// SetSignups sets who can sign up at a tenant, and the note unless it is nil. It adds the
	// change to the audit trail and returns the host and the settings of the tenant. It fails
	// with fault.NotFound.
	SetSignups(ctx context.Context, tenant int64, mode tenant.Signups, note *string, now time.Time) (tenant.Tenant,
		error)
	// Freeze returns the freeze of the signups of all tenants, or nil if there is none.
	Freeze(ctx context.Context) (*tenant.Freeze, error)
	// SetFreeze closes the signups of all tenants, or lifts the freeze if f is nil. It adds the
	// change to the audit trail.
	SetFreeze(ctx context.Context, f *tenant.Freeze, now time.Time) error
}

// Signups is the state of signups at a tenant.
type Signups struct {
	// Mode and Note are the tenant's own settings.
	Mode tenant.Signups
	Note string
	// Freeze is nil unless the signups of all tenants are closed, which overrides Mode.
	Freeze *tenant.Freeze
}

// Signups returns the state of signups at a tenant, read from the store: a tenant.Table can be
// up to a second behind. Without a tenant it contains only the freeze.
func (s *Service) Signups(ctx context.Context, c Caller, t *tenant.Tenant) (Signups, error) {
	if err := c.Check(TenantRead, t); err != nil {
		return Signups{}, err
	}
	return s.signups(ctx, t)
}

// SignupsOf is Signups for callers who may read counts.
func (s *Service) SignupsOf(ctx context.Context, c Caller, t *tenant.Tenant) (Signups, error) {
	if err := c.Check(StatsRead, t); err != nil {
		return Signups{}, err
	}
	return s.signups(ctx, t)
}

func (s *Service) signups(ctx context.Context, t *tenant.Tenant) (Signups, error) {
	freeze, err := s.deps.Store.Freeze(ctx)
	if err != nil || t == nil {
		return Signups{Freeze: freeze}, err
	}
	stored, err := s.deps.Store.Tenant(ctx, t.ID)
	return Signups{stored.SignupMode(), stored.SignupsNote, freeze}, err
}

// SetSignups opens or closes the signups of a tenant. If note is nil, closing keeps the stored
// note. Opening removes it, so that a later closing does not show an old one. It fails with
// fault.Invalid. Servers follow within a second.
func (s *Service) SetSignups(ctx context.Context, c Caller, t *tenant.Tenant, mode tenant.Signups, note *string,
	reason string) (Signups, error) {
	if err := c.Check(TenantWrite, t); err != nil {
		return Signups{}, err
	}
	if mode == "" {
		return Signups{}, fault.Field("signups", "say who can sign up: open or closed")
	}
	given := ""
	if mode == tenant.SignupsOpen {
		note = &given
	} else if note != nil {
		given = *note
	}
	mode, clean, err := tenant.CheckSignups(mode, given)
	if err != nil {
		return Signups{}, err
	}
	if note != nil {
		note = &clean
	}
	if ctx, err = c.With(ctx, reason); err != nil {
		return Signups{}, err
	}
	changed, err := s.deps.Store.SetSignups(ctx, t.ID, mode, note, s.deps.Now())
	if err != nil {
		return Signups{}, err
	}
	freeze, err := s.deps.Store.Freeze(ctx)
	return Signups{changed.SignupMode(), changed.SignupsNote, freeze}, err
}

// SetSignupsNote changes only the note about closed signups of a tenant. It fails with fault.Invalid.
func (s *Service) SetSignupsNote(ctx context.Context, c Caller, t *tenant.Tenant, note, reason string) error {
	_, err := s.SetTenant(ctx, c, t, reason, func(t tenant.Tenant) (tenant.Tenant, error) {
		t.SignupsNote = note
		return t, nil
	})
	return err
}

// SignupsChange returns the change that set who can sign up at a tenant, if it is among the
// newest changes of the tenant and mode is still what it set.
func (s *Service) SignupsChange(ctx context.Context, c Caller, t *tenant.Tenant, mode tenant.Signups) (audit.Change,
	bool, error) {
	f := audit.Filter{Action: string(audit.TenantSet), Newest: true}
	page, err := s.Changes(ctx, c, t, f, "", 100)
	if err != nil {
		return audit.Change{}, false, err
	}
	for _, change := range page.Changes {
		var was, is struct {
			Signups tenant.Signups `json:"signups"`
		}
		if json.Unmarshal([]byte(change.Before), &was) != nil || json.Unmarshal([]byte(change.After), &is) != nil ||
			was == is {
			continue
		}
		is.Signups = cmp.Or(is.Signups, tenant.SignupsOpen)
		return change, is.Signups == mode, nil
	}
	return audit.Change{}, false, nil
}

// SetFreeze closes the signups of all tenants, or lifts the freeze if freeze is nil. It returns
// the new freeze. Visitors see its note instead of that of the tenant. It fails with
// fault.Invalid for the note. Servers follow within a second.
func (s *Service) SetFreeze(ctx context.Context, c Caller, freeze *tenant.Freeze,
	reason string) (*tenant.Freeze, error) {
	if err := c.Check(TenantWrite, nil); err != nil {
		return nil, err
	}
	if freeze != nil {
		_, note, err := tenant.CheckSignups(tenant.SignupsClosed, freeze.Note)
		if err != nil {
			return nil, err
		}
		freeze = &tenant.Freeze{Note: note}
	}
	ctx, err := c.With(ctx, reason)
	if err != nil {
		return nil, err
	}
	return freeze, s.deps.Store.SetFreeze(ctx, freeze, s.deps.Now())
}
