package runas

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// other is a user and a group other than root, and third is another one.
const other, third = 65534, 65533

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rootDir returns a directory that only root can change and everybody can pass.
func rootDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give directories to other users")
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		must(t, os.Chmod(d, 0o755))
	}
	return dir
}

// Root does not take a directory for its own that another user could have replaced.
func TestOwnerOf(t *testing.T) {
	top := rootDir(t)
	at := func(elements ...string) string { return filepath.Join(append([]string{top}, elements...)...) }
	mkdir := func(path string, mode os.FileMode, uid int) {
		t.Helper()
		must(t, os.MkdirAll(path, 0o755))
		must(t, os.Chmod(path, mode))
		must(t, os.Chown(path, uid, uid))
	}
	mkdir(at("root"), 0o700, 0)
	mkdir(at("other"), 0o755, other)
	mkdir(at("other", "third"), 0o700, third)
	mkdir(at("other", "root"), 0o700, 0)
	mkdir(at("open"), 0o777, 0)
	mkdir(at("open", "root"), 0o700, 0)
	must(t, os.Symlink(at("root"), at("link")))
	must(t, os.Lchown(at("link"), other, other))
	for name, c := range map[string]struct {
		uid     uint32 // 0 for root
		refused string
	}{
		"root":            {},
		"root/missing":    {},
		"other":           {uid: other},
		"other/missing/x": {uid: other},
		"other/third":     {uid: third},
		"other/root":      {refused: "the user 65534, to whom " + at("other") + " belongs, can replace it"},
		"link":            {refused: "the user 65534, to whom " + at("link") + " belongs, can replace it"},
		"open":            {refused: "other users can write to " + at("open")},
		"open/root":       {refused: "run: chmod g-w,o-w " + at("open")},
	} {
		u, err := OwnerOf(at(name))
		if c.refused != "" {
			if !errors.Is(err, ErrDataDir) || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: got %v, %v", name, u, err)
			}
			continue
		}
		if err != nil || (u == nil) != (c.uid == 0) || u != nil && u.UID != c.uid {
			t.Errorf("%s: got %v, %v", name, u, err)
		}
	}
}

// A command of root works as the owner of the directory, opens named files as root, and is root again at the end.
func TestBecomeOwner(t *testing.T) {
	top := rootDir(t)
	data, secret := filepath.Join(top, "data"), filepath.Join(top, "secret")
	must(t, os.Mkdir(data, 0o700))
	must(t, os.Chown(data, other, other))
	must(t, os.WriteFile(secret, []byte("x"), 0o600))
	revert, err := BecomeOwner(data)
	must(t, err)
	check := func(where string, uid int, acting bool) {
		t.Helper()
		if _, err := os.ReadFile(secret); os.Geteuid() != uid || (err == nil) != (uid == 0) || Acting() != acting {
			t.Errorf("%s: user %d, %v, acting: %v", where, os.Geteuid(), err, Acting())
		}
	}
	check("as the owner", other, true)
	inside := func(where string, uid int) func() error {
		return func() error {
			check(where, uid, true)
			return AsOwner(func() error {
				check(where+", as the owner again", other, true)
				return nil
			})
		}
	}
	must(t, AsCaller(inside("as the caller", 0)))
	check("after that", other, true)
	if text, err := ReadNamed(secret); err != nil || string(text) != "x" {
		t.Errorf("a named file: %q, %v", text, err)
	}
	if f, err := OpenAsOwner(secret); err != nil {
		t.Errorf("a file of root in a directory of root: %v", err)
	} else {
		must(t, f.Close())
	}
	if err := As(nil, inside("as nobody else", other)); err != nil {
		t.Error(err)
	}
	must(t, revert())
	check("at the end", 0, false)
}
