package main

import (
	"os/user"
	"strconv"
	"time"

	"dialtone/cmd/dialtone/internal/certfile"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/fault"
)

// tenantCertificate writes a certificate to a file, for a phone server on this machine.
type tenantCertificate struct {
	Host  string        `arg:"" help:"The host name."`
	To    string        `required:"" placeholder:"FILE" help:"File to write: the chain and the private key, in PEM."`
	Group string        `placeholder:"NAME" help:"Group that may read the file (none)."`
	Wait  time.Duration `placeholder:"TIME" help:"How long to wait for the first certificate, such as 3m (no time)."`
}

// Help is what "dialtone tenant certificate --help" adds.
func (tenantCertificate) Help() string {
	return "It is for a phone server that uses the certificate of the web site, which the server renews by itself " +
		"(tls.acme). Run it every day, and then make the phone server read the file again. A file that is up to " +
		"date is not written. The file is replaced atomically, so nobody reads an incomplete file or a key that does " +
		"not fit, and it has mode 0600, or 0640 with --group."
}

func (c *tenantCertificate) Run(p *program) error {
	group := -1
	if c.Group != "" {
		g, err := user.LookupGroup(c.Group)
		if err != nil {
			return fault.New(fault.Invalid, "there is no group %s; install the phone server first, or give another "+
				"--group", c.Group)
		}
		if group, err = strconv.Atoi(g.Gid); err != nil {
			return err
		}
	}
	return p.with(func(in *installation.Installation) error {
		t, err := in.TenantOf(p.ctx, c.Host)
		if err != nil {
			return err
		}
		made, err := certfile.Await(p.ctx, in, t, c.Wait)
		if err != nil {
			return err
		}
		content, err := certfile.Content(in, t, made)
		if err != nil {
			return err
		}
		what, err := certfile.Write(c.To, content, group)
		if err != nil {
			return err
		}
		return p.printf("%s, with a certificate until %s", what, made.NotAfter.UTC().Format(time.RFC3339))
	})
}
