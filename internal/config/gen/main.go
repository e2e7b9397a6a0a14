// Command gen generates docs/configuration.md and docs/dialtone.example.toml from the keys of
// package config. Run it with go generate; its test fails if the files are outdated.
package main

import (
	"fmt"
	"log"
	"os"
	"strings"

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
		"../../../docs/dialtone.example.toml": config.Example(nil),
	}
}

// manual adds a table to each key, and the faults that config finds in the file dialtone.toml in
// this directory.
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
