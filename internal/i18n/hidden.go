package i18n

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Hidden reports whether an operator's text is not UTF-8, or contains characters that are
// invisible or change how the rest is shown: control characters, line and paragraph separators,
// direction overrides and other format characters. The joiners U+200C and U+200D are part of
// writing and permitted. If lines is true, the text can have several lines: line breaks (\n)
// and direction marks (U+061C, U+200E, U+200F), which only affect adjacent characters, are
// permitted too.
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
