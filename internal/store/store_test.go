package store_test

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	_ "modernc.org/sqlite"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/tenant"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/world"
	"dialtone/internal/throttle"
)

var (
	noon      = teststore.Noon
	addTenant = world.AddTenant
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// openSQLite opens an SQLite engine on a new file, and closes it when the test is over.
func openSQLite(t testing.TB) *sqlite.Engine {
	t.Helper()
	e, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { world.CloseStore(t, e) })
	return e
}

// newSignup returns a signup that the store admits, with a long credential.
func newSignup(tenant int64, user string) account.Signup {
	a := teststore.Signup(tenant, user)
	a.Account.Sealed = bytes.Repeat([]byte(user), 40)
	return a
}

// fillDatabase creates a database with a tenant and n accounts, closes it, and returns the users.
func fillDatabase(t *testing.T, path string, ring *secret.Ring, n int) (users []string) {
	t.Helper()
	s, err := teststore.Open(t.Context(), path, ring)
	if err != nil {
		t.Fatal(err)
	}
	id := addTenant(t, s, "phone.test")
	for i := range n {
		users = append(users, fmt.Sprintf("user%04d", i))
		if err := s.Create(t.Context(), newSignup(id, users[i]), noon); err != nil {
			t.Fatal(err)
		}
	}
	world.CloseStore(t, s)
	return users
}

func listUsers(t *testing.T, s *store.Store) (users []string, err error) {
	t.Helper()
	tenants, _, err := s.Tenants(t.Context())
	if err != nil {
		return nil, err
	}
	for _, tn := range tenants {
		if err := s.List(t.Context(), tn.ID, noon, func(a account.Account) error {
			users = append(users, a.User)
			return nil
		}); err != nil {
			return users, err
		}
	}
	return users, nil
}

// readFiles returns the contents of all files of a directory, by name.
func readFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

// wantUnchanged compares the files of a directory with what readFiles returned before.
func wantUnchanged(t *testing.T, dir string, before map[string]string) {
	t.Helper()
	after := readFiles(t, dir)
	for name, content := range before {
		if after[name] != content {
			t.Errorf("%s has changed: it had %d bytes and has %d", name, len(content), len(after[name]))
		}
		delete(after, name)
	}
	for name, content := range after {
		t.Errorf("there is a new file %s of %d bytes", name, len(content))
	}
}

func TestFileModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	s := world.OpenStore(t, filepath.Join(dir, "dialtone.db"), secret.NewRing(noon))
	addTenant(t, s, "phone.test")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name())
		if info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if want := []string{"dialtone.db", "dialtone.db-shm", "dialtone.db-wal"}; !slices.Equal(names, want) {
		t.Errorf("the files are %q, want %q", names, want)
	}
}

func TestPathWithSpecialCharacters(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"dialtone.db", "a?b.db", "a?mode=memory&cache=shared", "50%.db", "%41.db", "a#b.db",
		"two words.db", "téléphone ☎.db", "a&b=c;d.db", `a"b'c.db`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name, name) // the name of a directory and of a file
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			ring := secret.NewRing(noon)
			want := fillDatabase(t, path, ring, 2)
			if files := readFiles(t, filepath.Dir(path)); len(files) != 1 || files[name] == "" {
				t.Errorf("the directory has %d files, want %s alone", len(files), name)
			}
			got, err := listUsers(t, world.OpenStore(t, path, ring))
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got %q and %v", got, err)
			}
		})
	}
	if got := len(fileNames(t, dir)); got != 10 {
		t.Errorf("%d directories, want 10", got)
	}
}

func fileNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSealKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "dialtone.db")
	ring := secret.NewRing(noon)
	want := fillDatabase(t, path, ring, 2)

	before := readFiles(t, dir)
	if _, err := teststore.Open(t.Context(), path, secret.NewRing(noon)); !errors.Is(err, store.ErrSealKey) {
		t.Fatalf("with another key: %v", err)
	}
	wantUnchanged(t, dir, before)

	rotated := ring.Rotated(noon, 2)
	s, err := teststore.Open(t.Context(), path, rotated)
	if err != nil {
		t.Fatalf("with a key added: %v", err)
	}
	world.CloseStore(t, s)
	before = readFiles(t, dir)
	for name, other := range map[string]*secret.Ring{"the new": ring, "the old": rotated.Rotated(noon, 2)} {
		if _, err := teststore.Open(t.Context(), path, other); !errors.Is(err, store.ErrSealKey) {
			t.Errorf("without %s key: %v", name, err)
		}
	}
	wantUnchanged(t, dir, before)
	if got, err := listUsers(t, world.OpenStore(t, path, rotated)); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q and %v", got, err)
	}
}

// execSQLite runs SQL on a database that no store has open.
func execSQLite(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(query)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestNewerDatabase(t *testing.T) {
	for name, query := range map[string]string{
		"unknown version": `INSERT INTO schema_version
			SELECT max(version) + 1, 'x', 0 FROM schema_version`,
		"other checksum of a known version": `UPDATE schema_version SET checksum = 'x' WHERE version = 0`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "dialtone.db")
			ring := secret.NewRing(noon)
			fillDatabase(t, path, ring, 1)
			execSQLite(t, path, query)
			before := readFiles(t, dir)
			if _, err := teststore.Open(t.Context(), path, ring); !errors.Is(err, migrations.ErrNewer) {
				t.Errorf("got %v", err)
			}
			wantUnchanged(t, dir, before)
		})
	}
}

func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "dialtone.db")
	ring := secret.NewRing(noon)
	want := fillDatabase(t, path, ring, 40)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, len(whole))
	rand.Read(noise)
	wiped := bytes.Clone(whole)
	clear(wiped[:100])
	damaged := map[string][]byte{
		"no bytes": {}, "one byte": whole[:1], "text": []byte("ann:phone.test:0123456789abcdef\n"), "noise": noise,
		"zeros": make([]byte, len(whole)), "a wiped header": wiped,
	}
	for n := 512; n < len(whole); n += 512 {
		damaged[fmt.Sprintf("the first %d of %d bytes", n, len(whole))] = whole[:n]
	}
	damaged["all but the last byte"] = whole[:len(whole)-1]
	for name, content := range damaged {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "dialtone.db")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			before := readFiles(t, dir)
			s, err := teststore.Open(t.Context(), path, ring)
			if err == nil {
				got, err := listUsers(t, s)
				t.Errorf("Open succeeds, and %d of %d accounts are listed; %v", len(got), len(want), err)
				s.Close()
				return
			}
			wantUnchanged(t, dir, before)
		})
	}
}

// A WAL without its database is not applied to a new database.
func TestWALWithoutDatabase(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "dialtone.db")
	ring := secret.NewRing(noon)
	s := world.OpenStore(t, path, ring)
	addTenant(t, s, "phone.test")
	wal, err := os.ReadFile(path + "-wal")
	if err != nil || len(wal) == 0 {
		t.Fatalf("the WAL has %d bytes; %v", len(wal), err)
	}
	for name, content := range map[string]*[]byte{"database missing": nil, "database empty": {}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "dialtone.db")
			if content != nil {
				if err := os.WriteFile(path, *content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(path+"-wal", wal, 0o600); err != nil {
				t.Fatal(err)
			}
			before := readFiles(t, dir)
			if s, err := teststore.Open(t.Context(), path, ring); err == nil {
				s.Close()
				t.Fatal("Open succeeds")
			}
			wantUnchanged(t, dir, before)
		})
	}
}

func TestTwoStoresOnOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dialtone.db")
	ring := secret.NewRing(noon)
	stores := []*store.Store{world.OpenStore(t, path, ring), world.OpenStore(t, path, ring)}
	id := addTenant(t, stores[0], "phone.test")
	for _, c := range []struct {
		name string
		wins int
		kind fault.Kind
		make func(i int) account.Signup
	}{
		{"one name", 1, fault.Conflict, func(int) account.Signup { return newSignup(id, "ann") }},
		{"one captcha", 1, fault.Captcha, func(i int) account.Signup {
			a := newSignup(id, fmt.Sprint("bob", i))
			a.Captcha.Nonce = [16]byte{1}
			return a
		}},
		{"one address", 3, fault.Limited, func(i int) account.Signup {
			a := newSignup(id, fmt.Sprint("cid", i))
			a.Address[0].Bucket = throttle.Bucket{1}
			return a
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			errs := make([]error, 64)
			var all sync.WaitGroup
			start := make(chan struct{})
			for i := range errs {
				a := c.make(i)
				all.Go(func() {
					<-start
					errs[i] = stores[i%2].Create(t.Context(), a, noon)
				})
			}
			close(start)
			all.Wait()
			wins := 0
			for _, err := range errs {
				if err == nil {
					wins++
				} else if !fault.Is(err, c.kind) {
					t.Error(err)
				}
			}
			if wins != c.wins {
				t.Errorf("%d signups succeeded, want %d", wins, c.wins)
			}
		})
	}
	if _, err := stores[1].Disable(t.Context(), id, "ann", noon); err != nil {
		t.Fatal(err)
	}
	if a, err := stores[0].Find(t.Context(), id, "ann", noon); err != nil || !a.Held {
		t.Errorf("the other store finds %+v, %v", a, err)
	}
}

func TestConcurrentFirstStart(t *testing.T) {
	dir := t.TempDir()
	ring := secret.NewRing(noon)
	stores := make([]*store.Store, 8)
	var all sync.WaitGroup
	for i := range stores {
		all.Go(func() {
			s, err := teststore.OpenWithMigrations(t.Context(), filepath.Join(dir, "dialtone.db"), ring)
			if err != nil {
				t.Error(err)
				return
			}
			stores[i] = s
			err = s.AddFirstTenant(t.Context(),
				tenant.Tenant{Host: fmt.Sprintf("h%d.test", i), Realm: fmt.Sprint(i), Created: noon})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, s := range stores {
		if s == nil {
			continue
		}
		if list, _, err := s.Tenants(t.Context()); err != nil || len(list) != 1 {
			t.Errorf("a store has %d tenants; %v", len(list), err)
		}
		world.CloseStore(t, s)
	}
	if names := fileNames(t, dir); !slices.Equal(names, []string{"dialtone.db"}) {
		t.Errorf("the files are %q", names)
	}
}
