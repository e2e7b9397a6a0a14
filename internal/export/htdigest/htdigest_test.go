package htdigest_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"dialtone/internal/digest"
	"dialtone/internal/export"
	"dialtone/internal/export/htdigest"
)

// entries returns the entries of users.
func entries(users ...string) htdigest.Entries {
	return func(yield func(export.Entry) error) error {
		for _, u := range users {
			c := digest.Credential{HA1: digest.HA1{0xab}}
			e := export.Entry{User: u, Realm: "phone.test", Credential: c}
			if err := yield(e); err != nil {
				return err
			}
		}
		return nil
	}
}

const hash = "ab000000000000000000000000000000" // of every entry

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "phone.htdigest")
	errStore := errors.New("the store is unavailable")
	const ann, bob = "ann:phone.test:" + hash + "\n", "bob:phone.test:" + hash + "\n"
	for _, step := range []struct {
		name    string
		entries htdigest.Entries
		changed bool
		err     error
		want    string
	}{
		{"creates the file", entries("ann", "bob"), true, nil, ann + bob},
		{"keeps the file if nothing changed", entries("ann", "bob"), false, nil, ann + bob},
		{"keeps the file if the entries cannot be read", func(yield func(export.Entry) error) error {
			return errors.Join(entries("eve")(yield), errStore)
		}, false, errStore, ann + bob},
		{"replaces the file", entries("bob"), true, nil, bob},
		{"empties the file", entries(), true, nil, ""},
	} {
		changed, err := htdigest.Write(path, step.entries)
		if changed != step.changed || !errors.Is(err, step.err) {
			t.Errorf("%s: changed %t, %v", step.name, changed, err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != step.want {
			t.Errorf("%s: %q, %v", step.name, text, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o640 {
			t.Errorf("%s: %v, %v", step.name, info.Mode(), err)
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
			t.Errorf("%s: the directory has %v, %v", step.name, list, err)
		}
	}
	if _, err := htdigest.Write(filepath.Join(dir, "no", "file"), entries("ann")); err == nil {
		t.Error("writing to a missing directory is not an error")
	}
}

// TestWriteKeepsGroup checks that a new file keeps the group of the old one, which lets Apache
// read it, and that a mode with too many permissions is corrected.
func TestWriteKeepsGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "phone.htdigest")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	group := os.Getgid()
	if os.Geteuid() == 0 {
		group = 65534
	} else if all, err := os.Getgroups(); err == nil && len(all) > 0 {
		group = all[len(all)-1]
	}
	if err := os.Chown(path, -1, group); err != nil {
		t.Fatal(err)
	}
	if _, err := htdigest.Write(path, entries("ann")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := int(info.Sys().(*syscall.Stat_t).Gid); got != group || info.Mode() != 0o640 {
		t.Errorf("group %d and mode %v, want group %d and mode 0640", got, info.Mode(), group)
	}
}
