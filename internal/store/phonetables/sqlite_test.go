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
)

// childFolder is the variable that makes this program exportChild.
const childFolder = "DIALTONE_TEST_EXPORT_CHILD"

// ringFile is a ring that another process can have.
func ringFile(t *testing.T, dir string) *secret.Ring {
	t.Helper()
	ring, err := keyfile.ReadOrCreate(filepath.Join(dir, "seal.key"), noon)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func quiet(int64, int64) {}

// members adds active accounts to a tenant, each with the HA1 of its own name as password.
func members(t *testing.T, s *store.Store, ring *secret.Ring, tenant int64, users ...string) {
	t.Helper()
	vault := secret.NewVault(ring, "credential")
	for _, user := range users {
		a := newcomer(tenant, user)
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

// exported are the users of the directory, in order.
func exported(t *testing.T, s *store.Store) (users []string) {
	t.Helper()
	err := s.ExportedEntries(t.Context(), "phone.test", func(l export.Entry) error {
		users = append(users, l.User)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return users
}

// sound wants nothing to be wrong with the directory.
func sound(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.CompareExport(t.Context(), func(text string) { t.Error(text) }); err != nil {
		t.Fatal(err)
	}
}

// exporting is a store of SQLite with two accounts and a directory.
func exporting(t *testing.T) (s *store.Store, ring *secret.Ring, dir string, tenant int64) {
	t.Helper()
	dir = t.TempDir()
	ring = ringFile(t, dir)
	s, err := teststore.Open(t.Context(), filepath.Join(dir, "dialtone.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	tenant = addTenant(t, s, "phone.test")
	members(t, s, ring, tenant, "ann", "bob")
	if err := s.EnableExport(t.Context(), quiet); err != nil {
		t.Fatal(err)
	}
	return s, ring, dir, tenant
}

func TestDirectoryFaultLeavesStoreWorking(t *testing.T) {
	s, ring, dir, tenant := exporting(t)
	folder := filepath.Join(dir, "directory")
	away := func() {
		if err := os.Rename(folder, folder+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(folder, nil, 0o600); err != nil { // so that none can be made
			t.Fatal(err)
		}
	}
	back := func() {
		if err := os.Remove(folder); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(folder+".away", folder); err != nil {
			t.Fatal(err)
		}
	}
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
	away()
	disable("ann")
	if err := s.Create(t.Context(), newcomer(tenant, "cid"), noon); err != nil {
		t.Errorf("a signup meanwhile: %v", err)
	}
	if err := s.CatchUpExport(t.Context()); err == nil {
		t.Error("nobody hears that the directory is behind")
	}
	back()
	if err := s.CatchUpExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := exported(t, s); !slices.Equal(got, []string{"bob"}) {
		t.Errorf("got %q", got)
	}
	// The next process does what this one has left.
	away()
	disable("bob")
	shut(t, s)
	back()
	s = open(t, filepath.Join(dir, "dialtone.db"), ring)
	if err := s.CatchUpExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := exported(t, s); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	sound(t, s)
}

// Of what is due, tenants come first: the name of one that is gone may be another's by now, with
// accounts of its own.
func TestDueChangesAreAppliedInOrder(t *testing.T) {
	s, ring, dir, _ := exporting(t)
	defer shut(t, s)
	folder := filepath.Join(dir, "directory")
	if err := os.Rename(folder, folder+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	behind := func(err error) {
		t.Helper()
		if err == nil {
			t.Fatal("nobody hears that the directory is behind")
		}
	}
	behind(s.RemoveTenant(t.Context(), "phone.test", true, noon))
	added, err := s.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test", Created: noon})
	behind(err)
	a := newcomer(added.ID, "cid")
	a.Account.Sealed = secret.NewVault(ring, "credential").Seal(added.ID, a.Account.UID[:],
		digest.Credential{HA1: digest.Compute("cid", "phone.test", "cid")}.Marshal())
	if err := s.Create(t.Context(), a, noon); err != nil {
		t.Fatal(err)
	}
	_, err = s.Activate(t.Context(), added.ID, a.Token, noon)
	behind(err)
	if err := errors.Join(os.Remove(folder), os.Rename(folder+".away", folder),
		s.CatchUpExport(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := exported(t, s); !slices.Equal(got, []string{"cid"}) {
		t.Errorf("got %q", got)
	}
	sound(t, s)
}

func TestLostDirectoryIsFilled(t *testing.T) {
	s, _, dir, tenant := exporting(t)
	defer shut(t, s)
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
	sound(t, s)
}

// A store of yesterday beside the directory of today.
func TestOlderDirectoryIsCorrected(t *testing.T) {
	s, ring, dir, tenant := exporting(t)
	backup := filepath.Join(dir, "backup.db")
	if err := s.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	members(t, s, ring, tenant, "cid")
	if _, err := s.Disable(t.Context(), tenant, "ann", noon); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	path := filepath.Join(dir, "dialtone.db")
	if err := os.Rename(backup, path); err != nil {
		t.Fatal(err)
	}
	os.Remove(path + "-wal")
	s = open(t, path, ring)
	if err := s.CatchUpExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := exported(t, s); !slices.Equal(got, []string{"ann", "bob"}) {
		t.Errorf("got %q", got)
	}
	sound(t, s)
}

// A file of an export that was ended, put back by whoever restored a disk. Its numbers may well
// fit.
func TestDirectoryOfEarlierExportIsCorrected(t *testing.T) {
	s, ring, dir, tenant := exporting(t)
	shut(t, s)
	folder := filepath.Join(dir, "directory")
	if err := os.CopyFS(folder+".kept", os.DirFS(folder)); err != nil {
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
	if err := s.EnableExport(t.Context(), quiet); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	if err := errors.Join(os.RemoveAll(folder), os.Rename(folder+".kept", folder)); err != nil {
		t.Fatal(err)
	}
	s = open(t, filepath.Join(dir, "dialtone.db"), ring)
	// What changes now is seen at once, and what the file has wrong when it was gone through.
	if _, err := s.Disable(t.Context(), tenant, "bob", noon); err != nil {
		t.Fatal(err)
	}
	if got := exported(t, s); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("got %q", got)
	}
	if err := s.CatchUpExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := exported(t, s); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	sound(t, s)
}

func TestDisablingLeavesNoHash(t *testing.T) {
	s, _, dir, _ := exporting(t)
	defer shut(t, s)
	hash := []byte(digest.Compute("ann", "phone.test", "ann").Hex())
	holders := func() (names []string) {
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
	if len(holders()) == 0 {
		t.Fatal("it is not there to begin with")
	}
	if err := s.DisableExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names := holders(); len(names) > 0 {
		t.Errorf("%q still hold it", names)
	}
}

// A command was killed when it had ended the export and not yet emptied the file.
func TestCatchUpRemovesRest(t *testing.T) {
	s, ring, dir, _ := exporting(t)
	shut(t, s)
	alter(t, filepath.Join(dir, "dialtone.db"), `DELETE FROM export`)
	s = open(t, filepath.Join(dir, "dialtone.db"), ring)
	if err := s.CatchUpExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := rows(t, filepath.Join(dir, "directory", "directory.db"), `SELECT count(*) FROM subscriber`); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// rows asks a file for a number.
func rows(t *testing.T, path, query string) (n int64) {
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

// What is seen, is forgotten: the list of changes does not grow.
func TestAppliedChangesArePruned(t *testing.T) {
	s, _, dir, tenant := exporting(t)
	defer shut(t, s)
	for range 5 {
		if _, err := s.SetRole(t.Context(), tenant, "ann", account.User, noon); err != nil {
			t.Fatal(err)
		}
	}
	due := func() int64 { return rows(t, filepath.Join(dir, "dialtone.db"), `SELECT count(*) FROM export_due`) }
	if due() < 5 {
		t.Fatalf("%d changes are noted", due())
	}
	for range 2 {
		if err := s.CatchUpExport(t.Context()); err != nil {
			t.Fatal(err)
		}
		if due() != 0 {
			t.Errorf("%d changes are left", due())
		}
	}
	if _, err := s.Disable(t.Context(), tenant, "ann", noon); err != nil {
		t.Fatal(err)
	}
	if got := exported(t, s); !slices.Equal(got, []string{"bob"}) {
		t.Errorf("got %q", got)
	}
}

// exportChild is the process that TestKillBetweenStoreAndDirectory kills: it disables and enables
// an account as fast as it can and says each time what it was answered.
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
	return errors.New("nobody has killed this process")
}

// The two files are two commits. Whoever is killed in between leaves the store ahead, and the next
// to come brings the directory there.
func TestKillBetweenStoreAndDirectory(t *testing.T) {
	s, ring, dir, _ := exporting(t)
	shut(t, s)
	rounds, ahead := 20, 0
	for range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childFolder+"="+dir)
		var trouble bytes.Buffer
		cmd.Stderr = &trouble
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
				// Not at once, which would be the same moment every time: answered, and nothing
				// begun.
				<-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond)
				cmd.Process.Kill()
			}
		}
		if cmd.Wait(); after > 0 || trouble.Len() > 0 {
			t.Fatalf("%d answers were missing, %s", after, &trouble)
		}
		changes := rows(t, filepath.Join(dir, "dialtone.db"), `SELECT changes FROM export`)
		applied := rows(t, filepath.Join(dir, "directory", "directory.db"), `SELECT applied FROM state`)
		if applied > changes {
			t.Fatalf("the directory has seen %d changes of %d", applied, changes)
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
		if got := exported(t, s); slices.Contains(got, "ann") == a.Held {
			t.Errorf("ann is held: %t, and the directory has %q", a.Held, got)
		}
		sound(t, s)
		shut(t, s)
	}
	if ahead == 0 {
		t.Errorf("in %d rounds nobody was killed in between", rounds)
	}
	t.Logf("%d of %d were killed in between", ahead, rounds)
}
