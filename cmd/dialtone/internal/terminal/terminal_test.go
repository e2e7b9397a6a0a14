package terminal

import (
	"errors"
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
			if got := Escape(c.text); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A cell can add neither a row nor another cell.
func TestRowOfTable(t *testing.T) {
	var out strings.Builder
	table := NewTable(&out)
	err := errors.Join(table.Row("NAME", "LOGINS", "STATE"), table.Row("ann\nbob\tactive", 7, "held\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	const want = `NAME              LOGINS  STATE
ann\nbob\tactive  7       held\n
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s", got)
	}
}
