package i18n_test

import (
	"testing"

	"dialtone/internal/i18n"
)

func TestHidden(t *testing.T) {
	for text, want := range map[string]struct{ line, lines bool }{
		"":                    {},
		"Plain, “curly” — ok": {},
		"می\u200cخواهم":       {},
		"👩\u200d🚀":            {},
		"two\nlines":          {line: true},
		"a\u200eb":            {line: true},
		"a\u200fb":            {line: true},
		"a\u061cb":            {line: true},
		"a\rb":                {true, true},
		"a\x00b":              {true, true},
		"a\u0085b":            {true, true},
		"a\u2028b":            {true, true},
		"a\u2029b":            {true, true},
		"a\u202ab":            {true, true},
		"a\u202eb":            {true, true},
		"a\u2066b":            {true, true},
		"a\u2069b":            {true, true},
		"a\u200bb":            {true, true},
		"a\ufeffb":            {true, true},
		"a\u00adb":            {true, true},
		"a\U000e0041b":        {true, true},
		"a\xffb":              {true, true},
	} {
		if i18n.Hidden(text, false) != want.line || i18n.Hidden(text, true) != want.lines {
			t.Errorf("%q: %v as a line, %v as lines", text, i18n.Hidden(text, false), i18n.Hidden(text, true))
		}
	}
}
