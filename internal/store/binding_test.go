package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

// database is an empty database of either engine.
type database struct {
	testing.TB
	open func(node string, check func(engine.Tx) error) (engine.Engine, error)
}

// onEngines runs a test on an empty database of each engine.
func onEngines[T interface {
	testing.TB
	Run(string, func(T)) bool
}](t T, test func(*database)) {
	t.Run("SQLite", func(t T) {
		path := filepath.Join(t.TempDir(), "dialtone.db")
		test(&database{t, func(_ string, check func(engine.Tx) error) (engine.Engine, error) {
			return sqlite.Open(t.Context(), path, check)
		}})
	})
	t.Run("PostgreSQL", func(t T) {
		url := postgrestest.Shared(t).Database(t)
		test(&database{t, func(node string, check func(engine.Tx) error) (engine.Engine, error) {
			return postgres.Open(t.Context(), node, url, check)
		}})
	})
}

// store opens the store with a ring. With a name, it is a node.
func (d *database) store(ring *secret.Ring, node string) (*store.Store, engine.Engine) {
	d.Helper()
	e, err := d.open(node, store.SealCheck(ring))
	if err != nil {
		d.Fatal(err)
	}
	var tables *phonetables.Tables
	if p, ok := e.(*postgres.Engine); ok {
		tables = phonetables.OnPostgres(p, ring)
	} else {
		tables = phonetables.OnSQLite(e.(*sqlite.Engine), ring)
	}
	s := teststore.On(e, tables)
	d.Cleanup(func() { s.Close() })
	return s, e
}

func (d *database) exec(e engine.Engine, query string, args ...any) {
	d.Helper()
	if err := e.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	}); err != nil {
		d.Fatal(err)
	}
}

// older changes the database to one that a program of an earlier version has written.
func (d *database) older(e engine.Engine) {
	d.Helper()
	d.exec(e, `UPDATE revision SET n = 0 WHERE subject = 'binding'`)
	d.exec(e, `UPDATE revision SET n = 0 WHERE subject = 'links'`)
	d.exec(e, `UPDATE schema_floor SET floor = 1 WHERE version > 1`)
}

// exchange exchanges the names of two accounts.
func (d *database) exchange(e engine.Engine, one, two string) {
	d.Helper()
	for _, names := range [][2]string{{one, "-"}, {two, one}, {"-", two}} {
		d.exec(e, `UPDATE account SET username = $2 WHERE username = $1`, names[0], names[1])
	}
}

// join adds an account whose credential is sealed by seal.
func (d *database) join(s *store.Store, tenant int64, user string,
	seal func(account.Sealer, *account.Account, digest.Credential), ring *secret.Ring) {
	d.Helper()
	a := newSignup(tenant, user)
	seal(account.NewSealer(ring), &a.Account, digest.Credential{HA1: digest.Compute(user, "phone.test", user+"'s")})
	if err := s.Create(d.Context(), a, noon); err != nil {
		d.Fatal(err)
	}
}

// opens reports whether the credential of a user can be opened and belongs to the user.
func (d *database) opens(s *store.Store, tenant int64, user string, ring *secret.Ring) bool {
	d.Helper()
	a, err := s.Find(d.Context(), tenant, user, noon)
	if err != nil {
		d.Fatal(err)
	}
	c, err := account.NewSealer(ring).Open(a)
	if err != nil && !errors.Is(err, secret.ErrSeal) {
		d.Fatal(err)
	}
	return err == nil && c.HA1 == digest.Compute(user, "phone.test", user+"'s")
}

// noMessages is an empty pickup directory.
type noMessages struct{}

func (noMessages) Each(func(file, text string, err error)) error { return nil }

// accountFaults returns the faults of accounts and the notes that verify reports.
func (d *database) accountFaults(s *store.Store, ring *secret.Ring) (faults, notes []string) {
	d.Helper()
	r, err := account.Verify(d.Context(), s, noMessages{}, ring)
	if err != nil {
		d.Fatal(err)
	}
	for _, f := range r.Faults {
		if strings.HasPrefix(f, "account ") && !strings.Contains(f, "without a link") {
			faults = append(faults, f)
		}
	}
	return faults, r.Notes
}

var (
	sealNew = account.Sealer.Seal
	sealOld = account.Sealer.SealOld
)

func TestExchangedNames(t *testing.T) {
	onEngines(t, func(d *database) {
		ring := secret.NewRing(noon).Strict()
		s, e := d.store(ring, "")
		tenant := addTenant(d, s, "phone.test")
		d.join(s, tenant, "admin", sealNew, ring)
		d.join(s, tenant, "mallory", sealNew, ring)
		if faults, notes := d.accountFaults(s, ring); len(faults)+len(notes) > 0 {
			t.Errorf("before: %q, %q", faults, notes)
		}
		d.exchange(e, "admin", "mallory")
		for _, user := range []string{"admin", "mallory"} {
			if a, err := s.Sealed(t.Context(), tenant, user, noon); err != nil {
				t.Error(err)
			} else if _, err := account.NewSealer(ring).Open(a); !errors.Is(err, secret.ErrSeal) {
				t.Errorf("the credential in the row of %s: %v", user, err)
			}
		}
		if faults, _ := d.accountFaults(s, ring); len(faults) != 2 {
			t.Errorf("verify finds %q, want both accounts", faults)
		}
	})
}

func TestBind(t *testing.T) {
	onEngines(t, func(d *database) {
		ring := secret.NewRing(noon)
		s, e := d.store(ring, "")
		d.older(e)
		tenant := addTenant(d, s, "phone.test")
		const users = 250 // more than two statements change
		for i := range users {
			d.join(s, tenant, fmt.Sprint("user", i), sealOld, ring)
		}
		d.join(s, tenant, "damaged", func(_ account.Sealer, a *account.Account, _ digest.Credential) {
			a.Sealed = []byte("damaged")
		}, ring)
		d.join(s, tenant, "closed", sealOld, ring)
		if _, err := s.EnableNow(t.Context(), tenant, "closed", noon); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), tenant, "closed", noon); err != nil {
			t.Fatal(err)
		}
		note := fmt.Sprintf("credentials that are not bound to their user names: %d;", users)
		if faults, notes := d.accountFaults(s, ring); len(faults) != 1 || len(notes) != 1 ||
			!strings.HasPrefix(notes[0], note) {
			t.Errorf("before: %q, %q", faults, notes)
		}

		// A strict key refuses the store: it could be a restored backup.
		if e, err := d.open("", store.SealCheck(ring.Strict())); !errors.Is(err, store.ErrUnbound) {
			t.Errorf("a strict key, before: %v", err)
			if err == nil {
				e.Close()
			}
		}

		// An older server stores one more credential in the older form while the others are sealed again.
		wait := func(time.Duration) error {
			if b, err := s.Binding(t.Context()); err != nil || b != account.Begun {
				t.Errorf("while binding: %v, %v", b, err)
			}
			d.join(s, tenant, "late", sealOld, ring)
			return nil
		}
		done, err := account.Bind(t.Context(), s, ring, wait)
		if err != nil || done.Accounts != users+1 || done.Damaged != 1 {
			t.Fatalf("got %+v, %v", done, err)
		}
		if b, err := s.Binding(t.Context()); err != nil || b != account.Bound {
			t.Errorf("afterwards: %v, %v", b, err)
		}
		if err := migrations.Allowed(e.Reads(t.Context()), 12); !errors.Is(err, migrations.ErrNewer) {
			t.Errorf("an older program, afterwards: %v", err)
		}
		strict, _ := d.store(ring.Strict(), "")
		for _, user := range []string{"user0", "user99", "user100", "user249", "late"} {
			if !d.opens(strict, tenant, user, ring.Strict()) {
				t.Errorf("the credential of %s does not open", user)
			}
		}
		if done, err := account.Bind(t.Context(), s, ring, nil); err != nil || done.Accounts != 0 {
			t.Errorf("another time: %+v, %v", done, err)
		}

		// Rows in the older form are no longer accepted.
		d.join(s, tenant, "back", sealOld, ring)
		if d.opens(strict, tenant, "back", ring.Strict()) {
			t.Error("a strict key opens the older form")
		}
		if faults, _ := d.accountFaults(s, ring); len(faults) != 2 ||
			!strings.Contains(faults[0]+faults[1], "account back") {
			t.Errorf("verify with a key that is not strict: %q", faults)
		}
	})
}

// A credential that changes while it is sealed again is left as it is.
func TestResealKeepsChanges(t *testing.T) {
	onEngines(t, func(d *database) {
		ring := secret.NewRing(noon)
		s, e := d.store(ring, "")
		tenant := addTenant(d, s, "phone.test")
		d.join(s, tenant, "ann", sealOld, ring)
		d.join(s, tenant, "bob", sealOld, ring)
		last, err := s.Reseal(t.Context(), account.UID{}, 10, func(a account.Account) []byte {
			if a.User == "ann" {
				d.later(e, a.UID)
			}
			return []byte("sealed again")
		})
		if err != nil || last == (account.UID{}) {
			t.Fatalf("%v, %v", last, err)
		}
		for user, want := range map[string]string{"ann": "changed", "bob": "sealed again"} {
			if a, err := s.Find(t.Context(), tenant, user, noon); err != nil || string(a.Sealed) != want {
				t.Errorf("%s has %q, %v; want %q", user, a.Sealed, err, want)
			}
		}
		if last, err = s.Reseal(t.Context(), last, 10, nil); err != nil || last != (account.UID{}) {
			t.Errorf("after the last account: %v, %v", last, err)
		}
	})
}

// later changes a credential from another goroutine, as another transaction.
func (d *database) later(e engine.Engine, uid account.UID) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.exec(e, `UPDATE account SET credential = $2 WHERE uid = $1`, uid[:], []byte("changed"))
	}()
	<-done
}

// Binding does not begin while a server of an earlier version is alive.
func TestBindWaitsForOlderServers(t *testing.T) {
	ring, ctx := secret.NewRing(noon), t.Context()
	url := postgrestest.Shared(t).Database(t)
	d := &database{t, func(node string, check func(engine.Tx) error) (engine.Engine, error) {
		return postgres.Open(t.Context(), node, url, check)
	}}
	s, e := d.store(ring, "newer")
	d.older(e)
	heartbeat := func() {
		t.Helper()
		if _, err := s.TakeOver(ctx); err != nil {
			t.Fatal(err)
		}
	}
	heartbeat()
	heartbeat()
	// The heartbeat of a program that does not know the column.
	older := func(id string) {
		d.exec(e, `INSERT INTO node (id, beat) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET beat = node.beat + 1`, id)
	}
	refused := func(claim, node string) {
		t.Helper()
		_, err := account.Bind(ctx, s, ring, nil)
		if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), node) {
			t.Errorf("%s: %v", claim, err)
		}
		if b, err := s.Binding(ctx); err != nil || b != account.Unbound {
			t.Errorf("%s: %v, %v", claim, b, err)
		}
		if err := migrations.Allowed(e.Reads(ctx), 12); err != nil {
			t.Errorf("%s: %v", claim, err)
		}
	}
	older("other")
	refused("another server is older", "other")
	d.exec(e, `DELETE FROM node WHERE id = 'other'`)
	older("newer")
	refused("this server went back to an older version", "newer")
	heartbeat()
	if _, err := account.Bind(ctx, s, ring, nil); err != nil {
		t.Errorf("all servers are new: %v", err)
	}
}

// BenchmarkBind measures how many credentials are sealed again in a second.
func BenchmarkBind(b *testing.B) {
	ring := secret.NewRing(noon)
	sealer := account.NewSealer(ring)
	c := digest.Credential{HA1B: new(digest.HA1), SHA256: new(digest.HA1SHA256)}
	onEngines(b, func(d *database) {
		b := d.TB.(*testing.B)
		s, e := d.store(ring, "")
		tenant := addTenant(b, s, "phone.test")
		const accounts = 20000
		for b.Loop() {
			b.StopTimer()
			d.exec(e, `DELETE FROM account`)
			for range accounts / 1000 {
				err := e.Write(func(tx engine.Tx) error { return insertOlder(tx, tenant, sealer, c, 1000) })
				if err != nil {
					b.Fatal(err)
				}
			}
			b.StartTimer()
			if done, err := account.Bind(b.Context(), s, ring, nil); err != nil || done.Accounts != accounts {
				b.Fatal(done, err)
			}
		}
		b.ReportMetric(float64(accounts)*float64(b.N)/b.Elapsed().Seconds(), "accounts/s")
	})
}

// insertOlder adds n active accounts with credentials in the older form.
func insertOlder(tx engine.Tx, tenant int64, sealer account.Sealer, c digest.Credential, n int) error {
	for range n {
		a := account.Account{Tenant: tenant, UID: account.NewUID(time.Now())}
		a.User = "u" + a.UID.String()
		sealer.SealOld(&a, c)
		_, err := tx.Exec(`INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires,
			activated, epoch, credential, has_sha256)
			VALUES ($1, $2, $3, '', '', 'guest', FALSE, 0, 0, 0, 0, $4, TRUE)`,
			a.UID[:], tenant, a.User, a.Sealed)
		if err != nil {
			return err
		}
	}
	return nil
}
