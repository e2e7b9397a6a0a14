package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/certificate"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/process"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/tlstest"
)

// platform is a store with the tenants a.test and localhost, and an authority.
type platform struct {
	*testing.T
	store  *store.Store
	ring   *secret.Ring
	pebble *tlstest.Pebble
	roots  *x509.CertPool
	later  atomic.Int64 // how far the clock of the servers is ahead, in nanoseconds
	tenant int64
}

func newPlatform(t *testing.T) *platform {
	t.Parallel()
	ring := secret.NewRing(time.Now())
	s, err := teststore.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p := &platform{T: t, store: s, ring: ring, pebble: tlstest.NewPebble(t)}
	p.roots = p.pebble.IssuedBy(t)
	p.tenant = p.addTenant("a.test")
	p.addTenant("localhost")
	return p
}

func (p *platform) addTenant(host string) int64 {
	p.Helper()
	t, err := p.store.AddTenant(p.Context(), tenant.Tenant{Host: host, Realm: host, Created: time.Now()})
	if err != nil {
		p.Fatal(err)
	}
	return t.ID
}

// node is a server of the platform.
type node struct {
	*Manager
	address string
	log     *process.Log
}

// newNode returns a server that listens at an address with TLS. It orders nothing.
func (p *platform) newNode(address string) *node {
	p.Helper()
	tenants := tenant.NewTable(p.store, func(host string) string { return "https://" + host })
	log := new(process.Log)
	n := &node{log: log, Manager: New(Deps{
		Store: p.store, Tenants: tenants, SealRing: p.ring, Authority: p.pebble.Directory, Roots: p.pebble.Roots,
		HTTP: true, Log: slog.New(slog.NewTextHandler(log, nil)),
		Now: func() time.Time { return time.Now().Add(time.Duration(p.later.Load())) },
	})}
	n.interval, n.settle = 50*time.Millisecond, 500*time.Millisecond
	l, err := net.Listen("tcp", address)
	if err != nil {
		p.Fatal(err)
	}
	n.address = l.Addr().String()
	server := &http.Server{
		Handler:   http.NotFoundHandler(),
		TLSConfig: &tls.Config{GetCertificate: n.Get, NextProtos: []string{"http/1.1", ALPN}},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go server.ServeTLS(l, "", "")
	p.Cleanup(func() { server.Close() })
	n.refresh(p)
	return n
}

func (n *node) refresh(p *platform) {
	p.Helper()
	if err := errors.Join(n.Tenants.Refresh(p.Context()), n.Refresh(p.Context())); err != nil {
		p.Fatal(err)
	}
}

// run orders certificates until the returned function is called, or the test is over.
func (n *node) run(p *platform) (stop func()) {
	ctx, cancel := context.WithCancel(p.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(ctx, func(err error) {
			if err != nil && ctx.Err() == nil {
				p.Error(err)
			}
			n.Tenants.Refresh(ctx)
		})
	}()
	stop = func() {
		cancel()
		<-done
	}
	p.Cleanup(stop)
	return stop
}

// serial returns the serial number of the certificate that a client gets for a host.
func (n *node) serial(p *platform, host string) (string, error) {
	conn, err := tls.Dial("tcp", n.address, &tls.Config{ServerName: host, RootCAs: p.roots})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// wait waits until a client gets a new certificate for a host, and returns its serial number.
func (n *node) wait(p *platform, host, before string) (serial string) {
	p.Helper()
	process.Eventually(p, "a certificate for "+host, func() (err error) {
		serial, err = n.serial(p, host)
		if err == nil && serial == before {
			err = errors.New("still the certificate of before")
		}
		if err != nil {
			err = fmt.Errorf("%w; the log:\n%s", err, n.log.Tail())
		}
		return err
	})
	return serial
}

func (p *platform) checkTLS() string { return "127.0.0.1:" + strconv.Itoa(p.pebble.TLSPort) }

// issued returns the number of certificates that the authority has issued.
func (p *platform) issued() int { return p.pebble.Log.Count("Issued certificate serial") }

// Two servers share certificates and challenges: the authority reaches one of them, and the other orders.
func TestTwoServers(t *testing.T) {
	p := newPlatform(t)
	reached, orders := p.newNode(p.checkTLS()), p.newNode("127.0.0.1:0")
	if _, err := reached.serial(p, "a.test"); err == nil {
		t.Fatal("there is a certificate before the first order")
	}
	orders.run(p)
	first := orders.wait(p, "a.test", "")
	reached.refresh(p)
	if got, err := reached.serial(p, "a.test"); err != nil || got != first {
		t.Errorf("the other server has the certificate %s, %v, want %s", got, err, first)
	}
	reached.run(p)

	// A tenant is added and a certificate is renewed while both servers are looking for work.
	p.addTenant("b.test")
	second := reached.wait(p, "b.test", "")
	if got := orders.wait(p, "b.test", ""); got != second {
		t.Errorf("the servers have the certificates %s and %s of b.test", second, got)
	}
	if n := p.issued(); n != 2 {
		t.Errorf("%d certificates were issued, want 2", n)
	}
	p.later.Store(int64(59 * 24 * time.Hour))
	process.Eventually(t, "both servers look again", process.Holds(func() bool {
		return orders.looks(p) && reached.looks(p)
	}))
	if n := p.issued(); n != 2 {
		t.Errorf("%d certificates were issued before the renewal, want 2", n)
	}
	p.later.Store(int64(61 * 24 * time.Hour))
	third := reached.wait(p, "a.test", first)
	if got := orders.wait(p, "a.test", first); got != third {
		t.Errorf("the servers have the certificates %s and %s of a.test", third, got)
	}
	orders.wait(p, "b.test", second)
	if n := p.issued(); n != 4 {
		t.Errorf("%d certificates were issued, want 4", n)
	}

	// A tenant is removed.
	if err := p.store.RemoveTenant(t.Context(), "b.test", false, time.Now()); err != nil {
		t.Fatal(err)
	}
	process.Eventually(t, "no certificate for a tenant that was removed", func() error {
		for _, n := range []*node{reached, orders} {
			if _, err := n.serial(p, "b.test"); err == nil {
				return errors.New("there is a certificate")
			}
		}
		return nil
	})
	for _, host := range []string{"localhost", "other.test"} {
		if strings.Contains(p.pebble.Log.String(), host+" ") || strings.Contains(p.pebble.Log.String(), `"`+host+`"`) {
			t.Errorf("a certificate for %s was ordered", host)
		}
	}
}

// looks waits until the server has read the store again.
func (n *node) looks(p *platform) bool {
	before := n.states.Load()
	process.Eventually(p, "a look at the store", process.Holds(func() bool { return n.states.Load() != before }))
	return true
}

// Strangers who name other hosts, or claim to be an authority, get no certificate, and cause no order.
func TestStrangers(t *testing.T) {
	p := newPlatform(t)
	n := p.newNode("127.0.0.1:0")
	for _, config := range []*tls.Config{
		{ServerName: "other.test"}, {ServerName: ""}, {ServerName: "a.test"}, {ServerName: "localhost"},
		{ServerName: "a.test", NextProtos: []string{ALPN}}, {ServerName: "other.test", NextProtos: []string{ALPN}},
	} {
		config.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", n.address, config)
		if err == nil {
			conn.Close()
			t.Errorf("%q, %q: a handshake succeeds", config.ServerName, config.NextProtos)
		}
	}
	list, err := p.store.CertificateStates(t.Context())
	if err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// If tls-alpn-01 fails, the next order uses http-01. Any server answers it.
func TestHTTP(t *testing.T) {
	p := newPlatform(t)
	n, reached := p.newNode("127.0.0.1:0"), p.newNode("127.0.0.1:0")
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p.pebble.HTTPPort))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !reached.Answer(w, r) {
			w.WriteHeader(http.StatusTeapot)
		}
	})}
	go server.Serve(l)
	defer server.Close()
	n.run(p)
	// Nothing listens where the authority checks tls-alpn-01.
	process.Eventually(t, "a failure", func() error {
		if s := n.State(p.tenant); s.Failures != 1 || !strings.Contains(s.Failure, "tls-alpn-01") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	s := n.State(p.tenant)
	if wait := time.Until(s.Due); wait < time.Minute || wait > 2*time.Minute {
		t.Errorf("the next order is due in %v", wait)
	}
	n.log.Wait(t, "certificate not issued", "retry_in=2m0s")
	p.later.Store(int64(2 * time.Minute))
	n.wait(p, "a.test", "")
	if s, err := p.store.Certificate(t.Context(), p.tenant); err != nil || s.Failures != 0 || s.Failure != "" {
		t.Errorf("after success: %+v, %v", s.State, err)
	}
	for path, want := range map[string]int{
		root + "token": http.StatusNotFound, root: http.StatusNotFound, "/signup.html": http.StatusTeapot,
	} {
		r, err := http.NewRequest("GET", "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "a.test"
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, response.StatusCode, want)
		}
	}
}

// While the authority cannot be reached, the certificate stays, and the order is repeated after a minute.
func TestAuthorityDown(t *testing.T) {
	p := newPlatform(t)
	n := p.newNode(p.checkTLS())
	n.run(p)
	first := n.wait(p, "a.test", "")
	p.pebble.Stop(t)
	p.later.Store(int64(61 * 24 * time.Hour))
	process.Eventually(t, "a failure", func() error {
		if s := n.State(p.tenant); s.Failures != 1 || s.Due.After(n.Now().Add(certificate.Backoff(1, true))) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if got, err := n.serial(p, "a.test"); err != nil || got != first {
		t.Errorf("got %s, %v, want the certificate of before", got, err)
	}
	// The authority comes back without its accounts, as if it had a new database: the server
	// registers again.
	p.pebble.Start(t)
	p.roots = p.pebble.IssuedBy(t)
	p.later.Add(int64(2 * time.Minute))
	process.Eventually(t, "a second failure or success", func() error {
		if _, err := n.serial(p, "a.test"); err == nil {
			return nil
		}
		if s := n.State(p.tenant); s.Failures == 2 {
			p.later.Add(int64(time.Hour))
			return errors.New("the account is not known")
		}
		return fmt.Errorf("%+v", n.State(p.tenant))
	})
}
