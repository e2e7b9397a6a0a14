package sqlite_test

import (
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
	"dialtone/internal/throttle"
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
			return s.Create(t.Context(), newSignup(tenant, late, 2), late)
		}, late.Add(-time.Microsecond), notFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			s := teststore.OnSQLite(e, nil)
			tn, err := s.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test"})
			if err != nil {
				t.Fatal(err)
			}
			a := newSignup(tn.ID, begin, 1)
			if err := s.Create(t.Context(), a, begin); err != nil {
				t.Fatal(err)
			}
			release := hold(e)
			raced := make(chan error, 1)
			go func() { raced <- c.race(s, tn.ID) }()
			for e.Waiting() < 1 {
				runtime.Gosched()
			}
			activated := make(chan error, 1)
			go func() {
				_, err := s.Activate(t.Context(), tn.ID, a.Token, c.at)
				activated <- err
			}()
			for e.Waiting() < 2 { // Activate has read the account and waits to write
				runtime.Gosched()
			}
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

// newSignup returns a signup for the name ann. Signups with different numbers have only the name in
// common.
func newSignup(tenant int64, at time.Time, number byte) account.Signup {
	return account.Signup{
		Account: account.Account{
			UID:     account.UID{number},
			Tenant:  tenant,
			User:    "ann",
			Role:    account.Guest,
			Created: at,
			Expires: at.Add(account.PendingLife),
			Sealed:  []byte{number},
		},
		Token: [32]byte{number}, Message: mailmsg.ID{number}, SealedToken: []byte{number},
		Captcha:   captcha.Proof{Ours: true, Right: true, Nonce: [16]byte{number}, Expires: at},
		Address:   []throttle.Allowance{{Bucket: throttle.Bucket{number}, Rule: throttle.SignupsPerAddress}},
		Recipient: throttle.Allowance{Bucket: throttle.Bucket{0, number}, Rule: throttle.MessagesPerRecipient},
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
