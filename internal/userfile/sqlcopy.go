package userfile

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// copy reads the rows of COPY … FROM stdin of pg_dump: texts between tabs, with backslashes before some characters.
func (d *dump) copy() error {
	t, err := d.next(true)
	if err != nil {
		return err
	}
	name, t, err := d.name(t)
	if err != nil {
		return err
	}
	columns := d.columns[name]
	if t.is("(") {
		if columns, err = d.list(); err != nil {
			return err
		}
		if t, err = d.next(true); err != nil {
			return err
		}
	}
	isStdin := false
	for !t.is(";") {
		isStdin = isStdin || t.isWord("STDIN")
		if t, err = d.next(true); err != nil {
			return err
		}
	}
	if !isStdin {
		return nil
	}
	if err := d.skipLine(); err != nil {
		return err
	}
	read := d.readers[name]
	d.found = d.found || read != nil
	if read != nil && columns == nil {
		return atLine(d.line, "the columns of the table %s are not known; make a dump that has them", name)
	}
	lines := &lineReader{in: d.in}
	for {
		r := row{line: d.line}
		if read == nil { // a line of any length
			done, err := d.skipCopied()
			if err != nil || done {
				return err
			}
			continue
		}
		line, err := lines.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return atLine(r.line, `the rows of COPY do not end with \.`)
			}
			return err
		}
		d.line++
		if string(line) == `\.` {
			return nil
		}
		var values []string
		for part := range bytes.SplitSeq(line, []byte("\t")) {
			if len(values) == maxColumns {
				return atLine(r.line, "the row has more than %d values", maxColumns)
			}
			if len(part) > maxValue {
				r.problem, part = "a value is too long", nil
			}
			values = append(values, copied(part))
		}
		if err := d.give(r, columns, values, read); err != nil {
			return err
		}
	}
}

// skipCopied skips a line of COPY, and reports whether it was the last.
func (d *dump) skipCopied() (done bool, err error) {
	var start []byte
	for {
		part, err := d.in.ReadSlice('\n')
		if len(start) < 4 {
			start = append(start, part[:min(len(part), 4)]...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		d.line++
		return strings.TrimRight(string(start), "\r\n") == `\.`, err
	}
}

// copied returns a value of COPY.
func copied(part []byte) string {
	if string(part) == `\N` {
		return ""
	}
	if bytes.IndexByte(part, '\\') < 0 {
		return string(part)
	}
	var b []byte
	for i := 0; i < len(part); i++ {
		if part[i] != '\\' || i+1 == len(part) {
			b = append(b, part[i])
			continue
		}
		i++
		switch c := part[i]; c {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'v':
			b = append(b, '\v')
		default:
			b = append(b, c)
		}
	}
	return string(b)
}
