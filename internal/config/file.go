package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"

	"dialtone/internal/regularfile"
)

// MaxFileSize limits the configuration file. A longer one is a mistake, such as a device or a log.
const MaxFileSize = 256 << 10

// maxFileKeys limits its keys. The library takes quadratic time for unknown ones.
const maxFileKeys = 200

// FileKeys returns the names of the keys that the file at path sets. It fails with Faults if the
// file is not a valid configuration.
func FileKeys(path string) (names []string, err error) {
	l := &loader{keys: Keys(), set: map[string]place{}}
	l.readFile(path, "")
	if len(l.faults) > 0 {
		return nil, l.faults
	}
	for _, k := range l.keys {
		if _, ok := l.set[k.Name]; ok {
			names = append(names, k.Name)
		}
	}
	return names, nil
}

// readFile sets the keys of the file at path. If it cannot be read, the fault ends with the hint.
func (l *loader) readFile(path, hint string) {
	f, err := regularfile.Open(path)
	var text []byte
	if err == nil {
		defer f.Close()
		text, err = io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	}
	if err == nil && len(text) > MaxFileSize {
		err = fmt.Errorf("longer than %d bytes", MaxFileSize)
	}
	if err != nil {
		// The fault begins with the path, which an fs.PathError repeats.
		err = cmp.Or(errors.Unwrap(err), err)
		l.unread = true
		l.fault(place{Source: path, rank: rankFile}, "", "cannot be read: "+err.Error(), hint)
		return
	}
	l.readTOML(path, text)
}

// readTOML sets the keys of a file.
//
// The library decodes the file into a map first, which finds what is not TOML, and then in strict
// mode into structs without fields, which reports each key as unknown: by name, line and column.
func (l *loader) readTOML(name string, text []byte) {
	// Some editors begin a file with a byte order mark, and do not show it.
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	d := &document{name: name, text: text, lines: bytes.Split(text, []byte("\n"))}
	tables := l.tables()
	var entries []entry
	err := toml.Unmarshal(text, &d.values)
	if err == nil && d.size() > maxFileKeys {
		l.unread = true
		hint := "is this the configuration of Dialtone?"
		l.fault(place{Source: name, rank: rankFile}, "", fmt.Sprintf("more than %d keys", maxFileKeys), hint)
		return
	}
	if err == nil {
		entries, err = d.entries(tables)
	}
	if err != nil {
		l.unread = true
		message := printable(strings.TrimPrefix(err.Error(), "toml: "))
		var hint string
		if strings.HasSuffix(message, "at start of value") || strings.HasPrefix(message, "expected newline") {
			hint = "text goes in quotes"
		}
		at := place{Source: name, rank: rankFile}
		if e, ok := errors.AsType[*toml.DecodeError](err); ok {
			at = d.place(e)
		}
		l.fault(at, "", "not TOML: "+message, hint)
	}
	for _, e := range entries {
		name := joinPath(e.path)
		k, ok := l.find(name, Key.name)
		switch value := d.lookup(e.path); {
		case ok && value != nil:
			l.setValue(e.valuePlace(), k, value)
		case slices.Contains(tables, name):
			l.fault(e.place, name, "is a table", "write ["+name+"] and its keys below")
		case e.isTable:
			l.fault(e.place, name, "unknown table", didYouMean(similar(name, tables), "[%s]"))
		default:
			l.unknown(e.place, name, "unknown key", name, Key.name)
		}
	}
}

// setValue sets a key from its value in the file.
func (l *loader) setValue(at place, k Key, value any) {
	l.set[k.Name] = at
	values, isList := value.([]any)
	switch {
	case k.Secret:
		l.misplacedSecret(at, k)
		return
	case k.List && !isList:
		l.fault(at, k.Name, "expected a list, not "+k.showValue(value), "write it in brackets")
		return
	case !k.List:
		values = []any{value}
	}
	var texts []string
	for _, v := range values {
		kind := reflect.TypeOf(v).Kind()
		if kind == k.format.kind || kind == reflect.Int64 && k.format.kind == reflect.Float64 {
			texts = append(texts, fmt.Sprint(v))
			continue
		}
		var hint string
		if kind == reflect.String {
			hint = "write it without quotes"
		} else if k.format.kind == reflect.String && (kind == reflect.Int64 || kind == reflect.Bool) {
			hint = "put it in quotes"
		}
		l.fault(at, k.Name, "expected "+k.format.want+", not "+k.showValue(v), hint)
	}
	l.apply(at, k, texts...)
}

// showValue returns a value of the file as a fault may show it.
func (k Key) showValue(value any) string {
	switch v := value.(type) {
	case string:
		return k.show(v)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return fmt.Sprint(value)
}

// tables returns the names of all tables.
func (l *loader) tables() []string {
	var names []string
	for _, k := range l.keys {
		if table, _ := k.Split(); table != "" && !slices.Contains(names, table) {
			names = append(names, table)
		}
	}
	return names
}

// document is a configuration file.
type document struct {
	name   string
	text   []byte
	lines  [][]byte
	values map[string]any
}

// split returns the parts of an error's line before and after its position.
func (d *document) split(e *toml.DecodeError) (before, after []byte) {
	number, column := e.Position()
	line := d.lines[number-1]
	column = min(column-1, len(line))
	return line[:column], line[column:]
}

// place converts the position of an error, whose column counts bytes.
func (d *document) place(e *toml.DecodeError) place {
	before, _ := d.split(e)
	number, _ := e.Position()
	return place{d.name, number, utf8.RuneCount(before) + 1, rankFile}
}

// lookup returns the value at a path, or nil.
func (d *document) lookup(path []string) any {
	var value any = d.values
	for _, name := range path {
		table, _ := value.(map[string]any)
		value = table[name]
	}
	return value
}

// entry is a key of a document, or an unknown table.
type entry struct {
	place
	path    []string
	isTable bool
	// rest is the rest of the line, starting with the key.
	rest []byte
}

// valuePlace is where the value of a key begins.
func (e entry) valuePlace() place {
	if _, value, ok := bytes.Cut(e.rest, []byte("=")); ok && !e.isTable {
		e.Column += utf8.RuneCount(e.rest) - utf8.RuneCount(bytes.TrimLeft(value, " \t"))
	}
	return e.place
}

// joinPath writes a path as one name. A part with a dot is quoted: "mail.pickup_dir" in quotes is
// one unknown key, not the key of that name.
func joinPath(path []string) string {
	parts := make([]string, len(path))
	for i, p := range path {
		if parts[i] = quoteName(p); strings.Contains(p, ".") {
			parts[i] = quote(p)
		}
	}
	return strings.Join(parts, ".")
}

// entries returns the keys of the document, including those of the given tables, and the other
// tables.
//
// For a key of an inline table, the library does not report the table. So the tables are decoded
// one after the other: a key that is found only then belongs to the table.
func (d *document) entries(tables []string) (entries []entry, err error) {
	known := map[place]bool{}
	outside, err := d.unknown("")
	for _, e := range outside {
		known[e.place] = true
		if !slices.Contains(tables, joinPath(e.path)) || !d.hasTable(e.path[0]) {
			entries = append(entries, e)
		}
	}
	for _, table := range tables {
		if !d.hasTable(table) {
			continue
		}
		inside, tableErr := d.unknown(table)
		err = errors.Join(err, tableErr)
		for _, e := range inside {
			if known[e.place] {
				continue
			}
			if len(e.path) == 1 || e.path[0] != table {
				e.path = slices.Concat([]string{table}, e.path)
			}
			entries = append(entries, e)
		}
	}
	return entries, err
}

// size is the number of keys at the top level and in tables.
func (d *document) size() int {
	n := len(d.values)
	for _, value := range d.values {
		table, _ := value.(map[string]any)
		n += len(table)
	}
	return n
}

func (d *document) hasTable(name string) bool {
	_, ok := d.values[name].(map[string]any)
	return ok
}

// unknown decodes the document into a struct that has no fields, or only the given table without
// fields, and returns what is unknown to it.
func (d *document) unknown(table string) (entries []entry, err error) {
	var fields []reflect.StructField
	for name := range d.values {
		if !strings.EqualFold(name, table) {
			continue
		}
		// The library ignores case unless a field has exactly the name.
		t := reflect.TypeFor[any]()
		if name == table {
			t = reflect.TypeFor[struct{}]()
		}
		fields = append(fields, reflect.StructField{
			Name: fmt.Sprintf("F%d", len(fields)), Type: t,
			Tag: reflect.StructTag("toml:" + strconv.Quote(name)),
		})
	}
	target := reflect.New(reflect.StructOf(fields)).Interface()
	err = toml.NewDecoder(bytes.NewReader(d.text)).DisallowUnknownFields().Decode(target)
	strict, ok := errors.AsType[*toml.StrictMissingError](err)
	if !ok {
		return nil, err
	}
	for _, e := range strict.Errors {
		before, after := d.split(&e)
		header := bytes.HasPrefix(bytes.TrimLeft(before, " \t"), []byte("["))
		entries = append(entries, entry{d.place(&e), e.Key(), header, after})
	}
	return entries, nil
}
