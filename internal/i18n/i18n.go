// Package i18n holds the texts that people see, in every language of the program.
//
// # Guarantees
//
// Every language has the same keys, and its texts have the same placeholders as English; the tests
// check this. The texts are plain text. Package web escapes them for HTML.
//
// # Files
//
// A language is one file, texts/TAG.txt. It contains the name of the language, its direction, how
// it writes dates, and the texts of pages, scripts and messages, one per line:
//
//	signup.title = Create an account
//	login.lead = Use your phone account at {platform}.
//
// The program fills in the names in braces. There are no plurals or genders: a text that would need
// them is worded differently ("noch {count}"). A new language needs a file and a Tag.
//
// Texts for programs and operators (the API, the command line, the log) are English and not in this package.
package i18n

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Tag names a language by its primary subtag (RFC 5646 section 2.2.1).
type Tag string

// The languages.
const (
	English Tag = "en"
	German  Tag = "de"
	French  Tag = "fr"
	Spanish Tag = "es"
	Arabic  Tag = "ar"
)

// Tags are all languages. The first is the default.
var Tags = []Tag{English, German, French, Spanish, Arabic}

// Parse returns the language of a tag such as de, de-AT or DE. If it is not one of Tags, Parse
// returns English and false.
func Parse(text string) (Tag, bool) {
	primary, _, _ := strings.Cut(text, "-")
	for _, t := range Tags {
		if strings.EqualFold(primary, string(t)) {
			return t, true
		}
	}
	return English, false
}

// Words are the texts of one language. They are immutable and can be shared.
type Words struct {
	Tag Tag
	// Name is the name of the language in that language.
	Name string
	// Dir is the value of HTML's dir attribute: ltr or rtl.
	Dir   string
	texts map[string]string
	dates dates
}

// In returns the words of a language, or of English if t is not one of Tags.
func In(t Tag) *Words {
	all := catalogues()
	if w, ok := all[t]; ok {
		return w
	}
	return all[English]
}

// Find returns the text with a key, without filling in its placeholders.
func (w *Words) Find(key string) (text string, ok bool) {
	text, ok = w.texts[key]
	return text, ok
}

// Text returns the text with a key. slots are pairs of name and value for its placeholders. It
// panics if there is no such text, since that is a bug.
func (w *Words) Text(key string, slots ...string) string {
	text, ok := w.texts[key]
	if !ok {
		panic(fmt.Sprintf("i18n: %s has no text %q", w.Tag, key))
	}
	return Fill(text, slots...)
}

// Under returns the texts whose keys begin with a prefix and a dot, keyed by the rest of the key.
func (w *Words) Under(prefix string) map[string]string {
	under := make(map[string]string)
	for key, text := range w.texts {
		if rest, ok := strings.CutPrefix(key, prefix+"."); ok {
			under[rest] = text
		}
	}
	return under
}

// Keys returns the keys of all texts in order.
func (w *Words) Keys() []string { return slices.Sorted(maps.Keys(w.texts)) }

// Fill fills in the placeholders of a text. A placeholder without a value is not changed.
func Fill(text string, slots ...string) string {
	at := strings.IndexByte(text, '{')
	if at < 0 {
		return text
	}
	var b strings.Builder
	b.Grow(2 * len(text))
	for ; at >= 0; at = strings.IndexByte(text, '{') {
		end := strings.IndexByte(text[at:], '}')
		if end < 0 {
			break
		}
		b.WriteString(text[:at])
		b.WriteString(value(text[at:at+end+1], slots))
		text = text[at+end+1:]
	}
	b.WriteString(text)
	return b.String()
}

// value returns the value of a placeholder, or the placeholder itself if it has none.
func value(placeholder string, slots []string) string {
	for i := 0; i+1 < len(slots); i += 2 {
		if slots[i] == placeholder[1:len(placeholder)-1] {
			return slots[i+1]
		}
	}
	return placeholder
}
