package internal

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxColumns is the longest line of Go code, with a tab counted as tabWidth columns. Most lines stay
// within 100.
const (
	maxColumns = 120
	tabWidth   = 4
)

func columns(line string) int {
	return utf8.RuneCountInString(line) + strings.Count(line, "\t")*(tabWidth-1)
}

func TestLineLength(t *testing.T) {
	files := 0
	for _, root := range []string{".", "../cmd", "../bench", "../docs"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
				return err
			}
			files++
			text, err := os.ReadFile(path)
			if err != nil || bytes.Contains(text, []byte("// Code generated")) {
				return err
			}
			number := 0
			for line := range strings.Lines(string(text)) {
				number++
				if n := columns(strings.TrimRight(line, "\n")); n > maxColumns {
					t.Errorf("%s:%d: %d columns", path, number, n)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 100 {
		t.Errorf("only %d files were found", files)
	}
}

func TestColumns(t *testing.T) {
	for line, want := range map[string]int{"": 0, "abc": 3, "\tabc": 7, "\t\tä": 9} {
		if got := columns(line); got != want {
			t.Errorf("%q: %d columns, want %d", line, got, want)
		}
	}
}
