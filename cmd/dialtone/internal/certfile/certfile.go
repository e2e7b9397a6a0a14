// Package certfile writes the certificate of a tenant to a file for a phone server, for the command tenant certificate.
//
// The file is replaced as a whole, so nobody reads an incomplete file or a key that does not fit the certificate. Only
// its owner can read it, and a group if there is one.
//
// Await waits for the first certificate of a new tenant. Content returns what Write writes: the chain and the private
// key.
//
// The package orders no certificates: servers do.
package certfile

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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

// Content returns the chain and the private key of a certificate, in PEM.
func Content(in *installation.Installation, t *tenant.Tenant, c certificate.Certificate) (string, error) {
	key, err := certificate.NewKeys(in.Seal).Open(t.ID, t.Host, c.Sealed)
	if err != nil {
		return "", err
	}
	return string(c.Chain) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})), nil
}

// Write writes the file as the user who started the command, unless it already has this content, and lets a group read
// it unless group is negative. It returns what it did, in words.
func Write(path, content string, group int) (what string, err error) {
	err = runas.AsCaller(func() error {
		what, err = write(path, content, group)
		return err
	})
	return what, err
}

func write(path, content string, group int) (what string, err error) {
	written, err := regularfile.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		what, err = "wrote "+path, atomicfile.Create(path, content)
	case err != nil:
	case string(written) == content:
		what = path + " is up to date"
	default:
		what, err = "replaced "+path, atomicfile.Replace(path, content)
	}
	if err == nil && group >= 0 {
		err = atomicfile.Share(path, group)
	}
	return what, err
}

// Await returns the certificate of a tenant. If there is none, it waits for the first one for at most limit.
func Await(ctx context.Context, in *installation.Installation, t *tenant.Tenant, limit time.Duration) (
	certificate.Certificate, error,
) {
	end := time.After(limit)
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
			return made, missing(ctx, in, t)
		}
	}
}

// missing returns an error that tells why there is no certificate.
func missing(ctx context.Context, in *installation.Installation, t *tenant.Tenant) error {
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
