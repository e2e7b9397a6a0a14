// Package terminal prints text for people and reads their answers.
//
// It escapes characters that are invisible or control a terminal. A name in the database or the answer of another
// server can therefore neither control the terminal nor add lines that look like those of this program. A question ends
// as soon as its context does.
//
// NewTable aligns columns, PrintLine prints one line, and To escapes everything that is written to it. Progress is a
// bar on a terminal, and otherwise a line every few seconds.
//
// The package is not for JSON, which contains text unchanged.
package terminal

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"
)

// NewTable returns a table with aligned columns for people.
func NewTable(to io.Writer) Table { return Table{tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)} }

// Table collects the rows of a table.
type Table struct{ out *tabwriter.Writer }

// Row adds a row. Each cell is escaped as by EscapeLine, because it may contain text of other people: it cannot add
// cells or rows.
func (t Table) Row(cells ...any) error {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = EscapeLine(fmt.Sprint(c))
	}
	_, err := io.WriteString(t.out, strings.Join(texts, "\t")+"\n")
	return err
}

// Flush prints the table.
func (t Table) Flush() error { return t.out.Flush() }

// To returns a writer for people. It escapes control characters except tabs and line breaks, and format characters such
// as those that change the direction of text.
func To(to io.Writer) io.Writer { return escaped{to} }

type escaped struct{ to io.Writer }

// Write writes a text. Each call must contain complete UTF-8 characters.
func (e escaped) Write(text []byte) (int, error) {
	if _, err := io.WriteString(e.to, Escape(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// OneLine returns a text on one line, without a period at its end.
func OneLine(text string) string {
	text = strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(text), ":\n", ": "), "\n", "; ")
	return strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ".")
}

// PrintLine prints mark and a text on one line. The text may be from somebody else, such as a name in the database: it
// cannot add lines that look like those of this program.
func PrintLine(to io.Writer, mark, text string) {
	fmt.Fprintf(To(to), "%s%s\n", mark, OneLine(text))
}

// Escape replaces invisible characters except tabs and line breaks, and invalid UTF-8, by Go escapes, such as \u202e.
func Escape(text string) string { return escape(text, "\t\n") }

// EscapeLine is Escape for a text that must stay in its cell or on its line: it also replaces tabs and line breaks.
func EscapeLine(text string) string { return escape(text, "") }

// escape replaces the invisible characters that are not in kept.
func escape(text, kept string) string {
	hidden := func(r rune) bool { return !unicode.IsGraphic(r) && !strings.ContainsRune(kept, r) }
	if utf8.ValidString(text) && !strings.ContainsFunc(text, hidden) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case hidden(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteString(text[:size])
		}
		text = text[size:]
	}
	return b.String()
}

// Cell shortens a text for a cell of a table.
func Cell(text string) string {
	const widest = 160
	if utf8.RuneCountInString(text) <= widest {
		return text
	}
	return string([]rune(text)[:widest-1]) + "…"
}
