package sqlstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

func TestReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openNotes(t)
		r := s.engine.(*lite).readers
		held, free := make(chan struct{}), make(chan struct{})
		for range cap(r.free) {
			go r.use(t.Context(), func(*reader) error {
				held <- struct{}{}
				<-free
				return nil
			})
			<-held
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Revoked(ctx, 0, nonceOf(1), time.Unix(1, 0)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("whoever waits for a connection and has no more time: %v", err)
		}
		var closed bool
		go func() {
			closeNotes(t, s)
			closed = true
		}()
		if synctest.Wait(); closed {
			t.Error("the store is closed, and its connections are in use")
		}
		close(free)
		if synctest.Wait(); !closed {
			t.Error("the store is not closed, and nobody uses it")
		}
		if _, err := s.Revoked(t.Context(), 0, nonceOf(1), time.Unix(1, 0)); err != errClosed {
			t.Errorf("reading from a closed store: %v", err)
		}
		if err := s.write(touch); err != errClosed {
			t.Errorf("writing to a closed store: %v", err)
		}
	})
}

func TestReadersDoNotWrite(t *testing.T) {
	s := openNotes(t)
	defer closeNotes(t, s)
	if err := s.engine.reads(t.Context()).row(`DELETE FROM revision RETURNING n`).Scan(new(int)); err == nil {
		t.Error("a reader has written")
	}
}

// A reader that fails goes on with the next read: its connection does not stay out.
func TestReaderFails(t *testing.T) {
	s := openNotes(t)
	defer closeNotes(t, s)
	if err := s.write(touch); err != nil { // so that there is a journal
		t.Fatal(err)
	}
	r := s.engine.reads(t.Context())
	for range 11 { // connections take turns
		s.has(t, 1)
		if err := r.row(`SELECT nothing`).Scan(new(int)); err == nil {
			t.Fatal("there is nothing")
		}
		func() {
			defer func() { recover() }()
			r.each(func(scanner) error { panic("in the middle of a row") }, `SELECT n FROM revision`)
			t.Error("no panic")
		}()
	}
	var busy, pages, moved int
	if err := s.writer().conn.Row([]any{&busy, &pages, &moved}, `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil || busy != 0 {
		t.Errorf("a snapshot in which a read failed is kept: %d, %v", busy, err)
	}
	if s.has(t, 1) {
		t.Error("there is a note that nobody made")
	}
}

// A reader that nobody uses keeps its snapshot, and with it the journal. It must not, when there is something to write.
func TestJournalIsBegunAnewBesideReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dialtone.db")
	s, err := Open(t.Context(), path, secret.NewRing(time.Unix(0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer closeNotes(t, s)
	for n := range 4000 {
		if err := s.write(func(tx transaction) error { return jot(tx, n) }); err != nil {
			t.Fatal(err)
		}
		if !s.has(t, n) {
			t.Fatalf("note %d is not seen", n)
		}
	}
	journal, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(8 << 20); journal.Size() > most {
		t.Errorf("the journal has %d bytes", journal.Size())
	}
}

// What phones asked for is remembered as long as nothing is committed, by whomever.
func TestSealedIsRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dialtone.db")
	ring := secret.NewRing(time.Unix(0, 0))
	s, err := Open(t.Context(), path, ring)
	if err != nil {
		t.Fatal(err)
	}
	defer closeNotes(t, s)
	home, err := s.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test"})
	if err != nil {
		t.Fatal(err)
	}
	a := admissionsOf(home.ID)()
	if err := s.Create(t.Context(), a, a.Account.Created); err != nil {
		t.Fatal(err)
	}
	r := s.engine.(*lite).readers
	one := func(do func(*reader)) {
		t.Helper()
		if err := r.use(t.Context(), func(c *reader) error { do(c); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	ask := func() account.Account {
		t.Helper()
		got, err := s.Sealed(t.Context(), home.ID, a.Account.User, a.Account.Created)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for range 2 * cap(r.free) {
		ask()
	}
	for range cap(r.free) { // connections take turns
		one(func(c *reader) {
			if len(c.sealed) != 1 {
				t.Errorf("%d are remembered", len(c.sealed))
			}
		})
	}

	// Another process knows nothing of this one's memory.
	other, err := Open(t.Context(), path, ring)
	if err != nil {
		t.Fatal(err)
	}
	defer closeNotes(t, other)
	for n := range 6 {
		change := other.Enable
		if n%2 == 1 {
			change = other.Disable
		}
		if _, err := change(t.Context(), home.ID, a.Account.User, a.Account.Created); err != nil {
			t.Fatal(err)
		}
		for range 2 * cap(r.free) {
			if got := ask(); got.Disabled != (n%2 == 1) {
				t.Fatalf("after change %d the account is disabled: %t", n, got.Disabled)
			}
		}
	}

	// While something is written there is no snapshot to hold against what is remembered.
	if _, err := s.Enable(t.Context(), home.ID, a.Account.User, a.Account.Created); err != nil {
		t.Fatal(err)
	}
	release := hold(s)
	for range 2 * cap(r.free) {
		if got := ask(); got.Disabled {
			t.Error("while something is written, what was remembered before is told")
		}
	}
	release()

	// What is remembered has an end.
	for range cap(r.free) {
		one(func(c *reader) {
			clear(c.sealed)
			for i := range maxSealed {
				c.sealed[holder{home.ID, strconv.Itoa(i)}] = sealed{}
			}
		})
	}
	for range cap(r.free) {
		ask()
	}
	for range cap(r.free) {
		one(func(c *reader) {
			if len(c.sealed) != 1 {
				t.Errorf("%d are remembered", len(c.sealed))
			}
		})
	}
}
