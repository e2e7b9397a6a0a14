// Command gen writes the files that are made from the table of configuration keys: the manual page and the example file.
// It is run by go generate, in the directory of package config.
package main

import (
	"log"
	"os"

	"dialtone/internal/config"
)

func main() {
	for name, text := range map[string]string{
		"../../docs/configuration.md":      config.Manual(),
		"../../docs/dialtone.example.toml": config.Example(),
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
