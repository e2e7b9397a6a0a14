package account

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"dialtone/internal/fault"
)

// Bounds of a displayed name after cleaning. A code point takes at most four bytes, so 120 of them
// take at most 480. Consumers can size a column by either.
const (
	maxNameRunes = 120
	maxNameBytes = 480
)

// Bounds on combining marks in a row. A Burmese syllable takes six and a Tibetan stack seven, of
// their own script. The marks that any letter may take (script Inherited, Unicode UAX #24) are
// seldom more than three once composed, and more than four only serve to cover the lines above and
// below (UTS #39 section 5.4).
const (
	maxMarks          = 8
	maxInheritedMarks = 4
)

// CleanName returns the name that is stored and shown for raw: in Unicode normal form C (UAX #15),
// without surrounding white space, and with each run of inner white space replaced by one space. It has 1 to 120
// code points, at most 480 bytes of UTF-8, and at least one letter or digit of any script. CleanName is
// idempotent.
//
// It refuses what a phone or a list cannot display, or displays as something else: controls,
// line separators, direction marks and overrides, tags, zero-width and blank characters, private
// and unassigned code points, a mark without a base, and too many marks. Two kinds of invisible
// characters are part of writing and are kept: the joiners U+200C and U+200D, between letters
// (Persian, Bengali), after a virama (RFC 5892 sections A.1 and A.2) and between pictographs
// (families); and variation selectors, after a character that has variants.
//
// A name is not unique and does not identify anyone. CleanName fails with fault.Rule("name", …).
func CleanName(raw string) (string, error) {
	if cleanASCII(raw) {
		return raw, nil
	}
	if !utf8.ValidString(raw) {
		return "", fault.Rule("name", "lost", "has bytes that are not UTF-8; type it again")
	}
	name := foldSpace(norm.NFC.String(raw))
	// Controls are checked first: "is empty" would be a confusing error for a line break.
	count, hasWord := 0, false
	for _, r := range name {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return "", fault.Rule("name", "control",
				"has a line break, tab or other control character; type it as one line of plain text")
		}
		count++
		hasWord = hasWord || unicode.IsLetter(r) || unicode.IsNumber(r)
	}
	switch {
	case count == 0:
		return "", fault.Rule("name", "empty", "is empty; enter the name that others will see")
	case count > maxNameRunes || len(name) > maxNameBytes:
		return "", fault.Rule("name", "long", "must be at most %d characters long; shorten it",
			maxNameRunes)
	}
	if err := checkWriting(name); err != nil {
		return "", err
	}
	if !hasWord {
		return "", fault.Rule("name", "wordless", "needs at least one letter or digit; add one")
	}
	return name, nil
}

// cleanASCII reports whether raw is a clean name of printable ASCII, as most are.
func cleanASCII(raw string) bool {
	if raw == "" || len(raw) > maxNameRunes || raw[len(raw)-1] == ' ' {
		return false
	}
	hasWord := false
	last := byte(' ')
	for i := range len(raw) {
		c := raw[i]
		if c < ' ' || c > '~' || c == ' ' && last == ' ' {
			return false
		}
		hasWord = hasWord || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
		last = c
	}
	return hasWord
}

// foldSpace removes the white space at both ends of s and leaves one space for each run inside.
// White space is what Unicode calls a space separator (Zs). Tabs and line breaks are controls, and
// are refused later.
func foldSpace(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	gap := false
	for _, r := range s {
		if unicode.Is(unicode.Zs, r) {
			gap = true
			continue
		}
		if gap && b.Len() > 0 {
			b.WriteByte(' ')
		}
		gap = false
		b.WriteRune(r)
	}
	return b.String()
}

// checkWriting refuses a name if a character cannot occur where it does. The name is in normal form C.
func checkWriting(name string) error {
	// before is the previous character; base is the last one that was neither a mark nor a joiner.
	before, base := ' ', ' '
	marks, inherited := 0, 0
	for i, r := range name {
		after, size := utf8.DecodeRuneInString(name[i+utf8.RuneLen(r):])
		if size == 0 {
			after = ' '
		}
		switch {
		case r == zwj || r == zwnj:
			if !joins(before, after, r) {
				return hiddenCharacter()
			}
		case unicode.Is(unicode.Variation_Selector, r):
			if before != base || !varies(base, r, after) {
				return hiddenCharacter()
			}
		case r == utf8.RuneError || r == '\uFFFC':
			return fault.Rule("name", "lost",
				"has a replacement character (U+FFFD) in it; type it again")
		case r == brailleBlank || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) ||
			unicode.Is(unicode.Cf, r):
			return hiddenCharacter()
		case unicode.IsMark(r):
			if base == ' ' {
				return fault.Rule("name", "accent",
					"has an accent or vowel sign with no letter before it; add the letter or take out the sign")
			}
			marks++
			if unicode.Is(unicode.Inherited, r) {
				inherited++
			}
			if marks > maxMarks || inherited > maxInheritedMarks {
				return fault.Rule("name", "accents",
					"has too many accents or signs on one letter; take some out")
			}
		case unicode.IsGraphic(r):
			base = r
			marks, inherited = 0, 0
		default:
			return fault.Rule("name", "unknown", "has a character that is in no standard alphabet "+
				"or too new to be shown; type it again without that character")
		}
		before = r
	}
	return nil
}

func hiddenCharacter() error {
	return fault.Rule("name", "hidden",
		"has a character that cannot be seen or that changes the direction of the text; type it again by hand")
}

const (
	zwnj         = '\u200C'
	zwj          = '\u200D'
	textStyle    = '\uFE0E'
	emojiStyle   = '\uFE0F'
	keycap       = '\u20E3'
	brailleBlank = '\u2800'
)

// joins reports whether a zero-width joiner has an effect between before and after.
func joins(before, after, joiner rune) bool {
	switch {
	case unicode.IsLetter(before) || unicode.IsMark(before) &&
		!unicode.Is(unicode.Variation_Selector, before):
		// The next character may be a mark too: Bengali writes ra, joiner, virama, ya. Older
		// Malayalam text ends words in virama and joiner.
		return unicode.IsLetter(after) || unicode.IsMark(after) &&
			!unicode.Is(unicode.Variation_Selector, after) ||
			norm.NFC.PropertiesString(string(before)).CCC() == viramaClass
	case joiner == zwj:
		return (pictograph(before) || before == emojiStyle) && pictograph(after)
	}
	return false
}

// viramaClass is the canonical combining class of the signs that silence a vowel (Unicode, UAX #44
// table 15).
const viramaClass = 9

// pictograph reports whether r may be part of an emoji sequence (UTS #51 section 1.4): a symbol
// outside ASCII or a skin tone.
func pictograph(r rune) bool {
	return r > unicode.MaxASCII &&
		(unicode.In(r, unicode.So, unicode.Sm) || '\U0001F3FB' <= r && r <= '\U0001F3FF')
}

// varies reports whether a variation selector may follow base. after is the next character.
func varies(base, selector, after rune) bool {
	switch {
	case selector == textStyle || selector == emojiStyle:
		if '0' <= base && base <= '9' || base == '#' || base == '*' {
			return after == keycap
		}
		return pictograph(base) || base > unicode.MaxASCII && unicode.IsPunct(base)
	case unicode.Is(unicode.Mongolian, selector):
		return unicode.Is(unicode.Mongolian, base)
	}
	// These have variants: Chinese characters, in Japanese family names, and letters of
	// languages written in Burmese script.
	return unicode.In(base, unicode.Han, unicode.Myanmar)
}
