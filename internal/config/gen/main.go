// Command gen makes docs/configuration.md and docs/dialtone.example.toml from the keys of package
// config. Run it with go generate; its test fails if the files are not up to date.
package main

import (
	"fmt"
	"log"
	"os"
	"strings"
	"unicode/utf8"

	"dialtone/internal/config"
)

//go:generate go run .

func main() {
	for name, text := range files() {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// files returns the content of each generated file.
func files() map[string]string {
	return map[string]string{
		"../../../docs/configuration.md":      manual(),
		"../../../docs/dialtone.example.toml": example(),
	}
}

// manual adds a table to each key, and what config says about the file dialtone.toml beside this
// one.
func manual() string {
	_, err := config.Load("dialtone.toml", nil, nil)
	text := strings.Replace(config.Manual(), "FAULTS", err.Error(), 1)
	for _, k := range config.Keys() {
		fallback, flag := k.Unset, "`"+k.Flag()+"`"
		if k.Default != "" {
			fallback = "`" + k.Default + "`"
		}
		if k.Secret {
			flag = "none"
		}
		table := fmt.Sprintf("\n\n| type | default | environment | flag |\n| --- | --- | --- | --- |\n"+
			"| %s | %s | `%s` | %s |", k.Type, fallback, k.Variable(), flag)
		text = strings.Replace(text, k.Text(), k.Text()+table, 1)
	}
	return text
}

const opening = `Dialtone's configuration: every key, with its default. To change a key, remove the # before ` +
	`it. A variable such as DIALTONE_LISTEN overrides this file, and a flag such as --listen overrides ` +
	`both. See configuration.md.`

// example has each key, commented out, below its text.
func example() string {
	var b strings.Builder
	comment(&b, opening)
	last := ""
	for _, k := range config.Keys() {
		table, name := k.Split()
		if table != last {
			fmt.Fprintf(&b, "\n[%s]\n", table)
			last = table
		}
		if !k.Secret {
			b.WriteString("\n")
			comment(&b, k.Text())
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
