package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"dialtone/internal/atomicfile"
)

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	holds := func(want string) {
		t.Helper()
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("the file holds %q, %v, want %q", got, err, want)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("its mode is %v, %v", info.Mode(), err)
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
			t.Errorf("there are %d files, %v", len(list), err)
		}
	}
	if err := atomicfile.Create(path, "one"); err != nil {
		t.Fatal(err)
	}
	holds("one")
	if err := atomicfile.Create(path, "two"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second Create: %v", err)
	}
	holds("one")
	if err := atomicfile.Replace(path, "three"); err != nil {
		t.Fatal(err)
	}
	holds("three")

	missing := filepath.Join(dir, "missing", "file")
	for name, err := range map[string]error{
		"Create": atomicfile.Create(missing, ""), "Replace": atomicfile.Replace(missing, ""),
		"SyncDir": atomicfile.SyncDir(filepath.Dir(missing)),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s without the directory: %v", name, err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Replace(filepath.Join(dir, "full"), ""); err == nil {
		t.Error("a directory was replaced")
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("a failed Replace left %d files", len(list)-2)
	}
}

func TestReplaceKeepsMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Replace(path, "new"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
}

// What root creates belongs to the owner of the directory, and what it replaces keeps its owner.
func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to others")
	}
	const user, group, other = 65534, 65533, 65532
	dir := t.TempDir()
	if err := os.Chown(dir, user, group); err != nil {
		t.Fatal(err)
	}
	wants := func(path string, uid, gid uint32) {
		t.Helper()
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if s := info.Sys().(*syscall.Stat_t); s.Uid != uid || s.Gid != gid {
			t.Errorf("%s belongs to %d:%d, want %d:%d", filepath.Base(path), s.Uid, s.Gid, uid, gid)
		}
	}
	path := filepath.Join(dir, "created")
	if err := atomicfile.Create(path, "one"); err != nil {
		t.Fatal(err)
	}
	wants(path, user, group)
	if err := os.Chown(path, other, other); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Replace(path, "two"); err != nil {
		t.Fatal(err)
	}
	wants(path, other, other)
	path = filepath.Join(dir, "replaced nothing")
	if err := atomicfile.Replace(path, "one"); err != nil {
		t.Fatal(err)
	}
	wants(path, user, group)

	path = filepath.Join(dir, "a", "b")
	if err := atomicfile.MkdirAll(path, 0o750); err != nil {
		t.Fatal(err)
	}
	wants(filepath.Dir(path), user, group)
	wants(path, user, group)
	if err := atomicfile.Mkdir(path, 0o750); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Mkdir of a directory that exists: %v", err)
	}
	if err := atomicfile.MkdirAll(path, 0o750); err != nil {
		t.Errorf("MkdirAll of a directory that exists: %v", err)
	}
	path = filepath.Join(dir, "shared")
	if err := atomicfile.MkdirSetgid(path, 0o770); err != nil {
		t.Fatal(err)
	}
	wants(path, user, group)
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeDir|fs.ModeSetgid|0o770 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
	file := filepath.Join(dir, "created")
	if err := atomicfile.MkdirAll(file, 0o750); err == nil {
		t.Error("MkdirAll took a file for a directory")
	}
	if err := os.Symlink("/", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if d, err := atomicfile.OpenDir(filepath.Join(dir, "link")); err == nil {
		d.Close()
		t.Error("OpenDir followed a symbolic link")
	}
}

// CreateIn writes into the opened directory, even if another one now has its name.
func TestCreateIn(t *testing.T) {
	above := t.TempDir()
	path, moved := filepath.Join(above, "dir"), filepath.Join(above, "moved")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := errors.Join(os.Rename(path, moved), os.Mkdir(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.CreateIn(root, "file", "one"); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.CreateIn(root, "file", "two"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second CreateIn: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(moved, "file")); err != nil || string(text) != "one" {
		t.Errorf("the file has %q, %v", text, err)
	}
	for dir, want := range map[string]int{path: 0, moved: 1} {
		if list, err := os.ReadDir(dir); err != nil || len(list) != want {
			t.Errorf("%s has %d files, %v", dir, len(list), err)
		}
	}
}

// MkdirIn creates a directory in the opened one, even if something else now has its name, and
// follows no link.
func TestMkdirIn(t *testing.T) {
	above := t.TempDir()
	path, moved := filepath.Join(above, "dir"), filepath.Join(above, "moved")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	opened, err := atomicfile.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if err := errors.Join(os.Rename(path, moved), os.Symlink("/", path)); err != nil {
		t.Fatal(err)
	}
	d, err := atomicfile.MkdirIn(opened, "new", 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	made, err1 := d.Stat()
	there, err2 := os.Lstat(filepath.Join(moved, "new"))
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(made, there) {
		t.Errorf("it is not in the directory that was opened: %v", err)
	}
	if _, err := atomicfile.MkdirIn(opened, "new", 0o700); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second MkdirIn: %v", err)
	}
}
