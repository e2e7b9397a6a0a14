package tlscert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialtone/internal/test/tlstest"
)

// name returns the first host of the certificate that a client gets for a host.
func name(t *testing.T, f *Files, host string) string {
	t.Helper()
	c, err := f.Get(&tls.ClientHelloInfo{
		ServerName: host, SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf.DNSNames[0]
}

// Either all files take effect, or none does.
func TestRefresh(t *testing.T) {
	a := tlstest.NewAuthority(t)
	var pairs []Pair
	for _, host := range []string{"a.test", "b.test"} {
		cert, key := a.Issue(t, host, time.Time{}, host)
		pairs = append(pairs, Pair{cert, key})
	}
	f, err := Load(pairs, "")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"a.test": "a.test", "b.test": "b.test", "c.test": "a.test", "": "a.test",
	} {
		if got := name(t, f, host); got != want {
			t.Errorf("%q gets the certificate of %s, want %s", host, got, want)
		}
	}
	key, err := os.ReadFile(pairs[1].Key)
	if err != nil {
		t.Fatal(err)
	}
	a.Issue(t, "a.test", time.Time{}, "new.test")
	if err := os.WriteFile(pairs[1].Key, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Refresh(); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), pairs[1].Key) {
			t.Errorf("got %v", err)
		}
		if got := name(t, f, "new.test"); got != "a.test" {
			t.Errorf("while a file is wrong, a client gets the certificate of %s", got)
		}
	}
	if err := os.WriteFile(pairs[1].Key, key, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Refresh(); err != nil || name(t, f, "new.test") != "new.test" {
		t.Errorf("after that: %v, %s", err, name(t, f, "new.test"))
	}
	if err := os.Remove(pairs[0].Cert); err != nil {
		t.Fatal(err)
	}
	if err := f.Refresh(); !errors.Is(err, ErrUnusable) || name(t, f, "new.test") != "new.test" {
		t.Errorf("without a file: %v", err)
	}
}

func TestMissingIntermediate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"}, NotAfter: time.Now().Add(time.Hour),
		IssuingCertificateURL: []string{"http://ca.test/issuer.der"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := Pair{filepath.Join(dir, "cert"), filepath.Join(dir, "key")}
	for path, block := range map[string]*pem.Block{
		p.Cert: {Type: "CERTIFICATE", Bytes: der}, p.Key: {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	faults := Check("tls.cert", "tls.key", []Pair{p}, []string{"a.test"}, time.Now())
	if len(faults) != 1 || !strings.Contains(faults[0], "fullchain.pem") {
		t.Errorf("got %q", faults)
	}
}
