package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dialtone/internal/config"
)

func TestFilesAreUpToDate(t *testing.T) {
	for name, want := range files() {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		} else if string(got) != want {
			t.Errorf("%s is not up to date; run go generate ./internal/config/gen", filepath.Base(name))
		}
	}
}

func TestExampleHasTheDefaults(t *testing.T) {
	want, err := config.Load("", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	commented := regexp.MustCompile(`(?m)^#([a-z])`)
	for name, text := range map[string]string{
		"as it is":           config.Example(nil),
		"with every key set": commented.ReplaceAllString(config.Example(nil), "$1"),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "dialtone.toml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := config.Load(file, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			got.Mail.PickupDir, got.Keys.Dir = filepath.Clean(got.Mail.PickupDir), filepath.Clean(got.Keys.Dir)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

// The manual has one section for each key, in the same order, below the table of the key.
func TestManualHasEveryKey(t *testing.T) {
	var sections, keys []string
	for _, m := range regexp.MustCompile(`(?m)^### (\S+)$`).FindAllStringSubmatch(manual(), -1) {
		sections = append(sections, m[1])
	}
	for _, k := range config.Keys() {
		keys = append(keys, k.Name)
		if table, _ := k.Split(); table != "" && !strings.Contains(manual(), "\n## ["+table+"]\n") {
			t.Errorf("there is no heading [%s]", table)
		}
	}
	if !slices.Equal(sections, keys) {
		t.Errorf("the manual has the sections\n%q, and the keys are\n%q", sections, keys)
	}
}
