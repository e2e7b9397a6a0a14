package sqlstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/sqlstore/sqlite"
)

func TestReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openNotes(t)
		r := s.homes[0].engine.(*lite).readers
		held, free := make(chan struct{}), make(chan struct{})
		for range cap(r.free) {
			go r.use(t.Context(), func(*sqlite.Conn) error {
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
	if err := s.homes[0].reads(t.Context()).row(`DELETE FROM revision RETURNING n`).Scan(new(int)); err == nil {
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
	r := s.homes[0].reads(t.Context())
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
