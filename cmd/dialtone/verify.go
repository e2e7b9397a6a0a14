package main

import (
	"encoding/json"
	"fmt"

	"dialtone/cmd/dialtone/internal/doctor"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/fault"
)

type verifyCommand struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Run fails if there is a fault.
func (c *verifyCommand) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		r, err := doctor.Verify(p.ctx, in)
		if err != nil {
			return err
		}
		if c.JSON {
			err = json.NewEncoder(p.stdout).Encode(r)
		} else {
			err = c.text(p, r)
		}
		if err == nil && len(r.Faults) > 0 {
			err = fault.New(fault.Conflict, "the data directory has %s; see FAULT above",
				terminal.Counted(len(r.Faults), "fault"))
		}
		return err
	})
}

// text prints a report for people.
func (c *verifyCommand) text(p *program, r doctor.VerifyReport) error {
	fmt.Fprintf(p.stdout, "%s, %d of them active; %s in the pickup directory, %d not yet synced to disk\n",
		terminal.Counted(r.Accounts, "account"), r.Active, terminal.Counted(r.Messages, "message"), r.Waiting)
	if r.Hooks > 0 {
		fmt.Fprintf(p.stdout, "%s, %s not delivered yet\n", terminal.Counted(r.Hooks, "hook"),
			terminal.Counted(r.Notifications, "notification"))
	}
	fmt.Fprintln(p.stdout, r.Verified.Summary())
	for _, s := range r.Faults {
		terminal.PrintLine(p.stdout, "FAULT  ", s)
	}
	for _, s := range r.Notes {
		terminal.PrintLine(p.stdout, "note   ", s)
	}
	if len(r.Faults) == 0 {
		fmt.Fprintln(p.stdout, "no faults found")
	}
	return nil
}
