package web

import (
	"strings"

	"dialtone/internal/i18n"
)

// pseudoTag is the tag of a pseudo-locale: English with accents, and 40 % longer. A layout in which
// it fits has room for real languages.
const pseudoTag i18n.Tag = "en-XA"

var accents = strings.NewReplacer("a", "å", "e", "é", "i", "ï", "o", "ö", "u", "û", "c", "ç", "n", "ñ", "s",
	"š", "y", "ý", "A", "Å", "E", "É", "I", "Ï", "O", "Ö", "S", "Š")

// pseudoWords returns the words of the pseudo language.
func pseudoWords() (*i18n.Words, error) {
	english := i18n.In(i18n.English)
	var text strings.Builder
	for _, key := range english.Keys() {
		words, _ := english.Find(key)
		if key == "language" || key == "direction" || strings.HasPrefix(key, "date.") {
			text.WriteString(key + " = " + words + "\n")
			continue
		}
		var out strings.Builder
		isBreak := func(r rune) bool { return r == 0 || r == '}' }
		for i, part := range strings.FieldsFunc(strings.ReplaceAll(words, "{", "\x00{"), isBreak) {
			if strings.HasPrefix(part, "{") {
				out.WriteString(part + "}")
			} else if out.WriteString(accents.Replace(part)); i == 0 {
				for more := (len(words)*2 + 4) / 5; more > 0; more -= 18 {
					out.WriteString(" " + strings.Repeat("ö", min(more, 18))) // long words, as in German
				}
			}
		}
		text.WriteString(key + " = " + strings.ReplaceAll(out.String(), "  ", " ") + "\n")
	}
	return i18n.Read(pseudoTag, text.String())
}
