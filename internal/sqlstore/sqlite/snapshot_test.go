package sqlite

import (
	"errors"
	"path/filepath"
	"testing"
)

// sharer has a snapshot, and another connection that writes.
type sharer struct {
	*testing.T
	reader, other *Conn
}

func newSharer(t *testing.T) sharer {
	path := filepath.Join(t.TempDir(), "x.db")
	other := open(t, path)
	script(t, other, `PRAGMA journal_mode = WAL; CREATE TABLE x (n INTEGER); INSERT INTO x VALUES (0)`)
	s := sharer{t, open(t, path), other}
	if got := s.once(); got != 0 { // from now on it is known where the index lies
		t.Fatal(got)
	}
	return s
}

func (s sharer) read() (n int) {
	s.Helper()
	s.must(s.reader.Row([]any{&n}, `SELECT n FROM x`))
	return n
}

func (s sharer) resume() (same bool) {
	s.Helper()
	same, err := s.reader.Resume()
	s.must(err)
	return same
}

// once reads as readers do.
func (s sharer) once() int {
	s.Helper()
	s.resume()
	defer func() { s.must(s.reader.Keep()) }()
	return s.read()
}

func (s sharer) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// free says whether the journal could be begun anew.
func (s sharer) free() bool {
	s.Helper()
	var busy, pages, moved int
	s.must(s.other.Row([]any{&busy, &pages, &moved}, `PRAGMA wal_checkpoint(TRUNCATE)`))
	return busy == 0
}

func TestSnapshotHasWhatWasCommitted(t *testing.T) {
	s := newSharer(t)
	for n := 1; n < 1000; n++ {
		script(t, s.other, `UPDATE x SET n = n + 1`)
		for range n % 3 {
			if got := s.once(); got != n {
				t.Fatalf("%d is read after commit %d", got, n)
			}
		}
		if n%100 == 0 {
			s.must(s.reader.Release())
			if !s.free() {
				t.Fatal("the journal is in use after Release")
			}
		}
	}
}

// A Resume that finds nothing new goes on with the snapshot that was kept, which takes no lock.
func TestSnapshotIsKept(t *testing.T) {
	s := newSharer(t)
	s.once()
	if !s.reader.kept() || s.free() {
		t.Error("the snapshot was not kept")
	}
	seen := s.reader.seen
	if !s.resume() {
		t.Error("a snapshot that was kept is not gone on with")
	}
	script(t, s.other, `UPDATE x SET n = 1`)
	if n := s.read(); n != 0 || s.reader.seen != seen {
		t.Errorf("%d is read from a snapshot that is older than the commit", n)
	}
	s.must(s.reader.Keep())
	if s.reader.kept() {
		t.Error("a snapshot is kept that is old already")
	}
	if n := s.once(); n != 1 {
		t.Errorf("%d is read", n)
	}
}

// A commit between Resume and the first statement is in the snapshot, though the header is that of before.
func TestSnapshotOfALaterCommit(t *testing.T) {
	s := newSharer(t)
	s.must(s.reader.Release())
	if s.resume() {
		t.Error("a snapshot that was ended is gone on with")
	}
	script(t, s.other, `UPDATE x SET n = 1`)
	if n := s.read(); n != 1 {
		t.Errorf("%d is read", n)
	}
	s.must(s.reader.Keep())
	if s.reader.kept() {
		t.Error("a snapshot is kept of which it is not known what it has")
	}
}

func TestSnapshotOfAnIndexThatWasForgotten(t *testing.T) {
	s := newSharer(t)
	s.once()
	script(t, s.other, `UPDATE x SET n = 1`)
	if n := s.once(); n != 1 {
		t.Errorf("%d is read", n)
	}
	// A header that nobody finished says nothing.
	clear(bytesAt(s.reader.index, indexHeader/2))
	s.resume()
	if s.reader.kept() {
		t.Error("a snapshot was begun by half a header")
	}
	if n := s.read(); n != 1 {
		t.Errorf("%d is read", n)
	}
}

func TestSnapshotEndsWithTheConnection(t *testing.T) {
	s := newSharer(t)
	s.once()
	s.must(s.reader.Close())
	if !s.free() {
		t.Error("the journal is in use")
	}
}

func TestReleaseOfNothing(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "x.db"))
	resume := func() error {
		same, err := c.Resume()
		if same {
			t.Error("there is no snapshot to go on with")
		}
		return err
	}
	if err := errors.Join(c.Release(), resume(), c.Release()); err != nil {
		t.Error(err)
	}
	script(t, c, `CREATE TABLE x (n INTEGER); INSERT INTO x VALUES (1)`)
	// No journal of this kind, no index: each statement has a snapshot of its own.
	for range 2 {
		var n int
		if err := errors.Join(resume(), c.Row([]any{&n}, `SELECT n FROM x`), c.Keep()); err != nil || n != 1 || c.kept() {
			t.Errorf("%d, %v, kept %t", n, err, c.kept())
		}
	}
}
