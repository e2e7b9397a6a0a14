package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/export"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// Exporting is a store that keeps a directory for phone servers.
type Exporting interface {
	Store
	export.Admin
	export.Source
}

// RunExport tests the directory that a store keeps for phone servers. open gives a fresh store, and
// the ring that it was opened with.
func RunExport(t *testing.T, open func(t *testing.T) (Exporting, *secret.Ring)) {
	for _, r := range exportRules {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s, ring := open(t)
			e := &exportBench{
				bench:  &bench{T: t, Store: s, ctx: t.Context()},
				export: s,
				vault:  secret.NewVault(ring, "credential"),
			}
			e.tenant = e.addTenant("phone.test")
			r.prove(e)
		})
	}
}

type exportBench struct {
	*bench
	export Exporting
	vault  *secret.Vault
}

var exportRules = []struct {
	name  string
	prove func(*exportBench)
}{
	{"there is none before it is enabled", func(b *exportBench) {
		b.active("ann")
		b.is(b.export.ExportedEntries(b.ctx, "phone.test", func(export.Entry) error { return nil }),
			export.ErrNotEnabled)
		if st, n := b.status(), b.changes(); st.Enabled || st.Complete || st.Entries != 0 || n != 0 {
			b.Fatalf("got %+v and %d changes", st, n)
		}
	}},
	{"an entry is there from activation on, with all that phones need", func(b *exportBench) {
		b.enable()
		a := b.pending("ann", "phone.test")
		b.exported("phone.test")
		_, err := b.Activate(b.ctx, b.tenant, a.Token, noon)
		b.must(err)
		b.exported("phone.test", "ann guest")
	}},
	{"an account has what its client sent and nothing made up", func(b *exportBench) {
		b.enable()
		a := b.admission("old", noon)
		c := digest.Credential{HA1: digest.Compute("old", "phone.test", "old's password")}
		a.Account.Sealed = b.vault.Seal(b.tenant, a.Account.UID[:], c.Marshal())
		b.must(b.Create(b.ctx, a, noon))
		_, err := b.Enable(b.ctx, b.tenant, "old", noon)
		b.must(err)
		e := b.entries("phone.test")
		if len(e) != 1 || e[0].HA1 != c.HA1 || e[0].HA1B != nil || e[0].SHA256 != nil {
			b.Fatalf("got %d entries, HA1B %t, SHA-256 %t", len(e), e[0].HA1B != nil, e[0].SHA256 != nil)
		}
	}},
	{"an operator's enabling, disabling and roles are followed", func(b *exportBench) {
		b.enable()
		b.pending("ann", "phone.test")
		for _, step := range []struct {
			do   func() error
			want []string
		}{
			{func() error { _, err := b.Enable(b.ctx, b.tenant, "ann", noon); return err }, []string{"ann guest"}},
			{func() error { _, err := b.SetRole(b.ctx, b.tenant, "ann", account.User, noon); return err },
				[]string{"ann user"}},
			{func() error { _, err := b.Disable(b.ctx, b.tenant, "ann", noon); return err }, nil},
			{func() error { _, err := b.SetRole(b.ctx, b.tenant, "ann", account.Admin, noon); return err }, nil},
			{func() error { _, err := b.Enable(b.ctx, b.tenant, "ann", noon); return err }, []string{"ann admin"}},
			{func() error { return b.Delete(b.ctx, b.tenant, "ann", noon) }, nil},
		} {
			before := b.changes()
			b.must(step.do())
			b.exported("phone.test", step.want...)
			if b.changes() == before {
				b.Fatal("the number of changes stood still")
			}
		}
	}},
	{"what is refused changes nothing", func(b *exportBench) {
		b.enable()
		b.active("ann")
		before := b.changes()
		_, err := b.Disable(b.ctx, b.tenant, "bob", noon)
		b.refused(err, fault.NotFound)
		b.exported("phone.test", "ann guest")
		if b.changes() != before {
			b.Fatal("the number of changes moved")
		}
	}},
	{"two tenants have entries of their own for one name", func(b *exportBench) {
		b.enable()
		first := b.tenant
		b.active("ann")
		b.tenant = b.addTenant("other.test")
		b.activeAt("ann", "other.test")
		_, err := b.Disable(b.ctx, first, "ann", noon)
		b.must(err)
		b.exported("phone.test")
		b.exported("other.test", "ann guest")
	}},
	{"a tenant's entries and domains go with it, and come back with another of its name", func(b *exportBench) {
		b.enable()
		b.active("ann")
		b.must(b.RemoveTenant(b.ctx, "phone.test", true, noon))
		b.exported("phone.test")
		b.domains(0)
		b.tenant = b.addTenant("phone.test")
		b.active("bob")
		b.exported("phone.test", "bob guest")
		b.domains(1)
	}},
	{"a realm that is a host name is a domain too", func(b *exportBench) {
		b.enable()
		t := tenant.Tenant{Host: "accounts.example.test", Realm: "Example.test", Created: noon}
		t, err := b.AddTenant(b.ctx, t)
		b.must(err)
		b.domains(3)
		t.Realm = "Example Phones"
		b.must(b.SetTenant(b.ctx, t, noon))
		b.domains(2)
	}},
	{"the accounts of before are in it, and only those that are active", func(b *exportBench) {
		var want []string
		for i := range 650 { // more than two pages
			user := fmt.Sprintf("user%04d", i)
			if i%50 == 0 {
				b.pending(user, "phone.test")
				continue
			}
			b.active(user)
			want = append(want, user+" guest")
		}
		_, err := b.Disable(b.ctx, b.tenant, "user0001", noon)
		b.must(err)
		b.must(b.Delete(b.ctx, b.tenant, "user0002", noon))
		b.enable()
		b.exported("phone.test", want[2:]...)
	}},
	{"what changes while it is filled is in it as it became", func(b *exportBench) {
		for i := range 650 {
			b.active(fmt.Sprintf("user%04d", i))
		}
		late := b.pending("late", "phone.test")
		n := 0
		b.must(b.export.EnableExport(b.ctx, func(done, total int64) {
			if n++; n > 1 || done >= total {
				return // after the first page
			}
			for _, user := range []string{"user0000", "user0649"} { // one that has its entry, and one that has none yet
				_, err := b.Disable(b.ctx, b.tenant, user, noon)
				b.must(err)
			}
			_, err := b.Activate(b.ctx, b.tenant, late.Token, noon)
			b.must(err)
		}))
		list := b.entries("phone.test")
		if n < 2 || len(list) != 649 || list[0].User != "late" || list[1].User != "user0001" ||
			list[648].User != "user0648" {
			b.Fatalf("%d pages, %d entries", n, len(list))
		}
		b.sound()
	}},
	{"changes by many at once, while it is filled, leave it as the accounts are", func(b *exportBench) {
		for i := range 40 {
			b.active(fmt.Sprintf("user%04d", i))
		}
		var busy sync.WaitGroup
		for w := range 4 {
			busy.Go(func() {
				for i := range 60 {
					user := fmt.Sprintf("user%04d", (i*7+w)%40)
					do := b.Disable
					if (i+w)%2 == 0 {
						do = b.Enable
					}
					for {
						_, err := do(b.ctx, b.tenant, user, noon)
						if err == nil {
							break
						}
						if !fault.Is(err, fault.Overloaded) {
							b.Error(err)
							return
						}
					}
				}
			})
		}
		for range 5 {
			b.enable()
		}
		busy.Wait()
		b.sound()
		var want []string
		b.must(b.List(b.ctx, b.tenant, noon, func(a account.Account) error {
			if !a.Disabled {
				want = append(want, a.User+" guest")
			}
			return nil
		}))
		b.exported("phone.test", want...)
	}},
	{"disabled, nothing is left, and enabled again it is whole", func(b *exportBench) {
		b.active("ann")
		b.enable()
		b.must(b.export.DisableExport(b.ctx))
		b.must(b.export.DisableExport(b.ctx))
		b.is(b.export.ExportedEntries(b.ctx, "phone.test", func(export.Entry) error { return nil }),
			export.ErrNotEnabled)
		if st := b.status(); st.Enabled || st.Entries != 0 || b.changes() != 0 {
			b.Fatalf("got %+v", st)
		}
		b.active("bob")
		b.must(b.export.CatchUpExport(b.ctx))
		b.enable()
		b.exported("phone.test", "ann guest", "bob guest")
	}},
	{"whoever reads stops it", func(b *exportBench) {
		b.enable()
		b.active("ann")
		b.active("bob")
		stop := errors.New("enough")
		n := 0
		b.is(b.export.ExportedEntries(b.ctx, "phone.test", func(export.Entry) error { n++; return stop }), stop)
		if n != 1 {
			b.Fatalf("called %d times", n)
		}
	}},
}

func (b *exportBench) enable() {
	b.Helper()
	b.must(b.export.EnableExport(b.ctx, func(int64, int64) {}))
	if st := b.status(); !st.Enabled || !st.Complete || len(st.Places) == 0 {
		b.Fatalf("got %+v", st)
	}
}

func (b *exportBench) status() export.Status {
	b.Helper()
	st, err := b.export.ExportStatus(b.ctx)
	b.must(err)
	return st
}

func (b *exportBench) changes() int64 {
	b.Helper()
	n, err := b.export.ExportVersion(b.ctx)
	b.must(err)
	return n
}

func (b *exportBench) domains(want int64) {
	b.Helper()
	if st := b.status(); st.Domains != want {
		b.Fatalf("got %d domains, want %d", st.Domains, want)
	}
}

// sound wants a directory without a fault.
func (b *exportBench) sound() {
	b.Helper()
	b.must(b.export.CompareExport(b.ctx, func(s string) { b.Error(s) }))
}

func credential(user, realm string) digest.Credential {
	password := user + "'s password"
	second, third := digest.ComputeB(user, realm, password), digest.ComputeSHA256(user, realm, password)
	return digest.Credential{HA1: digest.Compute(user, realm, password), HA1B: &second, SHA256: &third}
}

// pending adds an account with a credential that can be opened.
func (b *exportBench) pending(user, realm string) account.Signup {
	b.Helper()
	a := b.admission(user, noon)
	c := credential(user, realm)
	a.Account.Sealed, a.Account.HasSHA256 = b.vault.Seal(b.tenant, a.Account.UID[:], c.Marshal()), true
	b.must(b.Create(b.ctx, a, noon))
	return a
}

func (b *exportBench) active(user string) { b.Helper(); b.activeAt(user, "phone.test") }

func (b *exportBench) activeAt(user, realm string) {
	b.Helper()
	a := b.pending(user, realm)
	_, err := b.Activate(b.ctx, b.tenant, a.Token, noon)
	b.must(err)
}

func (b *exportBench) entries(realm string) (list []export.Entry) {
	b.Helper()
	b.must(b.export.ExportedEntries(b.ctx, realm, func(e export.Entry) error {
		list = append(list, e)
		return nil
	}))
	return list
}

// exported wants these entries, as user and role, with the hashes of the users' passwords.
func (b *exportBench) exported(realm string, want ...string) {
	b.Helper()
	var got []string
	for _, e := range b.entries(realm) {
		got = append(got, e.User+" "+string(e.Role))
		c := credential(e.User, realm)
		if e.Realm != realm || !slices.Equal(e.Marshal(), c.Marshal()) {
			b.Errorf("%s at %s has other hashes", e.User, e.Realm)
		}
	}
	if !slices.Equal(got, want) {
		b.Fatalf("got %q, want %q", strings.Join(got, ", "), strings.Join(want, ", "))
	}
	if st := b.status(); st.Entries < int64(len(want)) {
		b.Fatalf("got %+v", st)
	}
}
