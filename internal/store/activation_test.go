package store_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
)

// Activate reads the account before it writes. TestActivationRace runs another change between the
// two.
func TestActivationRace(t *testing.T) {
	begin := time.Unix(0, 0)
	late := begin.Add(account.PendingLife)
	notFound := errors.New("not found")
	for _, c := range []struct {
		name string
		race func(s *store.Store, tenant int64) error
		at   time.Time
		want error
	}{
		{"an operator disables the account",
			func(s *store.Store, tenant int64) error {
				_, err := s.Disable(t.Context(), tenant, "ann", begin)
				return err
			}, begin, account.ErrHeld},
		{"the account is deleted", func(s *store.Store, tenant int64) error {
			return s.Delete(t.Context(), tenant, "ann", begin)
		}, begin, notFound},
		{"the account expires and its name is taken by another", func(s *store.Store, tenant int64) error {
			return s.Create(t.Context(), teststore.SignupAt(tenant, "ann", late), late)
		}, late.Add(-time.Microsecond), notFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := openSQLite(t)
			s := teststore.OnSQLite(e, nil)
			tn, err := s.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test"})
			if err != nil {
				t.Fatal(err)
			}
			a := teststore.SignupAt(tn.ID, "ann", begin)
			if err := s.Create(t.Context(), a, begin); err != nil {
				t.Fatal(err)
			}
			release := hold(e)
			raced := make(chan error, 1)
			go func() { raced <- c.race(s, tn.ID) }()
			untilWaiting(t, e, 1)
			activated := make(chan error, 1)
			go func() {
				_, err := s.Activate(t.Context(), tn.ID, a.Token, c.at)
				activated <- err
			}()
			untilWaiting(t, e, 2) // Activate has read the account and waits to write
			release()
			if err := <-raced; err != nil {
				t.Fatal(err)
			}
			err = <-activated
			if !errors.Is(err, c.want) && !(errors.Is(c.want, notFound) && fault.Is(err, fault.NotFound)) {
				t.Errorf("Activate: got %v, want %v", err, c.want)
			}
			if b, err := s.Find(t.Context(), tn.ID, "ann", c.at); err == nil && !b.Disabled {
				t.Error("the account is enabled")
			}
		})
	}
}

// hold keeps the writer busy until release is called.
func hold(e *sqlite.Engine) (release func()) {
	busy, free := make(chan struct{}), make(chan struct{})
	go e.Write(func(engine.Tx) error {
		close(busy)
		<-free
		return nil
	})
	<-busy
	return func() { close(free) }
}

// untilWaiting returns when n writes wait for another one.
func untilWaiting(t *testing.T, e *sqlite.Engine, n int) {
	t.Helper()
	for {
		load, err := e.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if load.Waiting >= n {
			return
		}
		runtime.Gosched()
	}
}
