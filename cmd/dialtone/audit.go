package main

import (
	"dialtone/internal/audit"
	"dialtone/internal/fault"
)

// audited runs an action on a tenant and writes it to the audit log.
func (p *program) audited(in *installation, action audit.Action, host string, do func() error) error {
	return p.recorded(in, audit.Event{Action: action, Tenant: host}, do)
}

// recorded runs an action and writes it with its outcome to the audit log.
func (p *program) recorded(in *installation, e audit.Event, do func() error) error {
	err := do()
	e.Outcome = commandOutcome(err)
	audit.Log{Logger: p.logger(in.Log)}.Record(p.ctx, e)
	return err
}

// commandOutcome returns the outcome of a command for the audit log.
func commandOutcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case fault.KindOf(err) == fault.Internal:
		return "server_error"
	default:
		return "refused"
	}
}
