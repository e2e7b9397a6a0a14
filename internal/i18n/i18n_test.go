package i18n_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"dialtone/internal/i18n"
)

// placeholder matches a placeholder, or a brace that is not closed.
var placeholder = regexp.MustCompile(`\{\w*\}?`)

// shape returns the placeholders and marks of a text, which its translations must have too.
func shape(text string) []string {
	list := placeholder.FindAllString(text, -1)
	slices.Sort(list)
	for _, mark := range []string{"*", "[", "]"} {
		list = append(list, strings.Repeat(mark, strings.Count(text, mark)))
	}
	return list
}

func TestLanguagesHaveSameKeys(t *testing.T) {
	english := i18n.In(i18n.English)
	if len(english.Keys()) < 200 {
		t.Fatalf("there are %d texts", len(english.Keys()))
	}
	for _, tag := range i18n.Tags {
		w := i18n.In(tag)
		if w.Tag != tag {
			t.Fatalf("%s is %s", tag, w.Tag)
		}
		for _, key := range english.Keys() {
			text, ok := w.Find(key)
			if !ok {
				t.Errorf("%s does not have %s", tag, key)
				continue
			}
			reference, _ := english.Find(key)
			got, want := shape(text), shape(reference)
			// A language may omit parts of a date. A separable verb needs two pairs of stars.
			if !slices.Equal(got, want) && !strings.HasPrefix(key, "date.") && !sameButStars(got, want) {
				t.Errorf("%s: %s has %v, but English has %v", tag, key, got, want)
			}
			if strings.Count(text, "*")%2 != 0 || strings.Count(text, "[") > 1 {
				t.Errorf("%s: unpaired marks in %s: %s", tag, key, text)
			}
		}
		for _, key := range w.Keys() {
			if _, ok := english.Find(key); !ok {
				t.Errorf("%s has a key %s that English does not have", tag, key)
			}
		}
	}
}

// sameButStars reports whether two shapes with stars differ only in the number of stars.
func sameButStars(got, want []string) bool {
	stars := func(s string) bool { return strings.HasPrefix(s, "*") }
	return slices.ContainsFunc(want, stars) &&
		slices.Equal(slices.DeleteFunc(got, stars), slices.DeleteFunc(want, stars))
}

// script is the script of each language.
var script = map[i18n.Tag]*unicode.RangeTable{
	i18n.English: unicode.Latin,
	i18n.German:  unicode.Latin,
	i18n.French:  unicode.Latin,
	i18n.Spanish: unicode.Latin,
	i18n.Arabic:  unicode.Arabic,
}

func TestTextStyle(t *testing.T) {
	unwanted := []string{
		"please", "sorry", "oops", "invalid", "illegal", "forbidden", "bitte", "leider", "ungültig",
		"désolé", "veuillez", "invalide", "interdit", "lo sentimos", "por favor", "inválid", "ilegal",
		"عذرًا", "عذراً", "من فضلك", "غير صالح",
	}
	// same are keys whose texts may be the same as in English.
	same := []string{
		"account.realm", "account.name", "account.server", "account.domain", "account.transport",
		"direction", "date.first", "code.label", "admin.no", "admin.logo", "admin.messages", "admin.nav_messages",
		"admin.group.message", "admin.count.activation",
	}
	for _, tag := range i18n.Tags {
		w, untranslated := i18n.In(tag), 0
		for _, key := range w.Keys() {
			text, _ := w.Find(key)
			for _, word := range unwanted {
				if strings.Contains(strings.ToLower(text), word) {
					t.Errorf("%s: %s says %q", tag, key, word)
				}
			}
			if strings.TrimSpace(text) == "" || strings.Contains(text, "  ") ||
				strings.Contains(text, "...") || strings.ContainsAny(text, "<>&\u2013\u200e\u200f") {
				t.Errorf("%s: %s is %q", tag, key, text)
			}
			english, _ := i18n.In(i18n.English).Find(key)
			if tag != i18n.English && text == english && !slices.Contains(same, key) &&
				!strings.HasPrefix(key, "date.") && placeholder.ReplaceAllString(text, "") != "" {
				untranslated++
				if untranslated > 3 {
					t.Errorf("%s: %s is still English: %s", tag, key, text)
				}
			}
			letters, inScript := 0, 0
			for _, r := range placeholder.ReplaceAllString(text, "") {
				if unicode.IsLetter(r) {
					letters++
					if unicode.Is(script[tag], r) {
						inScript++
					}
				}
			}
			if inScript*2 < letters && !slices.Contains(same, key) {
				t.Errorf("%s: %s is in another script: %s", tag, key, text)
			}
			if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsDigit(r) && r > '9' }) {
				t.Errorf("%s: %s has digits that the forms do not accept: %s", tag, key, text)
			}
		}
	}
}

func TestFrenchPunctuation(t *testing.T) {
	w := i18n.In(i18n.French)
	for _, key := range w.Keys() {
		text, _ := w.Find(key)
		if regexp.MustCompile(` [:;?!»]|« |\w[;?!]`).MatchString(text) || strings.ContainsAny(text, "'") {
			t.Errorf("%s: %s", key, text)
		}
	}
}

// TestValuesInArabicMessages checks that the values in Arabic messages keep their own writing
// direction. Without the marks, an IPv6 network is shown in the wrong order. Pages use the element
// bdi instead, and the parts of a subject do not get mixed up.
func TestValuesInArabicMessages(t *testing.T) {
	w, found := i18n.In(i18n.Arabic), 0
	value := regexp.MustCompile(`.?\{(user|net|platform)\}.?`)
	isolated := regexp.MustCompile(`^[\x{2066}\x{2068}]\{\w+\}\x{2069}$`)
	for _, key := range w.Keys() {
		if !strings.HasPrefix(key, "message.") || strings.Contains(key, ".subject") {
			continue
		}
		text, _ := w.Find(key)
		for _, v := range value.FindAllString(text, -1) {
			if found++; !isolated.MatchString(v) {
				t.Errorf("%s: %q in %s", key, v, text)
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d values", found)
	}
}

// TestDeleteAndRemove checks that each language has one word for deleting an account, and that
// passkeys are "removed" and not "deleted".
func TestDeleteAndRemove(t *testing.T) {
	type words struct{ unused, deleted *regexp.Regexp }
	for tag, w := range map[i18n.Tag]words{
		i18n.English: {regexp.MustCompile(`(?i)\beras`), regexp.MustCompile(`(?i)\bdelet`)},
		i18n.German:  {regexp.MustCompile(`(?i)\btilg`), regexp.MustCompile(`(?i)lösch`)},
		i18n.French:  {regexp.MustCompile(`(?i)\beffa[cç]`), regexp.MustCompile(`(?i)supprim|suppression`)},
		i18n.Spanish: {regexp.MustCompile(`(?i)\bborr`), regexp.MustCompile(`(?i)elim[ií]n`)},
		i18n.Arabic:  {regexp.MustCompile(`محو|مُحي|مُحى|يُمحى`), regexp.MustCompile(`ح[ُ]?ذف`)},
	} {
		all := i18n.In(tag)
		for _, key := range all.Keys() {
			text, _ := all.Find(key)
			if found := w.unused.FindString(text); found != "" {
				t.Errorf("%s: %s has %q", tag, key, found)
			}
			passkey := strings.HasPrefix(key, "passkey") || strings.HasPrefix(key, "message.factor_changed.")
			if found := w.deleted.FindString(text); found != "" && passkey {
				t.Errorf("%s: %s has %q for removing", tag, key, found)
			}
		}
	}
}

func TestDates(t *testing.T) {
	at := func(month time.Month, day int) time.Time {
		return time.Date(2026, month, day, 14, 5, 0, 0, time.FixedZone("", 2*60*60))
	}
	for _, c := range []struct {
		tag         i18n.Tag
		at          time.Time
		day, moment string
	}{
		{i18n.English, at(3, 8), "8 March 2026", "Sunday, 8 March 2026, 12:05 UTC"},
		{i18n.German, at(3, 1), "1. März 2026", "Sonntag, 1. März 2026, 12:05 Uhr (UTC)"},
		{i18n.French, at(8, 1), "1er août 2026", "samedi 1er août 2026 à 12:05 (UTC)"},
		{i18n.French, at(8, 2), "2 août 2026", "dimanche 2 août 2026 à 12:05 (UTC)"},
		{i18n.Spanish, at(12, 31), "31 de diciembre de 2026", "jueves, 31 de diciembre de 2026, a las 12:05 (UTC)"},
		{i18n.Arabic, at(1, 2), "2 يناير 2026", "الجمعة 2 يناير 2026، الساعة 12:05 بالتوقيت العالمي (UTC)"},
	} {
		w := i18n.In(c.tag)
		if got := w.Day(c.at); got != c.day {
			t.Errorf("%s: the day is %s, want %s", c.tag, got, c.day)
		}
		if got := w.Moment(c.at); got != c.moment {
			t.Errorf("%s: the moment is %s, want %s", c.tag, got, c.moment)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]i18n.Tag{
		"en": i18n.English, "de": i18n.German, "DE": i18n.German, "de-AT": i18n.German,
		"fr-CA": i18n.French, "es-419": i18n.Spanish, "ar-EG-u-nu-latn": i18n.Arabic,
	} {
		if got, ok := i18n.Parse(text); got != want || !ok {
			t.Errorf("%s is %s, %v", text, got, ok)
		}
	}
	for _, text := range []string{
		"", "-", "-de", "d", "deu", "de_AT", "xx", "*", " de", "de;q=1", "\x00", strings.Repeat("de", 1<<16),
	} {
		if got, ok := i18n.Parse(text); got != i18n.English || ok {
			t.Errorf("%.20q is %s, %v", text, got, ok)
		}
	}
}

func TestFill(t *testing.T) {
	for _, c := range []struct {
		text  string
		slots []string
		want  string
	}{
		{"plain", []string{"a", "1"}, "plain"},
		{"{a}{b} {a}", []string{"a", "1", "b", "2"}, "12 1"},
		{"{a}", []string{"a", "{b}", "b", "2"}, "{b}"},
		{"{c} {", []string{"a", "1"}, "{c} {"},
	} {
		if got := i18n.Fill(c.text, c.slots...); got != c.want {
			t.Errorf("%q with %q is %q, want %q", c.text, c.slots, got, c.want)
		}
	}
}

func TestReadErrors(t *testing.T) {
	const head = "language = Test\ndirection = ltr\ndate.weekdays = a b c d e f g\n" +
		"date.months = a b c d e f g h i j k l\ndate.first = 1\n"
	if _, err := i18n.Read("xx", head+"\n# a comment\na = b = c\n"); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		head + "no text here\n":                            "xx.txt:6",
		head + "a = 1\na = 2\n":                            "xx.txt:7",
		head + "a b = 1\n":                                 "xx.txt:6",
		strings.Replace(head, "ltr", "up", 1):              "direction",
		strings.Replace(head, "a b c d e f g\n", "a\n", 1): "weekdays",
	} {
		if _, err := i18n.Read("xx", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
}
