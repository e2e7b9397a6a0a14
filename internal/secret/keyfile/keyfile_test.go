package keyfile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	if _, err := keyfile.Read(path); !errors.Is(err, keyfile.ErrMissing) {
		t.Fatalf("without a file: %v", err)
	}
	ring, err := keyfile.ReadOrCreate(path, noon)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	again, err := keyfile.ReadOrCreate(path, noon)
	if err != nil || again.IDs()[0] != ring.IDs()[0] {
		t.Errorf("a second call: %v", err)
	}
	before, _ := os.ReadFile(path)
	if err := keyfile.Create(path, secret.NewRing(noon)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create on an existing file: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file was overwritten")
	}
	rotated := ring.Rotated(noon.Add(time.Hour), 2)
	if err := keyfile.Replace(path, rotated); err != nil {
		t.Fatal(err)
	}
	read, err := keyfile.Read(path)
	if err != nil || !slices.Equal(read.IDs(), rotated.IDs()) ||
		len(read.IDs()) != 2 || read.IDs()[1] != ring.IDs()[0] {
		t.Errorf("after a rotation: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("%d files are left", len(entries))
	}
}

func TestRefusedFiles(t *testing.T) {
	good := "v1 1772366400 " + strings.Repeat("a7", 32) + "\n"
	for _, c := range []struct {
		name, text string
		mode       fs.FileMode
		want       string
	}{
		{"readable by the group", good, 0o640, "chmod 600"},
		{"readable by everyone", good, 0o604, "chmod 600"},
		{"empty", "", 0o600, ":1:"},
		{"too short", good[:60] + "\n", 0o600, ":1:"},
		{"all zeros", "v1 1772366400 " + strings.Repeat("0", 64) + "\n", 0o600, "zeros"},
		{"of another version", "v3" + good[2:], 0o600, ":1:"},
		{"with a bad second line", good + "x\n", 0o600, ":2:"},
		{"with an empty line", good + "\n" + good, 0o600, ":2:"},
		{"with an additional word", strings.TrimSpace(good) + " x\n", 0o600, ":1:"},
		{"without a time", strings.Replace(good, "1772366400", "now", 1), 0o600, "time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "seal.key")
			if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := keyfile.ReadOrCreate(path, noon)
			if err == nil || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "a7a7") {
				t.Errorf("the error contains the key: %v", err)
			}
			if after, _ := os.ReadFile(path); string(after) != c.text {
				t.Error("the file was changed")
			}
		})
	}
}

func TestConcurrentFirstStarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	ids := make([]string, 16)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			ring, err := keyfile.ReadOrCreate(path, noon)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = ring.IDs()[0].String()
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("the processes have the keys %q", ids)
		}
	}
}
