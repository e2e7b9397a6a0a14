package conformance

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// hosts are the hosts of all tenants.
func (b *bench) hosts() (hosts []string) {
	b.Helper()
	list, _, err := b.Tenants(b.ctx)
	b.must(err)
	for _, t := range list {
		hosts = append(hosts, t.Host)
	}
	return hosts
}

// tenantOf is the tenant with the host, as the store has it.
func (b *bench) tenantOf(host string) tenant.Tenant {
	b.Helper()
	list, _, err := b.Tenants(b.ctx)
	b.must(err)
	for _, t := range list {
		if t.Host == host {
			return t
		}
	}
	b.Fatalf("there is no tenant %s", host)
	return tenant.Tenant{}
}

func (b *bench) sameTenant(got, want tenant.Tenant) {
	b.Helper()
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
		b.Errorf("got  %s\nwant %s", g, w)
	}
}

// rises wants that do raises the number of changes, where it succeeds, and lets it be where it fails.
func (b *bench) rises(do func() error) error {
	b.Helper()
	before, err := b.TenantVersion(b.ctx)
	b.must(err)
	failed := do()
	after, err := b.TenantVersion(b.ctx)
	b.must(err)
	if failed == nil && after <= before {
		b.Errorf("the number went from %d to %d over a change", before, after)
	}
	_, listed, err := b.Tenants(b.ctx)
	b.must(err)
	if listed != after {
		b.Errorf("Tenants tells the number %d, TenantVersion %d", listed, after)
	}
	return failed
}

var tenantRules = []rule{
	{"are added whole, and listed by host", func(b *bench) {
		want := tenant.Tenant{
			Host: "b.test", Realm: "Realm of B", PublicURL: "https://b.test:8443", Created: noon.Add(7 * tick),
			Settings: tenant.Settings{
				Product: "Bürotelefon", MailFrom: "phones@b.test", SIPServer: "sip.b.test", SIPTransport: "TCP",
				Origins: []string{"https://x.test", "https://y.test"}, Reserved: []string{"initech", "lab"},
				Algorithm: digest.SHA256, SignupsPerHour: 200, Activation: tenant.ActivationConfirm,
			},
		}
		got, err := b.AddTenant(b.ctx, want)
		b.must(err)
		if got.ID == 0 || got.ID == b.tenant {
			b.Fatalf("the id is %d", got.ID)
		}
		want.ID = got.ID
		b.sameTenant(got, want)
		b.sameTenant(b.tenantOf("b.test"), want)
		b.addTenant("a.test")
		b.equal(b.hosts(), []string{"a.test", "b.test", "phone.test"})
	}},
	{"cannot have a host twice", func(b *bench) {
		_, err := b.AddTenant(b.ctx, tenant.Tenant{Host: "phone.test", Realm: "another", Created: noon})
		b.refused(err, fault.Conflict)
		b.equal(b.hosts(), []string{"phone.test"})
	}},
	{"cannot share a realm, in whatever case", func(b *bench) {
		for _, realm := range []string{"phone.test", "PHONE.TEST", "Phone.Test"} {
			_, err := b.AddTenant(b.ctx, tenant.Tenant{Host: "b.test", Realm: realm, Created: noon})
			b.refused(err, fault.Conflict)
		}
		b.addTenant("b.test")
		other := b.tenantOf("b.test")
		other.Realm = "pHONE.test"
		b.refused(b.SetTenant(b.ctx, other, noon), fault.Conflict)
		b.equal(b.hosts(), []string{"b.test", "phone.test"})
	}},
	{"one of 20 at once gets a host", func(b *bench) {
		got := b.crowd(20, func(i int) error {
			_, err := b.AddTenant(b.ctx, tenant.Tenant{Host: "b.test", Realm: fmt.Sprint("realm ", i), Created: noon})
			return err
		})
		if got[-1] != 1 || got[fault.Conflict] != 19 {
			b.Errorf("got %v", got)
		}
	}},
	{"one of 20 at once gets a realm", func(b *bench) {
		got := b.crowd(20, func(i int) error {
			_, err := b.AddTenant(b.ctx, tenant.Tenant{Host: fmt.Sprintf("b%d.test", i), Realm: "one", Created: noon})
			return err
		})
		if got[-1] != 1 || got[fault.Conflict] != 19 {
			b.Errorf("got %v", got)
		}
	}},
	{"may change the realm while they have no accounts", func(b *bench) {
		t := b.tenantOf("phone.test")
		t.Realm = "new realm"
		b.must(b.SetTenant(b.ctx, t, noon))
		b.sameTenant(b.tenantOf("phone.test"), t)
		b.must(b.SetTenant(b.ctx, t, noon))
	}},
	{"cannot change the realm while they have accounts, not even its case", func(b *bench) {
		b.join("ann", noon)
		before := b.tenantOf("phone.test")
		for _, realm := range []string{"new realm", "Phone.test"} {
			t := before
			t.Realm, t.Product = realm, "changed"
			b.refused(b.SetTenant(b.ctx, t, noon), fault.Conflict)
			b.sameTenant(b.tenantOf("phone.test"), before)
		}
		// The account that nobody activated is gone in a week.
		t := before
		t.Realm = "new realm"
		b.refused(b.SetTenant(b.ctx, t, noon.Add(week-tick)), fault.Conflict)
		b.must(b.SetTenant(b.ctx, t, noon.Add(week)))
	}},
	{"may change everything else while they have accounts", func(b *bench) {
		b.member("ann", noon)
		t := b.tenantOf("phone.test")
		t.PublicURL = "https://phone.test:444"
		t.Settings = tenant.Settings{Product: "P", Reserved: []string{"lab"}, SignupsPerHour: 5}
		b.must(b.SetTenant(b.ctx, t, noon))
		b.sameTenant(b.tenantOf("phone.test"), t)
	}},
	{"keep their host and the time they were made, whatever is set", func(b *bench) {
		before := b.tenantOf("phone.test")
		t := before
		t.Host, t.Created = "other.test", noon.Add(time.Hour)
		b.must(b.SetTenant(b.ctx, t, noon))
		b.sameTenant(b.tenantOf("phone.test"), before)
	}},
	{"cannot ask for SHA-256 while an account lacks it", func(b *bench) {
		with := b.admission("with", noon)
		with.Account.HasSHA256 = true
		b.must(b.Create(b.ctx, with, noon))
		b.join("without", noon)
		before := b.tenantOf("phone.test")
		t := before
		t.Algorithm = digest.SHA256
		b.refused(b.SetTenant(b.ctx, t, noon), fault.Conflict)
		b.sameTenant(b.tenantOf("phone.test"), before)
		b.must(b.Delete(b.ctx, b.tenant, "without", noon))
		b.must(b.SetTenant(b.ctx, t, noon))
		t.Algorithm = digest.MD5
		b.must(b.SetTenant(b.ctx, t, noon))
	}},
	{"may ask for SHA-256 when who lacks it was deleted", func(b *bench) {
		b.member("without", noon)
		b.must(b.Delete(b.ctx, b.tenant, "without", noon))
		t := b.tenantOf("phone.test")
		t.Algorithm = digest.SHA256
		b.must(b.SetTenant(b.ctx, t, noon))
	}},
	{"that are gone cannot be changed or removed", func(b *bench) {
		gone := b.tenantOf("phone.test")
		b.must(b.RemoveTenant(b.ctx, "phone.test", false, noon))
		b.refused(b.SetTenant(b.ctx, gone, noon), fault.NotFound)
		for _, accounts := range []bool{false, true} {
			b.refused(b.RemoveTenant(b.ctx, "phone.test", accounts, noon), fault.NotFound)
		}
		b.equal(b.hosts(), nil)
	}},
	{"are not removed while they have accounts", func(b *bench) {
		b.join("ann", noon)
		b.refused(b.RemoveTenant(b.ctx, "phone.test", false, noon), fault.Conflict)
		b.find("ann", noon)
		b.refused(b.RemoveTenant(b.ctx, "phone.test", false, noon.Add(week-tick)), fault.Conflict)
		b.must(b.RemoveTenant(b.ctx, "phone.test", false, noon.Add(week)))
	}},
	{"are removed with all that they have", func(b *bench) {
		a := b.member("ann", noon)
		b.join("bob", noon)
		b.member("cid", noon)
		b.must(b.Delete(b.ctx, b.tenant, "cid", noon))
		b.must(b.RemoveTenant(b.ctx, "phone.test", true, noon))
		b.equal(b.hosts(), nil)
		b.equal(b.listed(noon), nil)
		b.equal(b.waiting(), nil)
		_, err := b.Activate(b.ctx, b.tenant, a.Token, noon)
		b.refused(err, fault.NotFound)
	}},
	{"take only their own accounts with them", func(b *bench) {
		b.member("ann", noon)
		b.addTenant("b.test")
		b.must(b.RemoveTenant(b.ctx, "b.test", true, noon))
		b.find("ann", noon)
	}},
	{"never get the id of one that was removed", func(b *bench) {
		// A server that has not heard of the change yet would put accounts of the one with the other.
		last := b.tenant
		for range 3 {
			b.must(b.RemoveTenant(b.ctx, "phone.test", false, noon))
			next := b.addTenant("phone.test")
			if next <= last {
				b.Fatalf("the tenant after %d is %d", last, next)
			}
			last = next
		}
	}},
	{"raise the number with every change, and with nothing else", func(b *bench) {
		b.must(b.rises(func() error {
			_, err := b.AddTenant(b.ctx, tenant.Tenant{Host: "b.test", Realm: "b.test", Created: noon})
			return err
		}))
		t := b.tenantOf("b.test")
		t.Product = "B"
		b.must(b.rises(func() error { return b.SetTenant(b.ctx, t, noon) }))
		b.must(b.rises(func() error { return b.RemoveTenant(b.ctx, "b.test", false, noon) }))
		before, err := b.TenantVersion(b.ctx)
		b.must(err)
		b.member("ann", noon)
		_, err = b.AddTenant(b.ctx, tenant.Tenant{Host: "phone.test", Realm: "x", Created: noon})
		b.refused(err, fault.Conflict)
		b.must(b.AddFirstTenant(b.ctx, tenant.Tenant{Host: "x.test", Realm: "x", Created: noon}))
		after, err := b.TenantVersion(b.ctx)
		b.must(err)
		if before != after {
			b.Errorf("the number went from %d to %d though no tenant changed", before, after)
		}
	}},
	{"AddFirstTenant adds one where there is none", func(b *bench) {
		b.must(b.RemoveTenant(b.ctx, "phone.test", false, noon))
		b.must(b.rises(func() error {
			return b.AddFirstTenant(b.ctx, tenant.Tenant{Host: "first.test", Realm: "first.test", Created: noon})
		}))
		b.equal(b.hosts(), []string{"first.test"})
	}},
	{"AddFirstTenant does nothing where there is one", func(b *bench) {
		for _, host := range []string{"second.test", "phone.test"} {
			b.must(b.AddFirstTenant(b.ctx, tenant.Tenant{Host: host, Realm: host, Created: noon}))
		}
		b.equal(b.hosts(), []string{"phone.test"})
	}},
	{"AddFirstTenant adds one of 20 at once", func(b *bench) {
		b.must(b.RemoveTenant(b.ctx, "phone.test", false, noon))
		got := b.crowd(20, func(i int) error {
			host := fmt.Sprintf("first%d.test", i)
			return b.AddFirstTenant(b.ctx, tenant.Tenant{Host: host, Realm: host, Created: noon})
		})
		if got[-1] != 20 || len(b.hosts()) != 1 {
			b.Errorf("got %v and the tenants %s", got, strings.Join(b.hosts(), " "))
		}
	}},
}

var sessionRules = []rule{
	{"are revoked one by one, for good, and may be revoked again", func(b *bench) {
		id, other := fresh(), fresh()
		until := noon.Add(12 * time.Hour)
		check := func(id [16]byte, until time.Time, want bool) {
			b.Helper()
			got, err := b.Revoked(b.ctx, b.tenant, id, until)
			b.must(err)
			if got != want {
				b.Errorf("revoked is %v, want %v", got, want)
			}
		}
		check(id, until, false)
		for range 2 {
			b.must(b.Revoke(b.ctx, b.tenant, id, until))
			check(id, until, true)
		}
		check(other, until, false)
		b.must(b.Revoke(b.ctx, b.tenant, other, until))
		check(id, until, true)
		check(other, until, true)
	}},
	{"are kept revoked until their time, by a sweep too", func(b *bench) {
		id, until := fresh(), noon.Add(time.Hour)
		b.must(b.Revoke(b.ctx, b.tenant, id, until))
		_, err := b.Store.Sweep(b.ctx, until.Add(-tick), noon, 100)
		b.must(err)
		got, err := b.Revoked(b.ctx, b.tenant, id, until)
		b.must(err)
		if !got {
			b.Error("a session that was ended is back")
		}
	}},
	{"spend an id once, of 20 at once too", func(b *bench) {
		for range 5 {
			id := fresh()
			var firsts atomic.Int32
			got := b.crowd(20, func(int) error {
				first, err := b.Spend(b.ctx, b.tenant, id, noon)
				if first {
					firsts.Add(1)
				}
				return err
			})
			if got[-1] != 20 || firsts.Load() != 1 {
				b.Errorf("%d of 20 were the first (%v)", firsts.Load(), got)
			}
		}
		first, err := b.Spend(b.ctx, b.tenant, fresh(), noon)
		b.must(err)
		if !first {
			b.Error("an id that nobody spent is spent")
		}
	}},
	{"can be revoked by 20 at once", func(b *bench) {
		id := fresh()
		got := b.crowd(20, func(int) error { return b.Revoke(b.ctx, b.tenant, id, noon) })
		if got[-1] != 20 {
			b.Errorf("got %v", got)
		}
	}},
}

var strangerRules = []rule{
	{"have names of their own", func(b *bench) {
		ours := b.member("ann", noon)
		home := b.tenant
		b.tenant = b.addTenant("b.test")
		theirs := b.join("ann", noon)
		b.same(b.find("ann", noon), theirs.Account)
		b.tenant = home
		if got := b.find("ann", noon); got.UID != ours.Account.UID {
			b.Errorf("got %+v", got)
		}
	}},
	{"do not see another's account", func(b *bench) {
		a := b.member("ann", noon)
		pending := b.join("bob", noon)
		b.tenant = b.addTenant("b.test")
		b.absent("ann", noon)
		_, err := b.FindUID(b.ctx, b.tenant, a.Account.UID, noon)
		b.refused(err, fault.NotFound)
		b.equal(b.listed(noon), nil)
		for _, token := range [][32]byte{a.Token, pending.Token} {
			got, err := b.Activate(b.ctx, b.tenant, token, noon)
			b.refused(err, fault.NotFound)
			if got.User != "" {
				b.Errorf("the account %q came along", got.User)
			}
		}
	}},
	{"do not change another's account", func(b *bench) {
		b.member("ann", noon)
		before := b.find("ann", noon)
		home := b.tenant
		b.tenant = b.addTenant("b.test")
		_, err := b.Enable(b.ctx, b.tenant, "ann", noon)
		b.refused(err, fault.NotFound)
		_, err = b.Disable(b.ctx, b.tenant, "ann", noon)
		b.refused(err, fault.NotFound)
		_, err = b.SetRole(b.ctx, b.tenant, "ann", account.Admin, noon)
		b.refused(err, fault.NotFound)
		b.refused(b.Delete(b.ctx, b.tenant, "ann", noon), fault.NotFound)
		b.tenant = home
		b.same(b.find("ann", noon), before)
	}},
	{"activate only their own of two accounts of one name", func(b *bench) {
		ours := b.join("ann", noon)
		home := b.tenant
		b.tenant = b.addTenant("b.test")
		b.join("ann", noon)
		_, err := b.Activate(b.ctx, home, ours.Token, noon)
		b.must(err)
		if !b.find("ann", noon).Disabled {
			b.Error("the other tenant's account was activated")
		}
	}},
}
