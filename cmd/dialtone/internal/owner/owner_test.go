package owner_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dialtone/cmd/dialtone/internal/owner"
)

// The mode of a file, and of the directories on the way to it, says whether the owner of a data directory can read it.
func TestDenied(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give files to other users")
	}
	const uid, gid = 65534, 65533
	top, err := os.MkdirTemp("", "owner")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	t.Cleanup(func() { os.RemoveAll(top) })
	must(os.Chmod(top, 0o755))
	at := func(name string) string { return filepath.Join(top, name) }
	for _, dir := range []string{"data", "open", "live"} {
		must(os.Mkdir(at(dir), 0o755))
	}
	must(os.Chown(at("data"), uid, gid))
	if o, err := owner.Of(at("none")); o != nil || err != nil {
		t.Fatalf("without a directory: %v, %v", o, err)
	}
	o, err := owner.Of(at("data"))
	if err != nil || o.UID != uid || o.GID != gid {
		t.Fatal(o, err)
	}
	for name, f := range map[string]struct {
		mode     os.FileMode
		uid, gid int
		denied   bool
	}{
		"open/own":       {0o600, uid, 0, false},
		"open/group":     {0o640, 0, gid, false},
		"open/world":     {0o644, 0, 0, false},
		"open/root":      {0o600, 0, 0, true},
		"open/rootgroup": {0o640, 0, 0, true},
		// Only the first class that matches applies.
		"open/refused": {0o077, uid, gid, true},
	} {
		must(os.WriteFile(at(name), nil, 0o600))
		must(os.Chown(at(name), f.uid, f.gid))
		must(os.Chmod(at(name), f.mode))
		if got := o.Denied(at(name)); (got == at(name)) != f.denied || (got == "") == f.denied {
			t.Errorf("%s: denied at %q", name, got)
		}
	}
	// As with certbot: a link from a directory that only root can enter.
	must(os.Symlink(at("open/world"), at("live/key")))
	if got := o.Denied(at("live/key")); got != "" {
		t.Errorf("by a link: denied at %q", got)
	}
	must(os.Chmod(at("live"), 0o700))
	if got := o.Denied(at("live/key")); !strings.HasSuffix(got, "live") {
		t.Errorf("in a closed directory: denied at %q", got)
	}
	if got := o.Denied(at("absent")); got != "" {
		t.Errorf("without a file: denied at %q", got)
	}
}
