package main

import (
	"errors"
	"fmt"

	"dialtone/cmd/dialtone/internal/doctor"
	"dialtone/cmd/dialtone/internal/terminal"
)

// healthCommand asks the server on this machine whether it is ready. The container image contains no other program that
// could request /readyz.
type healthCommand struct {
	ClientCert string `placeholder:"FILE" help:"Certificate for the server, if ops.tls_client_ca is set."`
	ClientKey  string `placeholder:"FILE" help:"Private key of that certificate."`
}

// Help is printed by dialtone health --help.
func (healthCommand) Help() string {
	return "It asks /readyz at the address in ops.listen, which it takes from the configuration and the " +
		"environment as the server does. Exit status: 0 if the server is ready, 1 if it is not or does not answer."
}

func (c *healthCommand) Run(p *program) error {
	conf, err := p.settings()
	if err != nil {
		return err
	}
	state, err := doctor.QueryReadiness(p.ctx, conf, c.ClientCert, c.ClientKey)
	if errors.Is(err, doctor.ErrClientCertificate) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	for _, c := range state.Checks {
		switch {
		case !c.OK:
			fmt.Fprintf(terminal.To(p.stdout), "%s: %s\n", terminal.OneLine(c.Name), terminal.OneLine(c.Error))
		case c.Warning != "":
			fmt.Fprintf(terminal.To(p.stdout), "%s: warning: %s\n",
				terminal.OneLine(c.Name), terminal.OneLine(c.Warning))
		}
	}
	if !state.Ready {
		return errors.New("the server is not ready")
	}
	fmt.Fprintln(p.stdout, "ready")
	return nil
}
