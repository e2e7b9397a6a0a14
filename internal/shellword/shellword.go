// Package shellword writes names and paths as words of a shell's command line, for commands that a text tells somebody
// to run.
//
// # Guarantees
//
// A POSIX shell, and also bash, zsh and busybox at a prompt, takes a word for the text that it stands for: nothing in
// it is expanded or run.
// A word has only characters that a terminal shows, on one line, and no two spaces in a row, so it
// is still the same after it was printed and copied.
//
// # How it works
//
// A text of harmless characters is its own word. Others are in single quotes. One with a character that a terminal does
// not show, or that may get lost, becomes "$(printf '…')" with its bytes as octal escapes, because POSIX shells have no
// other way to write such a byte.
//
// # What it is not
//
// It does not check whether a command is a good idea: what a path leads to is for package pathwalk.
package shellword

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Quote returns the word for a text without line breaks at its end, which a shell would remove.
func Quote(text string) string {
	switch {
	case lost(text):
		return `"$(printf '` + octal(text) + `')"`
	case text != "" && !strings.ContainsFunc(text, special) && !strings.HasSuffix(text, "."):
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// Path returns the word for a path. A relative one that could be taken for an option gets ./ before it. One with a
// line break at its end gets /. after it: as a directory it is the same, and as a file it is an error, so that the
// word never names another file.
func Path(path string) string {
	if strings.HasPrefix(path, "-") {
		path = "." + string(filepath.Separator) + path
	}
	if strings.HasSuffix(path, "\n") {
		path += "/."
	}
	return Quote(path)
}

// special reports whether a character may mean something to a shell, or is not ASCII.
func special(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-+:@,", r)
}

// lost reports whether a text has something that is not shown, or that is shown or copied as something else.
func lost(text string) bool {
	return strings.Contains(text, "  ") || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool {
		return r == utf8.RuneError || !unicode.IsGraphic(r) || unicode.IsSpace(r) && r != ' '
	})
}

// octal returns the format of printf for a text.
func octal(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < utf8.RuneSelf && !special(rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\%03o`, c)
		}
	}
	return b.String()
}
