package datadir_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dialtone/internal/datadir"
)

func write(t *testing.T, r *datadir.Restoring, name, text string) {
	t.Helper()
	f, err := r.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// An interrupted restore without a plan starts from the beginning. One with a plan is finished,
// wherever it was interrupted.
func TestInterruptedRestore(t *testing.T) {
	dir := datadir.Dir(t.TempDir())
	begin := func(wantPlanned bool) *datadir.Restoring {
		t.Helper()
		r, planned, err := dir.BeginRestore()
		if err != nil || planned != wantPlanned {
			t.Fatalf("planned %v, %v", planned, err)
		}
		if err := dir.CheckRestored(); !errors.Is(err, datadir.ErrRestoring) {
			t.Errorf("the directory may be used: %v", err)
		}
		return r
	}
	write(t, begin(false), "dialtone.db", "half")
	r := begin(false)
	write(t, r, "dialtone.db", "whole")
	write(t, r, "seal.key", "key")
	keys := filepath.Join(string(dir), "keys", "seal.key")
	plan := []datadir.Move{{From: "seal.key", To: keys}, {From: "dialtone.db", To: dir.Database()}}
	if err := r.Ready(plan); err != nil {
		t.Fatal(err)
	}
	// The first move was made, and then the power failed.
	if err := os.Mkdir(filepath.Dir(keys), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(r.Path("seal.key"), keys); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.BeginEpoch(); !errors.Is(err, datadir.ErrRestoring) {
		t.Errorf("another restore begins: %v", err)
	}
	if err := r.Abandon(); err != nil {
		t.Fatal(err)
	}
	if err := begin(true).Finish(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{keys: "key", dir.Database(): "whole"} {
		if text, err := os.ReadFile(path); err != nil || string(text) != want {
			t.Errorf("%s has %q, %v", path, text, err)
		}
	}
	if err := dir.CheckRestored(); err != nil {
		t.Error(err)
	}
	if _, _, err := dir.BeginRestore("keys"); err == nil || !strings.Contains(err.Error(), "it contains dialtone.db;") {
		t.Errorf("into a directory that is not empty: %v", err)
	}
}

// A file of the plan that is neither ready nor in place is an error.
func TestLostFileOfRestore(t *testing.T) {
	dir := datadir.Dir(t.TempDir())
	r, _, err := dir.BeginRestore()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Ready([]datadir.Move{{From: "dialtone.db", To: dir.Database()}}); err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(); err == nil {
		t.Error("the restore is finished without its database")
	}
	if err := dir.CheckRestored(); err == nil {
		t.Error("the directory may be used")
	}
}

// A plan is carried out completely or not at all: it moves only files of the restore, and only to
// where a restore may write.
func TestPlanOfAnother(t *testing.T) {
	above := t.TempDir()
	keys := filepath.Join(above, "keys")
	for _, c := range []struct {
		move datadir.Move
		says string
	}{
		{datadir.Move{From: "x", To: filepath.Join(above, "evil")}, "neither in"},
		{datadir.Move{From: "x", To: above + "/data/../evil"}, "neither in"},
		{datadir.Move{From: "x", To: keys + "2"}, "neither in"},
		{datadir.Move{From: "../../secret", To: above + "/data/got"}, "which is not in"},
		{datadir.Move{From: filepath.Join(above, "secret"), To: above + "/data/got"}, "which is not in"},
		{datadir.Move{From: "x", To: keys}, ""},
	} {
		data := filepath.Join(above, "data")
		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(above, "secret"), []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		dir := datadir.Dir(data)
		r, _, err := dir.BeginRestore()
		if err != nil {
			t.Fatal(err)
		}
		write(t, r, "x", "x")
		write(t, r, "db", "db")
		if err := r.Ready([]datadir.Move{{From: "db", To: dir.Database()}, c.move}); err != nil {
			t.Fatal(err)
		}
		err = r.Finish(keys)
		if c.says == "" {
			if _, statErr := os.Stat(keys); err != nil || statErr != nil {
				t.Errorf("%v: %v, %v", c.move, err, statErr)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, want %s", c.move, err, c.says)
		}
		for _, path := range []string{dir.Database(), filepath.Join(above, "evil"), filepath.Join(data, "got")} {
			if _, err := os.Lstat(path); err == nil {
				t.Errorf("%v: %s exists", c.move, path)
			}
		}
	}
}
