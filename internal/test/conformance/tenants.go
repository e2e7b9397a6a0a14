package conformance

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
)

// hosts returns the hosts of all tenants.
func (t *test) hosts() (hosts []string) {
	t.Helper()
	list, _, err := t.Tenants(t.ctx)
	t.must(err)
	for _, tn := range list {
		hosts = append(hosts, tn.Host)
	}
	return hosts
}

// tenantByHost returns the tenant with a host, which must exist.
func (t *test) tenantByHost(host string) tenant.Tenant {
	t.Helper()
	list, _, err := t.Tenants(t.ctx)
	t.must(err)
	for _, tn := range list {
		if tn.Host == host {
			return tn
		}
	}
	t.Fatalf("there is no tenant %s", host)
	return tenant.Tenant{}
}

func (t *test) wantTenant(got, want tenant.Tenant) {
	t.Helper()
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

// wantVersionRise checks that do succeeds and raises the version of the tenants.
func (t *test) wantVersionRise(do func() error) {
	t.Helper()
	before, err := t.TenantVersion(t.ctx)
	t.must(err)
	t.must(do())
	after, err := t.TenantVersion(t.ctx)
	t.must(err)
	if after <= before {
		t.Errorf("a change took the version from %d to %d", before, after)
	}
	_, listed, err := t.Tenants(t.ctx)
	t.must(err)
	if listed != after {
		t.Errorf("Tenants returns version %d, TenantVersion %d", listed, after)
	}
}

var tenantTests = []testCase{
	{"keep every field, and are listed by host", func(t *test) {
		want := tenant.Tenant{
			Host: "b.test", Realm: "Realm of B", PublicURL: "https://b.test:8443", Created: noon.Add(7 * tick),
			Settings: tenant.Settings{
				Product: "Bürotelefon", MailFrom: "phones@b.test", SIPServer: "sip.b.test", SIPTransport: "TCP",
				Origins: []string{"https://x.test", "https://y.test"}, Reserved: []string{"initech", "lab"},
				Algorithm: digest.SHA256, SignupsPerHour: 200, Activation: tenant.ActivationConfirm,
				About: "Free of charge.\nRun by B.", Welcome: "Call 600.", TermsURL: "https://b.test/terms",
				PrivacyURL: "https://b.test/privacy", ImprintURL: "https://b.test/imprint", Support: "help@b.test",
				Accent: "#aa0022", Logo: tenant.Logo{Type: "image/png", Data: []byte("\x00\xff'")},
			},
		}
		got, err := t.AddTenant(t.ctx, want)
		t.must(err)
		if got.ID == 0 || got.ID == t.tenant {
			t.Fatalf("the id is %d", got.ID)
		}
		want.ID = got.ID
		t.wantTenant(got, want)
		t.wantTenant(t.tenantByHost("b.test"), want)
		t.addTenant("a.test")
		t.wantEqual(t.hosts(), []string{"a.test", "b.test", "phone.test"})
	}},
	{"have unique hosts", func(t *test) {
		_, err := t.AddTenant(t.ctx, tenant.Tenant{Host: "phone.test", Realm: "another", Created: noon})
		t.wantKind(err, fault.Conflict)
		t.wantEqual(t.hosts(), []string{"phone.test"})
	}},
	{"have realms that differ in more than case", func(t *test) {
		for _, realm := range []string{"phone.test", "PHONE.TEST", "Phone.Test"} {
			_, err := t.AddTenant(t.ctx, tenant.Tenant{Host: "b.test", Realm: realm, Created: noon})
			t.wantKind(err, fault.Conflict)
		}
		t.addTenant("b.test")
		other := t.tenantByHost("b.test")
		other.Realm = "pHONE.test"
		t.wantKind(t.SetTenant(t.ctx, other, noon), fault.Conflict)
		t.wantEqual(t.hosts(), []string{"b.test", "phone.test"})
	}},
	{"give a host to one of 20 concurrent calls", func(t *test) {
		got := t.concurrently(20, func(i int) error {
			_, err := t.AddTenant(t.ctx, tenant.Tenant{Host: "b.test", Realm: fmt.Sprint("realm ", i), Created: noon})
			return err
		})
		if got[succeeded] != 1 || got[fault.Conflict] != 19 {
			t.Errorf("got %v", got)
		}
	}},
	{"give a realm to one of 20 concurrent calls", func(t *test) {
		got := t.concurrently(20, func(i int) error {
			_, err := t.AddTenant(t.ctx, tenant.Tenant{Host: fmt.Sprintf("b%d.test", i), Realm: "one", Created: noon})
			return err
		})
		if got[succeeded] != 1 || got[fault.Conflict] != 19 {
			t.Errorf("got %v", got)
		}
	}},
	{"can change the realm while they have no accounts", func(t *test) {
		tn := t.tenantByHost("phone.test")
		tn.Realm = "new realm"
		t.must(t.SetTenant(t.ctx, tn, noon))
		t.wantTenant(t.tenantByHost("phone.test"), tn)
		t.must(t.SetTenant(t.ctx, tn, noon))
	}},
	{"cannot change the realm while they have accounts, not even its case", func(t *test) {
		t.addPending("ann", noon)
		before := t.tenantByHost("phone.test")
		for _, realm := range []string{"new realm", "Phone.test"} {
			tn := before
			tn.Realm, tn.Product = realm, "changed"
			t.wantKind(t.SetTenant(t.ctx, tn, noon), fault.Conflict)
			t.wantTenant(t.tenantByHost("phone.test"), before)
		}
		// The pending account expires after a week.
		tn := before
		tn.Realm = "new realm"
		t.wantKind(t.SetTenant(t.ctx, tn, noon.Add(week-tick)), fault.Conflict)
		t.must(t.SetTenant(t.ctx, tn, noon.Add(week)))
	}},
	{"can change everything else while they have accounts", func(t *test) {
		t.addActive("ann", noon)
		tn := t.tenantByHost("phone.test")
		tn.PublicURL = "https://phone.test:444"
		for _, logo := range []tenant.Logo{
			{Type: "image/png", Data: []byte{0, 1}}, {Type: "image/jpeg", Data: []byte{2, 0}}, {},
		} {
			tn.Settings = tenant.Settings{Product: "P", Reserved: []string{"lab"}, SignupsPerHour: 5, Logo: logo}
			t.must(t.SetTenant(t.ctx, tn, noon))
			t.wantTenant(t.tenantByHost("phone.test"), tn)
		}
	}},
	{"keep their host and the time of creation", func(t *test) {
		before := t.tenantByHost("phone.test")
		tn := before
		tn.Host, tn.Created = "other.test", noon.Add(time.Hour)
		t.must(t.SetTenant(t.ctx, tn, noon))
		t.wantTenant(t.tenantByHost("phone.test"), before)
	}},
	{"cannot require SHA-256 while an account lacks it", func(t *test) {
		with := t.signup("with", noon)
		with.Account.HasSHA256 = true
		t.must(t.Create(t.ctx, with, noon))
		t.addPending("without", noon)
		before := t.tenantByHost("phone.test")
		tn := before
		tn.Algorithm = digest.SHA256
		t.wantKind(t.SetTenant(t.ctx, tn, noon), fault.Conflict)
		t.wantTenant(t.tenantByHost("phone.test"), before)
		t.must(t.Delete(t.ctx, t.tenant, "without", noon))
		t.must(t.SetTenant(t.ctx, tn, noon))
		tn.Algorithm = digest.MD5
		t.must(t.SetTenant(t.ctx, tn, noon))
	}},
	{"can require SHA-256 when the accounts that lack it are deleted", func(t *test) {
		t.addActive("without", noon)
		t.must(t.Delete(t.ctx, t.tenant, "without", noon))
		tn := t.tenantByHost("phone.test")
		tn.Algorithm = digest.SHA256
		t.must(t.SetTenant(t.ctx, tn, noon))
	}},
	{"cannot be changed or removed again after removal", func(t *test) {
		removed := t.tenantByHost("phone.test")
		t.must(t.RemoveTenant(t.ctx, "phone.test", false, noon))
		t.wantKind(t.SetTenant(t.ctx, removed, noon), fault.NotFound)
		for _, accounts := range []bool{false, true} {
			t.wantKind(t.RemoveTenant(t.ctx, "phone.test", accounts, noon), fault.NotFound)
		}
		t.wantEqual(t.hosts(), nil)
	}},
	{"cannot be removed while they have accounts", func(t *test) {
		t.addPending("ann", noon)
		t.wantKind(t.RemoveTenant(t.ctx, "phone.test", false, noon), fault.Conflict)
		t.find("ann", noon)
		t.wantKind(t.RemoveTenant(t.ctx, "phone.test", false, noon.Add(week-tick)), fault.Conflict)
		t.must(t.RemoveTenant(t.ctx, "phone.test", false, noon.Add(week)))
	}},
	{"are removed with all their data", func(t *test) {
		a := t.addActive("ann", noon)
		t.addPending("bob", noon)
		t.addActive("cid", noon)
		t.must(t.Delete(t.ctx, t.tenant, "cid", noon))
		t.must(t.RemoveTenant(t.ctx, "phone.test", true, noon))
		t.wantEqual(t.hosts(), nil)
		t.wantEqual(t.listedUsers(noon), nil)
		t.wantEqual(t.pendingUsers(), nil)
		_, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
		t.wantKind(err, fault.NotFound)
	}},
	{"are removed without the accounts of other tenants", func(t *test) {
		t.addActive("ann", noon)
		t.addTenant("b.test")
		t.must(t.RemoveTenant(t.ctx, "b.test", true, noon))
		t.find("ann", noon)
	}},
	{"never get the id of a removed tenant", func(t *test) {
		// A server that has not seen the removal yet would mix the accounts of the two.
		last := t.tenant
		for range 3 {
			t.must(t.RemoveTenant(t.ctx, "phone.test", false, noon))
			next := t.addTenant("phone.test")
			if next <= last {
				t.Fatalf("the tenant after %d is %d", last, next)
			}
			last = next
		}
	}},
	{"raise the version with every change, and with nothing else", func(t *test) {
		t.wantVersionRise(func() error {
			_, err := t.AddTenant(t.ctx, tenant.Tenant{Host: "b.test", Realm: "b.test", Created: noon})
			return err
		})
		tn := t.tenantByHost("b.test")
		tn.Product = "B"
		t.wantVersionRise(func() error { return t.SetTenant(t.ctx, tn, noon) })
		t.wantVersionRise(func() error { return t.RemoveTenant(t.ctx, "b.test", false, noon) })
		before, err := t.TenantVersion(t.ctx)
		t.must(err)
		t.addActive("ann", noon)
		_, err = t.AddTenant(t.ctx, tenant.Tenant{Host: "phone.test", Realm: "x", Created: noon})
		t.wantKind(err, fault.Conflict)
		t.must(t.AddFirstTenant(t.ctx, tenant.Tenant{Host: "x.test", Realm: "x", Created: noon}))
		after, err := t.TenantVersion(t.ctx)
		t.must(err)
		if before != after {
			t.Errorf("the version went from %d to %d without a change", before, after)
		}
	}},
	{"are added by AddFirstTenant if there is none", func(t *test) {
		t.must(t.RemoveTenant(t.ctx, "phone.test", false, noon))
		t.wantVersionRise(func() error {
			return t.AddFirstTenant(t.ctx, tenant.Tenant{Host: "first.test", Realm: "first.test", Created: noon})
		})
		t.wantEqual(t.hosts(), []string{"first.test"})
	}},
	{"are not added by AddFirstTenant if there is one", func(t *test) {
		for _, host := range []string{"second.test", "phone.test"} {
			t.must(t.AddFirstTenant(t.ctx, tenant.Tenant{Host: host, Realm: host, Created: noon}))
		}
		t.wantEqual(t.hosts(), []string{"phone.test"})
	}},
	{"are added once by 20 concurrent calls of AddFirstTenant", func(t *test) {
		t.must(t.RemoveTenant(t.ctx, "phone.test", false, noon))
		got := t.concurrently(20, func(i int) error {
			host := fmt.Sprintf("first%d.test", i)
			return t.AddFirstTenant(t.ctx, tenant.Tenant{Host: host, Realm: host, Created: noon})
		})
		if got[succeeded] != 20 || len(t.hosts()) != 1 {
			t.Errorf("got %v and the tenants %s", got, strings.Join(t.hosts(), " "))
		}
	}},
}

var sessionTests = []testCase{
	{"are revoked under any of their times", func(t *test) {
		for _, which := range []int{0, 1} {
			id, until := newID(), session.RevokedUntil(noon)
			_, err := t.Spend(t.ctx, t.tenant, id, until[which])
			t.must(err)
			got, _, err := t.Revoked(t.ctx, account.UID{}, id, until...)
			t.must(err)
			if !got {
				t.Errorf("a session revoked until %v is not revoked", until[which])
			}
		}
	}},
	{"are revoked one by one, even repeatedly", func(t *test) {
		list := t.begin(t.active("ann"), 2, noon)
		check := func(i int, want bool) {
			t.Helper()
			if got := t.revoked(list[i]); got != want {
				t.Errorf("session %d is revoked: %t, want %t", i, got, want)
			}
		}
		check(0, false)
		for range 2 {
			t.must(t.SignOut(t.ctx, list[0], noon))
			check(0, true)
		}
		check(1, false)
		t.must(t.SignOut(t.ctx, list[1], noon))
		check(0, true)
		check(1, true)
	}},
	{"stay revoked until their time, despite a sweep", func(t *test) {
		r := newRecord(t.active("ann"), noon)
		t.must(t.SignOut(t.ctx, r, noon))
		_, err := t.Sweep(t.ctx, r.Began.Add(session.Life-tick), noon, 100)
		t.must(err)
		if !t.revoked(r) {
			t.Error("the session is not revoked after a sweep")
		}
	}},
	{"spend an id once, even in 20 concurrent calls", func(t *test) {
		for range 5 {
			id := newID()
			var firsts atomic.Int32
			got := t.concurrently(20, func(int) error {
				first, err := t.Spend(t.ctx, t.tenant, id, noon)
				if first {
					firsts.Add(1)
				}
				return err
			})
			if got[succeeded] != 20 || firsts.Load() != 1 {
				t.Errorf("%d of 20 were the first (%v)", firsts.Load(), got)
			}
		}
		first, err := t.Spend(t.ctx, t.tenant, newID(), noon)
		t.must(err)
		if !first {
			t.Error("a new id is already spent")
		}
	}},
	{"can be revoked by 20 concurrent calls", func(t *test) {
		r, limit := newRecord(t.active("ann"), noon), allowance(newBucket(), 1)
		got := t.concurrently(20, func(int) error { return t.SignOut(t.ctx, r, noon, limit) })
		if got[succeeded] != 20 || !t.revoked(r) {
			t.Errorf("got %v; revoked: %t", got, t.revoked(r))
		}
		if a := t.find("ann", noon); a.Epoch != r.Epoch {
			t.Error("one session took several places of the limit")
		}
	}},
}

var isolationTests = []testCase{
	{"lets two tenants have an account of the same name", func(t *test) {
		first := t.addActive("ann", noon)
		own := t.tenant
		t.tenant = t.addTenant("b.test")
		second := t.addPending("ann", noon)
		t.wantAccount(t.find("ann", noon), second.Account)
		t.tenant = own
		if got := t.find("ann", noon); got.UID != first.Account.UID {
			t.Errorf("got %+v", got)
		}
	}},
	{"hides the accounts of another tenant", func(t *test) {
		a := t.addActive("ann", noon)
		pending := t.addPending("bob", noon)
		t.tenant = t.addTenant("b.test")
		t.wantNoAccount("ann", noon)
		_, err := t.FindUID(t.ctx, t.tenant, a.Account.UID, noon)
		t.wantKind(err, fault.NotFound)
		t.wantEqual(t.listedUsers(noon), nil)
		for _, token := range [][32]byte{a.Token, pending.Token} {
			got, err := t.Activate(t.ctx, t.tenant, token, noon)
			t.wantKind(err, fault.NotFound)
			if got.User != "" {
				t.Errorf("got the account %q with the error", got.User)
			}
		}
	}},
	{"protects the accounts of another tenant from changes", func(t *test) {
		t.addActive("ann", noon)
		before := t.find("ann", noon)
		own := t.tenant
		t.tenant = t.addTenant("b.test")
		t.wantNoChanges("ann")
		t.tenant = own
		t.wantAccount(t.find("ann", noon), before)
	}},
	{"activates only the tenant's own of two accounts of the same name", func(t *test) {
		first := t.addPending("ann", noon)
		own := t.tenant
		t.tenant = t.addTenant("b.test")
		t.addPending("ann", noon)
		_, err := t.Activate(t.ctx, own, first.Token, noon)
		t.must(err)
		if !t.find("ann", noon).Disabled {
			t.Error("the account of the other tenant was activated")
		}
	}},
}
