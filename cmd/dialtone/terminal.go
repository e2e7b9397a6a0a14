package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"dialtone/internal/fault"
)

// table returns a writer of aligned columns for people. Cells end with tabs and rows with line
// breaks, and each row is one write. Cells may have text of other people: what a terminal does not show is escaped.
func (p *program) table() tableWriter {
	out := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	return tableWriter{escaped{out}, out}
}

type tableWriter struct {
	escaped
	out *tabwriter.Writer
}

// Write writes one row. A line break before its end is that of a cell.
func (t tableWriter) Write(row []byte) (int, error) {
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
func (t tableWriter) Flush() error { return t.out.Flush() }

// escaped is a writer for people. It escapes characters that a terminal does not show or that change
// what it shows: control characters except tabs and line breaks, and format characters such as those
// that turn the direction of writing. JSON is not written to it.
type escaped struct{ to io.Writer }

// Write writes a text, which must not end within a character.
func (e escaped) Write(text []byte) (int, error) {
	if _, err := io.WriteString(e.to, escape(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// oneLine returns a text on one line, without a period at its end.
func oneLine(text string) string {
	text = strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(text), ":\n", ": "), "\n", "; ")
	return strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ".")
}

// printLine prints a text of others on one line, such as a name in the database, which could otherwise add lines that
// look like those of this program. mark is before it.
func printLine(to io.Writer, mark, text string) {
	fmt.Fprintf(escaped{to}, "%s%s\n", mark, oneLine(text))
}

// escape replaces what is not shown by its escape in Go, such as \u202e.
func escape(text string) string {
	hidden := func(r rune) bool {
		return r == utf8.RuneError || !unicode.IsGraphic(r) && r != '\t' && r != '\n'
	}
	if !strings.ContainsFunc(text, hidden) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case !hidden(r) || r == utf8.RuneError:
			b.WriteString(text[:size])
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
		text = text[size:]
	}
	return b.String()
}

// readLine returns the next line that a person types, without the white space around it. Like ReadString, it returns
// io.EOF at the end. If the person ends the program, such as by Ctrl-C, it fails at once. The read
// itself cannot be interrupted, and blocks its goroutine until the process ends.
func (p *program) readLine(in *bufio.Reader) (string, error) {
	var text string
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		text, err = in.ReadString('\n')
	}()
	select {
	case <-done:
		return strings.TrimSpace(text), err
	case <-p.ctx.Done():
		fmt.Fprintln(p.stderr) // the next text begins after what the terminal shows for Ctrl-C
		return "", fault.New(fault.Conflict, "the program was told to end")
	}
}

// cell returns a text for a cell of a table, which would be too wide with a long one.
func cell(text string) string {
	const widest = 160
	if utf8.RuneCountInString(text) <= widest {
		return text
	}
	return string([]rune(text)[:widest-1]) + "…"
}
