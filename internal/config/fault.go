package config

import (
	"cmp"
	"dialtone/internal/fault"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// place is where a value or a fault is.
type place struct {
	// Source is the name of the file, the variable or the flag.
	Source string
	// Line and Column count from 1, Column in characters. Both are 0 outside a file.
	Line, Column int

	rank int
}

// The ranks of the sources. A source overrides those of lower rank.
const (
	rankDefault = iota
	rankFile
	rankEnvironment
	rankFlag
)

func (p place) String() string {
	switch {
	case p.rank == rankDefault:
		return "the default"
	case p.Line == 0:
		return p.Source
	}
	return fmt.Sprintf("%s:%d", p.Source, p.Line)
}

// Fault is one fault of the configuration.
type Fault struct {
	place
	// Key is the full name of the key, or empty.
	Key string
	// Text says what is wrong, and what to do about it if that is known.
	Text string
}

// String returns one line: dialtone.toml:3:1: mail.pickup_dri: unknown key; did you mean …?
func (f Fault) String() string {
	text := f.place.String()
	if f.Line > 0 {
		text = fmt.Sprintf("%s:%d", text, f.Column)
	}
	if f.Key != "" {
		text += ": " + f.Key
	}
	return text + ": " + f.Text
}

// Faults is every fault of a configuration.
type Faults []Fault

// Error returns one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// Remedy implements the method that fault.RemedyOf looks for.
func (fs Faults) Remedy() fault.Remedy { return fault.Correction }

func compareFaults(a, b Fault) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Line, b.Line),
		cmp.Compare(a.Column, b.Column), cmp.Compare(a.Source, b.Source))
}

// fault records a fault. Hint may be empty.
func (l *loader) fault(at place, key, text, hint string) {
	if hint != "" {
		text += "; " + hint
	}
	l.faults = append(l.faults, Fault{at, key, text})
}

// removed maps names that people may look for to the reason why there is no such key.
var removed = map[string]string{
	"limits.signups_per_address": "cannot be set; the limit within each tenant is fixed, since clients rely on it",
	"clusters": "the key is no longer supported, since a deployment uses one database; " +
		"run one deployment per database, see docs/scaling.md",
}

// unknown reports an unknown name. spell writes a suggestion.
func (l *loader) unknown(at place, key, text, name string, spell func(Key) string) {
	for gone, why := range removed {
		if plain(name) == plain(gone) {
			l.fault(at, gone, why, "")
			return
		}
	}
	names := make([]string, len(l.keys))
	for i, k := range l.keys {
		names[i] = k.Name
	}
	var suggestion string
	if k, ok := l.find(similar(name, names), Key.name); ok {
		suggestion = spell(k)
	}
	l.fault(at, key, text, didYouMean(suggestion, "%s"))
}

// didYouMean suggests a name, if there is one, in a format with one %s.
func didYouMean(name, format string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf("did you mean "+format+"?", name)
}

// similar returns the candidate that name most likely stands for, or an empty string. At most a
// third of its letters are wrong, or name shortens or extends it, as listen_address does. It also
// compares the names without their tables, for a key in the wrong table.
func similar(name string, candidates []string) string {
	if len(name) > maxShown {
		return ""
	}
	base := func(s string) string { return s[strings.LastIndexByte(s, '.')+1:] }
	best, least := "", 0
	for _, c := range candidates {
		for penalty, pair := range [][2]string{{name, c}, {base(name), base(c)}, {name, base(c)}} {
			a, b := plain(pair[0]), plain(pair[1])
			d := distance(a, b) + min(penalty, 1)
			near := d <= max(1, len(b)/3) ||
				len(a) > 2 && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a))
			if near && (best == "" || d < least) {
				best, least = c, d
			}
		}
	}
	return best
}

// plain removes what people confuse without misspelling a name: case and separators.
func plain(name string) string {
	return strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(strings.ToLower(name))
}

// distance returns how many bytes to insert, delete, replace or swap with a neighbour to turn a
// into b.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		for j := range d[i] {
			switch {
			case i == 0 || j == 0:
				d[i][j] = i + j
			case a[i-1] == b[j-1]:
				d[i][j] = d[i-1][j-1]
			default:
				d[i][j] = 1 + min(d[i-1][j-1], d[i-1][j], d[i][j-1])
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
					d[i][j] = min(d[i][j], d[i-2][j-2]+1)
				}
			}
		}
	}
	return d[len(a)][len(b)]
}

// maxShown is how many characters of a value or a name a fault repeats.
const maxShown = 80

// show returns a value as a fault may show it. For a hidden value, that is at most the scheme of a
// URL.
func (k Key) show(text string) string {
	if k.format.hidden {
		return quote(urlScheme.FindString(text) + "[not shown]")
	}
	return quote(text)
}

var urlScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]{0,20}://`)

// quote quotes a value for a terminal.
func quote(text string) string {
	if utf8.RuneCountInString(text) > maxShown {
		return strconv.Quote(string([]rune(text)[:maxShown])) + "…"
	}
	return strconv.Quote(text)
}

var ordinaryName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,80}$`)

// quoteName quotes a name unless it consists of letters, digits and separators.
func quoteName(name string) string {
	if ordinaryName.MatchString(name) {
		return name
	}
	return quote(name)
}

// printable replaces the control characters in a message.
func printable(message string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, message)
}
