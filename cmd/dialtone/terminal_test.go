package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEscape(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"plain text", "one\ttwo\nthree", "one\ttwo\nthree"},
		{"other alphabets", "Zoë Пример \u0639\u0645\u0631 \u3042\u3000", "Zoë Пример \u0639\u0645\u0631 \u3042\u3000"},
		{"direction of writing", "a\u202eb\u2066c\u200f", `a\u202eb\u2066c\u200f`},
		{"no width", "a\u200bb\u2060c\ufeff", `a\u200bb\u2060c\ufeff`},
		{"tag characters", "a\U000e0041", `a\U000e0041`},
		{"line separators", "a\u2028b\u2029", `a\u2028b\u2029`},
		{"control characters", "\x1b[2J\r\u009b", `\x1b[2J\r\u009b`},
		{"bytes that are not UTF-8", "a\xffb\ufffd", "a\\xffb\ufffd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := escape(c.text); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

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
	if out := command("audit", "list"); !strings.Contains(out, `o\u202ega`) || out != escape(out) {
		t.Errorf("the table is\n%q", out)
	}
	if out := command("audit", "list", "--json"); !strings.Contains(out, "o\u202ega") {
		t.Errorf("the JSON is\n%q", out)
	}
	var stdout, stderr bytes.Buffer
	run(t.Context(), []string{"account", "show", "a\u202en", "--data", data}, nil, &stdout, &stderr)
	if text := stderr.String(); !strings.Contains(text, `a\u202en`) || text != escape(text) {
		t.Errorf("the error is %q", text)
	}
}

// A cell cannot add a row.
func TestRowOfTable(t *testing.T) {
	var out strings.Builder
	table := (&program{stdout: &out}).table()
	fmt.Fprintln(table, "NAME\tSTATE")
	fmt.Fprintf(table, "%s\t%s\n", "ann\nbob\tactive", "held\n")
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, `ann\nbob  active`) {
		t.Errorf("got\n%s", got)
	}
}

// Every table escapes what it shows.
func TestTables(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), `"text/tabwriter"`) != (file == "terminal.go" || file == "terminal_test.go") {
			t.Errorf("%s makes tables without program.table", file)
		}
	}
}
