package config

import (
	"slices"
	"testing"
)

// Changed finds each key, and nothing else.
func TestChanged(t *testing.T) {
	load := func(environ ...string) Config {
		t.Helper()
		c, err := Load("", environ, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := load()
	if got := Changed(before, load()); got != nil {
		t.Errorf("without a change: %q", got)
	}
	got := Changed(before, load("DIALTONE_LOG_LEVEL=debug", "DIALTONE_HTTP_TRUSTED_PROXIES=127.0.0.1"))
	if !slices.Equal(got, []string{"http.trusted_proxies", "log.level"}) {
		t.Errorf("got %q", got)
	}
}
