// Package shellword quotes names and paths as words of a shell command line, for texts that
// tell people which command to run.
//
// # Guarantees
//
// A POSIX shell, and also bash, zsh and busybox at a prompt, interprets a word as exactly the
// original text: nothing in it is expanded or run. A word contains only visible characters, on
// one line, and no two consecutive spaces, so it survives being printed and copied.
//
// # How it works
//
// A text of harmless characters is not changed. Other texts are put in single quotes. A text
// with characters that are invisible, or can get lost, becomes "$(printf '…')" with its bytes
// as octal escapes, because POSIX shells have no other way to write such a byte.
//
// # What it is not
//
// It does not check whether a command is safe to run: package pathwalk checks what a path leads to.
package shellword

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Quote returns the word for a text. The text must not end with line breaks, which a shell would remove.
func Quote(text string) string {
	switch {
	case lost(text):
		return `"$(printf '` + octal(text) + `')"`
	case text != "" && !strings.ContainsFunc(text, special) && !strings.HasSuffix(text, "."):
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// Path returns the word for a path. A relative path that could be taken for an option gets the
// prefix ./. A path with a line break at its end gets the suffix /. and so still names the same
// directory, or causes an error for a file. The word never names another file.
func Path(path string) string {
	if strings.HasPrefix(path, "-") {
		path = "." + string(filepath.Separator) + path
	}
	if strings.HasSuffix(path, "\n") {
		path += "/."
	}
	return Quote(path)
}

// special reports whether a character can have a special meaning for a shell, or is not ASCII.
func special(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-+:@,", r)
}

// lost reports whether a text contains characters that are invisible, or that can be displayed
// or copied as something else.
func lost(text string) bool {
	return strings.Contains(text, "  ") || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool {
		return r == utf8.RuneError || !unicode.IsGraphic(r) || unicode.IsSpace(r) && r != ' '
	})
}

// octal returns the printf format for a text.
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
