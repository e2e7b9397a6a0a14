package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Fault is one thing wrong with the configuration. Either Problem says what it is, or Value is not what Want asks for.
type Fault struct {
	// Source is the file's name, the environment variable or the flag.
	Source string
	// Line and Column count from 1, Column in characters. Both are 0 for a variable, a flag, or a file that cannot be read.
	Line, Column int
	// Key is the full key, such as mail.pickup_dir; empty where no key is at fault.
	Key string
	// Problem is what is wrong with something other than a value: "unknown key".
	Problem string
	// Value is the value found, quoted and cut short.
	Value string
	// Want is what the value should have been.
	Want string
	// Hint is what to do about it, or empty.
	Hint string
}

// String is one line: dialtone.toml:3:1: mail.pickup_dri: unknown key; did you mean mail.pickup_dir?
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.Source)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	b.WriteString(": ")
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	if f.Problem != "" {
		b.WriteString(f.Problem)
	} else {
		fmt.Fprintf(&b, "expected %s, not %s", f.Want, f.Value)
	}
	if f.Hint != "" {
		b.WriteString("; " + f.Hint)
	}
	return b.String()
}

// Faults is every fault of a configuration, in the order in which an editor meets them.
type Faults []Fault

// Error is one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// longestShown is how much of a value or a name a fault repeats, in characters.
const longestShown = 80

// shown quotes a value for a terminal.
func shown(text string) string {
	if utf8.RuneCountInString(text) > longestShown {
		return strconv.Quote(string([]rune(text)[:longestShown])) + "…"
	}
	return strconv.Quote(text)
}

// shownName quotes a name only if it would not pass as one.
func shownName(name string) string {
	strange := func(r rune) bool {
		return r != '_' && r != '-' && r != '.' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	if name == "" || len(name) > longestShown || strings.ContainsFunc(name, strange) {
		return shown(name)
	}
	return name
}
