// Package userfile reads and writes the accounts of other phone platforms: the files and tables in which Kamailio,
// OpenSIPS, Flexisip, FreeSWITCH, Asterisk, coturn and Apache keep them, CSV, and JSON lines.
//
// # Guarantees
//
// Source.Read streams: memory does not grow with the file, except for Flexisip, whose two tables
// are joined, and for the configuration files of Asterisk and FreeSWITCH. For any input, it returns
// entries or an error with the line, and no value is longer than 64 KiB. A row that cannot be an
// account is an entry with a Problem; an error means that the rest of the file cannot be read.
//
// Every text of an entry is UTF-8. Other text is an error, and not only the problem of a row: a
// file in another encoding contains more of it, which would be lost or changed. In an SQL dump,
// this applies only to the values that are read: other tables may contain any bytes. All other
// files must be entirely UTF-8.
//
// A Source can be read several times, even standard input: that is kept in a temporary file,
// encrypted with a key that only this process has, because it contains hashes or passwords.
//
// # How it works
//
// A format (kamailio, coturn and so on) says which tables and columns there are and what they mean.
// The same rows may be in CSV, in an SQL dump, in a file of SQLite, or in a PostgreSQL database;
// the beginning of a file shows which it is. Files of other kinds have readers of their own:
// htdigest, the files of Asterisk, the XML of FreeSWITCH, and JSON lines.
//
// # What it is not
//
// It does not decide what becomes an account: that is account.Import. It checks neither names nor
// realms, and knows no tenants.
package userfile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/redact"
	"dialtone/internal/regularfile"
)

// Format is a format of accounts.
type Format string

// The formats.
const (
	Htdigest   Format = "htdigest"
	Kamailio   Format = "kamailio"
	OpenSIPS   Format = "opensips"
	Flexisip   Format = "flexisip"
	FreeSWITCH Format = "freeswitch"
	Asterisk   Format = "asterisk"
	Coturn     Format = "coturn"
	CSV        Format = "csv"
	JSONLines  Format = "jsonl"
)

// Formats are the formats that are read.
var Formats = []Format{Htdigest, Kamailio, OpenSIPS, Flexisip, FreeSWITCH, Asterisk, Coturn, CSV, JSONLines}

const (
	maxValue  = 64 << 10 // bytes of a value
	maxLine   = 1 << 20  // bytes of a line of text, or of a record of CSV
	maxHeader = 4096     // bytes of the header of CSV
	maxXML    = 16 << 20 // bytes of a file of FreeSWITCH
	maxDepth  = 64       // nested elements of XML
)

// Yield processes an entry. Its error ends the reading, and is returned.
type Yield = func(account.ImportEntry) error

// Source is a source of accounts to import.
type Source struct {
	format   Format
	location string
	spool    *spool // of standard input, or nil
}

// Open returns the source at a location: a file, a directory of files of FreeSWITCH, "sqlite:" with a file, the URL
// of a PostgreSQL database, or "-" for stdin.
func Open(format Format, location string, stdin io.Reader) (*Source, error) {
	s := &Source{format: format, location: location}
	var once io.Reader // it cannot be read twice
	switch {
	case location == "-":
		once = stdin
	case regularfile.IsInherited(location):
		f, err := regularfile.Open(location)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
			once = f
		}
	}
	if once != nil {
		var err error
		if s.spool, err = newSpool(once); err != nil {
			return nil, fmt.Errorf("keep standard input in a temporary file: %w", err)
		}
	}
	return s, nil
}

// Close removes the temporary file.
func (s *Source) Close() error {
	if s.spool == nil {
		return nil
	}
	return s.spool.close()
}

// IsPostgres reports whether a location is that of a PostgreSQL database.
func IsPostgres(location string) bool {
	return strings.HasPrefix(location, "postgres://") || strings.HasPrefix(location, "postgresql://")
}

// Read calls yield for each entry, in the order of the source.
func (s *Source) Read(ctx context.Context, yield Yield) error {
	badText := notUTF8
	checked := func(e account.ImportEntry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !hasUTF8(e) {
			return badText(e.Line)
		}
		return yield(checkTexts(e))
	}
	tables := s.databaseTables()
	if path, ok := strings.CutPrefix(s.location, "sqlite:"); ok {
		if tables == nil {
			return s.wrongKind("a database")
		}
		badText = notUTF8Row
		return readSQLite(ctx, path, tables, checked)
	}
	if IsPostgres(s.location) {
		if tables == nil {
			return s.wrongKind("a database")
		}
		badText = notUTF8Row
		return readPostgres(ctx, s.location, tables, checked)
	}
	if s.spool != nil {
		in := bufio.NewReaderSize(s.spool.reader(), maxValue)
		if isSQLite(in) && tables != nil {
			return fault.New(fault.Invalid, "a file of SQLite cannot be read from standard input; give its path")
		} else if isSQLite(in) {
			return s.wrongKind("a file of SQLite")
		}
		return readStream(s.format, in, checked)
	}
	info, err := os.Stat(s.location)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if s.format != FreeSWITCH {
			return s.wrongKind("a directory")
		}
		return someAccounts(s.format, checked, func(yield Yield) error { return readDirectory(s.location, yield) })
	}
	f, err := regularfile.Open(s.location)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, maxValue)
	if !isSQLite(in) {
		return readStream(s.format, in, checked)
	}
	if tables == nil {
		return s.wrongKind("a file of SQLite")
	}
	badText = notUTF8Row
	return readSQLite(ctx, s.location, tables, checked)
}

// databaseTables returns the tables of the format in a database, or nil if it has none.
func (s *Source) databaseTables() []table {
	if s.format == CSV {
		return nil
	}
	return tablesOf[s.format]
}

func (s *Source) wrongKind(what string) error {
	return fault.New(fault.Invalid, "the format %s cannot be read from %s; give a file of this format", s.format, what)
}

const sqliteMagic = "SQLite format 3\x00"

// isSQLite reports whether a file is one of SQLite.
func isSQLite(in *bufio.Reader) bool {
	start, _ := in.Peek(len(sqliteMagic))
	return string(start) == sqliteMagic
}

// readStream reads a text in a format.
func readStream(format Format, in *bufio.Reader, yield Yield) error {
	if err := checkBOM(in); err != nil {
		return err
	}
	tables := tablesOf[format]
	isConfiguration := format == Asterisk && startsWithSection(in)
	if tables != nil && format != CSV && !isConfiguration && !hasHeader(in, tables) {
		return readSQL(in, tables, yield)
	}
	in = inUTF8(in)
	switch {
	case format == Htdigest:
		return someAccounts(format, yield, func(yield Yield) error { return readHtdigest(in, yield) })
	case format == JSONLines:
		return someAccounts(format, yield, func(yield Yield) error { return readJSONLines(in, yield) })
	case format == FreeSWITCH:
		return someAccounts(format, yield, func(yield Yield) error { return readXML("", in, yield) })
	case isConfiguration:
		return someAccounts(format, yield, func(yield Yield) error { return readAsterisk(in, yield) })
	case tables != nil:
		return readCSV(in, tables, yield)
	}
	return fault.New(fault.Invalid, "%q is not a format", string(format))
}

// someAccounts fails if a file contains no entry at all. A table may be empty. But in a format that
// accepts any text or any XML, such a file probably has another format.
func someAccounts(format Format, yield Yield, read func(Yield) error) error {
	found := false
	err := read(func(e account.ImportEntry) error {
		found = true
		return yield(e)
	})
	if err == nil && !found {
		return fault.New(fault.Invalid, "the file contains no accounts; does it have a format other than %s?", format)
	}
	return err
}

// readDirectory reads all files of a directory of FreeSWITCH, in the order of their names.
func readDirectory(root string, yield Yield) error {
	found := false
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(path) != ".xml" {
			return err
		}
		found = true
		f, err := regularfile.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		name, _ := filepath.Rel(root, path)
		in := bufio.NewReader(f)
		err = checkBOM(in)
		if err == nil {
			err = readXML(name, inUTF8(in), yield)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err == nil && !found {
		err = fault.New(fault.Invalid, "%s has no files that end in .xml", root)
	}
	return err
}

// atLine is an error in a line of the text.
func atLine(line int64, format string, args ...any) error {
	return fault.New(fault.Invalid, "line %d: %s", line, fmt.Sprintf(format, args...))
}

// checkTexts refuses an entry without a user name, and one with texts that a database may not store.
func checkTexts(e account.ImportEntry) account.ImportEntry {
	if e.User == "" && e.Problem == "" {
		return unreadable(e, "there is no user name")
	}
	for _, text := range []string{e.User, e.Realm} {
		if strings.ContainsRune(text, 0) {
			return unreadable(e, "bytes that are not text")
		}
	}
	for _, text := range []*string{&e.Name, &e.Email, &e.Role, &e.Lang} {
		if strings.ContainsRune(*text, 0) {
			*text = "\ufffd" // which CleanName and CleanEmail refuse
		}
	}
	return e
}

// unreadable returns the entry with the problem ImportUnreadable.
func unreadable(e account.ImportEntry, detail string) account.ImportEntry {
	e.Problem, e.Detail = account.ImportUnreadable, detail
	return e
}

// setHash sets the hash of an entry that a text contains: MD5 or SHA-256, depending on its length,
// in hex digits of either case, with or without 0x. An empty text is no hash.
func setHash(e *account.ImportEntry, text string) {
	text = bareHash(text)
	if text == "" {
		return
	}
	if h, err := digest.ParseHA1(text); err == nil {
		e.HA1 = &h
	} else if h, err := digest.ParseHA1SHA256(text); err == nil {
		e.SHA256 = &h
	} else if e.Problem == "" {
		e.Problem, e.Detail = account.ImportBadHash, "a hash has 32 or 64 hex digits"
	}
}

func bareHash(text string) string {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "0x") || strings.HasPrefix(text, "0X") {
		text = text[2:]
	}
	return text
}

// setVariants sets the hashes besides HA1. It leaves an invalid one out and names it in Detail.
func setVariants(e *account.ImportEntry, b, sum string) {
	if b = bareHash(b); b != "" {
		if h, err := digest.ParseHA1(b); err == nil {
			e.HA1B = &h
		} else if e.Problem == "" {
			e.Detail = "ha1b"
		}
	}
	if sum = bareHash(sum); sum != "" {
		if h, err := digest.ParseHA1SHA256(sum); err == nil {
			e.SHA256 = &h
		} else if e.Problem == "" {
			e.Detail = "ha1_sha256"
		}
	}
}

func setPassword(e *account.ImportEntry, text string) { e.Password = redact.New(text) }

// lineReader reads lines of a bounded length.
type lineReader struct {
	in   *bufio.Reader
	line int64
	buf  []byte
}

// next returns the next line without its end. It fails with io.EOF at the end.
func (r *lineReader) next() ([]byte, error) {
	r.line++
	r.buf = r.buf[:0]
	for {
		part, err := r.in.ReadSlice('\n')
		r.buf = append(r.buf, part...)
		if len(r.buf) > maxLine {
			return nil, atLine(r.line, "it is longer than %d bytes, so this is another kind of file", maxLine)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && (!errors.Is(err, io.EOF) || len(r.buf) == 0) {
			return nil, err
		}
		return bytes.TrimSuffix(bytes.TrimSuffix(r.buf, []byte("\n")), []byte("\r")), nil
	}
}
