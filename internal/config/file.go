package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// reading is one file being read.
type reading struct {
	*loading
	name string
	data []byte
	// lines holds the offset of the start of each line.
	lines []int

	// parser reads data from base on; its offsets count from there.
	parser unstable.Parser
	base   int
	// done is the offset up to which data has been understood.
	done  int
	table table
	// first is the line on which each key and each table was first given.
	first map[string]int
}

// table is where keys are being read into.
type table struct {
	path []string
	// skip is set in a table of which no more is known than that it is wrong: its keys would be wrong only because of it.
	skip bool
	// guessed is set when the header was misspelt. Values are checked as if it were right, but count for nothing.
	guessed bool
}

// file reads a configuration file that has been loaded into memory.
func (l *loading) file(name string, data []byte) {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		l.fault(place{name, orderFile, 1, 1}, Fault{Problem: "not UTF-8", Hint: "this is UTF-16; save the file as UTF-8"})
		return
	}
	// Some editors begin a file with a byte order mark, and show neither it nor the column that it takes.
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))

	// The capacity is clipped because the parser tells offsets by it.
	r := &reading{loading: l, name: name, data: slices.Clip(data), lines: []int{0}, first: map[string]int{}}
	for i, c := range data {
		if c == '\n' {
			r.lines = append(r.lines, i+1)
		}
	}
	if !r.expressions() {
		return
	}
	// The parser lets a few things pass that the decoder knows to be wrong, such as a day that no month has. Where a line
	// has a fault already, this one is most likely the same.
	var decoded *toml.DecodeError
	if err := toml.Unmarshal(r.data, new(map[string]any)); errors.As(err, &decoded) {
		line, column := decoded.Position()
		at := r.at(r.lines[line-1] + column - 1)
		if !slices.ContainsFunc(l.faults, func(f placedFault) bool { return f.order == orderFile && f.line == at.line }) {
			l.fault(at, Fault{Problem: notTOML + strings.TrimPrefix(decoded.Error(), "toml: ")})
		}
	}
}

const notTOML = "not TOML: "

// expressions reads the whole file, and tells whether its syntax is sound.
func (r *reading) expressions() bool {
	sound, reported := true, -1
	for r.base < len(r.data) {
		r.parser.Reset(r.data[r.base:])
		for r.parser.NextExpression() {
			r.expression(r.parser.Expression())
		}
		err := r.parser.Error()
		if err == nil {
			break
		}
		sound = false
		offset := r.base
		start := r.start()
		if e, ok := errors.AsType[*unstable.ParserError](err); ok {
			offset += int(r.parser.Range(e.Highlight).Offset)
		}
		if offset != reported {
			r.syntax(start, offset, err)
			reported = offset
		}
		if bytes.HasPrefix(bytes.TrimLeft(r.line(start), " \t"), []byte("[")) {
			// Which table the next keys belong to is anybody's guess.
			r.table = table{skip: true}
		}
		r.resume(offset)
	}
	return sound
}

// beginning is what a line looks like on which a key or a table begins. It leaves out quoted keys, which also look like the
// middle of a list.
var beginning = regexp.MustCompile(
	`^[ \t]*([A-Za-z0-9_-]+([ \t]*\.[ \t]*[A-Za-z0-9_-]+)*[ \t]*=|\[\[?[A-Za-z0-9_. \t-]*[A-Za-z][A-Za-z0-9_. \t-]*\]\]?[ \t\r]*(#|$))`)

// resume moves base past broken syntax, to the next line that looks like a beginning. That can be the very line of the
// fault, when it is the line before that lacks its end; then that line is read again, once.
func (r *reading) resume(offset int) {
	for line := r.number(offset); line <= len(r.lines); line++ {
		if start := r.lines[line-1]; start > r.base && beginning.Match(r.line(line)) {
			r.base = start
			return
		}
	}
	r.base = len(r.data)
}

// start is the line on which begins what comes after done, past empty lines and comments.
func (r *reading) start() int {
	line := r.number(max(r.base, r.done))
	if r.done > r.base {
		line++
	}
	for line < len(r.lines) {
		if text := bytes.TrimSpace(r.line(line)); len(text) > 0 && text[0] != '#' {
			break
		}
		line++
	}
	return min(line, len(r.lines))
}

// line is the text of a line without its end.
func (r *reading) line(number int) []byte {
	text, _, _ := bytes.Cut(r.data[r.lines[number-1]:], []byte("\n"))
	return text
}

// number is the number of the line that holds an offset into data.
func (r *reading) number(offset int) int {
	number, _ := slices.BinarySearch(r.lines, offset+1)
	return number
}

// at is the place of an offset into data.
func (r *reading) at(offset int) place {
	line := r.number(offset)
	start := r.lines[line-1]
	return place{r.name, orderFile, line, utf8.RuneCount(r.data[start:offset]) + 1}
}

// assignment is a line that gives a value to a key.
var assignment = regexp.MustCompile(`^[ \t]*([A-Za-z0-9_.-]+)[ \t]*=`)

// syntax reports what is no TOML, and began on line start. Most often it is a value without its quotes, or without its
// end; so it says what the key wants, or where the value began.
func (r *reading) syntax(start, offset int, err error) {
	at := r.at(offset)
	f := Fault{Problem: notTOML + err.Error()}
	line := r.line(start)
	if m := assignment.FindSubmatchIndex(line); m != nil && offset >= r.lines[start-1]+m[1] && !r.table.skip {
		if k := r.key(join(append(slices.Clone(r.table.path), string(line[m[2]:m[3]])))); k != nil {
			f.Key, f.Hint = k.name, "expected "+k.want
			if k.toml == unstable.String {
				f.Hint += ", in quotes"
			}
		}
	}
	if at.line > start {
		f.Hint = fmt.Sprintf("it began on line %d", start)
	}
	r.fault(at, f)
}

func (r *reading) expression(n *unstable.Node) {
	if n.Kind == unstable.KeyValue {
		r.done = r.base + int(n.Raw.Offset+n.Raw.Length)
		if !r.table.skip {
			r.assign(r.table.path, n)
		}
		return
	}
	path, from, to := r.path(n)
	r.done = to
	name, at := join(path), r.at(from)
	r.table = table{path: path}
	switch {
	case r.key(name) != nil:
		r.fault(at, Fault{Key: name, Value: "a table", Want: r.key(name).want})
		r.table.skip = true
	case !r.isTable(name):
		r.table = table{skip: true}
		f := Fault{Key: name, Problem: "unknown table"}
		if guess := nearest(name, r.tables()); guess != "" {
			f.Hint = didYouMean("[" + guess + "]")
			r.table = table{path: strings.Split(guess, "."), guessed: true}
		}
		r.fault(at, f)
	case n.Kind == unstable.ArrayTable:
		r.fault(at, Fault{Key: name, Problem: "there is only one such table", Hint: "write [" + name + "]"})
	default:
		r.once(name, at)
	}
}

// assign reads a key and its value, or an inline table of such, into the table at path.
func (r *reading) assign(path []string, n *unstable.Node) {
	inner, from, to := r.path(n)
	path = slices.Concat(path, inner)
	name, at := join(path), r.at(from)
	value := n.Value()

	if k := r.key(name); k != nil {
		r.once(name, at)
		// Not every node knows where it stands, but what follows the key does.
		after := r.data[to:]
		start := to + len(after) - len(bytes.TrimLeft(after, " \t="))
		r.value(k, value, r.at(start))
		return
	}
	if f, ok := removed[name]; ok {
		r.fault(at, f)
		return
	}
	if !r.isTable(name) {
		f := Fault{Key: name, Problem: "unknown key"}
		r.correct(&f, name, func(k key) string { return k.name })
		r.fault(at, f)
		return
	}
	if value.Kind != unstable.InlineTable {
		r.fault(at, Fault{Key: name, Problem: "this is a table", Hint: "write [" + name + "] and its keys below"})
		return
	}
	r.once(name, at)
	for children := value.Children(); children.Next(); {
		r.assign(path, children.Node())
	}
}

// once reports what is given a second time.
func (r *reading) once(name string, at place) {
	if r.table.guessed {
		return
	}
	if line, ok := r.first[name]; ok {
		r.fault(at, Fault{Key: name, Problem: "given twice", Hint: fmt.Sprintf("the first is on line %d", line)})
		return
	}
	r.first[name] = at.line
}

// value sets a key from its value in the file.
func (r *reading) value(k *key, n *unstable.Node, at place) {
	r.set[k.name] = at
	if k.secret {
		r.fault(at, k.notHere())
		return
	}
	if !k.list {
		r.scalar(k, n, at)
		return
	}
	if n.Kind != unstable.Array {
		f := Fault{Key: k.name, Value: k.shownNode(n), Want: "a list"}
		if n.Kind == k.toml {
			f.Hint = "write it in brackets: [" + f.Value + "]"
		}
		r.fault(at, f)
		return
	}
	k.clear()
	for elements := n.Children(); elements.Next(); {
		element, where := elements.Node(), at
		if element.Raw.Length > 0 {
			where = r.at(r.base + int(element.Raw.Offset))
		}
		r.scalar(k, element, where)
	}
}

func (r *reading) scalar(k *key, n *unstable.Node, at place) {
	f := Fault{Key: k.name, Value: k.shownNode(n), Want: k.want}
	if n.Kind == k.toml {
		hint, ok := k.form.set(text(n))
		if ok {
			return
		}
		f.Hint = hint
	} else if _, ok := k.form.set(text(n)); ok && len(n.Data) > 0 {
		// The Config is spoilt by this, but with a fault nobody gets to see it.
		switch unstable.String {
		case n.Kind:
			f.Hint = "leave out the quotes"
		case k.toml:
			f.Hint = "put it in quotes"
		}
	}
	r.fault(at, f)
}

// text is a value as a variable or a flag would have it.
func text(n *unstable.Node) string {
	if n.Kind == unstable.Integer {
		// TOML also writes 8_192 and 0x2000.
		if i, err := strconv.ParseInt(string(n.Data), 0, 64); err == nil {
			return strconv.FormatInt(i, 10)
		}
	}
	return string(n.Data)
}

func (k *key) shownNode(n *unstable.Node) string {
	switch n.Kind {
	case unstable.String:
		return shown(k.hidden(string(n.Data)))
	case unstable.Array:
		return "a list"
	case unstable.InlineTable:
		return "a table"
	}
	if len(n.Data) > longestShown {
		return string(n.Data[:longestShown]) + "…"
	}
	return string(n.Data)
}

// path is the key of a table or an assignment, and the offsets of its first byte and past its last.
func (r *reading) path(n *unstable.Node) (path []string, from, to int) {
	from = -1
	for parts := n.Key(); parts.Next(); {
		part := parts.Node()
		path = append(path, string(part.Data))
		if from < 0 {
			from = r.base + int(part.Raw.Offset)
		}
		to = r.base + int(part.Raw.Offset+part.Raw.Length)
	}
	return path, from, to
}

// join writes a path as one name. A part that holds a dot is quoted: "mail.pickup_dir" in quotes is one strange key, not
// the key of that name.
func join(path []string) string {
	parts := make([]string, len(path))
	for i, p := range path {
		if parts[i] = shownName(p); strings.Contains(p, ".") {
			parts[i] = shown(p)
		}
	}
	return strings.Join(parts, ".")
}

// tables are the names of all tables, those that only hold other tables included.
func (l *loading) tables() []string {
	var names []string
	for _, k := range l.keys {
		for name := k.name; ; {
			i := strings.LastIndexByte(name, '.')
			if i < 0 {
				break
			}
			if name = name[:i]; !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func (l *loading) isTable(name string) bool { return slices.Contains(l.tables(), name) }
