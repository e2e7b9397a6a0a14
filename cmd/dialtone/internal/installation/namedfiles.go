package installation

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/config"
	"dialtone/internal/http/tlscert"
	"dialtone/internal/mailmsg"
)

// ErrTemplates means that mail.templates_dir cannot be used.
var ErrTemplates = errors.New("mail.templates_dir")

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

// ConfiguredFile is a file or directory that the configuration names, and the key that names it.
type ConfiguredFile struct{ Key, Path string }

// ConfiguredFiles returns the files that the configuration names, without the data directory and Dialtone's keys.
func ConfiguredFiles(c config.Config) (list []ConfiguredFile) {
	add := func(key, path string) {
		if path != "" {
			list = append(list, ConfiguredFile{key, path})
		}
	}
	add("mail.templates_dir", c.Mail.TemplatesDir)
	add("mail.relay_password_file", c.Mail.RelayPasswordFile)
	add("mail.relay_ca_file", c.Mail.RelayCAFile)
	add("http.security_txt", c.HTTP.SecurityTxt)
	for i := range c.TLS.Cert {
		add("tls.cert", string(c.TLS.Cert[i]))
		add("tls.key", string(c.TLS.Key[i]))
	}
	add("tls.acme_ca_file", c.TLS.CAFile)
	add("ops.tls_cert", c.Ops.TLSCert)
	add("ops.tls_key", c.Ops.TLSKey)
	add("ops.tls_client_ca", c.Ops.TLSClientCA)
	add("trace.header_file", c.Trace.HeaderFile)
	for _, f := range c.DatabaseFiles(nil) {
		add(f.Name, f.Path)
	}
	return list
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
