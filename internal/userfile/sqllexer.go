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
