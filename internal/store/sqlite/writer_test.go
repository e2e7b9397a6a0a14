package sqlite

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

	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
)

// openNotes opens an engine. The tests write notes, which are rows of the table spent.
func openNotes(t testing.TB) *Engine {
	t.Helper()
	return openNotesAt(t, filepath.Join(t.TempDir(), "dialtone.db"))
}

func openNotesAt(t testing.TB, path string) *Engine {
	t.Helper()
	e, err := Open(context.Background(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func closeNotes(t testing.TB, e *Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func noteID(n int) []byte { return []byte{byte(n), byte(n >> 8)} }

// addNote writes note n.
func addNote(tx engine.Tx, n int) error {
	_, err := tx.Exec(`INSERT INTO spent (expires, nonce) VALUES (1, $1)`, noteID(n))
	return err
}

// readNote reports whether note n has been written.
func readNote(q engine.Querier, n int) (bool, error) {
	count, err := engine.Count(q, `SELECT count(*) FROM spent WHERE nonce = $1`, noteID(n))
	return count > 0, err
}

func (e *Engine) has(t *testing.T, n int) bool {
	t.Helper()
	ok, err := readNote(e.Reads(t.Context()), n)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// hold keeps the writer busy until release is called, so that all writes in the meantime become one
// group.
func hold(s *Engine) (release func()) {
	busy, free := make(chan struct{}), make(chan struct{})
	go s.Write(func(engine.Tx) error {
		close(busy)
		<-free
		return nil
	})
	<-busy
	return func() { close(free) }
}

// enqueue starts writes and waits after each until it is queued. The writer must be busy.
func enqueue(t *testing.T, e *Engine, writes ...func(engine.Tx) error) (results []chan error) {
	t.Helper()
	for _, do := range writes {
		before := e.writer.Waiting()
		result := make(chan error, 1)
		go func() { result <- e.Write(do) }()
		for e.writer.Waiting() == before {
			runtime.Gosched()
		}
		results = append(results, result)
	}
	return results
}

func TestGroup(t *testing.T) {
	s := openNotes(t)
	defer closeNotes(t, s)
	release := hold(s)
	broken := errors.New("broken")
	refusal := fault.New(fault.Conflict, "refused")
	runs := make([]int, 6)
	write := func(n int, result error) func(engine.Tx) error {
		return func(tx engine.Tx) error {
			runs[n]++
			if err := addNote(tx, n); err != nil {
				return err
			}
			return result
		}
	}
	var seen []int
	jobs := enqueue(t, s,
		write(0, nil),
		write(1, broken),
		write(2, refusal),
		func(tx engine.Tx) error {
			runs[3]++
			if err := addNote(tx, 3); err != nil {
				return err
			}
			_, err := tx.Exec(`INSERT INTO spent (expires, nonce) VALUES ($1, NULL)`, 1) // violates NOT NULL
			return err
		},
		func(tx engine.Tx) error { // sees earlier writes of the group, but not those rolled back
			runs[4]++
			seen = seen[:0]
			for n := range 4 {
				found, err := readNote(tx, n)
				if err != nil {
					return err
				}
				if found {
					seen = append(seen, n)
				}
			}
			return addNote(tx, 4)
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
		saved bool
	}{
		{func(err error) bool { return err == nil }, true},
		{func(err error) bool { return errors.Is(err, broken) }, false},
		{func(err error) bool { return errors.Is(err, refusal) }, true},
		{func(err error) bool { return err != nil && fault.KindOf(err) == fault.Internal }, false},
		{func(err error) bool { return err == nil }, true},
		{func(err error) bool { return err == nil }, true},
	} {
		if !c.want(results[n]) {
			t.Errorf("write %d ended with %v", n, results[n])
		}
		if got := s.has(t, n); got != c.saved {
			t.Errorf("write %d was saved: %v, want %v", n, got, c.saved)
		}
	}
	if fmt.Sprint(seen) != "[0 2]" {
		t.Errorf("write 4 saw the writes %v, want 0 and 2", seen)
	}
	if runs[0] < 2 {
		t.Error("the writes were not in one group: the first was not run again when another failed")
	}
}

func TestFailedCommitFailsWholeGroup(t *testing.T) {
	s := openNotes(t)
	defer closeNotes(t, s)
	release := hold(s)
	jobs := enqueue(t, s,
		func(tx engine.Tx) error { return addNote(tx, 0) },
		func(tx engine.Tx) error { // violates a foreign key that only COMMIT checks
			if _, err := tx.Exec(`PRAGMA defer_foreign_keys = ON`); err != nil {
				return err
			}
			_, err := tx.Exec(`INSERT INTO outbox (account, message, token) VALUES ($1, $1, $1)`, []byte("nobody"))
			return err
		},
		func(tx engine.Tx) error { return addNote(tx, 2) },
	)
	release()
	for i, j := range jobs {
		if err := <-j; err == nil {
			t.Errorf("write %d succeeded", i)
		}
	}
	if s.has(t, 0) || s.has(t, 2) {
		t.Error("a part of the failed transaction was saved")
	}
	if err := s.Write(func(tx engine.Tx) error { return addNote(tx, 3) }); err != nil || !s.has(t, 3) {
		t.Errorf("the next write: %v", err)
	}
}

func TestLoneWriteDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openNotes(t)
		defer closeNotes(t, s)
		begin := time.Now() // of the bubble's clock, which stands still while a goroutine runs
		for n := range 3 {
			if err := s.Write(func(tx engine.Tx) error { return addNote(tx, n) }); err != nil {
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
	commit := s.writer.commit
	var first int
	s.writer.Queue = engine.NewQueue(1, groupLimit, func(group []*job) {
		if first == 0 {
			first = len(group)
		}
		commit(group)
	})
	// The scheduler sometimes runs goroutines in another order, so there are several attempts.
	for attempt := range 5 {
		first = 0
		var all sync.WaitGroup
		for n := range 20 {
			all.Go(func() {
				if err := s.Write(func(tx engine.Tx) error { return addNote(tx, 20*attempt+n) }); err != nil {
					t.Error(err)
				}
			})
		}
		if all.Wait(); first > 1 {
			return
		}
	}
	t.Errorf("of twenty writes that were ready, the first commit had %d", first)
}

func TestFullQueue(t *testing.T) {
	s := openNotes(t)
	defer closeNotes(t, s)
	release := hold(s)
	var last []chan error
	for range engine.MaxQueued {
		last = enqueue(t, s, func(engine.Tx) error { return nil })
	}
	err := s.Write(func(tx engine.Tx) error { return addNote(tx, 1) })
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Overloaded || f.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
	release()
	<-last[0]
	if s.has(t, 1) {
		t.Error("a refused write was saved")
	}
	if err := s.Write(func(tx engine.Tx) error { return addNote(tx, 2) }); err != nil || !s.has(t, 2) {
		t.Errorf("when the queue is empty again: %v", err)
	}
}

func TestQueueTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openNotes(t)
		defer closeNotes(t, s)
		release := hold(s)
		begin := time.Now()
		err := s.Write(func(tx engine.Tx) error { return addNote(tx, 1) })
		if !fault.Is(err, fault.Overloaded) || time.Since(begin) != engine.QueueTimeout {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
		release()
		if err := s.Write(func(engine.Tx) error { return nil }); err != nil { // behind the abandoned one
			t.Fatal(err)
		}
		if s.has(t, 1) {
			t.Error("an abandoned write was saved")
		}
	})
}

func TestQueueTimeoutDoesNotApplyToStartedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openNotes(t)
		defer closeNotes(t, s)
		err := s.Write(func(tx engine.Tx) error {
			time.Sleep(10 * engine.QueueTimeout) // of the bubble's clock
			return addNote(tx, 1)
		})
		if err != nil || !s.has(t, 1) {
			t.Errorf("a slow write: %v, saved: %v", err, s.has(t, 1))
		}
	})
}

func TestCloseFinishesAcceptedWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dialtone.db")
	s := openNotesAt(t, path)
	release := hold(s)
	var writes []func(engine.Tx) error
	for n := range 300 {
		writes = append(writes, func(tx engine.Tx) error { return addNote(tx, n) })
	}
	jobs := enqueue(t, s, writes...)
	release()
	closeNotes(t, s)
	for n, j := range jobs {
		if err := <-j; err != nil {
			t.Fatalf("write %d: %v", n, err)
		}
	}
	s = openNotesAt(t, path)
	defer closeNotes(t, s)
	for n := range writes {
		if !s.has(t, n) {
			t.Fatalf("write %d was not saved", n)
		}
	}
}
