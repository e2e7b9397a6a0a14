package main

import (
	"encoding/json"
	"fmt"

	"dialtone/cmd/dialtone/internal/doctor"
	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/fault"
)

type doctorCommand struct {
	Resolver string `placeholder:"HOST:PORT" help:"DNS server to ask, such as the domain's own (the system's)."`
	CAFile   string `name:"ca-file" placeholder:"FILE" help:"Additional authorities for public URLs (none)."`
	JSON     bool   `name:"json" help:"Print one JSON array."`
}

// Help is what "dialtone doctor --help" adds.
func (doctorCommand) Help() string {
	return "It checks the configuration, files and their owners, the disk, the keys, the store, the relay, the " +
		"DNS, the public URLs and the running server, if there is one, in less than ten seconds. It changes nothing " +
		"and sends no message. Run it as root, or as the user of the server, with the configuration of the server. " +
		"Exit status: 1 if there is a fault, otherwise 0."
}

func (c *doctorCommand) Run(p *program) error {
	list := doctor.Examine(p.ctx, doctor.Options{
		Settings: p.settings, Configuration: p.configFile(), Environ: p.environ, DNS: resolver(c.Resolver),
		CAFile: c.CAFile,
	})
	if c.JSON {
		if err := json.NewEncoder(p.stdout).Encode(list); err != nil {
			return err
		}
	} else {
		c.print(p, list)
	}
	faults := 0
	for _, f := range list {
		if f.Level == finding.Fault {
			faults++
		}
	}
	if faults > 0 {
		return fault.New(fault.Conflict, "%s found; see FAULT above", terminal.Counted(faults, "fault"))
	}
	return nil
}

// print prints findings for people, the worst first.
func (c *doctorCommand) print(p *program, list []finding.Finding) {
	marks := map[finding.Level]string{finding.Fault: "FAULT  ", finding.Warning: "warning", finding.Note: "note   "}
	for _, level := range []finding.Level{finding.Fault, finding.Warning, finding.Note} {
		for _, f := range list {
			if f.Level != level {
				continue
			}
			fmt.Fprintf(terminal.To(p.stdout), "%s %s: %s.\n", marks[level], f.Check, terminal.OneLine(f.Cause))
			fmt.Fprintf(terminal.To(p.stdout), "        %s (%s).\n", terminal.OneLine(f.Next), f.See)
		}
	}
	if len(list) == 0 {
		fmt.Fprintln(p.stdout, "no faults found")
	}
}
