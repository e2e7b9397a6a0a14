package store_test

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
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
	"dialtone/internal/tenant"
	"dialtone/internal/test/conformance"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
	"dialtone/internal/throttle"
)

var noon = teststore.Noon

// open opens the database at path, and closes it at the end of the test.
func open(t *testing.T, path string, ring *secret.Ring) *store.Store {
	t.Helper()
	s, err := teststore.Open(t.Context(), path, ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, s) })
	return s
}

func shut(t *testing.T, s io.Closer) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestMain(m *testing.M) { postgrestest.Main(m) }

func TestStore(t *testing.T) {
	conformance.Run(t, func(t *testing.T) conformance.Store {
		return open(t, filepath.Join(t.TempDir(), "dialtone.db"), secret.NewRing(noon))
	})
}

func addTenant(t *testing.T, s *store.Store, host string) int64 {
	t.Helper()
	added, err := s.AddTenant(t.Context(), tenant.Tenant{Host: host, Realm: host, Created: noon})
	if err != nil {
		t.Fatal(err)
	}
	return added.ID
}

// admission returns a signup that no rule refuses, with a long credential.
func admission(tenant int64, user string) account.Signup {
	a := teststore.Signup(tenant, user)
	a.Account.Sealed = bytes.Repeat([]byte(user), 40)
	return a
}

// fill makes a database with a tenant and so many accounts, closes it and gives the users.
func fill(t *testing.T, path string, ring *secret.Ring, n int) (users []string) {
	t.Helper()
	s, err := teststore.Open(t.Context(), path, ring)
	if err != nil {
		t.Fatal(err)
	}
	id := addTenant(t, s, "phone.test")
	for i := range n {
		users = append(users, fmt.Sprintf("user%04d", i))
		if err := s.Create(t.Context(), admission(id, users[i]), noon); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, s)
	return users
}

func listed(t *testing.T, s *store.Store) (users []string, err error) {
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

// folder is every file of a directory, by its name.
func folder(t *testing.T, dir string) map[string]string {
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

// untouched wants the files of a directory to be what they were, byte by byte.
func untouched(t *testing.T, dir string, before map[string]string) {
	t.Helper()
	after := folder(t, dir)
	for name, content := range before {
		if after[name] != content {
			t.Errorf("%s had %d bytes, and has %d or others", name, len(content), len(after[name]))
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
	s := open(t, filepath.Join(dir, "dialtone.db"), secret.NewRing(noon))
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

func TestReopening(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"dialtone.db", "a?b.db", "a?mode=memory&cache=shared", "50%.db", "%41.db", "a#b.db",
		"two words.db", "téléphone ☎.db", "a&b=c;d.db", `a"b'c.db`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name, name) // in the directory's name too
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			ring := secret.NewRing(noon)
			want := fill(t, path, ring, 2)
			if files := folder(t, filepath.Dir(path)); len(files) != 1 || files[name] == "" {
				t.Errorf("the directory has %d files, want %s alone", len(files), name)
			}
			got, err := listed(t, open(t, path, ring))
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got %q and %v", got, err)
			}
		})
	}
	if got := len(folderNames(t, dir)); got != 10 {
		t.Errorf("%d directories, want 10", got)
	}
}

func folderNames(t *testing.T, dir string) (names []string) {
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
	want := fill(t, path, ring, 2)

	before := folder(t, dir)
	if _, err := teststore.Open(t.Context(), path, secret.NewRing(noon)); !errors.Is(err, store.ErrSealKey) {
		t.Fatalf("with another key: %v", err)
	}
	untouched(t, dir, before)

	rotated := ring.Rotated(noon, 2)
	s, err := teststore.Open(t.Context(), path, rotated)
	if err != nil {
		t.Fatalf("with a key added: %v", err)
	}
	shut(t, s)
	before = folder(t, dir)
	for name, lacking := range map[string]*secret.Ring{"the new": ring, "the old": rotated.Rotated(noon, 2)} {
		if _, err := teststore.Open(t.Context(), path, lacking); !errors.Is(err, store.ErrSealKey) {
			t.Errorf("without %s key: %v", name, err)
		}
	}
	untouched(t, dir, before)
	if got, err := listed(t, open(t, path, rotated)); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q and %v", got, err)
	}
}

// alter runs SQL on a database that nobody has open.
func alter(t *testing.T, path, query string) {
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
		"has a version that this program does not know": `INSERT INTO schema_version
			SELECT max(version) + 1, 'x', 0 FROM schema_version`,
		"has another form of a version that it knows": `UPDATE schema_version SET checksum = 'x' WHERE version = 0`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "dialtone.db")
			ring := secret.NewRing(noon)
			fill(t, path, ring, 1)
			alter(t, path, query)
			before := folder(t, dir)
			if _, err := teststore.Open(t.Context(), path, ring); !errors.Is(err, migrations.ErrNewer) {
				t.Errorf("got %v", err)
			}
			untouched(t, dir, before)
		})
	}
}

func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "dialtone.db")
	ring := secret.NewRing(noon)
	want := fill(t, path, ring, 40)
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
			before := folder(t, dir)
			s, err := teststore.Open(t.Context(), path, ring)
			if err == nil {
				got, err := listed(t, s)
				t.Errorf("it opens, and lists %d of %d accounts: %v", len(got), len(want), err)
				s.Close()
				return
			}
			untouched(t, dir, before)
		})
	}
}

func TestLostFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "dialtone.db")
	ring := secret.NewRing(noon)
	s := open(t, path, ring)
	addTenant(t, s, "phone.test")
	journal, err := os.ReadFile(path + "-wal")
	if err != nil || len(journal) == 0 {
		t.Fatalf("the journal: %d bytes, %v", len(journal), err)
	}
	for name, content := range map[string]*[]byte{"is missing": nil, "is empty": {}} {
		t.Run("the database "+name+" and its journal is there", func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "dialtone.db")
			if content != nil {
				if err := os.WriteFile(path, *content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(path+"-wal", journal, 0o600); err != nil {
				t.Fatal(err)
			}
			before := folder(t, dir)
			if s, err := teststore.Open(t.Context(), path, ring); err == nil {
				s.Close()
				t.Fatal("it opens")
			}
			untouched(t, dir, before)
		})
	}
}

func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dialtone.db")
	ring := secret.NewRing(noon)
	stores := []*store.Store{open(t, path, ring), open(t, path, ring)}
	id := addTenant(t, stores[0], "phone.test")
	for _, c := range []struct {
		name string
		wins int
		kind fault.Kind
		make func(i int) account.Signup
	}{
		{"race for one name", 1, fault.Conflict, func(int) account.Signup { return admission(id, "ann") }},
		{"race for one captcha", 1, fault.Captcha, func(i int) account.Signup {
			a := admission(id, fmt.Sprint("bob", i))
			a.Captcha.Nonce = [16]byte{1}
			return a
		}},
		{"race for the places of one address", 3, fault.Limited, func(i int) account.Signup {
			a := admission(id, fmt.Sprint("cid", i))
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
				t.Errorf("%d of them won, want %d", wins, c.wins)
			}
		})
	}
	if _, err := stores[1].Disable(t.Context(), id, "ann", noon); err != nil {
		t.Fatal(err)
	}
	if a, err := stores[0].Find(t.Context(), id, "ann", noon); err != nil || !a.Held {
		t.Errorf("the other one sees %+v and %v", a, err)
	}
}

func TestFirstStartOfManyProcesses(t *testing.T) {
	dir := t.TempDir()
	ring := secret.NewRing(noon)
	stores := make([]*store.Store, 8)
	var all sync.WaitGroup
	for i := range stores {
		all.Go(func() {
			s, err := teststore.Open(t.Context(), filepath.Join(dir, "dialtone.db"), ring)
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
			t.Errorf("one of them sees %d tenants and %v", len(list), err)
		}
		shut(t, s)
	}
	if names := folderNames(t, dir); !slices.Equal(names, []string{"dialtone.db"}) {
		t.Errorf("left behind: %q", names)
	}
}
