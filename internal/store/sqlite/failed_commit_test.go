package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	sqlite3 "modernc.org/sqlite/lib"

	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite/conn"
	"dialtone/internal/test/crashfs"
)

// openOnCrashFS opens a store on a file system whose operations can be made to fail.
func openOnCrashFS(t *testing.T) (*Engine, *crashfs.FS) {
	t.Helper()
	f := crashfs.New()
	if err := f.MakeDir("/data"); err != nil {
		t.Fatal(err)
	}
	return reopenOn(t, f), f
}

func reopenOn(t *testing.T, f *crashfs.FS) *Engine {
	t.Helper()
	// As settleWAL does for Open.
	if err := f.SyncFile("/data/dialtone.db-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	f.Forget("/data/dialtone.db-wal")
	s, err := OpenVFS(t.Context(), "/data/dialtone.db", nil, f.VFS())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func hasFailed(s *Engine) bool {
	select {
	case <-s.Failed():
		return true
	default:
		return false
	}
}

func TestFailedSyncEndsWriting(t *testing.T) {
	s, f := openOnCrashFS(t)
	if err := s.Write(func(tx engine.Tx) error { return addNote(tx, 0) }); err != nil {
		t.Fatal(err)
	}
	if hasFailed(s) || s.Err() != nil {
		t.Fatalf("the store has failed without a fault: %v", s.Err())
	}
	release := hold(s)
	jobs := enqueue(t, s,
		func(tx engine.Tx) error { return addNote(tx, 1) },
		func(tx engine.Tx) error { return addNote(tx, 2) },
	)
	heal := f.Fail(crashfs.Fault{Err: syscall.EIO, Only: func(op crashfs.Op) bool { return op.Kind == crashfs.Sync }})
	release()
	for i, j := range jobs {
		err := <-j
		if !errors.Is(err, fault.ErrInDoubt) || !errors.Is(err, engine.ErrFailed) ||
			!fault.Is(err, fault.Overloaded) {
			t.Errorf("write %d of the group that failed: %v", i, err)
		}
	}
	if !heal() || !hasFailed(s) || !errors.Is(s.Err(), engine.ErrFailed) {
		t.Errorf("Failed %v, Err %v", hasFailed(s), s.Err())
	}
	if e, ok := errors.AsType[*conn.Error](s.Err()); !ok || e.Code != sqlite3.SQLITE_IOERR_FSYNC {
		t.Errorf("Err does not wrap the error of SQLite: %v", s.Err())
	}

	disk := f.Image()
	if err := s.Write(func(tx engine.Tx) error { return addNote(tx, 3) }); !errors.Is(err, fault.ErrInDoubt) {
		t.Errorf("a later write: %v", err)
	}
	if err := s.Ready(t.Context()); !errors.Is(err, engine.ErrFailed) {
		t.Errorf("ready: %v", err)
	}
	if !s.has(t, 0) || s.has(t, 1) || s.has(t, 3) {
		t.Error("reads do not see exactly what was committed")
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if f.Image() != disk {
		t.Error("the failed store changed the disk")
	}

	s = reopenOn(t, f)
	if !s.has(t, 0) || s.has(t, 1) != s.has(t, 2) || s.has(t, 3) {
		t.Errorf("after a restart: %v %v %v %v", s.has(t, 0), s.has(t, 1), s.has(t, 2), s.has(t, 3))
	}
	if err := s.Write(func(tx engine.Tx) error { return addNote(tx, 4) }); err != nil || !s.has(t, 4) {
		t.Errorf("the first write after a restart: %v", err)
	}
}

func TestFullDiskHealsWithoutARestart(t *testing.T) {
	s, f := openOnCrashFS(t)
	heal := f.Fail(crashfs.Fault{Err: syscall.ENOSPC, Stays: true,
		Only: func(op crashfs.Op) bool { return op.Kind == crashfs.Write }})
	for range 3 {
		err := s.Write(func(tx engine.Tx) error { return addNote(tx, 1) })
		if err == nil || fault.KindOf(err) != fault.Internal {
			t.Errorf("while the disk is full: %v", err)
		}
	}
	if !heal() || hasFailed(s) {
		t.Errorf("the store has failed because of a full disk: %v", s.Err())
	}
	if s.has(t, 1) {
		t.Error("a refused write was saved")
	}
	if err := s.Write(func(tx engine.Tx) error { return addNote(tx, 1) }); err != nil || !s.has(t, 1) {
		t.Errorf("when there is room again: %v", err)
	}
}

func TestRolledBack(t *testing.T) {
	for _, c := range []struct {
		code  int
		errno syscall.Errno
		want  bool
	}{
		{code: sqlite3.SQLITE_FULL, want: true},
		{code: sqlite3.SQLITE_IOERR_WRITE, errno: syscall.ENOSPC, want: true},
		{code: sqlite3.SQLITE_IOERR_WRITE, errno: syscall.EDQUOT, want: true},
		{code: sqlite3.SQLITE_IOERR_WRITE, errno: syscall.EIO},
		{code: sqlite3.SQLITE_IOERR_FSYNC, errno: syscall.EIO},
		{code: sqlite3.SQLITE_IOERR_FSYNC, errno: syscall.ENOSPC},
		{code: sqlite3.SQLITE_IOERR_DIR_FSYNC},
		{code: sqlite3.SQLITE_IOERR_SHMSIZE, errno: syscall.ENOSPC},
		{code: sqlite3.SQLITE_IOERR_SHMMAP},
		{code: sqlite3.SQLITE_IOERR_READ},
		{code: sqlite3.SQLITE_IOERR_NOMEM},
		{code: sqlite3.SQLITE_NOMEM},
		{code: sqlite3.SQLITE_CORRUPT},
		{code: sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, want: true},
		{code: sqlite3.SQLITE_BUSY_SNAPSHOT, want: true},
		{code: sqlite3.SQLITE_READONLY_DBMOVED, want: true},
		{code: sqlite3.SQLITE_CANTOPEN, want: true},
	} {
		err := fmt.Errorf("wrapped: %w", &conn.Error{Code: c.code, Errno: c.errno})
		if got := rolledBack(err); got != c.want {
			t.Errorf("code %d, errno %v: %v, want %v", c.code, c.errno, got, c.want)
		}
	}
	if rolledBack(errors.New("not of SQLite")) {
		t.Error("rolledBack is true for an error that is not SQLite's")
	}
}
