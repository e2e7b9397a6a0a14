package i18n

import (
	"embed"
	"fmt"
	"strings"
	"sync"
)

//go:embed texts
var files embed.FS

// catalogues returns the embedded catalogues. The first call parses them.
var catalogues = sync.OnceValue(func() map[Tag]*Words {
	all := make(map[Tag]*Words)
	for _, t := range Tags {
		text, err := files.ReadFile("texts/" + string(t) + ".txt")
		if err == nil {
			all[t], err = Read(t, string(text))
		}
		if err != nil {
			panic("i18n: " + err.Error()) // the tests parse every file
		}
	}
	return all
})

// Read parses the text of a catalogue. Its errors name the line.
func Read(t Tag, text string) (*Words, error) {
	w := &Words{Tag: t, texts: make(map[string]string)}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, " = ")
		if !ok || strings.ContainsAny(key, " \t") {
			return nil, fmt.Errorf("%s.txt:%d: not of the form: key = text", t, number)
		}
		if _, twice := w.texts[key]; twice {
			return nil, fmt.Errorf("%s.txt:%d: duplicate key %s", t, number, key)
		}
		w.texts[key] = value
	}
	w.Name, w.Dir = w.texts["language"], w.texts["direction"]
	if w.Name == "" || w.Dir != "ltr" && w.Dir != "rtl" {
		return nil, fmt.Errorf("%s.txt: language must be the language's name, and direction ltr or rtl", t)
	}
	var err error
	w.dates, err = readDates(w.texts)
	if err != nil {
		return nil, fmt.Errorf("%s.txt: %w", t, err)
	}
	return w, nil
}
