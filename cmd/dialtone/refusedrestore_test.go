package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A refused restore leaves nothing behind, one into an absent directory says who cannot use it, and
// after a restore, verify finds no faults, not even in the exported tables.
func TestRestoreLeavesWhatItShould(t *testing.T) {
	s := newService(t)
	above := filepath.Dir(s.dir)
	s.command("tenant", "add", "localhost")
	s.command("account", "add", "ann", "--name", "Ann", "--email", "ann@phone.test", "--active", "--reason", "test")
	s.command("directory", "export", "enable")
	archive, cut := filepath.Join(above, "backup.tar"), filepath.Join(above, "cut.tar")
	s.command("backup", "--archive", archive, "--with-keys", "--plain-keys")
	text, err := os.ReadFile(archive)
	s.must(err)
	s.must(os.WriteFile(cut, text[:len(text)/2], 0o600))
	s.must(os.RemoveAll(s.dir))

	restore := func(file, dir string) (status int, out string) {
		t.Helper()
		status, stdout, stderr := runCommand(t, nil, "restore", file, "--data", dir)
		return status, stdout + stderr
	}
	absent := filepath.Join(above, "some", "where")
	if status, out := restore(cut, absent); status == 0 {
		t.Fatalf("a cut archive was restored: %s", out)
	}
	if _, err := os.Lstat(filepath.Dir(absent)); err == nil {
		t.Error("a refused restore leaves the directory")
	}
	s.must(os.Mkdir(s.dir, 0o751))
	s.must(os.Chown(s.dir, serviceUser, serviceGroup))
	if status, out := restore(cut, s.dir); status == 0 {
		t.Fatalf("a cut archive was restored: %s", out)
	}
	if list, err := os.ReadDir(s.dir); err != nil || len(list) != 0 {
		t.Errorf("a refused restore leaves %v, %v", list, err)
	}
	const owner = "belongs to root, so a server that runs as another user cannot use it"
	if status, out := restore(archive, s.dir); status != 0 || strings.Contains(out, owner) {
		t.Errorf("into a directory of the service: status %d, %s", status, out)
	}
	s.owned()
	if status, out, _ := runCommand(t, nil, "verify", "--data", s.dir); status != 0 {
		t.Errorf("verify after the restore: status %d, %s", status, out)
	}
	if status, out := restore(archive, absent); status != 0 || !strings.Contains(out, owner) ||
		!strings.Contains(out, "chown -R USER: "+absent+"\n") {
		t.Errorf("into an absent directory: status %d, %s", status, out)
	}
}
