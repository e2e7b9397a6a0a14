package sqlstore

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

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
	r := s.homes[0].reads(t.Context())
	for range 10 {
		if err := r.row(`SELECT nothing`).Scan(new(int)); err == nil {
			t.Fatal("there is nothing")
		}
		func() {
			defer func() { recover() }()
			r.each(func(scanner) error { panic("in the middle of a row") }, `SELECT 1`)
			t.Error("no panic")
		}()
	}
	if s.has(t, 1) {
		t.Error("there is a note that nobody made")
	}
}
