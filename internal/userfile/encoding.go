package userfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

// conversion is a command that converts a file. Windows-1252 includes the letters of ISO 8859-1.
const conversion = "iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"

// notUTF8 returns the error for a text in a file.
func notUTF8(line int64) error {
	return atLine(line, "the text is not UTF-8; convert the file, for example with: %s; "+
		"if only this line is wrong, correct it", conversion)
}

// notUTF8Row returns the error for a row in a database.
func notUTF8Row(number int64) error {
	return fault.New(fault.Invalid, "row %d: the text is not UTF-8; correct it in the database, or import a dump of "+
		"it that is converted, for example with: %s", number, conversion)
}

// hasUTF8 reports whether all texts of an entry are UTF-8.
func hasUTF8(e account.ImportEntry) bool {
	for _, text := range []string{e.User, e.Realm, e.Name, e.Email, e.Role, e.Lang, e.Password.Reveal()} {
		if !utf8.ValidString(text) {
			return false
		}
	}
	return true
}

// checkBOM skips a byte order mark of UTF-8, and refuses UTF-16.
func checkBOM(in *bufio.Reader) error {
	switch start, _ := in.Peek(3); {
	case string(start) == "\ufeff":
		in.Discard(3)
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		return fault.New(fault.Invalid,
			"the file is UTF-16; convert it to UTF-8 with: iconv -f UTF-16 -t UTF-8 OLD > NEW")
	}
	return nil
}

// inUTF8 returns a reader of a text that fails at the first byte that is not UTF-8.
func inUTF8(in io.Reader) *bufio.Reader {
	return bufio.NewReaderSize(&utf8Reader{in: in, line: 1, buf: make([]byte, maxValue)}, maxValue)
}

// utf8Reader passes text on as long as it is UTF-8.
type utf8Reader struct {
	in   io.Reader
	line int64 // of the first byte that was not passed on
	buf  []byte
	ok   []byte // of buf, what can be passed on
	rest []byte // of buf, the beginning of a character
	err  error  // after ok
}

// Read implements io.Reader.
func (r *utf8Reader) Read(p []byte) (int, error) {
	for len(r.ok) == 0 && r.err == nil {
		r.fill()
	}
	if len(r.ok) == 0 {
		return 0, r.err
	}
	n := copy(p, r.ok)
	r.line += int64(bytes.Count(r.ok[:n], []byte("\n")))
	r.ok = r.ok[n:]
	return n, nil
}

// fill sets ok, rest and err.
func (r *utf8Reader) fill() {
	kept := copy(r.buf, r.rest)
	n, err := r.in.Read(r.buf[kept:])
	data := r.buf[:kept+n]
	r.ok, r.rest, r.err = data, nil, err
	if utf8.Valid(data) {
		return
	}
	good := 0
	for r, size := utf8.DecodeRune(data); r != utf8.RuneError || size > 1; r, size = utf8.DecodeRune(data[good:]) {
		good += size
	}
	r.ok, r.rest = data[:good], data[good:]
	if utf8.FullRune(r.rest) || errors.Is(err, io.EOF) {
		r.err = notUTF8(r.line + int64(bytes.Count(r.ok, []byte("\n"))))
	}
}

// xmlCharset refuses XML that declares another encoding.
func xmlCharset(charset string, in io.Reader) (io.Reader, error) {
	if strings.EqualFold(charset, "US-ASCII") {
		return in, nil
	}
	return nil, charsetError(charset)
}

// charsetError is the name of an encoding.
type charsetError string

// Error implements error.
func (e charsetError) Error() string {
	name := "WINDOWS-1252"
	if isEncodingName(string(e)) {
		name = string(e)
	}
	return fmt.Sprintf("the XML says that it is %s; if so, convert it with: iconv -f %[1]s -t UTF-8 OLD > NEW; "+
		"then write UTF-8 into its first line", name)
}

// isEncodingName reports whether a name may stand in a command that people paste.
func isEncodingName(name string) bool {
	for _, c := range []byte(name) {
		if !isWordByte(c) && c != '-' && c != '.' || c >= utf8.RuneSelf {
			return false
		}
	}
	return name != "" && name[0] != '-' && len(name) <= 40
}
