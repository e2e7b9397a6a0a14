package conformance

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/sipserver"
)

// newServer returns a server for tenants, with a unique token.
func (t *test) newServer(name string, tenants ...int64) sipserver.Server {
	t.Helper()
	s := sipserver.Server{Name: name, Tenants: tenants, Created: noon.Add(3 * tick)}
	rand.Read(s.Token[:])
	return s
}

// servers returns all servers, as text, and their version.
func (t *test) servers() (list []string, version int64) {
	t.Helper()
	all, version, err := t.Servers(t.ctx)
	t.must(err)
	got, err := t.ServersVersion(t.ctx)
	t.must(err)
	if got != version {
		t.Errorf("Servers returns version %d, ServersVersion %d", version, got)
	}
	for _, s := range all {
		list = append(list, fmt.Sprintf("%#v", s))
	}
	return list, version
}

var serverTests = []testCase{
	{"keep every field, and are listed by name", func(t *test) {
		two := t.newServer("kamailio-2", t.tenant, t.addTenant("b.test"))
		one := t.newServer("Asterisk.1", t.tenant)
		_, before := t.servers()
		t.must(t.AddServer(t.ctx, two))
		_, between := t.servers()
		t.must(t.AddServer(t.ctx, one))
		list, after := t.servers()
		t.wantEqual(list, []string{fmt.Sprintf("%#v", one), fmt.Sprintf("%#v", two)})
		if before >= between || between >= after {
			t.Errorf("the versions are %d, %d, %d", before, between, after)
		}
	}},
	{"have unique names", func(t *test) {
		first := t.newServer("sbc", t.tenant)
		t.must(t.AddServer(t.ctx, first))
		_, before := t.servers()
		t.wantKind(t.AddServer(t.ctx, t.newServer("sbc", t.tenant)), fault.Conflict)
		list, after := t.servers()
		t.wantEqual(list, []string{fmt.Sprintf("%#v", first)})
		if before != after {
			t.Errorf("a refused call changed the version from %d to %d", before, after)
		}
	}},
	{"are removed with their token", func(t *test) {
		removed, kept := t.newServer("removed", t.tenant), t.newServer("stays", t.tenant)
		t.must(t.AddServer(t.ctx, removed))
		t.must(t.AddServer(t.ctx, kept))
		_, before := t.servers()
		t.must(t.RemoveServer(t.ctx, "removed"))
		list, after := t.servers()
		t.wantEqual(list, []string{fmt.Sprintf("%#v", kept)})
		if after <= before {
			t.Errorf("the version went from %d to %d", before, after)
		}
		t.wantKind(t.RemoveServer(t.ctx, "removed"), fault.NotFound)
		again := t.newServer("removed", t.tenant)
		t.must(t.AddServer(t.ctx, again))
		list, _ = t.servers()
		t.wantEqual(list, []string{fmt.Sprintf("%#v", again), fmt.Sprintf("%#v", kept)})
	}},
	{"have case-sensitive names", func(t *test) {
		t.must(t.AddServer(t.ctx, t.newServer("sbc", t.tenant)))
		t.must(t.AddServer(t.ctx, t.newServer("SBC", t.tenant)))
		t.must(t.RemoveServer(t.ctx, "SBC"))
		t.wantKind(t.RemoveServer(t.ctx, "Sbc"), fault.NotFound)
		t.must(t.RemoveServer(t.ctx, "sbc"))
	}},
	{"are kept when one of their tenants is removed", func(t *test) {
		other := t.addTenant("b.test")
		s := t.newServer("sbc", t.tenant, other)
		t.must(t.AddServer(t.ctx, s))
		t.must(t.RemoveTenant(t.ctx, "b.test", false, noon))
		if id := t.addTenant("b.test"); id == other {
			t.Errorf("a new tenant got the id %d, which the server may look up", id)
		}
		list, _ := t.servers()
		t.wantEqual(list, []string{fmt.Sprintf("%#v", s)})
	}},
	{"are added and removed once by 20 concurrent calls", func(t *test) {
		count := t.concurrently(20, func(int) error { return t.AddServer(t.ctx, t.newServer("sbc", t.tenant)) })
		if count[succeeded] != 1 || count[fault.Conflict] != 19 {
			t.Errorf("results by kind: %v", count)
		}
		count = t.concurrently(20, func(int) error { return t.RemoveServer(t.ctx, "sbc") })
		if count[succeeded] != 1 || count[fault.NotFound] != 19 {
			t.Errorf("results by kind: %v", count)
		}
		_, before := t.servers()
		t.concurrently(20, func(i int) error {
			return t.AddServer(t.ctx, t.newServer(fmt.Sprint("sbc", i), t.tenant))
		})
		if _, after := t.servers(); after != before+20 {
			t.Errorf("20 changes raised the version from %d to %d", before, after)
		}
	}},
}

// wantSealed checks repeated look-ups, which may come from a cache. want is nil if the user must be
// unknown.
func (t *test) wantSealed(user string, at time.Time, want *account.Account) {
	t.Helper()
	for range 4 {
		got, err := t.Sealed(t.ctx, t.tenant, user, at)
		if want == nil {
			t.wantKind(err, fault.NotFound)
			t.wantAccount(got, account.Account{})
			continue
		}
		t.must(err)
		t.wantAccount(got, account.Account{
			Tenant: t.tenant, UID: want.UID, User: user, Role: want.Role, Disabled: want.Disabled, Sealed: want.Sealed,
		})
	}
}

// withState returns a copy of an account with a role and a state.
func withState(a account.Account, role account.Role, disabled bool) *account.Account {
	a.Role, a.Disabled = role, disabled
	return &a
}

var sealedTests = []testCase{
	{"show every change at once", func(t *test) {
		t.wantSealed("ann", noon, nil)
		a := t.addPending("ann", noon)
		pending, active := withState(a.Account, account.Guest, true), withState(a.Account, account.Guest, false)
		t.wantSealed("ann", noon, pending)
		_, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
		t.must(err)
		t.wantSealed("ann", noon, active)
		t.wantSealed("ann", noon.Add(2*account.PendingLife), active)
		_, err = t.SetRole(t.ctx, t.tenant, "ann", account.User, noon)
		t.must(err)
		t.wantSealed("ann", noon, withState(a.Account, account.User, false))
		_, err = t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantSealed("ann", noon, withState(a.Account, account.User, true))
		_, err = t.EnableNow(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantSealed("ann", noon, withState(a.Account, account.User, false))
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		t.wantSealed("ann", noon, nil)
	}},
	{"do not include expired pending accounts", func(t *test) {
		a := t.addPending("ann", noon)
		end := noon.Add(account.PendingLife)
		t.wantSealed("ann", end.Add(-tick), &a.Account)
		t.wantSealed("ann", end, nil)
		t.wantSealed("ann", end.Add(-tick), &a.Account) // by a clock that is behind
		next := t.addPending("ann", end)
		t.wantSealed("ann", end, &next.Account)
	}},
	{"are per tenant", func(t *test) {
		a := t.addActive("ann", noon)
		other := t.addTenant("other.test")
		t.wantSealed("ann", noon, withState(a.Account, account.Guest, false))
		_, err := t.Sealed(t.ctx, other, "ann", noon)
		t.wantKind(err, fault.NotFound)
		_, err = t.Sealed(t.ctx, t.tenant, "anna", noon)
		t.wantKind(err, fault.NotFound)
	}},
}

// changesDuring registers a function with OnChange, and returns the UIDs with which the store calls
// it during do.
func (t *test) changesDuring(do func() error) (got []account.UID) {
	t.Helper()
	var mu sync.Mutex
	open := true
	t.OnChange(func(uid account.UID) {
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
	t.must(err)
	return got
}

var changeTests = []testCase{
	{"is called before a change is acknowledged", func(t *test) {
		a := t.addPending("ann", noon)
		t.addTenant("other.test")
		for _, c := range []struct {
			what string
			uid  account.UID
			do   func() error
		}{
			{"activating", a.Account.UID, func() error {
				_, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
				return err
			}},
			{"disabling", a.Account.UID, func() error {
				_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
				return err
			}},
			{"enabling", a.Account.UID, func() error {
				_, err := t.EnableNow(t.ctx, t.tenant, "ann", noon)
				return err
			}},
			{"changing a role", a.Account.UID, func() error {
				_, err := t.SetRole(t.ctx, t.tenant, "ann", account.SIPOnly, noon)
				return err
			}},
			{"deleting", a.Account.UID, func() error { return t.Delete(t.ctx, t.tenant, "ann", noon) }},
			{"removing a tenant", account.UID{}, func() error {
				return t.RemoveTenant(t.ctx, "other.test", true, noon)
			}},
		} {
			if got := t.changesDuring(c.do); !slices.Contains(got, c.uid) {
				t.Errorf("%s: called with %v, want %v", c.what, got, c.uid)
			}
		}
	}},
	{"is called when a read sees the change", func(t *test) {
		t.addActive("ann", noon)
		seen := false
		t.OnChange(func(account.UID) {
			a, err := t.Find(t.ctx, t.tenant, "ann", noon)
			seen = err == nil && a.Disabled
		})
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		if !seen {
			t.Error("a read does not see the change")
		}
	}},
	{"is not called for signups", func(t *test) {
		if got := t.changesDuring(func() error { t.addPending("ann", noon); return nil }); len(got) > 0 {
			t.Errorf("called with %v", got)
		}
	}},
}
