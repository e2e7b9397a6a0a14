package userfile

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

// hasHeader reports whether a text begins with the header of one of the tables in CSV.
func hasHeader(in *bufio.Reader, tables []table) bool {
	line := firstLine(in)
	return !beginsSQL(line) && isHeader(headerColumns(line), tables)
}

// firstLine returns the first line of a text, up to maxHeader bytes, without reading it.
func firstLine(in *bufio.Reader) string {
	start, _ := in.Peek(maxHeader)
	line, _, _ := strings.Cut(string(start), "\n")
	return line
}

// beginsSQL reports whether the first line of a text is SQL. Cut at its commas, it may have the columns of a header.
func beginsSQL(line string) bool {
	if strings.HasPrefix(line, "--") || strings.HasPrefix(line, "/*") || strings.HasPrefix(line, `\`) {
		return true
	}
	word, _, more := strings.Cut(strings.TrimSpace(line), " ")
	return more && slices.Contains([]string{
		"ALTER", "BEGIN", "COPY", "CREATE", "DELETE", "DROP", "INSERT", "LOCK", "PRAGMA", "REPLACE", "SELECT", "SET",
		"START", "TRUNCATE", "UPDATE", "USE",
	}, strings.ToUpper(word))
}

// headerColumns returns the columns of a header, in lower case.
func headerColumns(line string) []string {
	columns := strings.Split(strings.TrimRight(line, "\r"), string(separator(line)))
	for i, c := range columns {
		columns[i] = strings.ToLower(strings.Trim(strings.TrimSpace(c), `"`))
	}
	return columns
}

// separator returns the separator of the columns: a comma, or a semicolon or a tab if the header
// has no comma.
func separator(line string) rune {
	for _, c := range ",;\t" {
		if strings.ContainsRune(line, c) {
			return c
		}
	}
	return ','
}

// boundedReader fails when a record is too long. The reader of CSV would otherwise keep all of the file in memory if
// a quote is not closed.
type boundedReader struct {
	in   io.Reader
	left int
}

var errLongRecord = errors.New("the record is too long")

func (r *boundedReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, errLongRecord
	}
	n, err := r.in.Read(p)
	r.left -= n
	return n, err
}

// readCSV reads CSV (RFC 4180) with a header.
func readCSV(in *bufio.Reader, tables []table, yield Yield) error {
	if _, err := in.Peek(maxHeader); fault.Is(err, fault.Invalid) {
		return err // the header may be cut
	}
	line := firstLine(in)
	columns := headerColumns(line)
	if _, err := in.Peek(1); errors.Is(err, io.EOF) {
		return fault.New(fault.Invalid, "the file is empty; it needs a header that names the columns")
	}
	if beginsSQL(line) {
		return fault.New(fault.Invalid,
			"the file is an SQL dump; choose the format of the platform that it comes from, such as kamailio")
	}
	if !isHeader(columns, tables) {
		return atLine(1, "there is no header with a column user; the first line has to name the columns, of %s",
			strings.Join(csvColumns, ", "))
	}
	if err := checkColumns(columns, tables); err != nil {
		return err
	}
	bounded := &boundedReader{in: in, left: maxLine}
	records := csv.NewReader(bounded)
	records.Comma = separator(line)
	records.ReuseRecord = true
	records.FieldsPerRecord = -1
	if _, err := records.Read(); err != nil {
		return badCSV(err, 1)
	}
	readers, end := readerOf(tables)
	read := readers[tables[0].name]
	next := int64(2) // the line after the last record
	for {
		bounded.left = maxLine
		record, err := records.Read()
		if errors.Is(err, io.EOF) {
			return end(yield)
		}
		if err != nil {
			return badCSV(err, next)
		}
		at, _ := records.FieldPos(0)
		last, _ := records.FieldPos(len(record) - 1)
		next = int64(last + strings.Count(record[len(record)-1], "\n") + 1)
		r := row{line: int64(at), values: make(map[string]string, len(columns))}
		if len(record) != len(columns) {
			r.problem = wrongCount(len(record), len(columns), records.Comma)
		}
		for i, value := range record[:min(len(record), len(columns))] {
			if len(value) > maxValue {
				r.problem, value = "a value is too long", ""
			}
			if value == `\N` || value == "NULL" {
				value = "" // as MySQL and PostgreSQL write it
			}
			r.values[columns[i]] = value
		}
		if err := read(r, yield); err != nil {
			return err
		}
	}
}

// checkColumns fails if a header of the format csv has other columns: a wrong name would lose the values of all rows.
// Tables of other systems may have columns that an operator has added.
func checkColumns(columns []string, tables []table) error {
	if tables[0].name != "" {
		return nil
	}
	var unknown []string
	for _, c := range columns {
		if !slices.Contains(csvColumns, c) {
			unknown = append(unknown, strconv.Quote(shortened(c)))
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	return atLine(1, "unknown columns: %s; rename them, or remove them from the file; what is read is %s",
		strings.Join(unknown, ", "), strings.Join(csvColumns, ", "))
}

// shortened returns a name of a column for an error. A text that is longer than any name may be a
// hash.
func shortened(column string) string {
	const most = 31
	if len(column) > most {
		return strings.ToValidUTF8(column[:8], "") + "…"
	}
	return column
}

// wrongCount is the problem of a row that does not have as many values as the header has columns.
func wrongCount(values, columns int, separator rune) string {
	plural, sign := "s", " "+string(separator)
	if values == 1 {
		plural = ""
	}
	if separator == '\t' {
		sign = ", the tab"
	}
	return fmt.Sprintf("%d value%s, and the header has %d columns; write all of them, and put a value in quotes if it "+
		"contains the separator%s", values, plural, columns, sign)
}

// badCSV converts an error of the CSV reader into one about the row at a line.
func badCSV(err error, line int64) error {
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		line = int64(e.StartLine)
	}
	switch {
	case errors.Is(err, csv.ErrBareQuote):
		return atLine(line, "a quote is in a value without quotes; write the value in quotes, and the quote twice")
	case errors.Is(err, csv.ErrQuote):
		return atLine(line, `a quote in a value with quotes is not written twice, or the quotes do not end; `+
			`write "a""b" for a"b`)
	case errors.Is(err, errLongRecord):
		return atLine(line, "the row is longer than %d MiB; is there a quote that does not end?", maxLine>>20)
	}
	return err
}

// readHtdigest reads lines user:realm:HA1 as Apache's htdigest writes them.
func readHtdigest(in *bufio.Reader, yield Yield) error {
	lines := &lineReader{in: in}
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		text := string(line)
		if strings.TrimSpace(text) == "" || text[0] == '#' {
			continue
		}
		e := account.ImportEntry{Line: lines.line}
		first, last := strings.IndexByte(text, ':'), strings.LastIndexByte(text, ':')
		switch {
		case first < 0 || first == last:
			e = unreadable(e, "not user:realm:HA1")
		case first+1 == last:
			e = unreadable(e, "the realm is empty")
			e.User = text[:first]
		default:
			e.User, e.Realm = text[:first], text[first+1:last]
			if setHash(&e, text[last+1:]); e.HA1 == nil && e.SHA256 == nil {
				e.Problem = account.ImportBadHash
			}
		}
		if err := yield(e); err != nil {
			return err
		}
	}
}
