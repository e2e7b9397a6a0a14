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
	operators "dialtone/internal/operator"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// Exporting is a store that keeps tables for phone servers.
type Exporting interface {
	Store
	export.Admin
	export.Source
}

// RunExport tests the tables that a store keeps for phone servers. open returns a new, empty store
// and the ring that it was opened with.
func RunExport(t *testing.T, open func(t *testing.T) (Exporting, *secret.Ring)) {
	for _, c := range exportTests {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, ring := open(t)
			c.run(&exportTest{newTest(t, s), s, s, secret.NewVault(ring, "credential")})
		})
	}
}

type exportTest struct {
	*test
	export.Admin
	export.Source
	vault *secret.Vault
}

var exportTests = []struct {
	name string
	run  func(*exportTest)
}{
	{"is off until it is enabled", func(t *exportTest) {
		t.addExported("ann")
		t.wantErr(t.ExportedEntries(t.ctx, "phone.test", func(export.Entry) error { return nil }),
			export.ErrNotEnabled)
		if st, n := t.exportStatus(), t.exportVersion(); st.Enabled || st.Complete || st.Entries != 0 || n != 0 {
			t.Fatalf("got %+v and version %d", st, n)
		}
	}},
	{"has an entry with all hashes once the account is active", func(t *exportTest) {
		t.enableExport()
		a := t.addPendingExported("ann", "phone.test")
		t.wantExported("phone.test")
		_, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
		t.must(err)
		t.wantExported("phone.test", "ann guest")
	}},
	{"has imported accounts", func(t *exportTest) {
		t.enableExport()
		var list []account.Addition
		for _, user := range []string{"ann", "bob"} {
			n := t.imported(user, noon)
			c := credential(user, "phone.test")
			n.Account.Sealed = t.vault.Seal(t.tenant, n.Account.UID[:], c.Marshal())
			list = append(list, n)
		}
		t.importAll(nil, noon, list...)
		t.wantExported("phone.test", "ann user", "bob user")
		t.wantConsistent()
	}},
	{"has only the hashes that the client sent", func(t *exportTest) {
		t.enableExport()
		a := t.signup("old", noon)
		c := digest.Credential{HA1: digest.Compute("old", "phone.test", "old's password")}
		a.Account.Sealed = t.vault.Seal(t.tenant, a.Account.UID[:], c.Marshal())
		t.must(t.Create(t.ctx, a, noon))
		_, err := t.EnableNow(t.ctx, t.tenant, "old", noon)
		t.must(err)
		e := t.exportedEntries("phone.test")
		if len(e) != 1 || e[0].HA1 != c.HA1 || e[0].HA1B != nil || e[0].SHA256 != nil {
			t.Fatalf("got %+v", e)
		}
	}},
	{"follows what operators do", func(t *exportTest) {
		t.enableExport()
		t.addPendingExported("ann", "phone.test")
		for _, step := range []struct {
			do   func() error
			want []string
		}{
			{func() error { _, err := t.EnableNow(t.ctx, t.tenant, "ann", noon); return err }, []string{"ann guest"}},
			{func() error { _, err := t.SetRole(t.ctx, t.tenant, "ann", account.User, noon); return err },
				[]string{"ann user"}},
			{func() error { _, err := t.Disable(t.ctx, t.tenant, "ann", noon); return err }, nil},
			{func() error { _, err := t.SetRole(t.ctx, t.tenant, "ann", account.Admin, noon); return err }, nil},
			{func() error { _, err := t.EnableNow(t.ctx, t.tenant, "ann", noon); return err }, []string{"ann admin"}},
			{func() error { return t.Delete(t.ctx, t.tenant, "ann", noon) }, nil},
		} {
			before := t.exportVersion()
			t.must(step.do())
			t.wantExported("phone.test", step.want...)
			if t.exportVersion() == before {
				t.Fatal("the version did not change")
			}
		}
	}},
	{"follows bulk changes", func(t *exportTest) {
		t.enableExport()
		for _, user := range []string{"ann", "bob", "cid"} {
			t.addPendingExported(user, "phone.test")
			_, err := t.EnableNow(t.ctx, t.tenant, user, noon)
			t.must(err)
		}
		for _, c := range []struct {
			action operators.BulkAction
			text   string
			want   []string
		}{
			{operators.BulkDisable, "ann@", []string{"bob guest", "cid guest"}},
			{operators.BulkEnable, "ann@", []string{"ann guest", "bob guest", "cid guest"}},
			{operators.BulkDelete, "bob@", []string{"ann guest", "cid guest"}},
		} {
			b := t.runBulk(t.addBulk(c.action, account.Query{Text: c.text}, noon), noon)
			t.endBulk(t.workBulk(b, 10, noon), noon)
			t.wantExported("phone.test", c.want...)
		}
	}},
	{"does not change when a call is refused", func(t *exportTest) {
		t.enableExport()
		t.addExported("ann")
		before := t.exportVersion()
		_, err := t.Disable(t.ctx, t.tenant, "bob", noon)
		t.wantKind(err, fault.NotFound)
		t.wantExported("phone.test", "ann guest")
		if t.exportVersion() != before {
			t.Fatal("the version changed")
		}
	}},
	{"keeps the entries of two tenants apart", func(t *exportTest) {
		t.enableExport()
		first := t.tenant
		t.addExported("ann")
		t.tenant = t.addTenant("other.test")
		t.addExportedAt("ann", "other.test")
		_, err := t.Disable(t.ctx, first, "ann", noon)
		t.must(err)
		t.wantExported("phone.test")
		t.wantExported("other.test", "ann guest")
	}},
	{"loses the entries and domains of a removed tenant, and gets those of a new one", func(t *exportTest) {
		t.enableExport()
		t.addExported("ann")
		t.must(t.RemoveTenant(t.ctx, "phone.test", true, noon))
		t.wantExported("phone.test")
		t.wantDomains(0)
		t.tenant = t.addTenant("phone.test")
		t.addExported("bob")
		t.wantExported("phone.test", "bob guest")
		t.wantDomains(1)
	}},
	{"has a domain for a realm that is a host name", func(t *exportTest) {
		t.enableExport()
		tn := tenant.Tenant{Host: "accounts.example.test", Realm: "Example.test", Created: noon}
		tn, err := t.AddTenant(t.ctx, tn)
		t.must(err)
		t.wantDomains(3)
		tn.Realm = "Example Phones"
		t.must(t.SetTenant(t.ctx, tn, noon))
		t.wantDomains(2)
	}},
	{"starts with the accounts that are active", func(t *exportTest) {
		var want []string
		for i := range 650 { // more than two pages
			user := fmt.Sprintf("user%04d", i)
			if i%50 == 0 {
				t.addPendingExported(user, "phone.test")
				continue
			}
			t.addExported(user)
			want = append(want, user+" guest")
		}
		_, err := t.Disable(t.ctx, t.tenant, "user0001", noon)
		t.must(err)
		t.must(t.Delete(t.ctx, t.tenant, "user0002", noon))
		t.enableExport()
		t.wantExported("phone.test", want[2:]...)
	}},
	{"has the latest state of accounts that change while it is filled", func(t *exportTest) {
		for i := range 650 {
			t.addExported(fmt.Sprintf("user%04d", i))
		}
		late := t.addPendingExported("late", "phone.test")
		n := 0
		t.must(t.EnableExport(t.ctx, func(done, total int64) {
			if n++; n > 1 || done >= total {
				return // after the first page
			}
			for _, user := range []string{"user0000", "user0649"} { // with an entry, and without one yet
				_, err := t.Disable(t.ctx, t.tenant, user, noon)
				t.must(err)
			}
			_, err := t.Activate(t.ctx, t.tenant, late.Token, noon)
			t.must(err)
		}))
		list := t.exportedEntries("phone.test")
		if n < 2 || len(list) != 649 || list[0].User != "late" || list[1].User != "user0001" ||
			list[648].User != "user0648" {
			t.Fatalf("%d pages, %d entries", n, len(list))
		}
		t.wantConsistent()
	}},
	{"agrees with the accounts after concurrent changes while it is filled", func(t *exportTest) {
		for i := range 40 {
			t.addExported(fmt.Sprintf("user%04d", i))
		}
		var busy sync.WaitGroup
		for w := range 4 {
			busy.Go(func() {
				for i := range 60 {
					user := fmt.Sprintf("user%04d", (i*7+w)%40)
					do := t.Disable
					if (i+w)%2 == 0 {
						do = t.Enable
					}
					for {
						_, err := do(t.ctx, t.tenant, user, noon)
						if err == nil {
							break
						}
						if !fault.Is(err, fault.Overloaded) {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		for range 5 {
			t.enableExport()
		}
		busy.Wait()
		t.wantConsistent()
		var want []string
		t.must(t.List(t.ctx, t.tenant, noon, func(a account.Account) error {
			if !a.Disabled {
				want = append(want, a.User+" guest")
			}
			return nil
		}))
		t.wantExported("phone.test", want...)
	}},
	{"is empty when disabled, and complete when enabled again", func(t *exportTest) {
		t.addExported("ann")
		t.enableExport()
		t.must(t.DisableExport(t.ctx))
		t.must(t.DisableExport(t.ctx))
		t.wantErr(t.ExportedEntries(t.ctx, "phone.test", func(export.Entry) error { return nil }),
			export.ErrNotEnabled)
		if st := t.exportStatus(); st.Enabled || st.Entries != 0 || t.exportVersion() != 0 {
			t.Fatalf("got %+v", st)
		}
		t.addExported("bob")
		t.must(t.CatchUpExport(t.ctx))
		t.enableExport()
		t.wantExported("phone.test", "ann guest", "bob guest")
	}},
	{"stops reading at an error of the caller", func(t *exportTest) {
		t.enableExport()
		t.addExported("ann")
		t.addExported("bob")
		stop := errors.New("stop")
		n := 0
		t.wantErr(t.ExportedEntries(t.ctx, "phone.test", func(export.Entry) error { n++; return stop }), stop)
		if n != 1 {
			t.Fatalf("got %d entries", n)
		}
	}},
}

func (t *exportTest) enableExport() {
	t.Helper()
	t.must(t.EnableExport(t.ctx, func(int64, int64) {}))
	if st := t.exportStatus(); !st.Enabled || !st.Complete || len(st.Locations) == 0 {
		t.Fatalf("got %+v", st)
	}
}

func (t *exportTest) exportStatus() export.Status {
	t.Helper()
	st, err := t.ExportStatus(t.ctx)
	t.must(err)
	return st
}

func (t *exportTest) exportVersion() int64 {
	t.Helper()
	n, err := t.ExportVersion(t.ctx)
	t.must(err)
	return n
}

func (t *exportTest) wantDomains(want int64) {
	t.Helper()
	if st := t.exportStatus(); st.Domains != want {
		t.Fatalf("got %d domains, want %d", st.Domains, want)
	}
}

// wantConsistent fails the test if the tables differ from the accounts.
func (t *exportTest) wantConsistent() {
	t.Helper()
	t.must(t.CompareExport(t.ctx, func(s string) { t.Error(s) }))
}

func credential(user, realm string) digest.Credential {
	password := user + "'s password"
	ha1b, sha256 := digest.ComputeB(user, realm, password), digest.ComputeSHA256(user, realm, password)
	return digest.Credential{HA1: digest.Compute(user, realm, password), HA1B: &ha1b, SHA256: &sha256}
}

// addPendingExported adds a pending account, with a credential sealed by the ring of the store.
func (t *exportTest) addPendingExported(user, realm string) account.Signup {
	t.Helper()
	a := t.signup(user, noon)
	c := credential(user, realm)
	a.Account.Sealed, a.Account.HasSHA256 = t.vault.Seal(t.tenant, a.Account.UID[:], c.Marshal()), true
	t.must(t.Create(t.ctx, a, noon))
	return a
}

// addExported adds an active account with all hashes, at the realm phone.test.
func (t *exportTest) addExported(user string) { t.Helper(); t.addExportedAt(user, "phone.test") }

func (t *exportTest) addExportedAt(user, realm string) {
	t.Helper()
	a := t.addPendingExported(user, realm)
	_, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
	t.must(err)
}

func (t *exportTest) exportedEntries(realm string) (list []export.Entry) {
	t.Helper()
	t.must(t.ExportedEntries(t.ctx, realm, func(e export.Entry) error {
		list = append(list, e)
		return nil
	}))
	return list
}

// wantExported checks the entries of a realm, each given as user and role, and their hashes.
func (t *exportTest) wantExported(realm string, want ...string) {
	t.Helper()
	var got []string
	for _, e := range t.exportedEntries(realm) {
		got = append(got, e.User+" "+string(e.Role))
		c := credential(e.User, realm)
		if e.Realm != realm || !slices.Equal(e.Marshal(), c.Marshal()) {
			t.Errorf("%s at %s has wrong hashes", e.User, e.Realm)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", strings.Join(got, ", "), strings.Join(want, ", "))
	}
	if st := t.exportStatus(); st.Entries < int64(len(want)) {
		t.Fatalf("got %+v", st)
	}
}
