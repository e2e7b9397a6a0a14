package userfile

import (
	"bufio"
	"bytes"
	"encoding/hex"
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
		} else if err != nil {
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

// kind is a kind of token.
type kind int

const (
	word   kind = iota // a name, a keyword or a number
	quoted             // a name in quotes
	text               // a string
	mark               // one character
)

type token struct {
	kind kind
	text string
	long bool // the text was longer than what is kept
}

func (t token) is(m string) bool { return t.kind == mark && t.text == m }

func (t token) isWord(words ...string) bool {
	return t.kind == word && slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, t.text) })
}

func (t token) isNumber() bool { return t.text != "" && '0' <= t.text[0] && t.text[0] <= '9' }

// lexer splits SQL into tokens.
type lexer struct {
	in   *bufio.Reader
	line int64
	// mysql says that a backslash in a string is an escape. MySQL's dumps show what they are by their comments
	// and by the quotes of names.
	mysql bool
	buf   []byte
}

func (l *lexer) read() (byte, error) {
	c, err := l.in.ReadByte()
	if c == '\n' && err == nil {
		l.line++
	}
	return c, err
}

// peek returns the next byte, or 0 at the end.
func (l *lexer) peek() byte {
	if b, _ := l.in.Peek(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (l *lexer) skipLine() error {
	for {
		c, err := l.read()
		if err != nil || c == '\n' {
			return err
		}
	}
}

// next returns the next token. With keep false, texts may be empty.
func (l *lexer) next(keep bool) (token, error) {
	for {
		c, err := l.read()
		if err != nil {
			return token{}, err
		}
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
		case c == '-' && l.peek() == '-', c == '#':
			if err := l.comment(); err != nil {
				return token{}, err
			}
		case c == '/' && l.peek() == '*':
			if err := l.longComment(); err != nil {
				return token{}, err
			}
		case c == '\'':
			return l.quote(c, l.mysql, text, keep)
		case c == '"' || c == '`':
			l.mysql = l.mysql || c == '`'
			if c == '"' && l.mysql {
				return l.quote(c, true, text, keep)
			}
			return l.quote(c, false, quoted, keep)
		case c == '$' && !l.mysql:
			return token{kind: text}, l.dollars()
		case isWordByte(c):
			return l.word(c, keep)
		default:
			return token{kind: mark, text: string(rune(c))}, nil
		}
	}
}

func isWordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c >= 0x80
}

// word reads a word. A string that follows E or X directly belongs to it.
func (l *lexer) word(first byte, keep bool) (token, error) {
	l.buf = append(l.buf[:0], first)
	for {
		c := l.peek()
		if !isWordByte(c) && !(c == '.' && '0' <= first && first <= '9') {
			break
		}
		if _, err := l.read(); err != nil {
			return token{}, err
		}
		if len(l.buf) < maxWord {
			l.buf = append(l.buf, c)
		}
	}
	t := token{kind: word, text: string(l.buf)}
	if l.peek() != '\'' || !t.isWord("E", "X") {
		return t, nil
	}
	if _, err := l.read(); err != nil {
		return token{}, err
	}
	s, err := l.quote('\'', l.mysql || t.isWord("E"), text, keep)
	if err == nil && t.isWord("X") {
		b, err := hex.DecodeString(s.text)
		return token{kind: text, text: string(b), long: s.long || err != nil}, nil
	}
	return s, err
}

// quote reads a quoted text after its first quote. Two quotes stand for one.
func (l *lexer) quote(q byte, escapes bool, k kind, keep bool) (token, error) {
	began := l.line
	t := token{kind: k}
	l.buf = l.buf[:0]
	add := func(b ...byte) {
		switch {
		case !keep:
		case len(l.buf) >= maxValue:
			t.long = true
		default:
			l.buf = append(l.buf, b...)
		}
	}
	for {
		c, err := l.read()
		if err != nil {
			return t, l.notClosed(began, err)
		}
		switch {
		case c == q && l.peek() == q:
			if _, err := l.read(); err != nil {
				return t, err
			}
			add(q)
		case c == q:
			t.text = string(l.buf)
			return t, nil
		case c == '\\' && escapes:
			if c, err = l.read(); err != nil {
				return t, l.notClosed(began, err)
			}
			add(escaped(c)...)
		default:
			add(c)
		}
	}
}

// escaped returns what a character after a backslash stands for in MySQL.
func escaped(c byte) []byte {
	switch c {
	case '0':
		return []byte{0}
	case 'b':
		return []byte{'\b'}
	case 'n':
		return []byte{'\n'}
	case 'r':
		return []byte{'\r'}
	case 't':
		return []byte{'\t'}
	case 'Z':
		return []byte{26}
	case '%', '_':
		return []byte{'\\', c}
	}
	return []byte{c}
}

func (l *lexer) notClosed(line int64, err error) error {
	if errors.Is(err, io.EOF) {
		return atLine(line, "a quote or a comment is not closed")
	}
	return err
}

// comment skips a line, and finds out from the first line of a dump which program wrote it.
func (l *lexer) comment() error {
	start, _ := l.in.Peek(32)
	if line := string(start); strings.Contains(line, "MySQL dump") || strings.Contains(line, "MariaDB dump") {
		l.mysql = true
	}
	return l.skipLine()
}

// longComment skips a comment after its slash. MySQL's statements in comments change no data.
func (l *lexer) longComment() error {
	began := l.line
	if start, _ := l.in.Peek(3); bytes.HasPrefix(start, []byte("*!")) || string(start) == "*M!" {
		l.mysql = true
	}
	if _, err := l.read(); err != nil { // the star
		return err
	}
	for {
		c, err := l.read()
		if err != nil {
			return l.notClosed(began, err)
		}
		if c == '*' && l.peek() == '/' {
			_, err := l.read()
			return err
		}
	}
}

// dollars skips a text between dollar signs (PostgreSQL), after the first of them.
func (l *lexer) dollars() error {
	began := l.line
	tag := []byte{'$'}
	for c := l.peek(); ; c = l.peek() {
		if !isWordByte(c) && c != '$' || len(tag) > 64 {
			return nil // a parameter, or not a tag
		}
		if _, err := l.read(); err != nil {
			return err
		}
		tag = append(tag, c)
		if c == '$' {
			break
		}
	}
	if tag[1] >= '0' && tag[1] <= '9' {
		return nil
	}
	var last []byte
	for {
		c, err := l.read()
		if err != nil {
			return l.notClosed(began, err)
		}
		if last = append(last, c); len(last) > len(tag) {
			last = last[1:]
		}
		if bytes.Equal(last, tag) {
			return nil
		}
	}
}
