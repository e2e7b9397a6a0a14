package pathwalk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"dialtone/internal/pathwalk"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// Steps ends at the same file as the system, and includes the links.
func TestSteps(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.MkdirAll(at("a/b"), 0o700), os.WriteFile(at("a/file"), nil, 0o600), os.Symlink("a", at("one")),
		os.Symlink(at("one/b"), at("two")), os.Symlink("../../one/./b/../file", at("a/b/three")),
		os.Symlink("loop", at("loop")), os.Symlink("missing/x", at("dangling")), os.Symlink("/", at("top")),
		os.Symlink("..", at("a/up")))
	for name, links := range map[string][]string{
		"": nil, "a/file": nil, "one": {at("one")}, "one/file": {at("one")}, "two": {at("two"), at("one")},
		"two/three": {at("two"), at("one"), at("a/b/three"), at("one")}, "top": {at("top")}, "top/": {at("top")},
		"a/up/a/": {at("a/up")}, "a/../a/file": nil,
	} {
		steps, err := pathwalk.Steps(dir + "/" + name)
		must(t, err)
		want, err := os.Stat(dir + "/" + name)
		must(t, err)
		if last := steps[len(steps)-1]; !os.SameFile(want, last.Info) {
			t.Errorf("%s ends at %s", name, last.Path)
		}
		var got []string
		for _, s := range steps {
			if s.IsLink() {
				got = append(got, s.Path)
			}
		}
		if !slices.Equal(got, links) {
			t.Errorf("%s leads through the links %q, want %q", name, got, links)
		}
	}
	for name, want := range map[string]error{
		"loop": syscall.ELOOP, "dangling": fs.ErrNotExist, "missing": fs.ErrNotExist, "a/file/x": syscall.ENOTDIR,
	} {
		if steps, err := pathwalk.Steps(at(name)); !errors.Is(err, want) || len(steps) == 0 {
			t.Errorf("%s: %d steps, %v", name, len(steps), err)
		}
	}
}

// A link is foreign if somebody other than root and the caller has made it, or can replace it.
func TestForeignLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make links of others")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	at := func(name string) string { return filepath.Join(dir, name) }
	const user = 65534
	must(t, os.Mkdir(at("root"), 0o755), os.Mkdir(at("user"), 0o755), os.Mkdir(at("group"), 0o775),
		os.Mkdir(at("sticky"), 0o755), os.Chmod(at("group"), 0o775), os.Chmod(at("sticky"), 0o777|fs.ModeSticky),
		os.Chown(at("user"), user, user), os.WriteFile(at("root/file"), nil, 0o600))
	for _, name := range []string{"root/own", "user/own", "group/own", "sticky/own"} {
		must(t, os.Symlink(at("root/file"), at(name)))
	}
	for _, name := range []string{"user/link", "sticky/link"} {
		must(t, os.Symlink(at("root/file"), at(name)), os.Lchown(at(name), user, user))
	}
	must(t, os.Symlink(at("user/link"), at("root/far")), os.Symlink("../root", at("user/dir")),
		os.Symlink("gone", at("user/dangling")))
	for name, want := range map[string]string{
		"root/file": "", "root/own": "", "sticky/own": "", "user": "", "user/none": "", "user/own": "user/own",
		"group/own": "group/own", "user/link": "user/link", "sticky/link": "sticky/link", "root/far": "user/link",
		"user/dir/file": "user/dir", "user/dir/none": "user/dir", "user/dangling": "user/dangling",
	} {
		got := pathwalk.ForeignLink(at(name))
		if (got == nil) != (want == "") || got != nil && got.Path != at(want) {
			t.Errorf("%s: %+v, want %q", name, got, want)
		}
	}
}
