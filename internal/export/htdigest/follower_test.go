package htdigest_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dialtone/internal/export"
	"dialtone/internal/export/htdigest"
)

// source is an export with one realm.
type source struct {
	version int64
	users   []string
	err     error
	reads   int
}

func (s *source) ExportVersion(context.Context) (int64, error) { return s.version, nil }

func (s *source) ExportedEntries(_ context.Context, realm string, yield func(export.Entry) error) error {
	s.reads++
	if s.err != nil || realm != "phone.test" {
		return errors.Join(s.err, errors.New(realm))
	}
	return entries(s.users...)(yield)
}

func TestFollower(t *testing.T) {
	path := filepath.Join(t.TempDir(), "phone.htdigest")
	var log bytes.Buffer
	s := &source{}
	var realmErr error
	f := htdigest.NewFollower(htdigest.Deps{
		Source: s,
		Realm:  func(context.Context, string) (string, error) { return "phone.test", realmErr },
		Files:  []htdigest.File{{Host: "phone.test", Path: path}},
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
	})
	const ann, bob = "ann:phone.test:" + hash + "\n", "bob:phone.test:" + hash + "\n"
	for _, step := range []struct {
		name   string
		change func()
		want   string // of the file, or "none"
		reads  int    // so far
		warns  int    // log lines so far
		errs   int
	}{
		{"disabled export writes nothing", func() {}, "none", 0, 1, 0},
		{"warns once", func() {}, "none", 0, 1, 0},
		{"enabled export writes the file", func() { s.version, s.users = 1, []string{"ann"} }, ann, 1, 1, 0},
		{"does not read the same version again", func() { s.users = nil }, ann, 1, 1, 0},
		{"an error keeps the file", func() { s.version, s.err = 2, errors.New("store") }, ann, 2, 1, 1},
		{"retries, and logs the same error once", func() {}, ann, 3, 1, 1},
		{"writes when the error is gone", func() { s.err, s.users = nil, []string{"bob"} }, bob, 4, 1, 1},
		{"logs the error again after a success", func() { s.version, s.err = 3, errors.New("store") }, bob, 5, 1, 2},
		{"logs a failure to empty the file", func() { s.version, realmErr = 0, errors.New("realm") }, bob, 5, 1, 3},
		{"disabling empties the file", func() { realmErr = nil }, "", 5, 1, 3},
	} {
		step.change()
		f.Update(t.Context())
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			text = []byte("none")
		} else if err != nil {
			t.Fatal(err)
		}
		warns := strings.Count(log.String(), "level=WARN")
		errs := strings.Count(log.String(), "level=ERROR")
		if string(text) != step.want || s.reads != step.reads || warns != step.warns || errs != step.errs {
			t.Errorf("%s: %q, %d reads, %d warnings, %d errors", step.name, text, s.reads, warns, errs)
		}
	}
}

func TestFollowerUnknownTenant(t *testing.T) {
	path := filepath.Join(t.TempDir(), "phone.htdigest")
	var log bytes.Buffer
	f := htdigest.NewFollower(htdigest.Deps{
		Source: &source{version: 1},
		Realm: func(context.Context, string) (string, error) {
			return "", errors.New("there is no such tenant")
		},
		Files: []htdigest.File{{Host: "gone.test", Path: path}},
		Log:   slog.New(slog.NewTextHandler(&log, nil)),
	})
	f.Update(t.Context())
	if _, err := os.Stat(path); err == nil || !strings.Contains(log.String(), "no such tenant") {
		t.Errorf("%v: %s", err, log.String())
	}
}
