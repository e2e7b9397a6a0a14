package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"dialtone/internal/fault"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/sqlite"
)

type versionCommand struct{}

func (versionCommand) Run(p *program) error {
	_, err := fmt.Fprintln(p.stdout, versionText())
	return err
}

// versionText describes this program on one line.
func versionText() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return versionOf(info, migrations.Newest(sqlite.Dialect))
}

// versionOf describes a program: its build information and the newest schema of a store that it knows. A program that
// was built from a source tree may have no version; then its revision stands for it, if the toolchain has recorded it.
func versionOf(info *debug.BuildInfo, schema int) string {
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	version := strings.TrimPrefix(info.Main.Version, "(devel)")
	var facts []string
	if revision := settings["vcs.revision"]; revision != "" {
		revision = revision[:min(12, len(revision))]
		text := "revision " + revision
		if at := settings["vcs.time"]; at != "" {
			text += " of " + at
		}
		if settings["vcs.modified"] == "true" {
			text += ", modified"
		}
		facts = append(facts, text)
		version = cmp.Or(version, revision)
	} else if version == "" {
		facts = append(facts, "built from a source tree of unknown revision")
		version = "unknown"
	}
	facts = append(facts, fmt.Sprintf("schema %d", schema), cmp.Or(info.GoVersion, runtime.Version()),
		runtime.GOOS+"/"+runtime.GOARCH)
	return fmt.Sprintf("dialtone %s: %s", version, strings.Join(facts, ", "))
}

// helpCommand is in the grammar for the help. As the first argument, help is replaced by --help before parsing.
type helpCommand struct {
	Command []string `arg:"" optional:"" help:"The command."`
}

// Run is called only if options precede the command.
func (helpCommand) Run(*program) error {
	return usageError{fault.New(fault.Invalid, "help must be the first argument: dialtone help [COMMAND]")}
}
