// Package tlscert provides the TLS settings of the listeners, and certificates from files.
//
// # What it guarantees
//
// A certificate and its key take effect together, or not at all: Refresh reads all files of a list,
// checks that each certificate matches its key, and only then replaces the certificates in use. If
// a file cannot be used, the listener keeps its current certificates. Only new connections use new
// files; open connections stay.
//
// Config allows only TLS 1.2 and 1.3, and for TLS 1.2 only cipher suites with forward secrecy and
// authenticated encryption.
//
// # How it works
//
// Refresh reads the files each time and compares their contents. So it also detects a change that
// preserves the time and size of a file, such as a link that points to another directory.
//
// # What it is not
//
// It does not renew certificates: another program writes the files. Package acme obtains
// certificates by ACME.
package tlscert

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
)

// ErrUnusable is returned, wrapped, for files that do not contain a valid certificate and key.
var ErrUnusable = fault.Needs(fault.Correction, "TLS certificate cannot be used")

// Pair holds the paths of a certificate chain and its private key.
type Pair struct{ Cert, Key string }

// Files holds certificates from files. It is safe for concurrent use, except that only one
// goroutine may call Refresh.
type Files struct {
	pairs    []Pair
	clientCA string
	texts    [][]byte // the contents at the last read
	current  atomic.Pointer[loaded]
}

// loaded holds the certificates from one read of the files.
type loaded struct {
	certs   []tls.Certificate
	clients *x509.CertPool // nil if clients need no certificate
}

// Load reads the files. If clientCA is not empty, clients need a certificate of an authority in that file.
func Load(pairs []Pair, clientCA string) (*Files, error) {
	f := &Files{pairs: pairs, clientCA: clientCA}
	return f, f.Refresh()
}

// maxFile is the maximum size of a file in bytes. A file with all public authorities has less than
// a MiB.
const maxFile = 4 << 20

// Refresh reads the files again. If it fails, with an error that wraps ErrUnusable, nothing changes.
func (f *Files) Refresh() error {
	paths := make([]string, 0, 2*len(f.pairs)+1)
	for _, p := range f.pairs {
		paths = append(paths, p.Cert, p.Key)
	}
	if f.clientCA != "" {
		paths = append(paths, f.clientCA)
	}
	texts := make([][]byte, len(paths))
	same := len(f.texts) == len(texts)
	for i, path := range paths {
		var err error
		if texts[i], err = regularfile.ReadUpTo(path, maxFile); err != nil {
			return fmt.Errorf("%w: %w", ErrUnusable, err)
		}
		same = same && bytes.Equal(texts[i], f.texts[i])
	}
	if same {
		return nil
	}
	next := &loaded{}
	for i, p := range f.pairs {
		c, err := pair(texts[2*i], texts[2*i+1])
		if err != nil {
			return fmt.Errorf("%w: %s and %s: %w", ErrUnusable, p.Cert, p.Key, err)
		}
		next.certs = append(next.certs, c)
	}
	if f.clientCA != "" {
		next.clients = x509.NewCertPool()
		if !next.clients.AppendCertsFromPEM(texts[len(texts)-1]) {
			return fmt.Errorf("%w: %s contains no certificate in PEM format", ErrUnusable, f.clientCA)
		}
	}
	f.texts = texts
	f.current.Store(next)
	return nil
}

// pair parses a chain and its key. Errors of crypto/tls do not quote the files.
func pair(chain, key []byte) (tls.Certificate, error) {
	c, err := tls.X509KeyPair(chain, key)
	if err == nil {
		return c, nil
	}
	return c, errors.New(strings.TrimPrefix(err.Error(), "tls: "))
}

// Get is a GetCertificate function for tls.Config. It returns the first certificate that matches
// the host in the handshake and that the client supports. If there is none, it returns the first in
// the list, whose name then shows the client that it is wrong.
func (f *Files) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certs := f.current.Load().certs
	for i := range certs {
		if hello.SupportsCertificate(&certs[i]) == nil {
			return &certs[i], nil
		}
	}
	return &certs[0], nil
}

// Config returns the settings of a listener that uses the files.
func (f *Files) Config() *tls.Config {
	c := Config(f.Get)
	if f.clientCA == "" {
		return c
	}
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := c.Clone()
		now.GetConfigForClient = nil
		now.ClientCAs = f.current.Load().clients
		// A session ticket would admit a client whose authority has been removed since.
		now.SessionTicketsDisabled = true
		return now, nil
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.ClientCAs = x509.NewCertPool()
	return c
}

// Expiry returns when the certificate for a host expires, and its total lifetime. If host is empty,
// it uses the first certificate. ok is false if no certificate matches the host.
func (f *Files) Expiry(host string) (expires time.Time, life time.Duration, ok bool) {
	for _, c := range f.current.Load().certs {
		if host == "" || c.Leaf.VerifyHostname(host) == nil {
			return c.Leaf.NotAfter, c.Leaf.NotAfter.Sub(c.Leaf.NotBefore), true
		}
	}
	return time.Time{}, 0, false
}

// Config returns the settings of a TLS listener that uses the certificates returned by get.
func Config(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		GetCertificate: get,
		MinVersion:     tls.VersionTLS12,
		// Only for TLS 1.2. The suites of TLS 1.3 are fixed.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{"h2", "http/1.1"},
	}
}

// Check returns a sentence for each fault in the files: those that prevent a server from starting,
// and those that clients would notice. Each host must have a matching certificate. certKey and
// keyKey are the names of the settings with the paths.
func Check(certKey, keyKey string, pairs []Pair, hosts []string, now time.Time) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	var leaves []*x509.Certificate
	for _, p := range pairs {
		chain, err1 := regularfile.ReadUpTo(p.Cert, maxFile)
		key, err2 := regularfile.ReadUpTo(p.Key, maxFile)
		if err1 != nil {
			fault("%s: %v", certKey, err1)
		}
		if err2 != nil {
			fault("%s: %v", keyKey, err2)
		}
		if err1 != nil || err2 != nil {
			continue
		}
		if info, err := os.Stat(p.Key); err == nil && info.Mode().Perm()&0o007 != 0 {
			fault("%s can be read or changed by every user of this machine (mode %04o); set its mode to 0600 or 0640",
				p.Key, info.Mode().Perm())
		}
		c, err := pair(chain, key)
		if err != nil {
			fault("%s and %s: %v", p.Cert, p.Key, err)
			continue
		}
		leaves = append(leaves, c.Leaf)
		switch day := time.DateOnly; {
		case now.After(c.Leaf.NotAfter):
			fault("%s expired on %s; renew it", p.Cert, c.Leaf.NotAfter.UTC().Format(day))
		case now.Before(c.Leaf.NotBefore):
			fault("%s is not valid before %s; is the clock right?", p.Cert, c.Leaf.NotBefore.UTC().Format(day))
		}
		if len(c.Leaf.DNSNames) == 0 && len(c.Leaf.IPAddresses) == 0 {
			fault("%s: %s names no host (it has no subjectAltName), so clients refuse it",
				certKey, p.Cert)
		}
		// If the certificate names a URL for its issuer's certificate, the issuer is usually not a
		// root that clients know.
		if len(c.Certificate) == 1 && len(c.Leaf.IssuingCertificateURL) > 0 {
			fault("%s contains only the server's certificate; add the certificates of the authorities that issued it, "+
				"as in fullchain.pem", p.Cert)
		}
	}
	if len(leaves) < len(pairs) {
		return faults
	}
	for _, host := range hosts {
		covered := false
		for _, leaf := range leaves {
			covered = covered || leaf.VerifyHostname(host) == nil
		}
		if !covered {
			fault("no certificate is for %s, the host of a tenant", host)
		}
	}
	return faults
}
