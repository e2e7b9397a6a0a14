package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const opening = `Dialtone's configuration: every key, with its default. To change a key, remove the # before ` +
	`it. A variable such as DIALTONE_LISTEN overrides this file, and a flag such as --listen overrides ` +
	`both. See configuration.md.`

// Example returns a configuration file with each key below its text. A key in values, by its full name, has that
// value, in TOML. The others are commented out, with their defaults.
func Example(values map[string]string) string {
	var b strings.Builder
	comment(&b, opening)
	last := ""
	for _, k := range Keys() {
		table, name := k.Split()
		if table != last {
			fmt.Fprintf(&b, "\n[%s]\n", table)
			last = table
		}
		if k.Secret {
			continue
		}
		b.WriteString("\n")
		comment(&b, k.Text())
		if value, set := values[k.Name]; set {
			fmt.Fprintf(&b, "%s = %s\n", name, value)
		} else {
			fmt.Fprintf(&b, "#%s = %s\n", name, k.Example())
		}
	}
	return b.String()
}

// comment writes a text as comment lines of at most 100 characters.
func comment(b *strings.Builder, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if utf8.RuneCountInString(line+" "+word) > 100 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
