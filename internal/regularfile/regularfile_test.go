package regularfile_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dialtone/internal/regularfile"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at("file"), []byte("text"), 0o600))
	must(os.Symlink("file", at("link")))
	must(syscall.Mkfifo(at("pipe"), 0o600))
	must(os.Symlink("pipe", at("link to a pipe")))
	l, err := net.Listen("unix", at("socket"))
	must(err)
	defer l.Close()
	for _, name := range []string{"file", "link"} {
		text, err := regularfile.Read(at(name))
		if err != nil || string(text) != "text" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		must(regularfile.Check(at(name)))
	}
	for path, kind := range map[string]string{
		dir: "directory", at("pipe"): "named pipe", at("link to a pipe"): "named pipe", at("socket"): "socket",
		"/dev/null": "device",
	} {
		for name, err := range map[string]error{"Open": open(path), "Check": regularfile.Check(path)} {
			if !errors.Is(err, regularfile.ErrOther) || !strings.Contains(err.Error(), path+": it is a "+kind) {
				t.Errorf("%s of a %s: %v", name, kind, err)
			}
		}
	}
	if err := open(at("missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	must(regularfile.Check(at("missing")))
}

func open(path string) error {
	f, err := regularfile.Open(path)
	if err == nil {
		f.Close()
	}
	return err
}

func TestOpenOnly(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(at("file"), []byte("text"), 0o600), os.Symlink("file", at("link")),
		syscall.Mkfifo(at("pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	f, info, err := regularfile.OpenOnly(at("file"))
	if err != nil || info.Size() != 4 {
		t.Fatal(info, err)
	}
	f.Close()
	for name, want := range map[string]string{
		"link": "it is a link", "pipe": "it is a named pipe", ".": "it is a directory",
	} {
		if _, _, err := regularfile.OpenOnly(at(name)); !errors.Is(err, regularfile.ErrOther) ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if _, _, err := regularfile.OpenOnly(at("missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.Link(at("file"), at("other")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := regularfile.OpenOnly(at("file")); !errors.Is(err, regularfile.ErrOther) {
		t.Errorf("a file with two names: %v", err)
	}
}

func TestReadUpTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := regularfile.ReadUpTo(path, 4); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := regularfile.ReadUpTo(path, 3); !errors.Is(err, regularfile.ErrTooLong) || text != nil {
		t.Errorf("a file that is too long: %q, %v", text, err)
	}
}
