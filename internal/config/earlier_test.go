package config

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// A configuration of an earlier version is accepted, or refused with advice. testdata/keys.txt
// contains every key that ever existed.
func TestKeysOfEarlierVersions(t *testing.T) {
	text, err := os.ReadFile("testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Fields(string(text))
	known := make(map[string]bool)
	for _, k := range Keys() {
		known[k.Name] = true
		if !slices.Contains(listed, k.Name) {
			t.Errorf("testdata/keys.txt lacks the key %s; add it", k.Name)
		}
	}
	for _, name := range listed {
		_, err := Load("", nil, map[string]string{name: "x"})
		switch {
		case known[name]:
		case removed[name] == "":
			t.Errorf("the key %s no longer exists, and no message says what to do instead; add it to removed", name)
		case err == nil || !strings.Contains(err.Error(), removed[name]):
			t.Errorf("%s: got %v, want %s", name, err, removed[name])
		}
	}
}
