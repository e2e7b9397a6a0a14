package phonetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dialtone/internal/test/process"
)

// ProxyServer is an nginx in front of a server.
type ProxyServer struct {
	*Server                    // Port is that of TLS
	Plain       string         // address without TLS
	Certificate string         // path of its certificate, which is for "localhost"
	Roots       *x509.CertPool // the authority of the certificate
}

// Nginx runs deploy/nginx/dialtone.conf for the host "localhost" in front of the server at an address,
// with replacements as for Config.
func Nginx(t testing.TB, server string, replace ...string) *ProxyServer {
	t.Helper()
	s := newServer(t, "nginx")
	p := &ProxyServer{Server: s, Plain: process.Address(t), Roots: x509.NewCertPool()}
	key := p.certify(t)
	const live = "/etc/letsencrypt/live/phone.example.org/"
	site := Config(t, "nginx/dialtone.conf", append([]string{
		live + "fullchain.pem", p.Certificate, live + "privkey.pem", key,
		"/var/log/nginx/dialtone.log", p.accessLog(),
		"server_name phone.example.org;", "server_name localhost;",
		"listen [::]:80;", "", "listen [::]:443 ssl http2;", "", // the machine may not have IPv6
		"listen 80;", "listen " + p.Plain + ";",
		"listen 443 ssl", "listen " + s.address() + " ssl",
		"server 127.0.0.1:8080;", "server " + server + ";",
	}, replace...)...)
	s.Write(t, "site.conf", site)
	config := s.Write(t, "nginx.conf", fmt.Sprintf(`daemon off;
worker_processes 1;
pid %[1]s/pid;
error_log stderr;
events {}
http {
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	include %[1]s/site.conf;
}
`, s.Dir))
	s.run(t, process.Answers(s.address()), "nginx", "-e", "stderr", "-p", s.Dir, "-c", config)
	return p
}

// Address returns the address with TLS.
func (p *ProxyServer) Address() string { return p.address() }

// Host returns the host and the port with TLS, by the name in the certificate.
func (p *ProxyServer) Host() string { return fmt.Sprintf("localhost:%d", p.Port) }

func (p *ProxyServer) accessLog() string { return filepath.Join(p.Dir, "access.log") }

// AccessLog returns nginx's log of requests.
func (p *ProxyServer) AccessLog(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(p.accessLog())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// certify writes a self-signed certificate and its key, and returns the path of the key.
func (p *ProxyServer) certify(t testing.TB) (key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p.Roots.AppendCertsFromPEM(public)
	p.Certificate = p.Write(t, "certificate", string(public))
	return p.Write(t, "key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
}
