// Package lang is the languages that people are spoken to in, and every word of the program in each of them.
//
// A language is one file, texts/TAG.txt: its name, its direction, how it writes dates, and the texts of pages, scripts and
// messages, one on each line:
//
//	signup.title = Create an account
//	login.lead = With your phone account at {host}.
//
// What stands in braces is filled in by the program. English is the pattern: the others have the same keys with the same
// braces, which the tests hold them to. There is no grammar in here, no plurals and no genders; a text that would need them
// is written so that it does not ("noch {count}").
//
// A further language is a file and a Tag. What programs read (the API, the command line, the log) is English and not in here.
//
// The words are plain text. Who puts them into a page escapes them there (package web).
package i18n

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Tag names a language by its primary subtag (RFC 5646 §2.2.1).
type Tag string

// The languages.
const (
	English Tag = "en"
	German  Tag = "de"
	French  Tag = "fr"
	Spanish Tag = "es"
	Arabic  Tag = "ar"
)

// Tags are all languages; the first is spoken to whoever understands none of them.
var Tags = []Tag{English, German, French, Spanish, Arabic}

// Parse is the language of a tag such as de, de-AT or DE. It reports whether it is one of ours; English it is otherwise.
func Parse(text string) (Tag, bool) {
	primary, _, _ := strings.Cut(text, "-")
	for _, t := range Tags {
		if strings.EqualFold(primary, string(t)) {
			return t, true
		}
	}
	return English, false
}

// Words are all texts of one language. They do not change, and may be shared.
type Words struct {
	Tag Tag
	// Name is what the language calls itself.
	Name string
	// Dir is its direction, as HTML writes that: ltr or rtl.
	Dir   string
	texts map[string]string
	dates dates
}

// In are the words of a language, and of English for what is none of ours.
func In(t Tag) *Words {
	all := catalogues()
	if w, ok := all[t]; ok {
		return w
	}
	return all[English]
}

// Find is the text with a key, its braces not filled in.
func (w *Words) Find(key string) (text string, ok bool) {
	text, ok = w.texts[key]
	return text, ok
}

// Text is the text with a key. The slots, pairs of name and value, fill its braces. It panics where there is no such text,
// which is a mistake in the program.
func (w *Words) Text(key string, slots ...string) string {
	text, ok := w.texts[key]
	if !ok {
		panic(fmt.Sprintf("lang: %s has no text %q", w.Tag, key))
	}
	return Fill(text, slots...)
}

// Under are the texts whose keys begin with a prefix and a dot, by the rest of the key.
func (w *Words) Under(prefix string) map[string]string {
	under := make(map[string]string)
	for key, text := range w.texts {
		if rest, ok := strings.CutPrefix(key, prefix+"."); ok {
			under[rest] = text
		}
	}
	return under
}

// Keys are the keys of all texts, in order.
func (w *Words) Keys() []string { return slices.Sorted(maps.Keys(w.texts)) }

// Fill fills the braces of a text. Those without a value stay.
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

// value is that of a slot with its braces, or these.
func value(slot string, slots []string) string {
	for i := 0; i+1 < len(slots); i += 2 {
		if slots[i] == slot[1:len(slot)-1] {
			return slots[i+1]
		}
	}
	return slot
}
