package outfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"dialtone/internal/fault"
)

// A file is written as a whole, for its owner alone, and replaces another one only if that is wanted.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "accounts")
	text := func(text string) func(io.Writer) error {
		return func(to io.Writer) error {
			_, err := io.WriteString(to, text)
			return err
		}
	}
	full := errors.New("the disk is full")
	conflict := func(err error) bool { return fault.Is(err, fault.Conflict) }
	for _, c := range []struct {
		claim   string
		replace bool
		write   func(io.Writer) error
		refused func(error) bool
		want    string // what is in the file
	}{
		{"a new file", false, text("one"), nil, "one"},
		{"a file that exists", false, text("two"), conflict, "one"},
		{"a failure", true, func(to io.Writer) error { return errors.Join(text("thr")(to), full) },
			func(err error) bool { return errors.Is(err, full) }, "one"},
		{"a file that may be replaced", true, text("four"), nil, "four"},
	} {
		err := Write(path, c.replace, c.write)
		if c.refused == nil && err != nil || c.refused != nil && !c.refused(err) {
			t.Errorf("%s: %v", c.claim, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != c.want {
			t.Errorf("%s: the file has %q, %v", c.claim, got, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: the mode is %v, %v", c.claim, info.Mode(), err)
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
			t.Errorf("%s: in the directory are %v, %v", c.claim, list, err)
		}
	}
}
