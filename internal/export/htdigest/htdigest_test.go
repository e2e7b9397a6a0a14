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

// of gives the accounts of some users.
func of(users ...string) func(func(export.Entry) error) error {
	return func(each func(export.Entry) error) error {
		for _, u := range users {
			l := export.Entry{User: u, Realm: "phone.test", Credential: digest.Credential{HA1: digest.HA1{0xab}}}
			if err := each(l); err != nil {
				return err
			}
		}
		return nil
	}
}

const hash = "ab000000000000000000000000000000"

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "phone.htdigest")
	trouble := errors.New("the store is away")
	for _, step := range []struct {
		name    string
		each    func(func(export.Entry) error) error
		changed bool
		fails   error
		want    string
	}{
		{"makes the file", of("ann", "bob"), true, nil, "ann:phone.test:" + hash + "\nbob:phone.test:" + hash + "\n"},
		{"leaves alone what is the same", of("ann", "bob"), false, nil, "ann:phone.test:" + hash + "\nbob:phone.test:" + hash + "\n"},
		{"leaves the file as it was when the accounts cannot be read", func(each func(export.Entry) error) error {
			return errors.Join(of("eve")(each), trouble)
		}, false, trouble, "ann:phone.test:" + hash + "\nbob:phone.test:" + hash + "\n"},
		{"replaces it", of("bob"), true, nil, "bob:phone.test:" + hash + "\n"},
		{"empties it", of(), true, nil, ""},
	} {
		changed, err := htdigest.Write(path, step.each)
		if changed != step.changed || !errors.Is(err, step.fails) {
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
			t.Errorf("%s: %v is left, %v", step.name, list, err)
		}
	}
	if _, err := htdigest.Write(filepath.Join(dir, "no", "file"), of("ann")); err == nil {
		t.Error("a folder that is not there is no trouble")
	}
}

// Apache may read by the group, so a new file has the group of the old one; and a mode that was opened is closed again.
func TestWriteKeepsTheGroup(t *testing.T) {
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
	if _, err := htdigest.Write(path, of("ann")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := int(info.Sys().(*syscall.Stat_t).Gid); got != group || info.Mode() != 0o640 {
		t.Errorf("group %d and mode %v, want %d", got, info.Mode(), group)
	}
}
