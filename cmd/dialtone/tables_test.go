package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dialtone/cmd/dialtone/internal/terminal"
)

// Commands escape characters that a terminal does not show. JSON contains the original text.
func TestOutputIsEscaped(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := start(t, launch{data: data})
	v := newVisitor(p.address, "")
	if a, err := v.signup("ann"); err != nil || !a.OK {
		t.Fatalf("%v, %v", a, err)
	}
	v.leave()
	p.mustStop(t)
	command := func(args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		environ := []string{"SUDO_USER=o\u202ega"}
		if status := run(t.Context(), append(args, "--data", data), environ, &stdout, &stderr); status != 0 {
			t.Fatalf("%v: status %d\n%s", args, status, stderr.String())
		}
		return stdout.String()
	}
	command("account", "disable", "ann", "--reason", "asked")
	by := `(sudo by o\u202ega) at the command line: asked`
	if out := command("account", "show", "ann"); !strings.Contains(out, by) {
		t.Errorf("the account is shown as\n%q", out)
	}
	if out := command("audit", "list"); !strings.Contains(out, `o\u202ega`) || out != terminal.Escape(out) {
		t.Errorf("the table is\n%q", out)
	}
	if out := command("audit", "list", "--json"); !strings.Contains(out, "o\u202ega") {
		t.Errorf("the JSON is\n%q", out)
	}
	var stdout, stderr bytes.Buffer
	run(t.Context(), []string{"account", "show", "a\u202en", "--data", data}, nil, &stdout, &stderr)
	if text := stderr.String(); !strings.Contains(text, `a\u202en`) || text != terminal.Escape(text) {
		t.Errorf("the error is %q", text)
	}
}

// Every table escapes what it shows.
func TestTables(t *testing.T) {
	var files []string
	for _, pattern := range []string{"*.go", "internal/*/*.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%d files, %v", len(found), err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		mayUse := file == "tables_test.go" || filepath.Base(filepath.Dir(file)) == "terminal"
		if !mayUse && strings.Contains(string(text), `"text/tabwriter"`) {
			t.Errorf("%s makes tables without program.table", file)
		}
	}
}
