package operator_test

import (
	"context"
	"testing"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
)

// trail is a store that keeps the filter of the last list, and the changes that were added.
type trail struct {
	operator.Store
	filter audit.Filter
	added  []audit.Change
}

func (s *trail) ChangePage(_ context.Context, f audit.Filter, _ string, _ int) (audit.Page, error) {
	s.filter = f
	return audit.Page{}, nil
}

func (s *trail) Changes(_ context.Context, f audit.Filter, _ func(audit.Change) error) error {
	s.filter = f
	return nil
}

func (s *trail) AddChange(ctx context.Context, c audit.Change) error {
	c.Cause = audit.CauseOf(ctx)
	s.added = append(s.added, c)
	return nil
}

// A caller of one tenant sees only the changes there since the tenant was added.
func TestChanges(t *testing.T) {
	created := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	own, other := &tenant.Tenant{ID: 1, Host: "own.test", Created: created}, &tenant.Tenant{ID: 2, Host: "other.test"}
	scopes := []operator.Scope{operator.AuditRead}
	admin := operator.Caller{Actor: audit.Actor{Kind: audit.Admin, Name: "ann"}, Tenant: 1, Scopes: scopes}
	all := operator.Caller{Scopes: scopes}
	for name, c := range map[string]struct {
		caller operator.Caller
		at     *tenant.Tenant
		asked  audit.Filter
		want   audit.Filter
		ok     bool
	}{
		"own tenant": {
			admin, own, audit.Filter{User: "x"},
			audit.Filter{User: "x", Tenant: "own.test", Since: created}, true,
		},
		"another in it": {
			admin, own, audit.Filter{Tenant: "other.test"},
			audit.Filter{Tenant: "own.test", Since: created}, true,
		},
		"later": {
			admin, own, audit.Filter{Since: created.Add(1)},
			audit.Filter{Tenant: "own.test", Since: created.Add(1)}, true,
		},
		"another tenant": {
			admin, other, audit.Filter{},
			audit.Filter{}, false,
		},
		"everything": {
			admin, nil, audit.Filter{},
			audit.Filter{}, false,
		},
		"all by all": {
			all, nil, audit.Filter{Tenant: "gone.test"},
			audit.Filter{Tenant: "gone.test"}, true,
		},
		"one by all": {
			all, own, audit.Filter{},
			audit.Filter{Tenant: "own.test"}, true,
		},
		"without a scope": {
			operator.Caller{}, own, audit.Filter{},
			audit.Filter{}, false,
		},
	} {
		store := &trail{}
		covered := -1 // how many changes there were when checkpoints were written
		s := operator.NewService(operator.Deps{
			Store: store, Now: func() time.Time { return created },
			CoverTrail: func(context.Context) { covered = len(store.added) },
		})
		_, err := s.Changes(t.Context(), c.caller, c.at, c.asked, "", 10)
		if err == nil != c.ok || err != nil && !fault.Is(err, fault.Forbidden) || store.filter != c.want {
			t.Errorf("%s: %v, %+v, want %+v", name, err, store.filter, c.want)
		}
		store.filter = audit.Filter{}
		err = s.ExportChanges(t.Context(), c.caller, c.at, c.asked, "asked", func(audit.Change) error { return nil })
		if err == nil != c.ok || store.filter != c.want || len(store.added) > 0 != c.ok {
			t.Errorf("export of %s: %v, %+v, want %+v", name, err, store.filter, c.want)
		}
		if c.ok && (store.added[0].Action != audit.AuditExport || store.added[0].Tenant != c.want.Tenant ||
			store.added[0].Actor != c.caller.Actor || store.added[0].Reason != "asked") {
			t.Errorf("export of %s adds %+v", name, store.added)
		}
		if c.ok != (covered == 1) {
			t.Errorf("export of %s: checkpoints were written after %d changes", name, covered)
		}
	}
}
