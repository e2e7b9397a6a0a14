// Package adapter creates adapters as the configuration describes them, such as the client of the mail relay.
//
// Both the server and the commands that check or try it use them, so that a check sees what the server will see. A file
// that the configuration names is read as the user who started the program. The package opens
// no connection and no listener.
//
// NewRelay returns the client of the relay, and HookTransports those of hooks. Templates and Authorities read files,
// and PublicPairs and OpsPairs return the names of certificate files.
//
// It does not open the data directory or the store either: package installation does.
package adapter

import (
	"crypto/x509"
	"fmt"
	"os"

	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/config"
	"dialtone/internal/fault"
	"dialtone/internal/http/tlscert"
	"dialtone/internal/mailmsg"
)

// ErrTemplates means that mail.templates_dir cannot be used.
var ErrTemplates = fault.Needs(fault.Correction, "mail.templates_dir")

// Templates reads the message templates in a directory. If dir is empty, it returns none.
func Templates(dir string) (mailmsg.Templates, error) {
	if dir == "" {
		return mailmsg.Templates{}, nil
	}
	ts, err := mailmsg.Load(os.DirFS(dir))
	if err != nil {
		err = fmt.Errorf("%w: %s: %w", ErrTemplates, dir, err)
	}
	return ts, err
}

// PublicPairs returns the certificate files of the public listener.
func PublicPairs(c config.TLS) (pairs []tlscert.Pair) {
	for i := range c.Cert {
		pairs = append(pairs, tlscert.Pair{Cert: string(c.Cert[i]), Key: string(c.Key[i])})
	}
	return pairs
}

// OpsPairs returns the certificate file of the operators' listener, or nil if it does not use TLS.
func OpsPairs(c config.Ops) []tlscert.Pair {
	if c.TLSCert == "" {
		return nil
	}
	return []tlscert.Pair{{Cert: c.TLSCert, Key: c.TLSKey}}
}

// Authorities reads certificate authorities from a file. If file is empty, it returns nil, which stands for the
// authorities of the system.
func Authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := runas.ReadNamed(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s contains no certificate in PEM format", file)
	}
	return pool, nil
}
