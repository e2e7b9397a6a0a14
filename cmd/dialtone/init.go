package main

import (
	"errors"

	"dialtone/cmd/dialtone/internal/setup"
)

type initCommand struct {
	Host  string `placeholder:"HOST" help:"Host name of the first tenant."`
	Realm string `placeholder:"NAME" help:"Digest realm (the host). Fixed while the tenant has accounts."`
	// The following flags have the names of keys of the configuration or of flags of other commands.
	Product string `placeholder:"NAME" help:"Name of the platform for people (the host)."`

	TLS string `name:"tls" enum:"proxy,files,acme," default:"" placeholder:"HOW" help:"proxy, files or acme (proxy)."`

	Listen       string `placeholder:"ADDR" help:"Address for people (127.0.0.1:8080 behind a proxy, otherwise :443)."`
	TLSCert      string `name:"tls-cert" placeholder:"FILE" help:"Certificate chain, with --tls=files."`
	TLSKey       string `name:"tls-key" placeholder:"FILE" help:"File with its private key."`
	Relay        string `name:"mail-relay" placeholder:"URL" help:"SMTP relay (none: the pickup directory)."`
	PasswordFile string `name:"mail-relay-password-file" placeholder:"FILE" help:"File with its password (none)."`
	Admin        string `placeholder:"USER" help:"User name of the first operator."`
	Email        string `placeholder:"ADDRESS" help:"E-mail address of the first operator."`
	Link         bool   `help:"Print the link to choose the password, and send no message."`
	User         string `placeholder:"NAME" help:"User that the server runs as (dialtone for root, otherwise you)."`
	PhoneServer  string `default:"kamailio" placeholder:"NAME" help:"Phone server that gets a token (kamailio)."`
	Yes          bool   `help:"Ask nothing."`
}

// Help is what "dialtone init --help" adds.
func (initCommand) Help() string {
	return "It writes a configuration (--config, here " + setup.DefaultConfig + "), creates the data directory " +
		"(--data, here " + setup.DefaultData + ") with keys and store, adds the first tenant and an operator, and " +
		"prints the DNS records to add. " +
		"Examples for nginx, Kamailio and systemd go into the directory init next to the configuration. On a " +
		"terminal, it asks for answers that are not given. It checks all answers before it writes anything. The " +
		"values of variables such as DIALTONE_DATABASE go into the configuration.\n\nNo existing file is " +
		"overwritten, except a configuration that sets nothing but data, such as that of the Debian package. If the " +
		"command was interrupted, run it again."
}

// Run sets up an installation. It needs no store, and fails with usageError if an answer is missing or wrong.
func (c *initCommand) Run(p *program) error {
	given := make(map[string]string)
	p.line.Settings.addTo(given)
	err := setup.Run(p.ctx, setup.Options{
		Answers: setup.Answers{
			Host: c.Host, Realm: c.Realm, Product: c.Product, TLS: c.TLS, Listen: c.Listen, TLSCert: c.TLSCert,
			TLSKey: c.TLSKey, Relay: c.Relay, PasswordFile: c.PasswordFile, Admin: c.Admin, Email: c.Email,
			User: c.User, PhoneServer: c.PhoneServer,
		},
		Link: c.Link, Yes: c.Yes,
		Configuration: p.configFile(), Given: given, Environ: p.environ,
		Stdin: p.stdin, Stdout: p.stdout, Stderr: p.stderr, Log: p.logger,
	})
	if _, ok := errors.AsType[setup.AnswerError](err); ok {
		return usageError{err}
	}
	return err
}
