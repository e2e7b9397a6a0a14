package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// openNotes is a store whose table spent takes notes.
func openNotes(t testing.TB) *Store {
	s, err := Open(context.Background(), filepath.Join(t.TempDir(), "dialtone.db"), secret.NewRing(time.Unix(0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeNotes(t testing.TB, s *Store) {
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func nonceOf(n int) (nonce [16]byte) {
	nonce[0], nonce[1] = byte(n), byte(n>>8)
	return nonce
}

func jot(tx transaction, n int) error {
	_, err := markSpent(tx, nonceOf(n), time.UnixMicro(1))
	return err
}

func (s *Store) has(t *testing.T, n int) bool {
	t.Helper()
	ok, err := s.Revoked(context.Background(), 0, nonceOf(n), time.UnixMicro(1))
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func (s *Store) writer() *writer { return s.engine.(*lite).writer }

func (s *Store) write(do func(transaction) error) error { return s.engine.write(do) }

// hold keeps the writer busy until release is called, so that what is written meanwhile becomes one group.
func hold(s *Store) (release func()) {
	busy, free := make(chan struct{}), make(chan struct{})
	go s.write(func(transaction) error {
		close(busy)
		<-free
		return nil
	})
	<-busy
	return func() { close(free) }
}

// enqueue lets writes wait in order, as write does while another commits.
func enqueue(t *testing.T, s *Store, writes ...func(transaction) error) (results []chan error) {
	t.Helper()
	for _, do := range writes {
		j := &job{do: do}
		if leads, err := s.writer().enter(j); leads || err != nil {
			t.Fatalf("a write does not wait: leads %v, %v", leads, err)
		}
		result := make(chan error, 1)
		go func() { result <- s.writer().wait(j) }()
		results = append(results, result)
	}
	return results
}

func (w *queue) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting)
}

func TestGroup(t *testing.T) {
	s := openNotes(t)
	defer closeNotes(t, s)
	release := hold(s)
	broken := errors.New("broken")
	refusal := fault.New(fault.Conflict, "refused")
	runs := make([]int, 6)
	write := func(n int, result error) func(transaction) error {
		return func(tx transaction) error {
			runs[n]++
			if err := jot(tx, n); err != nil {
				return err
			}
			return result
		}
	}
	var order []int
	jobs := enqueue(t, s,
		write(0, nil),
		write(1, broken),
		write(2, refusal),
		func(tx transaction) error {
			runs[3]++
			if err := jot(tx, 3); err != nil {
				return err
			}
			_, err := tx.exec(`INSERT INTO spent (expires, nonce) VALUES ($1, NULL)`, 1) // which the schema refuses
			return err
		},
		func(tx transaction) error { // which sees what those before it wrote, and not what was undone
			runs[4]++
			order = order[:0]
			for n := range 4 {
				there, err := isSpent(tx, nonceOf(n), time.UnixMicro(1))
				if err != nil {
					return err
				}
				if there {
					order = append(order, n)
				}
			}
			return jot(tx, 4)
		},
		write(5, nil),
	)
	release()
	var results []error
	for _, j := range jobs {
		results = append(results, <-j)
	}
	for n, c := range []struct {
		want  func(error) bool
		stays bool
	}{
		{func(err error) bool { return err == nil }, true},
		{func(err error) bool { return err == broken }, false},
		{func(err error) bool { return errors.Is(err, refusal) }, true},
		{func(err error) bool { return err != nil && fault.KindOf(err) == fault.Internal }, false},
		{func(err error) bool { return err == nil }, true},
		{func(err error) bool { return err == nil }, true},
	} {
		if !c.want(results[n]) {
			t.Errorf("write %d ended with %v", n, results[n])
		}
		if got := s.has(t, n); got != c.stays {
			t.Errorf("what write %d wrote is there: %v, want %v", n, got, c.stays)
		}
	}
	if fmt.Sprint(order) != "[0 2]" {
		t.Errorf("a later write of the group saw %v", order)
	}
	if runs[0] < 2 {
		t.Error("the writes were not in one group: nothing was run again when one failed")
	}
}

func TestFailedTransactionFailsEveryWriteOfItsGroup(t *testing.T) {
	s := openNotes(t)
	defer closeNotes(t, s)
	release := hold(s)
	jobs := enqueue(t, s,
		func(tx transaction) error { return jot(tx, 0) },
		func(tx transaction) error { // a foreign key that is looked at by COMMIT alone
			if _, err := tx.exec(`PRAGMA defer_foreign_keys = ON`); err != nil {
				return err
			}
			_, err := tx.exec(`INSERT INTO outbox (account, message, token) VALUES ($1, $1, $1)`, []byte("nobody"))
			return err
		},
		func(tx transaction) error { return jot(tx, 2) },
	)
	release()
	for i, j := range jobs {
		if err := <-j; err == nil {
			t.Errorf("write %d is told that it is durable", i)
		}
	}
	if s.has(t, 0) || s.has(t, 2) {
		t.Error("something of the failed transaction is there")
	}
	if err := s.write(func(tx transaction) error { return jot(tx, 3) }); err != nil || !s.has(t, 3) {
		t.Errorf("the next write: %v", err)
	}
}

func TestLoneWriteDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openNotes(t)
		defer closeNotes(t, s)
		begin := time.Now() // the bubble's clock, which stands still while anything runs
		for n := range 3 {
			if err := s.write(func(tx transaction) error { return jot(tx, n) }); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("three lone writes waited %v", d)
		}
	})
}

func TestLeaderYieldsBeforeGathering(t *testing.T) {
	s := openNotes(t)
	defer closeNotes(t, s)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	commit := s.writer().commit
	var first int
	s.writer().queue.commit = func(group []*job) {
		if first == 0 {
			first = len(group)
		}
		commit(group)
	}
	// The scheduler looks at its queues in another order now and then, hence some tries.
	for range 5 {
		first = 0
		var all sync.WaitGroup
		for n := range 20 {
			all.Go(func() {
				if err := s.write(func(tx transaction) error { return jot(tx, n) }); err != nil {
					t.Error(err)
				}
			})
		}
		if all.Wait(); first > 1 {
			return
		}
	}
	t.Errorf("twenty were ready to write, and the first commit had %d of them", first)
}

func TestFullQueue(t *testing.T) {
	s := openNotes(t)
	defer closeNotes(t, s)
	release := hold(s)
	var last []chan error
	for range queued {
		last = enqueue(t, s, func(transaction) error { return nil })
	}
	err := s.write(func(tx transaction) error { return jot(tx, 1) })
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Overloaded || f.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
	release()
	<-last[0]
	if s.has(t, 1) {
		t.Error("a write that was turned away has happened")
	}
	if err := s.write(func(tx transaction) error { return jot(tx, 2) }); err != nil || !s.has(t, 2) {
		t.Errorf("when the queue is empty again: %v", err)
	}
}

func TestQueueTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openNotes(t)
		defer closeNotes(t, s)
		release := hold(s)
		begin := time.Now()
		err := s.write(func(tx transaction) error { return jot(tx, 1) })
		if !fault.Is(err, fault.Overloaded) || time.Since(begin) != queueTimeout {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
		release()
		if err := s.write(func(transaction) error { return nil }); err != nil { // behind the abandoned one
			t.Fatal(err)
		}
		if s.has(t, 1) {
			t.Error("an abandoned write has happened")
		}
	})
}

func TestQueueTimeoutDoesNotApplyToStartedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openNotes(t)
		defer closeNotes(t, s)
		err := s.write(func(tx transaction) error {
			time.Sleep(10 * queueTimeout) // of the bubble's clock
			return jot(tx, 1)
		})
		if err != nil || !s.has(t, 1) {
			t.Errorf("a slow write ended with %v, and has happened: %v", err, s.has(t, 1))
		}
	})
}

func TestCloseFinishesAcceptedWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dialtone.db")
	ring := secret.NewRing(time.Unix(0, 0))
	s, err := Open(t.Context(), path, ring)
	if err != nil {
		t.Fatal(err)
	}
	release := hold(s)
	var writes []func(transaction) error
	for n := range 300 {
		writes = append(writes, func(tx transaction) error { return jot(tx, n) })
	}
	jobs := enqueue(t, s, writes...)
	release()
	closeNotes(t, s)
	for n, j := range jobs {
		if err := <-j; err != nil {
			t.Fatalf("write %d: %v", n, err)
		}
	}
	if s, err = Open(t.Context(), path, ring); err != nil {
		t.Fatal(err)
	}
	defer closeNotes(t, s)
	for n := range writes {
		if !s.has(t, n) {
			t.Fatalf("write %d is not there", n)
		}
	}
}

func TestActivationIsDecidedInItsTransaction(t *testing.T) {
	begin := time.Unix(0, 0)
	late := begin.Add(account.PendingLife)
	for _, c := range []struct {
		name string
		meet func(s *Store, tenant int64) error
		at   time.Time
		want error
	}{
		{"an operator disables the account between the link's look and its write", func(s *Store, tenant int64) error {
			_, err := s.Disable(t.Context(), tenant, "ann", begin)
			return err
		}, begin, account.ErrHeld},
		{"the account is deleted between them", func(s *Store, tenant int64) error {
			return s.Delete(t.Context(), tenant, "ann", begin)
		}, begin, errNoAccount},
		{"its name goes to another in the last moment", func(s *Store, tenant int64) error {
			return s.Create(t.Context(), admissionOf(tenant, late, 2), late)
		}, late.Add(-time.Microsecond), errNoAccount},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openNotes(t)
			defer closeNotes(t, s)
			home, err := s.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test"})
			if err != nil {
				t.Fatal(err)
			}
			a := admissionOf(home.ID, begin, 1)
			if err := s.Create(t.Context(), a, begin); err != nil {
				t.Fatal(err)
			}
			release := hold(s)
			results := make(chan error, 2)
			go func() { results <- c.meet(s, home.ID) }()
			for s.writer().count() < 1 {
				runtime.Gosched()
			}
			linked := make(chan error, 1)
			go func() {
				_, err := s.Activate(t.Context(), home.ID, a.Token, c.at)
				linked <- err
			}()
			for s.writer().count() < 2 { // it has looked, and waits to write
				runtime.Gosched()
			}
			release()
			if err := <-results; err != nil {
				t.Fatal(err)
			}
			if err := <-linked; !errors.Is(err, c.want) {
				t.Errorf("the link: got %v, want %v", err, c.want)
			}
			if b, err := s.Find(t.Context(), home.ID, "ann", c.at); err == nil && !b.Disabled {
				t.Error("the account is enabled")
			}
		})
	}
}

// admissionOf is a new account of ann; those of another number share nothing with it but the name.
func admissionOf(tenant int64, at time.Time, number byte) account.Signup {
	return account.Signup{
		Account: account.Account{
			UID: account.UID{number}, Tenant: tenant, User: "ann", Role: account.Guest, Created: at, Expires: at.Add(account.PendingLife), Sealed: []byte{number},
		},
		Token: [32]byte{number}, Message: mailmsg.ID{number}, SealedToken: []byte{number},
		Captcha:   captcha.Proof{Ours: true, Right: true, Nonce: [16]byte{number}, Expires: at},
		Address:   []throttle.Allowance{{Bucket: throttle.Bucket{number}, Rule: throttle.SignupsPerAddress}},
		Recipient: throttle.Allowance{Bucket: throttle.Bucket{0, number}, Rule: throttle.MessagesPerRecipient},
	}
}
