package operator

import (
	"context"

	"dialtone/internal/audit"
	"dialtone/internal/tenant"
)

// Changes returns a page of the audit trail: the changes at a tenant, or all changes if t is
// nil. A caller of one tenant does not see changes of an earlier tenant with the same host.
func (s *Service) Changes(ctx context.Context, c Caller, t *tenant.Tenant, f audit.Filter, next string,
	limit int) (audit.Page, error) {
	f, err := c.mayRead(t, f)
	if err != nil {
		return audit.Page{}, err
	}
	return s.deps.Store.ChangePage(ctx, f, next, limit)
}

// ExportChanges calls each for every change at a tenant that a filter selects, or for those of all tenants if t is nil,
// until each returns an error, and returns that error. The export is itself in the audit trail,
// and checkpoints cover everything exported.
func (s *Service) ExportChanges(ctx context.Context, c Caller, t *tenant.Tenant, f audit.Filter, reason string,
	each func(audit.Change) error) error {
	f, err := c.mayRead(t, f)
	if err != nil {
		return err
	}
	ctx, err = c.With(ctx, reason)
	if err != nil {
		return err
	}
	export := audit.Change{At: s.deps.Now(), Action: audit.AuditExport, Outcome: audit.OK, Tenant: f.Tenant}
	if err := s.deps.Store.AddChange(ctx, export); err != nil {
		return err
	}
	s.coverTrail(ctx)
	return s.deps.Store.Changes(ctx, f, each)
}

// mayRead restricts a filter to what the caller may see of the changes at a tenant, or of all changes if t is nil.
func (c Caller) mayRead(t *tenant.Tenant, f audit.Filter) (audit.Filter, error) {
	if err := c.Check(AuditRead, t); err != nil {
		return f, err
	}
	if t != nil {
		f.Tenant = t.Host
	}
	if c.Tenant != 0 && f.Since.Before(t.Created) {
		f.Since = t.Created
	}
	return f, nil
}
