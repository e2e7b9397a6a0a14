package datadir_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/datadir"
	"dialtone/internal/redact"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func store(sealed, shared bool) datadir.Store {
	return datadir.Store{Shared: shared, Sealed: func() (bool, error) { return sealed, nil }}
}

func TestKeysOpen(t *testing.T) {
	text := redact.New(secret.NewRing(noon).Text())
	for _, c := range []struct {
		claim          string
		sealed, shared bool
		files          []string // that exist
		env            datadir.KeyTexts
		want           string // in the error
		created        []string
	}{
		{claim: "creates the keys of a new store", created: []string{"seal.key", "sign.key"}},
		{claim: "creates no seal.key for a sealed store", sealed: true, want: "seal.key is missing"},
		{
			claim:  "creates sign.key for a store that is not shared",
			sealed: true, files: []string{"seal.key"}, created: []string{"sign.key"},
		},
		{
			claim:  "creates no sign.key for a shared store",
			sealed: true, shared: true, files: []string{"seal.key"}, want: "sign.key is missing",
		},
		{
			claim:  "creates the keys of a new shared store",
			shared: true, created: []string{"seal.key", "sign.key"},
		},
		{
			claim: "creates no files for keys of the environment",
			env:   datadir.KeyTexts{Seal: text, Sign: text},
		},
		{
			claim: "creates only the file of a key that the environment lacks",
			env:   datadir.KeyTexts{Seal: text}, sealed: true, created: []string{"sign.key"},
		},
		{
			claim: "refuses a damaged variable",
			env:   datadir.KeyTexts{Seal: redact.New("v1 0 00"), Sign: text}, want: "DIALTONE_KEYS_SEAL:1:",
		},
	} {
		t.Run(c.claim, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			if len(c.files) > 0 {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range c.files {
				if err := keyfile.Create(filepath.Join(dir, name), secret.NewRing(noon)); err != nil {
					t.Fatal(err)
				}
			}
			ring, err := datadir.NewKeys(dir, c.env).Open(store(c.sealed, c.shared), noon)
			if c.want == "" && (err != nil || ring == nil) {
				t.Fatalf("got %v, %v", ring, err)
			}
			if c.want != "" && (!errors.Is(err, keyfile.ErrUnusable) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got the error %v, want %s", err, c.want)
			}
			var created []string
			entries, err := os.ReadDir(dir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			for _, e := range entries {
				if !slices.Contains(c.files, e.Name()) {
					created = append(created, e.Name())
				}
			}
			if !slices.Equal(created, c.created) {
				t.Errorf("created %v, want %v", created, c.created)
			}
		})
	}
}

func TestKeysWithUnknownStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	down := errors.New("the database is down")
	s := datadir.Store{Sealed: func() (bool, error) { return false, down }}
	if _, err := datadir.NewKeys(dir, datadir.KeyTexts{}).Open(s, noon); !errors.Is(err, down) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was created: %v", err)
	}
}

func TestKeysWithoutParent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "mounted")
	_, err := datadir.NewKeys(dir, datadir.KeyTexts{}).Open(store(false, false), noon)
	if !errors.Is(err, keyfile.ErrUnusable) || !strings.Contains(err.Error(), "mount or create its parent") {
		t.Errorf("got %v", err)
	}
}

func TestCreateTURN(t *testing.T) {
	keys := datadir.NewKeys(filepath.Join(t.TempDir(), "keys"), datadir.KeyTexts{})
	if _, err := keys.Open(store(false, false), noon); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.TURN.Read(); !errors.Is(err, keyfile.ErrMissing) {
		t.Fatalf("Open created it: %v", err)
	}
	ring, err := keys.CreateTURN(noon)
	if err != nil {
		t.Fatal(err)
	}
	again, err := keys.CreateTURN(noon)
	if err != nil || again.IDs()[0] != ring.IDs()[0] {
		t.Errorf("a second call returns another key: %v", err)
	}
}
