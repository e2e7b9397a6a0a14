package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite"
)

// When the file of the open database is removed or replaced, no write is reported as saved, and the
// engine fails even if nobody writes.
func TestDatabaseReplacedWhileOpen(t *testing.T) {
	write := func(e *sqlite.Engine) error {
		return e.Write(func(tx engine.Tx) error { return tx.Script(`CREATE TABLE another (n)`) })
	}
	for _, c := range []struct {
		claim   string
		replace func(path string) error
		idle    bool
	}{
		{"removed", os.Remove, false},
		{"renamed", func(path string) error { return os.Rename(path, path+".old") }, false},
		{"replaced", func(path string) error {
			text, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path))
		}, false},
		{"directory renamed", func(path string) error {
			return os.Rename(filepath.Dir(path), filepath.Dir(path)+".old")
		}, false},
		{"removed while idle", os.Remove, true},
	} {
		t.Run(c.claim, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data", "dialtone.db")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			e, err := sqlite.Open(t.Context(), path, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			if err := e.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := c.replace(path); err != nil {
				t.Fatal(err)
			}
			if !c.idle {
				if err := write(e); !errors.Is(err, sqlite.ErrReplaced) || !errors.Is(err, fault.ErrInDoubt) {
					t.Errorf("a write: %v", err)
				}
			}
			select {
			case <-e.Failed():
			case <-time.After(10 * time.Second):
				t.Fatal("the engine has not failed")
			}
			if err := e.Err(); !errors.Is(err, sqlite.ErrReplaced) || !errors.Is(err, engine.ErrFailed) {
				t.Errorf("the failure is %v", err)
			}
			if err := e.Ready(t.Context()); !errors.Is(err, sqlite.ErrReplaced) {
				t.Errorf("ready: %v", err)
			}
		})
	}
}

// Closing an engine a second time has no effect.
func TestCloseTwice(t *testing.T) {
	e, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	_ = e.Close()
}
