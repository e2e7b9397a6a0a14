package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"slices"
	"strconv"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/atomicfile"
	"dialtone/internal/certificate"
	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
	"dialtone/internal/tenant"
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
		made, err := c.await(p.ctx, in, t)
		if err != nil {
			return err
		}
		key, err := certificate.NewKeys(in.Seal).Open(t.ID, t.Host, made.Sealed)
		if err != nil {
			return err
		}
		private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
		var what string
		err = runas.AsCaller(func() error {
			what, err = c.write(string(made.Chain)+string(private), group)
			return err
		})
		if err != nil {
			return err
		}
		return p.printf("%s, with a certificate until %s", what, made.NotAfter.UTC().Format(time.RFC3339))
	})
}

// write writes the file unless it already has this content, and lets a group read it unless group is negative. It
// returns what it did, in words.
func (c *tenantCertificate) write(text string, group int) (what string, err error) {
	written, err := regularfile.Read(c.To)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		what, err = "wrote "+c.To, atomicfile.Create(c.To, text)
	case err != nil:
	case string(written) == text:
		what = c.To + " is up to date"
	default:
		what, err = "replaced "+c.To, atomicfile.Replace(c.To, text)
	}
	if err == nil && group >= 0 {
		err = atomicfile.Share(c.To, group)
	}
	return what, err
}

// await returns the certificate of a tenant. If there is none, it waits for the first one for at most c.Wait.
func (c *tenantCertificate) await(
	ctx context.Context, in *installation.Installation, t *tenant.Tenant,
) (certificate.Certificate, error) {
	end := time.After(c.Wait)
	for waited := false; ; waited = true {
		made, err := in.Store.Certificate(ctx, t.ID)
		if fe, ok := errors.AsType[*fault.Error](err); !ok || fe.Kind != fault.NotFound {
			if waited && err == nil { // let servers load it: they check for new certificates every second
				select {
				case <-time.After(2 * time.Second):
				case <-ctx.Done():
				}
			}
			return made, err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return made, ctx.Err()
		case <-end:
			return made, c.missing(ctx, in, t)
		}
	}
}

// missing returns an error that tells why there is no certificate.
func (c *tenantCertificate) missing(ctx context.Context, in *installation.Installation, t *tenant.Tenant) error {
	if !in.TLS.ACME {
		return fault.New(fault.Conflict, "there is no certificate of %s, because tls.acme is not set; give the phone "+
			"server the certificate files of your TLS proxy or of tls.cert", t.Host)
	}
	states, err := in.Store.CertificateStates(ctx)
	if err != nil {
		return err
	}
	why := "start the server, which orders it within seconds"
	if i := slices.IndexFunc(states, func(s certificate.State) bool { return s.Tenant == t.ID }); i >= 0 &&
		states[i].Failures > 0 {
		why = fmt.Sprintf("%s failed, the last: %s", terminal.Counted(states[i].Failures, "order"), states[i].Failure)
	}
	return fault.New(fault.NotFound, "there is no certificate of %s yet; %s", t.Host, why)
}
