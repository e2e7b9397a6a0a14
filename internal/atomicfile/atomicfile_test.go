package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
