package tlstest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"dialtone/internal/test/process"
)

// Pebble is a running ACME certificate authority. It resolves every host to 127.0.0.1.
type Pebble struct {
	// Directory is its URL, and CAFile a file with the authority of its own TLS certificate.
	Directory string
	CAFile    string
	Roots     *x509.CertPool
	// TLSPort and HTTPPort are the ports on which it checks tls-alpn-01 and http-01.
	TLSPort, HTTPPort int
	Log               process.Log

	config     string
	management string
	dns        string
	process    *process.Process
	client     *http.Client
}

// NewPebble starts Pebble.
func NewPebble(t testing.TB) *Pebble {
	t.Helper()
	a := NewAuthority(t)
	cert, key := a.Issue(t, "pebble", time.Time{}, "localhost")
	listen := process.Port(t)
	p := &Pebble{
		Directory: "https://localhost:" + strconv.Itoa(listen) + "/dir", CAFile: a.File, Roots: a.Roots,
		TLSPort: process.Port(t), HTTPPort: process.Port(t), management: process.Address(t), dns: serveNames(t),
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Roots}}},
	}
	p.management = strings.Replace(p.management, "127.0.0.1", "localhost", 1)
	p.config = filepath.Join(t.TempDir(), "pebble.json")
	text, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": "127.0.0.1:" + strconv.Itoa(listen), "managementListenAddress": p.management,
		"certificate": cert, "privateKey": key, "httpPort": p.HTTPPort, "tlsPort": p.TLSPort,
		"keyAlgorithm": "ecdsa", "retryAfter": map[string]any{"authz": 1, "order": 1},
		"profiles": map[string]any{
			"default": map[string]any{"description": "90 days", "validityPeriod": 90 * 24 * 60 * 60},
		},
	}})
	if err == nil {
		err = os.WriteFile(p.config, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.Start(t)
	return p
}

// Start starts Pebble again after Stop. It has then lost all accounts, and has a new root.
func (p *Pebble) Start(t testing.TB) {
	t.Helper()
	cmd := exec.Command(program(t), "-config", p.config, "-dnsserver", p.dns)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0")
	p.process = process.Run(t, cmd, &p.Log, func() error {
		response, err := p.client.Get(p.Directory)
		if err == nil {
			response.Body.Close()
		}
		return err
	})
}

// Stop ends Pebble.
func (p *Pebble) Stop(t testing.TB) {
	t.Helper()
	if err := p.process.Stop(syscall.SIGKILL, process.Timeout); err != nil && !p.process.Ended() {
		t.Fatal(err)
	}
}

// IssuedBy returns the root of the certificates that Pebble issues.
func (p *Pebble) IssuedBy(t testing.TB) *x509.CertPool {
	t.Helper()
	response, err := p.client.Get("https://" + p.management + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("no root in %q", text)
	}
	return pool
}

// program returns the path of Pebble. It is a tool of the module in tools/pebble, so that its dependencies are not
// among those of this program. The first call builds it.
func program(t testing.TB) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	cmd := exec.Command("go", "tool", "-n", "pebble")
	cmd.Dir = filepath.Join(filepath.Dir(file), "..", "..", "..", "tools", "pebble")
	// Flags of the test's own build would build it again.
	cmd.Env = append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("pebble cannot be built: %s", failed.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// serveNames answers DNS queries by TCP until the test is over: every name has the address 127.0.0.1.
func serveNames(t testing.TB) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(process.Timeout))
				for answerName(conn) == nil {
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

// answerName answers one query, which follows its length (RFC 1035 section 4.2.2).
func answerName(conn net.Conn) error {
	var length uint16
	if err := binary.Read(conn, binary.BigEndian, &length); err != nil {
		return err
	}
	query := make([]byte, length)
	if _, err := io.ReadFull(conn, query); err != nil {
		return err
	}
	answer, err := nameAnswer(query)
	if err != nil {
		return err
	}
	_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	return err
}

func nameAnswer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.Authoritative = true, true
	m.Additionals = nil
	for _, q := range m.Questions {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			})
		}
	}
	return m.Pack()
}
