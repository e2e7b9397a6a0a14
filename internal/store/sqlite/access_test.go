package sqlite_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite"
)

// A database was copied over another one whose WAL was still there.
func TestForeignWAL(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	path, other := filepath.Join(dir, "dialtone.db"), filepath.Join(dir, "other.db")
	e, err := sqlite.Open(t.Context(), path, nil)
	must(err)
	must(e.Write(func(tx engine.Tx) error { return tx.Script(`CREATE TABLE another (n)`) }))
	wal, err := os.ReadFile(path + "-wal")
	must(err)
	must(e.Close())

	c, err := sqlite.Connect(other, "", `CREATE TABLE t (x); INSERT INTO t VALUES (randomblob(1000000))`)
	must(err)
	must(c.Close())
	must(os.Rename(other, path))
	must(os.WriteFile(path+"-wal", wal, 0o600))
	e, err = sqlite.Open(t.Context(), path, nil)
	if err == nil {
		e.Close()
	}
	if !errors.Is(err, sqlite.ErrForeignWAL) || !sqlite.IsDamaged(err) ||
		!strings.Contains(err.Error(), "move "+path+"-wal and "+path+"-shm away") {
		t.Errorf("got %v", err)
	}
	if advice := sqlite.Advice(err); advice != "" {
		t.Errorf("besides its own, the error has the advice %q", advice)
	}
	if after, err := os.ReadFile(path + "-wal"); err != nil || string(after) != string(wal) {
		t.Errorf("the WAL has changed: %v", err)
	}
	// A damaged database without a WAL is not reported as having one.
	must(os.Remove(path + "-wal"))
	must(os.WriteFile(path, []byte("SQLite format 3\x00"+strings.Repeat("\x10\x00", 2040)), 0o600))
	_, err = sqlite.Open(t.Context(), path, nil)
	if err == nil || errors.Is(err, sqlite.ErrForeignWAL) || !sqlite.IsDamaged(err) {
		t.Errorf("without a WAL: %v", err)
	}
	if advice := sqlite.Advice(err); !strings.Contains(advice, "restore it from a backup") {
		t.Errorf("the advice on %v is %q", err, advice)
	}
	if advice := sqlite.Advice(errors.New("other")); advice != "" {
		t.Errorf("the advice on another error is %q", advice)
	}
}

// A backup was copied over a database whose WAL was still there. SQLite could read the two together, and
// would mix them.
func TestBackupBesideForeignWAL(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "dialtone.db"), filepath.Join(dir, "backup.db")
	e, err := sqlite.Open(t.Context(), path, nil)
	must(err)
	must(e.Backup(t.Context(), disk{}, backup))
	must(e.Write(func(tx engine.Tx) error { return tx.Script(`UPDATE revision SET n = n + 1000000`) }))
	wal, err := os.ReadFile(path + "-wal")
	must(err)
	must(e.Close())
	text, err := os.ReadFile(backup)
	must(err)
	must(os.WriteFile(path, text, 0o600)) // the same inode, as cp does
	must(os.WriteFile(path+"-wal", wal, 0o600))
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, sqlite.ErrForeignWAL) || !strings.Contains(err.Error(), "move "+path+"-wal and") {
			t.Errorf("%s: %v", what, err)
		}
	}
	e, err = sqlite.Open(t.Context(), path, nil)
	if err == nil {
		e.Close()
	}
	refused("open", err)
	_, err = sqlite.SchemaVersion(path)
	refused("version", err)
	for file, want := range map[string][]byte{path: text, path + "-wal": wal} {
		if got, err := os.ReadFile(file); err != nil || string(got) != string(want) {
			t.Errorf("%s has changed: %v", file, err)
		}
	}
	// Without the WAL it is the backup. A crash that leaves the database's own WAL is not refused.
	must(os.Remove(path + "-wal"))
	e, err = sqlite.Open(t.Context(), path, nil)
	must(err)
	must(e.Write(func(tx engine.Tx) error { return tx.Script(`UPDATE revision SET n = n + 2000000`) }))
	crashed := filepath.Join(dir, "crashed.db")
	for _, suffix := range []string{"", "-wal"} {
		text, err := os.ReadFile(path + suffix)
		must(err)
		must(os.WriteFile(crashed+suffix, text, 0o600))
	}
	must(e.Close())
	e, err = sqlite.Open(t.Context(), crashed, nil)
	must(err)
	defer e.Close()
	var n int64
	must(e.Reads(t.Context()).Row(`SELECT min(n) FROM revision`).Scan(&n))
	if n < 2e6 || n >= 3e6 {
		t.Errorf("the revision is %d, want that of the second WAL alone", n)
	}
}

// disk is a file system for backups.
type disk struct{ engine.BackupFS }

func (disk) Create(path string, text []byte) error { return os.WriteFile(path, text, 0o600) }
func (disk) Link(old, name string) error           { return os.Link(old, name) }
func (disk) Remove(path string) error              { return os.Remove(path) }
func (disk) SyncDir(string) error                  { return nil }

// SQLite gives the WAL and the wal-index that root creates to the owner of the database.
func TestWALOfRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65533); err != nil {
		t.Fatal(err)
	}
	e, err := sqlite.Open(t.Context(), filepath.Join(dir, "dialtone.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Write(func(tx engine.Tx) error { return tx.Script(`CREATE TABLE another (n)`) }); err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			files++
			if uid, gid := owner(t, path); uid != 65534 || gid != 65533 {
				t.Errorf("%s belongs to %d:%d", d.Name(), uid, gid)
			}
		}
		return err
	})
	if err != nil || files != 4 {
		t.Errorf("%d files, %v", files, err)
	}
}

func owner(t *testing.T, path string) (uid, gid uint32) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	s := info.Sys().(*syscall.Stat_t)
	return s.Uid, s.Gid
}

// A database whose header makes it read-only for SQLite is reported, and a writable one is not.
func TestUnwritableHeader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dialtone.db")
	faults := func() (list []string) {
		e, err := sqlite.Open(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if err := e.CheckSchema(t.Context(), func(text string) { list = append(list, text) }); err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := faults(); len(got) > 0 {
		t.Fatalf("a new database: %q", got)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	const writeVersion = 18 // its place in the header
	_, err = f.WriteAt([]byte{3}, writeVersion)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if got := faults(); len(got) != 1 || !strings.Contains(got[0], "the database cannot be changed") {
		t.Errorf("got %q", got)
	}
}
