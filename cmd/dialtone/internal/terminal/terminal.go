// Package terminal prints text for people, and asks them questions.
//
// What a terminal does not show, or what changes what it shows, is escaped, so that a name in the database or the
// answer of another server can neither control the terminal nor add lines that look like those of this program.
// A question ends as soon as its context does. Progress is a bar on a terminal, and a line now and then elsewhere.
//
// The package does not write JSON, which contains texts unchanged.
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

// NewTable returns a writer of aligned columns for people. Cells end with tabs and rows with line breaks, and each row
// is one write. Cells may contain text that other people wrote: what a terminal does not show is escaped.
func NewTable(to io.Writer) Table {
	out := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	return Table{escaped{out}, out}
}

// Table writes the rows of a table.
type Table struct {
	escaped
	out *tabwriter.Writer
}

// Write writes one row. A line break before the end of the row is part of a cell, and is escaped.
func (t Table) Write(row []byte) (int, error) {
	text, end := string(row), ""
	if cut, ok := strings.CutSuffix(text, "\n"); ok {
		text, end = cut, "\n"
	}
	if _, err := t.escaped.Write([]byte(strings.ReplaceAll(text, "\n", `\n`) + end)); err != nil {
		return 0, err
	}
	return len(row), nil
}

// Flush prints the table.
func (t Table) Flush() error { return t.out.Flush() }

// To returns a writer for people. It escapes characters that a terminal does not show or that change
// what it shows: control characters except tabs and line breaks, and format characters such as those
// that change the writing direction. Do not write JSON to it.
func To(to io.Writer) io.Writer { return escaped{to} }

type escaped struct{ to io.Writer }

// Write writes a text, which must not end in the middle of a character.
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

// PrintLine prints mark and then, on the same line, a text that others wrote, such as a name in the database, which
// could otherwise add lines that look like those of this program.
func PrintLine(to io.Writer, mark, text string) {
	fmt.Fprintf(To(to), "%s%s\n", mark, OneLine(text))
}

// Escape replaces each character that a terminal does not show by its Go escape, such as \u202e.
func Escape(text string) string {
	hidden := func(r rune) bool { return !unicode.IsGraphic(r) && r != '\t' && r != '\n' }
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

// Cell shortens a text that would make a table too wide.
func Cell(text string) string {
	const widest = 160
	if utf8.RuneCountInString(text) <= widest {
		return text
	}
	return string([]rune(text)[:widest-1]) + "…"
}

// Printable replaces control characters, so that the response of a phone server cannot control the
// terminal.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}
