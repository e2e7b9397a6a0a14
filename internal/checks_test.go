package internal

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// notRaced lists the packages with goroutines that only make check runs under the race detector,
// with the reason.
var notRaced = map[string]string{
	"store/postgres": "needs PostgreSQL, and some minutes",
}

var goStatement = regexp.MustCompile(`(?m)^\s*go \S|\.Go\(func`)

// TestChecksOfEveryChange checks that .ci/run runs all targets, and that every package that starts
// goroutines is among those that run under the race detector.
func TestChecksOfEveryChange(t *testing.T) {
	script := read(t, "../.ci/run")
	for _, target := range []string{"make test", "make check-fast"} {
		if !slices.Contains(strings.Split(script, "\n"), target) {
			t.Errorf(".ci/run lacks %s", target)
		}
	}
	_, list, _ := strings.Cut(strings.ReplaceAll(read(t, "../Makefile"), "\\\n", " "), "\nRACED =")
	list, _, _ = strings.Cut(list, "\n")
	raced := strings.Fields(list)
	for _, name := range raced {
		if tests, _ := filepath.Glob(name + "/*_test.go"); len(tests) == 0 {
			t.Errorf("RACED in the Makefile names %s, which has no tests", name)
		}
	}
	found := 0
	for _, pattern := range []string{"*/*.go", "*/*/*.go", "*/*/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name := filepath.ToSlash(filepath.Dir(file))
			if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(name, "test/") ||
				!goStatement.MatchString(read(t, file)) {
				continue
			}
			found++
			if !slices.Contains(raced, name) && notRaced[name] == "" {
				t.Errorf("%s starts a goroutine; add it to RACED in the Makefile", name)
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d files with goroutines were found", found)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
