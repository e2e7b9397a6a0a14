package config

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// opening is the part of the manual that is not made from the table. FAULTS stands for the example of faults.
//
//go:embed opening.md
var opening string

// faultsExample is a broken file; the manual shows what is said about it.
const faultsExample = `data = "/var/lib/dialtone"
listen = "8080"

[mail]
pickup_dri = "/var/spool/pickup"

[log]
level = debug
`

// Manual is docs/configuration.md.
func Manual() string {
	var b strings.Builder
	l := newLoading()
	l.file("dialtone.toml", []byte(faultsExample))
	b.WriteString(strings.Replace(opening, "FAULTS", l.sorted().Error(), 1))

	table := ""
	b.WriteString("\n## Top level\n")
	for _, k := range keys(new(Config)) {
		if t, _ := k.split(); t != table {
			table = t
			fmt.Fprintf(&b, "\n## [%s]\n", table)
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s\n", k.name, fold(k.doc, 120, ""))
		standard := "`" + k.example() + "`"
		if k.derived != "" {
			standard = k.derived
		}
		fmt.Fprintf(&b, "| type | default | environment | flag |\n| --- | --- | --- | --- |\n| %s | %s | `%s` | %s |\n",
			k.kind, standard, k.variable(), k.flagShown())
	}
	return b.String()
}

const exampleOpening = `Dialtone's configuration: every key, with its default. Take away the # in front of a key and change it. ` +
	`A variable such as DIALTONE_LISTEN beats this file, and a flag such as --listen beats both. More is in ` +
	`configuration.md.`

// Example is docs/dialtone.example.toml.
func Example() string {
	var b strings.Builder
	b.WriteString(fold(exampleOpening, 100, "# ") + "\n")
	table := ""
	for _, k := range keys(new(Config)) {
		t, name := k.split()
		if t != table {
			table = t
			fmt.Fprintf(&b, "[%s]\n\n", table)
		}
		if k.secret {
			continue
		}
		b.WriteString(fold(k.doc, 100, "# "))
		b.WriteString("#" + name + " = " + k.example() + "\n\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// example is the default of a key, as the file writes it.
func (k key) example() string {
	standard := k.standard + k.exampled
	switch {
	case k.list && standard == "":
		return "[]"
	case k.list:
		var elements []string
		for e := range strings.SplitSeq(standard, ",") {
			elements = append(elements, k.quote(e))
		}
		return "[" + strings.Join(elements, ", ") + "]"
	}
	return k.quote(standard)
}

func (k key) quote(text string) string {
	if k.toml == unstable.String {
		return strconv.Quote(text)
	}
	return text
}

// fold breaks prose into lines of at most width characters that each begin with start.
func fold(prose string, width int, start string) string {
	var b strings.Builder
	line := start
	for word := range strings.FieldsSeq(prose) {
		if line != start && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			b.WriteString(line + "\n")
			line = start
		}
		if line != start {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
	return b.String()
}
