package phonetest

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"dialtone/internal/test/process"
)

// Caddy runs deploy/caddy/Caddyfile for the host "localhost" in front of the server at an address,
// with replacements as for Config. It does not request a certificate itself.
func Caddy(t testing.TB, server string, replace ...string) *ProxyServer {
	t.Helper()
	s := newServer(t, "caddy")
	p := &ProxyServer{Server: s, Plain: process.Address(t), Roots: x509.NewCertPool()}
	key := p.certify(t)
	_, plain, _ := strings.Cut(p.Plain, ":")
	site := Config(t, "caddy/Caddyfile", append([]string{
		"phone.example.org {", fmt.Sprintf("localhost:%d {\n\ttls %s %s\n\tbind 127.0.0.1", p.Port, p.Certificate, key),
		"reverse_proxy 127.0.0.1:8080 {", "reverse_proxy " + server + " {",
		"{\n\tservers {", fmt.Sprintf("{\n\tadmin off\n\thttp_port %s\n\thttps_port %d\n"+
			"\tstorage file_system %s/storage\n\tservers {", plain, p.Port, s.Dir),
	}, replace...)...)
	config := s.Write(t, "Caddyfile", site)
	s.run(t, process.Answers(s.address()), "caddy", "run", "--adapter", "caddyfile", "--config", config)
	return p
}
