package phonetables_test

import (
	"slices"
	"strings"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/test/postgrestest"
)

// damaged is a store with the accounts one, two and three, in which the credential of an account can
// be damaged.
type damaged struct {
	*testing.T
	*testStore
	tenant int64
}

// onDamaged runs a test on both engines.
func onDamaged(t *testing.T, test func(d damaged)) {
	run := func(name string, open func(*testing.T, *secret.Ring) *testStore) {
		t.Run(name, func(t *testing.T) {
			ring := secret.NewRing(noon)
			s := open(t, ring)
			d := damaged{t, s, addTenant(t, s, "phone.test")}
			addActive(t, s.Store, ring, d.tenant, "one", "two", "three")
			test(d)
		})
	}
	run("SQLite", openFile)
	run("PostgreSQL", func(t *testing.T, ring *secret.Ring) *testStore {
		return openStore(t, ring, "", postgrestest.Shared(t).Database(t))
	})
}

func (d damaged) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d damaged) exec(query string, args ...any) {
	d.Helper()
	d.must(d.engine.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	}))
}

// damage replaces the credential of a user, and returns the one that it had.
func (d damaged) damage(user string, by []byte) (old []byte) {
	d.Helper()
	a, err := d.Find(d.Context(), d.tenant, user, noon)
	d.must(err)
	d.exec(`UPDATE account SET credential = $1 WHERE username = $2`, by, user)
	return a.Sealed
}

func (d damaged) wantExported(users ...string) {
	d.Helper()
	if got := exportedUsers(d.T, d.Store); !slices.Equal(got, users) {
		d.Errorf("the export has %q, want %q", got, users)
	}
}

// wantMissing checks what the status, the periodic check and the comparison report.
func (d damaged) wantMissing(users ...string) {
	d.Helper()
	status, err := d.ExportStatus(d.Context())
	d.must(err)
	list, err := d.MissingInExport(d.Context())
	d.must(err)
	if !slices.Equal(status.Missing, list) || status.Complete != (len(users) == 0) {
		d.Errorf("the status is %+v, the missing accounts are %+v", status, list)
	}
	var got []string
	for _, m := range list {
		if m.Tenant != "phone.test" || m.ID != m.UID.String() {
			d.Errorf("got %+v", m)
		}
		got = append(got, m.User)
	}
	if !slices.Equal(got, users) {
		d.Errorf("missing: %q, want %q", got, users)
	}
	var faults []string
	d.must(d.CompareExport(d.Context(), func(text string) { faults = append(faults, text) }))
	if len(faults) != len(users) {
		d.Errorf("the comparison reports %q, want %q", faults, users)
	}
	for _, user := range users {
		if !slices.ContainsFunc(faults, func(s string) bool {
			return strings.Contains(s, user+"@phone.test is missing") && strings.Contains(s, "export rebuild")
		}) {
			d.Errorf("the comparison reports %q, and not %s", faults, user)
		}
	}
}

// An account whose credential cannot be opened loses its entry. Others are exported and removed as
// usual.
func TestDamagedCredentialLeavesOthersExported(t *testing.T) {
	onDamaged(t, func(d damaged) {
		ctx := d.Context()
		d.must(d.EnableExport(ctx, noProgress))
		d.damage("one", make([]byte, 49))
		_, err := d.SetRole(ctx, d.tenant, "one", account.User, noon)
		d.must(err)
		d.wantExported("three", "two")
		_, err = d.Disable(ctx, d.tenant, "two", noon)
		d.must(err)
		d.wantExported("three")
		a := newSignup(d.tenant, "four")
		a.Account.Sealed = make([]byte, 49)
		d.must(d.Create(ctx, a, noon))
		_, err = d.Activate(ctx, d.tenant, a.Token, noon)
		d.must(err)
		_, err = d.Enable(ctx, d.tenant, "two", noon)
		d.must(err)
		d.wantExported("three", "two")
		d.wantMissing("four", "one")
		d.must(d.CatchUpExport(ctx))
		d.must(d.Delete(ctx, d.tenant, "four", noon))
		d.wantMissing("one")
		d.must(d.DisableExport(ctx))
		if list, err := d.MissingInExport(ctx); err != nil || len(list) > 0 {
			d.Errorf("when disabled: %+v, %v", list, err)
		}
	})
}

// Exchanged credentials cannot be opened either.
func TestExchangedCredentialsLeaveOthersExported(t *testing.T) {
	onDamaged(t, func(d damaged) {
		ctx := d.Context()
		one := d.damage("one", []byte{})
		d.damage("one", d.damage("two", one))
		d.must(d.EnableExport(ctx, noProgress))
		d.wantExported("three")
		d.wantMissing("one", "two")
	})
}

// Enabling and rebuilding the export leave out accounts whose credentials cannot be opened, and add
// them when they can be opened again.
func TestRebuildAfterRepair(t *testing.T) {
	onDamaged(t, func(d damaged) {
		ctx := d.Context()
		good := d.damage("one", []byte("x"))
		d.must(d.EnableExport(ctx, noProgress))
		d.wantExported("three", "two")
		d.wantMissing("one")
		d.damage("one", good)
		d.must(d.EnableExport(ctx, noProgress))
		d.wantExported("one", "three", "two")
		d.wantMissing()
		d.damage("two", []byte{}) // its entry becomes stale
		d.must(d.EnableExport(ctx, noProgress))
		d.wantExported("one", "three")
		d.wantMissing("two")
	})
}

// The tables of an earlier program do not record missing accounts.
func TestMissingInTablesOfEarlierProgram(t *testing.T) {
	ring := secret.NewRing(noon)
	s := openStore(t, ring, "", postgrestest.Shared(t).Database(t))
	d := damaged{t, s, addTenant(t, s, "phone.test")}
	addActive(t, s.Store, ring, d.tenant, "one", "two")
	d.must(d.EnableExport(d.Context(), noProgress))
	d.exec(`DROP TABLE dialtone_directory.missing`)
	d.wantMissing()
	d.damage("one", make([]byte, 49))
	_, err := d.SetRole(d.Context(), d.tenant, "one", account.User, noon)
	d.must(err)
	d.wantExported("two")
	d.wantMissing("one")
	d.exec(`DROP TABLE dialtone_directory.missing`)
	d.must(d.DisableExport(d.Context()))
}

// A damaged entry is derived again, and does not prevent the others from being read.
func TestDamagedEntryLeavesOthersReadable(t *testing.T) {
	onDamaged(t, func(d damaged) {
		d.must(d.EnableExport(d.Context(), noProgress))
		d.must(d.tables.WithTables(func(tx engine.Tx) error {
			_, err := tx.Exec(`UPDATE dialtone_directory.entry SET ha1 = 'x' WHERE username IN ('one', 'two')`)
			return err
		}))
		d.damage("two", []byte{})
		d.wantExported("one", "three")
		d.wantMissing("two")
	})
}
