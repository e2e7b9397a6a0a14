package main

import (
	"runtime/debug"
	"time"

	"dialtone/internal/completion"
	"dialtone/internal/manpage"
)

type completeCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
}

// Help is printed by dialtone completion --help.
func (completeCommand) Help() string {
	return "The packages install the scripts. Otherwise, write the script to a file: for bash " +
		"/usr/share/bash-completion/completions/dialtone, for zsh _dialtone in a directory of $fpath, " +
		"for fish a file with the name of the command in ~/.config/fish/completions."
}

func (c completeCommand) Run(p *program) error { return completion.Write(p.stdout, c.Shell, p.model) }

// manCommand prints the manual page, for building packages. People use man.
type manCommand struct{}

func (manCommand) Run(p *program) error { return manpage.Write(p.stdout, p.model, buildTime()) }

// buildTime returns the time of the program's revision, or the current time if that is unknown.
func buildTime() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if at, err := time.Parse(time.RFC3339, s.Value); err == nil && s.Key == "vcs.time" {
				return at
			}
		}
	}
	return time.Now()
}
