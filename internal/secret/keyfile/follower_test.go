package keyfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialtone/internal/redact"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
)

// signer returns the ID of the signing key.
func signer(r *secret.Ring) *secret.ID { return &r.IDs()[0] }

func TestFollower(t *testing.T) {
	now := noon
	path := filepath.Join(t.TempDir(), "sign.key")
	ring := secret.NewRing(noon)
	if err := keyfile.Create(path, ring); err != nil {
		t.Fatal(err)
	}
	f := keyfile.NewFollower(keyfile.Source{Path: path}, signer, func() time.Time { return now })
	if f.Value() != nil {
		t.Error("there is a value before the first Refresh")
	}
	refresh := func() *secret.ID {
		t.Helper()
		if err := f.Refresh(); err != nil {
			t.Fatal(err)
		}
		return f.Value()
	}
	first := refresh()
	if *first != ring.IDs()[0] {
		t.Error("the first value is of another key")
	}
	if refresh() != first {
		t.Error("the value was built again although nothing changed")
	}
	both := ring.Rotated(noon, 2)
	if err := keyfile.Replace(path, both); err != nil {
		t.Fatal(err)
	}
	if id := refresh(); id == first || *id != *first {
		t.Error("the value was not built again after the file was replaced, or a new key signs too early")
	}
	now = noon.Add(secret.SigningDelay)
	latest := refresh()
	if *latest != both.IDs()[0] {
		t.Error("the new key does not sign when it is old enough")
	}

	// A file that cannot be used leaves the value unchanged.
	for name, change := range map[string]func() error{
		// The file's size and time do not change.
		"open to others": func() error { return os.Chmod(path, 0o644) },
		"a directory": func() error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		},
		"changed with the same size and time": func() error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			damaged := strings.Repeat("x", int(info.Size()))
			return errors.Join(os.WriteFile(path, []byte(damaged), 0o600),
				os.Chtimes(path, info.ModTime(), info.ModTime()))
		},
		"damaged": func() error { return os.WriteFile(path, []byte("x"), 0o600) },
		"missing": func() error { return os.Remove(path) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := f.Refresh(); !errors.Is(err, keyfile.ErrUnusable) || f.Value() != latest {
				t.Errorf("%s: %v, or the value changed", name, err)
			}
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := keyfile.Create(path, both); err != nil {
			t.Fatal(err)
		}
		latest = refresh()
	}
}

func TestOptionalFollower(t *testing.T) {
	path := filepath.Join(t.TempDir(), "turn.key")
	clock := func() time.Time { return noon }
	f := keyfile.NewOptionalFollower(keyfile.Source{Path: path}, signer, clock)
	for range 2 {
		if err := f.Refresh(); err != nil || f.Value() != nil {
			t.Fatalf("without a file: %v, %v", f.Value(), err)
		}
		if err := keyfile.Create(path, secret.NewRing(noon)); err != nil {
			t.Fatal(err)
		}
		if err := f.Refresh(); err != nil || f.Value() == nil {
			t.Fatalf("with a file: %v, %v", f.Value(), err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFollowerOfEnvironment(t *testing.T) {
	now := noon
	ring := secret.NewRing(noon.Add(-time.Hour)).Rotated(noon, 2)
	s := keyfile.Source{Path: "none", Variable: "KEY", Text: redact.New(ring.Text())}
	f := keyfile.NewFollower(s, signer, func() time.Time { return now })
	for _, c := range []struct {
		age  time.Duration
		want secret.ID
	}{{0, ring.IDs()[1]}, {secret.SigningDelay, ring.IDs()[0]}} {
		now = noon.Add(c.age)
		if err := f.Refresh(); err != nil {
			t.Fatal(err)
		}
		if got := *f.Value(); got != c.want {
			t.Errorf("after %v, key %v signs, want %v", c.age, got, c.want)
		}
	}
}
