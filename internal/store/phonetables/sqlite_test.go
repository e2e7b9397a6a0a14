package phonetables_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/export"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/world"
)

// childDir is the environment variable with the directory of exportChild. If it is set, the test
// program runs exportChild.
const childDir = "DIALTONE_TEST_EXPORT_CHILD"

// newRing returns a ring, and writes it to a file for another process.
func newRing(t *testing.T, dir string) *secret.Ring {
	t.Helper()
	ring, err := keyfile.ReadOrCreate(filepath.Join(dir, "seal.key"), noon)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// addActive adds active accounts to a tenant. The password of each is its user name.
func addActive(t *testing.T, s *store.Store, ring *secret.Ring, tenant int64, users ...string) {
	t.Helper()
	vault := secret.NewVault(ring, "credential")
	for _, user := range users {
		a := newSignup(tenant, user)
		a.Account.Sealed = vault.Seal(tenant, a.Account.UID[:],
			digest.Credential{HA1: digest.Compute(user, "phone.test", user)}.Marshal())
		if err := s.Create(t.Context(), a, noon); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Activate(t.Context(), tenant, a.Token, noon); err != nil {
			t.Fatal(err)
		}
	}
}

// exportedUsers returns the users in the export, in order.
func exportedUsers(t *testing.T, s *store.Store) (users []string) {
	t.Helper()
	err := s.ExportedEntries(t.Context(), "phone.test", func(e export.Entry) error {
		users = append(users, e.User)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return users
}

// wantConsistent checks that the export agrees with the accounts.
func wantConsistent(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.CompareExport(t.Context(), func(text string) { t.Error(text) }); err != nil {
		t.Fatal(err)
	}
}

// openExporting opens a store on SQLite with two accounts, ann and bob, and the export enabled.
func openExporting(t *testing.T) (s *store.Store, ring *secret.Ring, dir string, tenant int64) {
	t.Helper()
	dir = t.TempDir()
	ring = newRing(t, dir)
	s, err := teststore.Open(t.Context(), filepath.Join(dir, "dialtone.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	tenant = addTenant(t, s, "phone.test")
	addActive(t, s, ring, tenant, "ann", "bob")
	if err := s.EnableExport(t.Context(), noProgress); err != nil {
		t.Fatal(err)
	}
	return s, ring, dir, tenant
}

// blockExport makes the directory of the export inaccessible, until restore is called.
func blockExport(t *testing.T, dir string) (restore func()) {
	t.Helper()
	path := filepath.Join(dir, "directory")
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	// A file of the same name prevents the store from creating a new directory.
	must(os.Rename(path, path+".away"), os.WriteFile(path, nil, 0o600))
	return func() {
		t.Helper()
		must(os.Remove(path), os.Rename(path+".away", path))
	}
}

// When the directory cannot be written, a change is stored and the caller gets an error. The change
// is exported later.
func TestExportFailureLeavesStoreWorking(t *testing.T) {
	s, ring, dir, tenant := openExporting(t)
	disable := func(user string) {
		t.Helper()
		if _, err := s.Disable(t.Context(), tenant, user, noon); err == nil ||
			!strings.Contains(err.Error(), "phone servers do not see it yet") {
			t.Fatalf("got %v", err)
		}
		if a, err := s.Find(t.Context(), tenant, user, noon); err != nil || !a.Held {
			t.Errorf("%s is not disabled in the store: %v", user, err)
		}
	}
	restore := blockExport(t, dir)
	disable("ann")
	if err := s.Create(t.Context(), newSignup(tenant, "cid"), noon); err != nil {
		t.Errorf("a signup: %v", err)
	}
	if err := s.CatchUpExport(t.Context()); err == nil {
		t.Error("CatchUpExport succeeds without the directory")
	}
	restore()
	if err := s.CatchUpExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := exportedUsers(t, s); !slices.Equal(got, []string{"bob"}) {
		t.Errorf("got %q", got)
	}
	// The next process applies the changes that this one has not applied.
	restore = blockExport(t, dir)
	disable("bob")
	world.CloseStore(t, s)
	restore()
	s = world.OpenStore(t, filepath.Join(dir, "dialtone.db"), ring)
	if err := s.CatchUpExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := exportedUsers(t, s); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	wantConsistent(t, s)
}

// Due changes of tenants are applied before those of accounts: the host of a removed tenant may
// belong to a new tenant, with accounts of its own.
func TestDueChangesAreAppliedInOrder(t *testing.T) {
	s, ring, dir, _ := openExporting(t)
	defer world.CloseStore(t, s)
	restore := blockExport(t, dir)
	wantError := func(err error) {
		t.Helper()
		if err == nil {
			t.Fatal("a change succeeds without the directory")
		}
	}
	wantError(s.RemoveTenant(t.Context(), "phone.test", true, noon))
	added, err := s.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test", Created: noon})
	wantError(err)
	a := newSignup(added.ID, "cid")
	a.Account.Sealed = secret.NewVault(ring, "credential").Seal(added.ID, a.Account.UID[:],
		digest.Credential{HA1: digest.Compute("cid", "phone.test", "cid")}.Marshal())
	if err := s.Create(t.Context(), a, noon); err != nil {
		t.Fatal(err)
	}
	_, err = s.Activate(t.Context(), added.ID, a.Token, noon)
	wantError(err)
	restore()
	if err := s.CatchUpExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := exportedUsers(t, s); !slices.Equal(got, []string{"cid"}) {
		t.Errorf("got %q", got)
	}
	wantConsistent(t, s)
}

func TestLostExportIsFilled(t *testing.T) {
	s, _, dir, tenant := openExporting(t)
	defer world.CloseStore(t, s)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(dir, "directory", "directory.db"+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.SetRole(t.Context(), tenant, "ann", account.User, noon); err != nil {
		t.Fatal(err)
	}
	if st, err := s.ExportStatus(t.Context()); err != nil || st.Complete {
		t.Fatalf("%+v, %v", st, err)
	}
	if err := s.CatchUpExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := s.ExportStatus(t.Context()); err != nil || !st.Complete || st.Entries != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	wantConsistent(t, s)
}

// The store is restored from a backup, and the export is newer.
func TestExportIsCorrectedAfterRestore(t *testing.T) {
	s, ring, dir, tenant := openExporting(t)
	backup := filepath.Join(dir, "backup.db")
	if err := s.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	addActive(t, s, ring, tenant, "cid")
	if _, err := s.Disable(t.Context(), tenant, "ann", noon); err != nil {
		t.Fatal(err)
	}
	world.CloseStore(t, s)
	path := filepath.Join(dir, "dialtone.db")
	if err := os.Rename(backup, path); err != nil {
		t.Fatal(err)
	}
	os.Remove(path + "-wal")
	s = world.OpenStore(t, path, ring)
	if err := s.CatchUpExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := exportedUsers(t, s); !slices.Equal(got, []string{"ann", "bob"}) {
		t.Errorf("got %q", got)
	}
	wantConsistent(t, s)
}

// The files of an earlier export are restored, and their version may equal that of the current
// export.
func TestFilesOfEarlierExportAreCorrected(t *testing.T) {
	s, ring, dir, tenant := openExporting(t)
	world.CloseStore(t, s)
	path := filepath.Join(dir, "directory")
	if err := os.CopyFS(path+".kept", os.DirFS(path)); err != nil {
		t.Fatal(err)
	}
	s, err := teststore.Open(t.Context(), filepath.Join(dir, "dialtone.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DisableExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Disable(t.Context(), tenant, "ann", noon); err != nil {
		t.Fatal(err)
	}
	if err := s.EnableExport(t.Context(), noProgress); err != nil {
		t.Fatal(err)
	}
	world.CloseStore(t, s)
	if err := errors.Join(os.RemoveAll(path), os.Rename(path+".kept", path)); err != nil {
		t.Fatal(err)
	}
	s = world.OpenStore(t, filepath.Join(dir, "dialtone.db"), ring)
	// New changes are exported at once, and the differences of the file are corrected by CatchUpExport.
	if _, err := s.Disable(t.Context(), tenant, "bob", noon); err != nil {
		t.Fatal(err)
	}
	if got := exportedUsers(t, s); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("got %q", got)
	}
	if err := s.CatchUpExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := exportedUsers(t, s); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	wantConsistent(t, s)
}

func TestDisableLeavesNoHash(t *testing.T) {
	s, _, dir, _ := openExporting(t)
	defer world.CloseStore(t, s)
	hash := []byte(digest.Compute("ann", "phone.test", "ann").Hex())
	filesWithHash := func() (names []string) {
		list, err := filepath.Glob(filepath.Join(dir, "*", "*"))
		if err != nil || len(list) == 0 {
			t.Fatalf("%q, %v", list, err)
		}
		for _, name := range list {
			if text, err := os.ReadFile(name); err != nil {
				t.Fatal(err)
			} else if bytes.Contains(text, hash) {
				names = append(names, filepath.Base(name))
			}
		}
		return names
	}
	if len(filesWithHash()) == 0 {
		t.Fatal("no file has the hash before")
	}
	if err := s.DisableExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names := filesWithHash(); len(names) > 0 {
		t.Errorf("%q still have the hash", names)
	}
}

// A command was killed after it had disabled the export and before it emptied the file.
func TestCatchUpEmptiesDisabledExport(t *testing.T) {
	s, ring, dir, _ := openExporting(t)
	world.CloseStore(t, s)
	execSQLite(t, filepath.Join(dir, "dialtone.db"), `DELETE FROM export`)
	s = world.OpenStore(t, filepath.Join(dir, "dialtone.db"), ring)
	if err := s.CatchUpExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "directory", "directory.db")
	if n := queryCount(t, path, `SELECT count(*) FROM subscriber`); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// queryCount returns the number that a query of a database file selects.
func queryCount(t *testing.T, path, query string) (n int64) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Changes that the export contains are removed from the list of due changes.
func TestAppliedChangesArePruned(t *testing.T) {
	s, _, dir, tenant := openExporting(t)
	defer world.CloseStore(t, s)
	for i := range 5 {
		role := []account.Role{account.User, account.Guest}[i%2]
		if _, err := s.SetRole(t.Context(), tenant, "ann", role, noon); err != nil {
			t.Fatal(err)
		}
	}
	due := func() int64 {
		return queryCount(t, filepath.Join(dir, "dialtone.db"), `SELECT count(*) FROM export_due`)
	}
	if due() < 5 {
		t.Fatalf("%d changes are due, want at least 5", due())
	}
	for range 2 {
		if err := s.CatchUpExport(t.Context()); err != nil {
			t.Fatal(err)
		}
		if due() != 0 {
			t.Errorf("%d changes are due, want none", due())
		}
	}
	if _, err := s.Disable(t.Context(), tenant, "ann", noon); err != nil {
		t.Fatal(err)
	}
	if got := exportedUsers(t, s); !slices.Equal(got, []string{"bob"}) {
		t.Errorf("got %q", got)
	}
}

// exportChild is the process that TestKillBetweenCommits kills. It disables and enables an account
// as fast as it can, and writes a line after each call.
func exportChild(dir string) error {
	ring, err := keyfile.Read(filepath.Join(dir, "seal.key"))
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := teststore.Open(ctx, filepath.Join(dir, "dialtone.db"), ring)
	if err != nil {
		return err
	}
	for i := range 100_000 {
		do := s.Disable
		if i%2 == 1 {
			do = s.Enable
		}
		if _, err := do(ctx, 1, "ann", noon); err != nil {
			return err
		}
		fmt.Println("answered")
	}
	return errors.New("this process was not killed")
}

// A change is committed to the store and then to the export. When a process is killed between the
// two commits, the next process applies the change to the export.
func TestKillBetweenCommits(t *testing.T) {
	s, ring, dir, _ := openExporting(t)
	world.CloseStore(t, s)
	rounds, ahead := 0, 0
	for ; rounds < 20 || ahead == 0 && rounds < 200; rounds++ { // on a busy machine, this moment is rare
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := 3 + rand.IntN(40)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if after--; after == 0 {
				// If it were killed immediately, it would always die between two calls.
				<-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond)
				cmd.Process.Kill()
			}
		}
		if cmd.Wait(); after > 0 || stderr.Len() > 0 {
			t.Fatalf("the child ended %d lines too early: %s", after, &stderr)
		}
		changes := queryCount(t, filepath.Join(dir, "dialtone.db"), `SELECT changes FROM export`)
		applied := queryCount(t, filepath.Join(dir, "directory", "directory.db"), `SELECT applied FROM state`)
		if applied > changes {
			t.Fatalf("the export has %d changes, and the store %d", applied, changes)
		} else if applied < changes {
			ahead++
		}
		s, err := teststore.Open(t.Context(), filepath.Join(dir, "dialtone.db"), ring)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CatchUpExport(t.Context()); err != nil {
			t.Fatal(err)
		}
		a, err := s.Find(t.Context(), 1, "ann", noon)
		if err != nil {
			t.Fatal(err)
		}
		if got := exportedUsers(t, s); slices.Contains(got, "ann") == a.Held {
			t.Errorf("ann is held: %t, and the export has %q", a.Held, got)
		}
		wantConsistent(t, s)
		world.CloseStore(t, s)
	}
	if ahead == 0 {
		t.Errorf("in %d rounds no process was killed between the commits", rounds)
	}
	t.Logf("%d of %d processes were killed between the commits", ahead, rounds)
}
