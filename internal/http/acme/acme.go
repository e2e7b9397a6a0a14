// Package acme obtains certificates for the hosts of tenants from a certificate authority, by ACME
// (RFC 8555), and serves them to the public listener.
//
// # What it guarantees
//
// Package certificate guarantees that only tenants' hosts get certificates, that one server at a
// time orders one, and that servers wait after failures. A listener keeps using a certificate that
// could not be renewed, and all its certificates while the store or the authority cannot be
// reached.
//
// # How it works
//
// Every second, Run loads the certificates that are new in the store and orders those that are due,
// at most four at a time. An order proves control of the host by tls-alpn-01 (RFC 8737). After a
// failure, orders alternate with http-01 (RFC 8555 section 8.3) if a listener serves it. The
// challenge's token is in the store before the authority is asked
// to check it, so every server can answer.
//
// golang.org/x/crypto/acme implements the protocol. Nothing is read and no goroutine runs before
// Run.
package acme

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"dialtone/internal/certificate"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// Deps are the dependencies of a Manager.
type Deps struct {
	Store    certificate.Store
	Tenants  *tenant.Table
	SealRing *secret.Ring
	// Authority is the URL of the authority's directory. Roots are the CA certificates that verify
	// its server, or nil for those of the system. Email is the operator's contact address, or
	// empty.
	Authority string
	Roots     *x509.CertPool
	Email     string
	// HTTP is set if a listener answers http-01 (Answer).
	HTTP bool
	Log  *slog.Logger
	Now  func() time.Time
}

// Manager orders certificates and holds those that were issued. It is safe for concurrent use.
type Manager struct {
	Deps
	keys     certificate.Keys
	interval time.Duration // between two reads of the store
	// settle is how long a tenant must have been known before a certificate is ordered for it, so
	// that the other servers know it too when the authority contacts them. firstSeen is when this
	// server first saw each tenant; only Run uses it.
	settle    time.Duration
	firstSeen map[int64]time.Time

	mu     sync.Mutex
	orders map[int64]bool // tenants whose certificate this server is ordering

	registering sync.Mutex // of client, which is nil before the first order
	client      *acme.Client

	// paused is until when the authority has asked for no more orders, in Unix microseconds.
	paused  atomic.Int64
	states  atomic.Pointer[map[int64]certificate.State]
	current atomic.Pointer[map[int64]*tls.Certificate]
	issued  map[int64]time.Time // when the certificates in current were issued; used by Run alone
}

// New returns a Manager without certificates.
func New(d Deps) *Manager {
	m := &Manager{
		Deps: d, keys: certificate.NewKeys(d.SealRing), interval: time.Second,
		settle: 3 * time.Second, firstSeen: map[int64]time.Time{},
		orders: map[int64]bool{}, issued: map[int64]time.Time{},
	}
	m.states.Store(&map[int64]certificate.State{})
	m.current.Store(&map[int64]*tls.Certificate{})
	return m
}

// Run loads and orders certificates until ctx ends. It calls report after each read of the store.
func (m *Manager) Run(ctx context.Context, report func(error)) {
	ticker := time.NewTicker(m.interval)
	defer ticker.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		before := m.states.Load()
		report(m.Refresh(ctx))
		if m.states.Load() != before { // otherwise the store could not be read
			m.orderDue(ctx, &running)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Refresh loads the certificates that are new in the store. Run calls it regularly; a server also
// calls it before it listens. Even if Refresh fails, it loads the certificates that it can read.
func (m *Manager) Refresh(ctx context.Context) error {
	list, err := m.Store.CertificateStates(ctx)
	if err != nil {
		return err
	}
	states := make(map[int64]certificate.State, len(list))
	current := make(map[int64]*tls.Certificate, len(list))
	changed := false
	var failed error
	for _, s := range list {
		states[s.Tenant] = s
		t, ok := m.Tenants.ByID(s.Tenant)
		if !ok || s.Issued.IsZero() {
			continue
		}
		cached := (*m.current.Load())[s.Tenant]
		if cached == nil || !m.issued[s.Tenant].Equal(s.Issued) {
			loaded, err := m.load(ctx, t)
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("certificate of %s: %w", t.Host, err))
			} else {
				cached, changed = loaded, true
				m.issued[s.Tenant] = s.Issued
			}
		}
		if cached != nil {
			current[s.Tenant] = cached
		}
	}
	m.states.Store(&states)
	if changed || len(current) != len(*m.current.Load()) {
		m.current.Store(&current)
	}
	return failed
}

// load reads the certificate of a tenant.
func (m *Manager) load(ctx context.Context, t *tenant.Tenant) (*tls.Certificate, error) {
	c, err := m.Store.Certificate(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	der, err := m.keys.Open(t.ID, t.Host, c.Sealed)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the private key in the store cannot be read")
	}
	return newCertificate(c.Chain, key, t.Host)
}

// newCertificate checks that a chain in PEM belongs to a key and a host.
func newCertificate(chain []byte, key crypto.PrivateKey, host string) (*tls.Certificate, error) {
	c := &tls.Certificate{PrivateKey: key}
	for {
		var block *pem.Block
		if block, chain = pem.Decode(chain); block == nil {
			break
		}
		c.Certificate = append(c.Certificate, block.Bytes)
	}
	if len(c.Certificate) == 0 {
		return nil, errors.New("the chain contains no certificate")
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	public, isKey := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !isKey || !public.Equal(signer.Public()) {
		return nil, errors.New("the certificate belongs to another key")
	}
	c.Leaf = leaf
	return c, leaf.VerifyHostname(host)
}

// Get is a GetCertificate function for tls.Config. It returns the certificate of the tenant that
// the client names, or the challenge certificate if the client is an authority.
func (m *Manager) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	t, ok := m.Tenants.Lookup(hello.ServerName)
	if !ok || hello.ServerName == "" {
		return nil, errors.New("no tenant has the host that the client names")
	}
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == ALPN {
		return m.challengeCertificate(hello.Context(), t)
	}
	c := (*m.current.Load())[t.ID]
	if c == nil {
		return nil, fmt.Errorf("there is no certificate for %s yet", t.Host)
	}
	return c, nil
}

// Expiry returns when the certificate of a host expires, and its total lifetime. ok is false if the
// host has none.
func (m *Manager) Expiry(host string) (expires time.Time, life time.Duration, ok bool) {
	t, ok := m.Tenants.ByHost(host)
	if !ok {
		return time.Time{}, 0, false
	}
	c := (*m.current.Load())[t.ID]
	if c == nil {
		return time.Time{}, 0, false
	}
	return c.Leaf.NotAfter, c.Leaf.NotAfter.Sub(c.Leaf.NotBefore), true
}

// State returns a tenant's state as of the last read of the store.
func (m *Manager) State(tenant int64) certificate.State { return (*m.states.Load())[tenant] }
