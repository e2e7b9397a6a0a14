package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"dialtone/internal/account"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/mail/pickup"
)

type verifyCommand struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// findings is what is printed.
type findings struct {
	account.Report
	hook.VerifyReport
}

// Run exits with status 1 where there is a fault.
func (c *verifyCommand) Run(p *program) error {
	return p.with(func(f *folder) error {
		box, err := pickup.Open(f.Mail.PickupDir)
		if err != nil {
			return err
		}
		var r findings
		if r.Report, err = account.Verify(p.ctx, f.store, box, f.seal); err != nil {
			return err
		}
		r.VerifyReport, err = hook.Verify(p.ctx, f.store, f.seal, func(s string) { r.Faults = append(r.Faults, s) })
		if err != nil {
			return err
		}
		lost, err := f.lostMessages(p.ctx, box)
		if err != nil {
			return err
		}
		r.Faults = append(r.Faults, lost...)
		if c.JSON {
			err = json.NewEncoder(p.stdout).Encode(r)
		} else {
			err = c.text(p, r)
		}
		if err == nil && len(r.Faults) > 0 {
			err = fault.New(fault.Conflict, "the data folder has faults: %d", len(r.Faults))
		}
		return err
	})
}

// lostMessages are those that this folder's server is to send and has not got.
func (f *folder) lostMessages(ctx context.Context, box *pickup.Dir) ([]string, error) {
	node := ""
	if f.nodes() {
		var err error
		if node, err = readNodeID(filepath.Join(f.Data, "node.id")); errors.Is(err, fs.ErrNotExist) {
			return nil, nil // no server has run here
		} else if err != nil {
			return nil, err
		}
	}
	return delivery.Verify(ctx, f.store, box, node)
}

func (c *verifyCommand) text(p *program, r findings) error {
	fmt.Fprintf(p.stdout, "%d accounts, %d of them active; %d messages in the pickup directory, %d not yet known to be on the disk\n",
		r.Accounts, r.Active, r.Messages, r.Waiting)
	if r.Hooks > 0 {
		fmt.Fprintf(p.stdout, "%d hooks, %d notifications not delivered yet\n", r.Hooks, r.Notifications)
	}
	for _, s := range r.Faults {
		fmt.Fprintln(p.stdout, "FAULT ", s)
	}
	for _, s := range r.Notes {
		fmt.Fprintln(p.stdout, "note  ", s)
	}
	if len(r.Faults) == 0 {
		fmt.Fprintln(p.stdout, "everything fits together")
	}
	return nil
}

type backupCommand struct {
	File string `arg:"" help:"The file to write; it must not be there yet."`
}

func (c *backupCommand) Run(p *program) error {
	return p.with(func(f *folder) error {
		if err := f.store.Backup(p.ctx, c.File); err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "%s is a copy of the store; keep a copy of %s apart from it\n", c.File, f.sealKey())
		return nil
	})
}
