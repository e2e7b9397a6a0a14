package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// healthTimeout is how long the server may take to answer. Its checks end within three seconds.
const healthTimeout = 5 * time.Second

// healthCommand asks the server on this machine whether it is ready. A container has no other program that
// could ask.
type healthCommand struct{}

// Help is printed by dialtone health --help.
func (healthCommand) Help() string {
	return "It asks /readyz at the address in ops.listen, which it takes from the configuration and the " +
		"environment as the server does. Exit status: 0 if the server is ready, 1 if it is not or does not answer."
}

func (healthCommand) Run(p *program) error {
	conf, err := p.settings()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, healthTimeout)
	defer cancel()
	address := reachable(conf.Ops.Listen)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return err
	}
	// The environment may name a proxy, which is not for the server on this machine.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("the server does not answer at %s: %w", address, err)
	}
	defer answer.Body.Close()
	var state struct {
		Checks []struct {
			Name, Error, Warning string
			OK                   bool
		}
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, answer.Body, 1<<20)).Decode(&state); err != nil ||
		len(state.Checks) == 0 {
		return fmt.Errorf("what listens on %s is not Dialtone; set ops.listen as the server has it", address)
	}
	for _, c := range state.Checks {
		switch {
		case !c.OK:
			fmt.Fprintf(escaped{p.stdout}, "%s: %s\n", c.Name, c.Error)
		case c.Warning != "":
			fmt.Fprintf(escaped{p.stdout}, "%s: warning: %s\n", c.Name, c.Warning)
		}
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the server is not ready")
	}
	fmt.Fprintln(p.stdout, "ready")
	return nil
}

// reachable returns an address at which this machine reaches a listener: loopback for one on all addresses.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && ip.IsUnspecified() && ip.Is4():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
