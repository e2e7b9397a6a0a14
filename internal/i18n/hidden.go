package i18n

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Hidden reports whether a text of an operator is not UTF-8, or has what is not shown as it is, or changes how the rest
// is shown: control characters, line and paragraph separators, direction overrides and other format characters. The
// joiners U+200C and U+200D are part of writing. With lines, it is a text of several lines: line breaks (\n) and marks
// of the direction (U+061C, U+200E, U+200F), which only concern the characters beside them, are allowed too.
func Hidden(text string, lines bool) bool {
	return !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool {
		switch r {
		case '\u200C', '\u200D':
			return false
		case '\n', '\u061C', '\u200E', '\u200F':
			return !lines
		}
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	})
}
