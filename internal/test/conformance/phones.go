package conformance

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/sipserver"
)

// phoneServer is a new server for tenants.
func (b *bench) phoneServer(name string, tenants ...int64) sipserver.Server {
	b.Helper()
	one, two := fresh(), fresh()
	s := sipserver.Server{Name: name, Tenants: tenants, Created: noon.Add(3 * tick)}
	copy(s.Token[:], append(one[:], two[:]...))
	return s
}

// servers are all servers, as text, and the number of changes.
func (b *bench) servers() (list []string, version int64) {
	b.Helper()
	all, version, err := b.Servers(b.ctx)
	b.must(err)
	alone, err := b.ServersVersion(b.ctx)
	b.must(err)
	if alone != version {
		b.Errorf("Servers tells the number %d, ServersVersion %d", version, alone)
	}
	for _, s := range all {
		list = append(list, fmt.Sprintf("%#v", s))
	}
	return list, version
}

var phoneRules = []rule{
	{"are added whole, and listed by name", func(b *bench) {
		two := b.phoneServer("kamailio-2", b.tenant, b.addTenant("b.test"))
		one := b.phoneServer("Asterisk.1", b.tenant)
		_, before := b.servers()
		b.must(b.AddServer(b.ctx, two))
		_, between := b.servers()
		b.must(b.AddServer(b.ctx, one))
		list, after := b.servers()
		b.equal(list, []string{fmt.Sprintf("%#v", one), fmt.Sprintf("%#v", two)})
		if before >= between || between >= after {
			b.Errorf("the number of changes goes %d, %d, %d", before, between, after)
		}
	}},
	{"cannot have a name twice", func(b *bench) {
		first := b.phoneServer("sbc", b.tenant)
		b.must(b.AddServer(b.ctx, first))
		_, before := b.servers()
		b.refused(b.AddServer(b.ctx, b.phoneServer("sbc", b.tenant)), fault.Conflict)
		list, after := b.servers()
		b.equal(list, []string{fmt.Sprintf("%#v", first)})
		if before != after {
			b.Errorf("a refusal counts as a change")
		}
	}},
	{"are removed with their token", func(b *bench) {
		gone, stays := b.phoneServer("gone", b.tenant), b.phoneServer("stays", b.tenant)
		b.must(b.AddServer(b.ctx, gone))
		b.must(b.AddServer(b.ctx, stays))
		_, before := b.servers()
		b.must(b.RemoveServer(b.ctx, "gone"))
		list, after := b.servers()
		b.equal(list, []string{fmt.Sprintf("%#v", stays)})
		if after <= before {
			b.Errorf("the number of changes goes from %d to %d", before, after)
		}
		b.refused(b.RemoveServer(b.ctx, "gone"), fault.NotFound)
		again := b.phoneServer("gone", b.tenant)
		b.must(b.AddServer(b.ctx, again))
		list, _ = b.servers()
		b.equal(list, []string{fmt.Sprintf("%#v", again), fmt.Sprintf("%#v", stays)})
	}},
	{"are told apart by case", func(b *bench) {
		b.must(b.AddServer(b.ctx, b.phoneServer("sbc", b.tenant)))
		b.must(b.AddServer(b.ctx, b.phoneServer("SBC", b.tenant)))
		b.must(b.RemoveServer(b.ctx, "SBC"))
		b.refused(b.RemoveServer(b.ctx, "Sbc"), fault.NotFound)
		b.must(b.RemoveServer(b.ctx, "sbc"))
	}},
	{"outlive a tenant", func(b *bench) {
		other := b.addTenant("b.test")
		s := b.phoneServer("sbc", b.tenant, other)
		b.must(b.AddServer(b.ctx, s))
		b.must(b.RemoveTenant(b.ctx, "b.test", false, noon))
		if id := b.addTenant("b.test"); id == other {
			b.Errorf("the server may ask about another tenant that has got the id %d", id)
		}
		list, _ := b.servers()
		b.equal(list, []string{fmt.Sprintf("%#v", s)})
	}},
	{"go to one of many at once that want a name", func(b *bench) {
		count := b.crowd(20, func(int) error { return b.AddServer(b.ctx, b.phoneServer("sbc", b.tenant)) })
		if count[-1] != 1 || count[fault.Conflict] != 19 {
			b.Errorf("results by kind: %v", count)
		}
		count = b.crowd(20, func(int) error { return b.RemoveServer(b.ctx, "sbc") })
		if count[-1] != 1 || count[fault.NotFound] != 19 {
			b.Errorf("results by kind: %v", count)
		}
		_, before := b.servers()
		b.crowd(20, func(i int) error { return b.AddServer(b.ctx, b.phoneServer("sbc"+strconv.Itoa(i), b.tenant)) })
		if _, after := b.servers(); after != before+20 {
			b.Errorf("20 changes raise the number from %d to %d", before, after)
		}
	}},
}

// sealed checks repeated look-ups, which may come from a cache. want is the account, or nil if there
// must be none.
func (b *bench) sealed(user string, at time.Time, want *account.Account) {
	b.Helper()
	for range 4 {
		got, err := b.Sealed(b.ctx, b.tenant, user, at)
		if want == nil {
			b.refused(err, fault.NotFound)
			b.same(got, account.Account{})
			continue
		}
		b.must(err)
		b.same(got, account.Account{
			Tenant: b.tenant, UID: want.UID, Role: want.Role, Disabled: want.Disabled, Sealed: want.Sealed,
		})
	}
}

// with returns a copy of an account with a role and a state.
func with(a account.Account, role account.Role, disabled bool) *account.Account {
	a.Role, a.Disabled = role, disabled
	return &a
}

var sealedRules = []rule{
	{"return every change at once", func(b *bench) {
		b.sealed("ann", noon, nil)
		a := b.join("ann", noon)
		pending, active := with(a.Account, account.Guest, true), with(a.Account, account.Guest, false)
		b.sealed("ann", noon, pending)
		_, err := b.Activate(b.ctx, b.tenant, a.Token, noon)
		b.must(err)
		b.sealed("ann", noon, active)
		b.sealed("ann", noon.Add(2*account.PendingLife), active)
		_, err = b.SetRole(b.ctx, b.tenant, "ann", account.User, noon)
		b.must(err)
		b.sealed("ann", noon, with(a.Account, account.User, false))
		_, err = b.Disable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		b.sealed("ann", noon, with(a.Account, account.User, true))
		_, err = b.Enable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		b.sealed("ann", noon, with(a.Account, account.User, false))
		b.must(b.Delete(b.ctx, b.tenant, "ann", noon))
		b.sealed("ann", noon, nil)
	}},
	{"return no pending account that has expired", func(b *bench) {
		a := b.join("ann", noon)
		end := noon.Add(account.PendingLife)
		b.sealed("ann", end.Add(-tick), &a.Account)
		b.sealed("ann", end, nil)
		b.sealed("ann", end.Add(-tick), &a.Account) // the clock of another server
		next := b.join("ann", end)
		b.sealed("ann", end, &next.Account)
	}},
	{"return accounts of one tenant", func(b *bench) {
		a := b.member("ann", noon)
		other := b.addTenant("other.test")
		b.sealed("ann", noon, with(a.Account, account.Guest, false))
		_, err := b.Sealed(b.ctx, other, "ann", noon)
		b.refused(err, fault.NotFound)
		_, err = b.Sealed(b.ctx, b.tenant, "anna", noon)
		b.refused(err, fault.NotFound)
	}},
}

// changed returns the UIDs that the functions of OnChange are called with before do returns.
func (b *bench) changed(do func() error) (got []account.UID) {
	b.Helper()
	var mu sync.Mutex
	open := true
	b.OnChange(func(uid account.UID) {
		mu.Lock()
		defer mu.Unlock()
		if open {
			got = append(got, uid)
		}
	})
	err := do()
	mu.Lock()
	defer mu.Unlock()
	open = false
	b.must(err)
	return got
}

var changeRules = []rule{
	{"are reported before they are answered", func(b *bench) {
		a := b.join("ann", noon)
		b.addTenant("other.test")
		for _, c := range []struct {
			what string
			uid  account.UID
			do   func() error
		}{
			{"activating", a.Account.UID, func() error {
				_, err := b.Activate(b.ctx, b.tenant, a.Token, noon)
				return err
			}},
			{"disabling", a.Account.UID, func() error {
				_, err := b.Disable(b.ctx, b.tenant, "ann", noon)
				return err
			}},
			{"enabling", a.Account.UID, func() error {
				_, err := b.Enable(b.ctx, b.tenant, "ann", noon)
				return err
			}},
			{"a role", a.Account.UID, func() error {
				_, err := b.SetRole(b.ctx, b.tenant, "ann", account.SIPOnly, noon)
				return err
			}},
			{"deleting", a.Account.UID, func() error { return b.Delete(b.ctx, b.tenant, "ann", noon) }},
			{"removing a tenant", account.UID{}, func() error {
				return b.RemoveTenant(b.ctx, "other.test", true, noon)
			}},
		} {
			if got := b.changed(c.do); !slices.Contains(got, c.uid) {
				b.Errorf("%s reports %v, want %v", c.what, got, c.uid)
			}
		}
	}},
	{"are committed when they are reported", func(b *bench) {
		b.member("ann", noon)
		seen := false
		b.OnChange(func(account.UID) {
			a, err := b.Find(b.ctx, b.tenant, "ann", noon)
			seen = err == nil && a.Disabled
		})
		_, err := b.Disable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		if !seen {
			b.Error("a read in the function of OnChange does not see the change")
		}
	}},
	{"are not reported for signups", func(b *bench) {
		if got := b.changed(func() error { b.join("ann", noon); return nil }); len(got) > 0 {
			b.Errorf("a signup reports %v", got)
		}
	}},
}
