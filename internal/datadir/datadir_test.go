package datadir_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"dialtone/internal/datadir"
)

func TestCreateNode(t *testing.T) {
	dir := datadir.Dir(filepath.Join(t.TempDir(), "data"))
	if name, err := dir.Node(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first start: %q, %v", name, err)
	}
	names := make([]string, 16)
	var all sync.WaitGroup
	for i := range names {
		all.Go(func() {
			name, err := dir.CreateNode()
			if err != nil {
				t.Error(err)
			}
			names[i] = name
		})
	}
	all.Wait()
	again, err := dir.Node()
	if names = slices.Compact(append(names, again)); err != nil || len(names) != 1 || len(again) < 16 {
		t.Errorf("one directory has the names %q, %v", names, err)
	}
	if other, err := datadir.Dir(t.TempDir()).CreateNode(); err != nil || other == again {
		t.Errorf("two directories have the name %q, %v", other, err)
	}
	left, err := os.ReadDir(string(dir))
	if err != nil || len(left) != 1 {
		t.Errorf("the directory contains %v, %v", left, err)
	}
	info, err := os.Stat(filepath.Join(string(dir), "node.id"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("the mode of node.id is %v", info.Mode())
	}
}

func TestDamagedNode(t *testing.T) {
	dir := datadir.Dir(t.TempDir())
	path := filepath.Join(string(dir), "node.id")
	good := strings.Repeat("x", 26)
	for _, damaged := range []string{
		"", "short\n", strings.Repeat("\x00", 27), strings.Repeat("x", 65), good + "\n" + good,
	} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		name, err := dir.CreateNode()
		if err == nil || !strings.Contains(err.Error(), "node.id is damaged; delete it") {
			t.Errorf("%q: got the name %q, %v", damaged, name, err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != damaged {
			t.Errorf("%q became %q, %v", damaged, text, err)
		}
	}
}

func TestLock(t *testing.T) {
	dir := datadir.Dir(t.TempDir())
	unlock, err := dir.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Lock(); err == nil || !strings.Contains(err.Error(), "another server runs") {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	unlock, err = dir.Lock()
	if err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	unlock()
}

// The lock is never a file elsewhere: root may take it in a directory of another user.
func TestLockFollowsNoLink(t *testing.T) {
	dir, other := datadir.Dir(t.TempDir()), filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(string(dir), "serve.lock")); err != nil {
		t.Fatal(err)
	}
	if unlock, err := dir.Lock(); err == nil {
		unlock()
		t.Error("the lock is a file elsewhere")
	}
}

func TestPlace(t *testing.T) {
	above := t.TempDir()
	dir := datadir.Dir(filepath.Join(above, "data"))
	if place := dir.Place(); place != "" {
		t.Errorf("without node.id, the place is %q", place)
	}
	name, err := dir.CreateNode()
	if err != nil {
		t.Fatal(err)
	}
	place := dir.Place()
	if place == "" || dir.Place() != place {
		t.Fatalf("the place is %q, then %q", place, dir.Place())
	}
	if err := os.Symlink(string(dir), filepath.Join(above, "symlink")); err != nil {
		t.Fatal(err)
	}
	if datadir.Dir(filepath.Join(above, "symlink")).Place() != place {
		t.Error("the directory has another place by another path")
	}
	for claim, add := range map[string]func(from, to string) error{
		"copied": func(_, to string) error { return os.WriteFile(to, []byte(name+"\n"), 0o600) },
		"linked": os.Link,
	} {
		other := datadir.Dir(filepath.Join(above, claim))
		if err := os.Mkdir(string(other), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := add(dir.NodeFile(), other.NodeFile()); err != nil {
			t.Fatal(err)
		}
		if p := other.Place(); p == "" || p == place {
			t.Errorf("the directory with a %s node.id has the place %q", claim, p)
		}
	}
}

// undo removes what CreateLocked has created, and nothing else.
func TestCreateLocked(t *testing.T) {
	exists := func(paths ...string) {
		t.Helper()
		for _, path := range paths {
			if _, err := os.Lstat(path); err != nil {
				t.Error(err)
			}
		}
	}
	missing := func(path string) {
		t.Helper()
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s exists: %v", path, err)
		}
	}
	above := t.TempDir()
	inner := filepath.Join(above, "a", "b")
	dir := datadir.Dir(inner)
	create := func() (unlock, undo func()) {
		t.Helper()
		unlock, undo, err := dir.CreateLocked()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := dir.CreateLocked(); err == nil || !strings.Contains(err.Error(), "another server runs") {
			t.Errorf("a second lock: %v", err)
		}
		return unlock, undo
	}
	lock := filepath.Join(inner, "serve.lock")
	_, undo := create()
	undo()
	missing(filepath.Join(above, "a"))
	exists(above)

	_, undo = create()
	other := filepath.Join(inner, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	undo()
	exists(other, lock)
	unlock, _ := create()
	unlock()
	exists(lock)

	_, undo = create() // the lock of an earlier server stays
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	undo()
	exists(lock)
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	_, undo = create() // in an existing directory
	undo()
	missing(lock)
	exists(inner)
}
