package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite/conn"
)

func TestReadersWaitAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openNotes(t)
		r := &s.readers
		held, free := make(chan struct{}), make(chan struct{})
		for range cap(r.idle) {
			go r.use(t.Context(), func(*conn.Conn) error {
				held <- struct{}{}
				<-free
				return nil
			})
			<-held
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := readNote(s.Reads(ctx), 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no connection is free until the context is done: %v", err)
		}
		var closed bool
		go func() {
			closeNotes(t, s)
			closed = true
		}()
		if synctest.Wait(); closed {
			t.Error("the store was closed while its connections were in use")
		}
		close(free)
		if synctest.Wait(); !closed {
			t.Error("the store is not closed although no connection is in use")
		}
		if _, err := readNote(s.Reads(t.Context()), 1); !errors.Is(err, engine.ErrClosed) {
			t.Errorf("reading from a closed store: %v", err)
		}
		if err := s.Write(noopWrite); !errors.Is(err, engine.ErrClosed) {
			t.Errorf("writing to a closed store: %v", err)
		}
	})
}

func TestReadersCannotWrite(t *testing.T) {
	s := openNotes(t)
	defer closeNotes(t, s)
	if err := s.Reads(t.Context()).Row(`DELETE FROM revision RETURNING n`).Scan(new(int)); err == nil {
		t.Error("a reader could write")
	}
}

// A read that fails or panics returns its connection to the pool, without an open transaction.
func TestReaderAfterFailure(t *testing.T) {
	s := openNotes(t)
	defer closeNotes(t, s)
	if err := s.Write(noopWrite); err != nil { // so that there is a WAL
		t.Fatal(err)
	}
	r := s.Reads(t.Context())
	for range 11 { // more often than there are connections
		s.has(t, 1)
		if err := r.Row(`SELECT nothing`).Scan(new(int)); err == nil {
			t.Fatal("a column that does not exist was read")
		}
		func() {
			defer func() { recover() }()
			r.Each(func(engine.Scanner) error { panic("while reading a row") }, `SELECT n FROM revision`)
			t.Error("no panic")
		}()
	}
	var busy, pages, moved int
	err := s.writer.conn.Row([]any{&busy, &pages, &moved}, `PRAGMA wal_checkpoint(TRUNCATE)`)
	if err != nil || busy != 0 {
		t.Errorf("a connection still has a transaction open: busy %d, %v", busy, err)
	}
	if s.has(t, 1) {
		t.Error("found a note that was not written")
	}
}

// An idle reader must not keep the WAL from being restarted, or the WAL would grow without bound.
func TestWALStaysSmallBesideReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dialtone.db")
	s := openNotesAt(t, path)
	defer closeNotes(t, s)
	for n := range 4000 {
		if err := s.Write(func(tx engine.Tx) error { return addNote(tx, n) }); err != nil {
			t.Fatal(err)
		}
		if !s.has(t, n) {
			t.Fatalf("note %d is not found after it was committed", n)
		}
	}
	wal, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if wal.Size() > 8<<20 {
		t.Errorf("the WAL has %d bytes", wal.Size())
	}
}
