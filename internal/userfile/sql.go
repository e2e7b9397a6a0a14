package userfile

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strings"
)

const (
	maxWord    = 256  // bytes of a name or a number in SQL that are kept
	maxColumns = 1000 // of a table
)

// readSQL reads the rows of tables from an SQL dump: INSERT of mysqldump, mariadb-dump, pg_dump and
// sqlite3, and COPY of pg_dump. It executes nothing, and skips other statements. Only CREATE TABLE
// is read too: it names the columns for rows that do not.
func readSQL(in *bufio.Reader, tables []table, yield Yield) error {
	readers, end := readerOf(tables)
	d := &dump{
		lexer: lexer{in: in, line: 1}, readers: readers, yield: yield,
		columns: make(map[string][]string), defaults: make(map[string][][]string),
	}
	for _, t := range tables {
		d.defaults[t.name] = t.defaults
	}
	for {
		err := d.statement()
		if errors.Is(err, io.EOF) {
			if !d.found {
				return atLine(d.line, "the file has no rows of the table %s; is this another format?", tables[0].name)
			}
			return end(yield)
		}
		if err != nil {
			return err
		}
	}
}

// dump is an SQL dump that is being read.
type dump struct {
	lexer
	readers  map[string]func(row, Yield) error
	yield    Yield
	columns  map[string][]string   // of the tables, by CREATE TABLE
	defaults map[string][][]string // of the tables, by their format
	found    bool                  // a table of the format
}

// statement reads one statement. It fails with io.EOF after the last one.
func (d *dump) statement() error {
	t, err := d.next(true)
	if err != nil {
		return err
	}
	switch {
	case t.is(";"):
		return nil
	case t.is(`\`): // a command of psql, up to the end of the line
		return d.skipLine()
	case t.isWord("INSERT", "REPLACE"):
		err = d.insert()
	case t.isWord("CREATE"):
		err = d.create()
	case t.isWord("COPY"):
		err = d.copy()
	default:
		err = d.skip(t)
	}
	if errors.Is(err, io.EOF) {
		err = nil // the last statement may have no semicolon
	}
	return err
}

// skip skips the rest of a statement after a token.
func (d *dump) skip(t token) error {
	for !t.is(";") {
		var err error
		if t, err = d.next(false); err != nil {
			return err
		}
	}
	return nil
}

// name reads a name with or without a schema. It also returns the token after it.
func (d *dump) name(t token) (name string, after token, err error) {
	for {
		if t.kind != word && t.kind != quoted {
			return "", t, nil
		}
		name = strings.ToLower(t.text)
		if t, err = d.next(true); err != nil || !t.is(".") {
			return name, t, err
		}
		if t, err = d.next(true); err != nil {
			return name, t, err
		}
	}
}

// list reads names in parentheses, after the first of them.
func (d *dump) list() (names []string, err error) {
	for {
		t, err := d.next(true)
		if err != nil {
			return nil, err
		}
		switch {
		case t.is(")"):
			return names, nil
		case t.kind == word || t.kind == quoted:
			if len(names) == maxColumns {
				return nil, atLine(d.line, "there are more than %d columns", maxColumns)
			}
			names = append(names, strings.ToLower(t.text))
		}
	}
}

// create reads the columns of a table.
func (d *dump) create() error {
	t, err := d.next(true)
	for ; err == nil && t.isWord("TEMPORARY", "UNLOGGED", "GLOBAL", "LOCAL", "TEMP"); t, err = d.next(true) {
	}
	if err != nil || !t.isWord("TABLE") {
		return d.skipUnless(t, err)
	}
	t, err = d.next(true)
	for ; err == nil && t.isWord("IF", "NOT", "EXISTS"); t, err = d.next(true) {
	}
	if err != nil {
		return err
	}
	name, t, err := d.name(t)
	if err != nil || d.readers[name] == nil || !t.is("(") {
		return d.skipUnless(t, err)
	}
	var columns []string
	depth, first := 1, true
	for depth > 0 {
		if t, err = d.next(true); err != nil {
			return err
		}
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		case t.is(",") && depth == 1:
			first = true
			continue
		case first && (t.kind == quoted || t.kind == word && !t.isWord("PRIMARY", "KEY", "UNIQUE", "CONSTRAINT",
			"INDEX", "FULLTEXT", "SPATIAL", "FOREIGN", "CHECK", "EXCLUDE", "LIKE")):
			if len(columns) == maxColumns {
				return atLine(d.line, "there are more than %d columns", maxColumns)
			}
			columns = append(columns, strings.ToLower(t.text))
		}
		first = false
	}
	d.columns[name], d.found = columns, true
	return d.skip(t)
}

func (d *dump) skipUnless(t token, err error) error {
	if err != nil {
		return err
	}
	return d.skip(t)
}

// insert reads the rows of INSERT.
func (d *dump) insert() error {
	t, err := d.next(true)
	for ; err == nil && t.isWord("INTO", "IGNORE", "LOW_PRIORITY", "DELAYED", "OR", "REPLACE", "ABORT", "FAIL",
		"ROLLBACK"); t, err = d.next(true) {
	}
	if err != nil {
		return err
	}
	name, t, err := d.name(t)
	read := d.readers[name]
	if err != nil || read == nil {
		return d.skipUnless(t, err)
	}
	d.found = true
	columns := d.columns[name]
	if t.is("(") {
		if columns, err = d.list(); err != nil {
			return err
		}
		if t, err = d.next(true); err != nil {
			return err
		}
	}
	for t.isWord("OVERRIDING", "SYSTEM", "USER", "VALUE") {
		if t, err = d.next(true); err != nil {
			return err
		}
	}
	if !t.isWord("VALUES") {
		return d.skip(t) // INSERT … SELECT
	}
	for {
		if t, err = d.next(true); err != nil {
			return err
		}
		switch {
		case t.is(","):
		case t.is("("):
			if err := d.row(name, columns, read); err != nil {
				return err
			}
		default:
			return d.skip(t)
		}
	}
}

// row reads a row of VALUES after its parenthesis.
func (d *dump) row(name string, columns []string, read func(row, Yield) error) error {
	r := row{line: d.line}
	var values []string
	for {
		value, end, problem, err := d.value()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = atLine(r.line, "the row does not end")
			}
			return err
		}
		if len(values) == maxColumns {
			return atLine(r.line, "the row has more than %d values", maxColumns)
		}
		values = append(values, value)
		if problem != "" {
			r.problem = problem
		}
		if end {
			break
		}
	}
	if columns == nil {
		i := slices.IndexFunc(d.defaults[name], func(c []string) bool { return len(c) == len(values) })
		if i < 0 {
			return atLine(r.line, "the columns of the table %s are not known; make a dump that has CREATE TABLE too",
				name)
		}
		columns = d.defaults[name][i]
	}
	return d.give(r, columns, values, read)
}

func (d *dump) give(r row, columns, values []string, read func(row, Yield) error) error {
	if len(values) != len(columns) {
		r.problem = "the number of values differs from the number of columns"
	}
	r.values = make(map[string]string, len(columns))
	for i, v := range values[:min(len(values), len(columns))] {
		r.values[columns[i]] = v
	}
	return read(r, d.yield)
}

// value reads a value and the comma or the parenthesis after it. NULL is empty.
func (d *dump) value() (value string, end bool, problem string, err error) {
	depth, tokens := 0, 0
	cast := false // a type follows
	for {
		t, err := d.next(true)
		if err != nil {
			return "", false, "", err
		}
		switch {
		case depth == 0 && (t.is(",") || t.is(")")):
			return value, t.is(")"), problem, nil
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		}
		switch {
		case cast:
		case t.is(":"):
			cast = true
		case t.kind == word && (strings.HasPrefix(t.text, "_") || t.isWord("N")) && tokens == 0:
			// the character set of the text that follows
		case t.is("-") && tokens == 0:
			value = "-"
		case t.kind == text && tokens == 0, t.kind == word && t.isNumber() && tokens == 0:
			value += t.text
			if tokens++; t.long {
				value, problem = "", "a value is too long"
			}
		case t.isWord("NULL") && tokens == 0:
			tokens++
		case t.isWord("TRUE") && tokens == 0:
			value = "1"
			tokens++
		case t.isWord("FALSE") && tokens == 0:
			value = "0"
			tokens++
		default:
			value, problem = "", "a value is an SQL expression; write the value itself"
			tokens++
		}
	}
}
