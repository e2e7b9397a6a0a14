package operator_test

import (
	"net/netip"
	"testing"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
)

func TestCheck(t *testing.T) {
	own, other := &tenant.Tenant{ID: 1}, &tenant.Tenant{ID: 2}
	const read = operator.AccountsRead
	reads := []operator.Scope{read}
	atOwn := operator.Caller{Tenant: 1, Scopes: reads}
	for name, c := range map[string]struct {
		caller operator.Caller
		scope  operator.Scope
		at     *tenant.Tenant
		ok     bool
	}{
		"own tenant":                     {atOwn, read, own, true},
		"another tenant":                 {atOwn, read, other, false},
		"the installation from a tenant": {atOwn, read, nil, false},
		"a missing scope":                {atOwn, operator.AccountsWrite, own, false},
		"any tenant":                     {operator.Caller{Scopes: reads}, read, other, true},
		"the installation":               {operator.Caller{Scopes: operator.Scopes}, operator.TenantWrite, nil, true},
		"no scope":                       {operator.Caller{}, read, own, false},
	} {
		if err := c.caller.Check(c.scope, c.at); err == nil != c.ok || err != nil && !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWith(t *testing.T) {
	c := operator.Caller{
		Actor: audit.Actor{Kind: audit.Admin, Name: "ann"}, Addr: netip.MustParseAddr("192.0.2.7"), Request: "r1",
	}
	ctx, err := c.With(t.Context(), "asked")
	if err != nil {
		t.Fatal(err)
	}
	want := audit.Cause{Actor: c.Actor, Reason: "asked", Net: "192.0.2.0/24", Request: "r1"}
	if got := audit.CauseOf(ctx); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if _, err := c.With(t.Context(), "two\nlines"); !fault.Is(err, fault.Invalid) {
		t.Errorf("a reason of two lines: %v", err)
	}
}
