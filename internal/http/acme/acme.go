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
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"dialtone/internal/certificate"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// ALPN is the protocol name with which an authority validates tls-alpn-01.
const ALPN = acme.ALPNProto

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

const (
	// An order usually takes a few seconds, but the authority's own checks may delay it.
	orderTime = 2 * time.Minute
	// leaseTime is longer than orderTime, so that a slow server does not lose its claim.
	leaseTime = 5 * time.Minute
	maxOrders = 4
)

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

// orderDue orders the certificates that are due, in the background.
func (m *Manager) orderDue(ctx context.Context, running *sync.WaitGroup) {
	now := m.Now()
	if until := m.paused.Load(); now.UnixMicro() < until {
		return
	}
	states := *m.states.Load()
	tenants := m.Tenants.All()
	// Those that have been due longest come first.
	slices.SortFunc(tenants, func(a, b *tenant.Tenant) int { return states[a.ID].Due.Compare(states[b.ID].Due) })
	for _, t := range tenants {
		s, known := states[t.ID]
		if !certificate.Eligible(t.Host) || known && !m.due(s, now) || !known && !m.settled(t.ID) {
			continue
		}
		if !m.begin(t.ID) {
			continue
		}
		running.Go(func() {
			defer m.end(t.ID)
			m.order(ctx, t)
		})
	}
}

// settled reports whether a tenant has been known for long enough.
func (m *Manager) settled(tenant int64) bool {
	since, ok := m.firstSeen[tenant]
	if !ok {
		since = time.Now()
		m.firstSeen[tenant] = since
	}
	return time.Since(since) >= m.settle
}

// due is an estimate from the last read of the store. Store.ClaimCertificate decides.
func (m *Manager) due(s certificate.State, now time.Time) bool {
	free := !s.Lease.After(now) || s.Lease.After(now.Add(leaseTime))
	return free && (!s.Due.After(now) || s.Authority != m.Authority)
}

// begin reserves one of maxOrders slots for a tenant's order, and reports whether it succeeded.
func (m *Manager) begin(tenant int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.orders[tenant] || len(m.orders) >= maxOrders {
		return false
	}
	m.orders[tenant] = true
	return true
}

func (m *Manager) end(tenant int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.orders, tenant)
}

// order claims the certificate of a tenant, orders it and stores it, or stores why that failed.
func (m *Manager) order(ctx context.Context, t *tenant.Tenant) {
	now := m.Now()
	s, ok, err := m.Store.ClaimCertificate(ctx, t.ID, m.Authority, now, now.Add(leaseTime))
	if err != nil || !ok {
		return // the next read of the store reports the failure
	}
	orderCtx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	c, err := m.newOrder(orderCtx, t, s)
	if err == nil {
		if err := m.Store.KeepCertificate(context.WithoutCancel(ctx), c); err != nil {
			m.Log.ErrorContext(ctx, "certificate issued and not stored", "tenant", t.Host, "err", err)
			return
		}
		m.Log.InfoContext(ctx, "certificate issued", "tenant", t.Host, "expires", c.NotAfter, "renewal", c.Due)
		return
	}
	if ctx.Err() != nil { // this server shuts down; another one takes over
		s.Due, s.Authority = m.Now().Add(minLife), m.Authority
		m.Store.FailCertificate(context.WithoutCancel(ctx), s)
		return
	}
	if refusal, ok := errors.AsType[*acme.Error](err); ok && refusal.ProblemType == noAccount {
		m.forgetAccount()
	}
	s.Authority = m.Authority
	s.Failures++
	wait := certificate.Backoff(s.Failures, !answered(err))
	if limit, ok := rateLimit(err); ok {
		wait = max(wait, limit)
		m.paused.Store(m.Now().Add(limit).UnixMicro())
	}
	s.Due, s.Failure = m.Now().Add(wait), sentence(err)
	m.Log.WarnContext(ctx, "certificate not issued", "tenant", t.Host, "failures", s.Failures,
		"retry_in", wait.String(), "err", s.Failure)
	if err := m.Store.FailCertificate(context.WithoutCancel(ctx), s); err != nil {
		m.Log.ErrorContext(ctx, "failed order not stored", "tenant", t.Host, "err", err)
	}
}

// newOrder orders a certificate for a claim.
func (m *Manager) newOrder(ctx context.Context, t *tenant.Tenant, s certificate.State) (
	c certificate.Certificate, err error,
) {
	client, err := m.registered(ctx)
	if err != nil {
		return c, err
	}
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(t.Host))
	if err != nil {
		return c, fmt.Errorf("order: %w", err)
	}
	for _, url := range order.AuthzURLs {
		if err := m.authorize(ctx, client, url, s); err != nil {
			return c, err
		}
	}
	if order, err = client.WaitOrder(ctx, order.URI); err != nil {
		return c, fmt.Errorf("order: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	names := &x509.CertificateRequest{DNSNames: []string{t.Host}}
	request, err := x509.CreateCertificateRequest(rand.Reader, names, key)
	if err != nil {
		return c, err
	}
	chain, _, err := client.CreateCertFromOrder(ctx, order, request, true)
	if err != nil {
		return c, fmt.Errorf("issue: %w", err)
	}
	c.State = s
	for _, der := range chain {
		c.Chain = append(c.Chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	// The client has checked neither the host nor the dates.
	checked, err := newCertificate(c.Chain, key, t.Host)
	if err != nil {
		return c, fmt.Errorf("the authority issued a certificate that cannot be used: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return c, err
	}
	c.Sealed = m.keys.Seal(t.ID, t.Host, der)
	c.Authority, c.Issued = m.Authority, m.Now().Truncate(time.Microsecond)
	c.NotBefore, c.NotAfter = checked.Leaf.NotBefore, checked.Leaf.NotAfter
	c.Due = certificate.RenewAt(c.NotBefore, c.NotAfter)
	// A certificate with a lifetime of minutes would otherwise be ordered again immediately and
	// endlessly.
	if soonest := m.Now().Add(minLife); c.Due.Before(soonest) {
		c.Due = soonest
	}
	return c, nil
}

// minLife is the minimum time before a certificate is renewed.
const minLife = time.Minute

// authorize proves control of a host.
func (m *Manager) authorize(ctx context.Context, client *acme.Client, url string, s certificate.State) error {
	z, err := client.GetAuthorization(ctx, url)
	if err != nil {
		return fmt.Errorf("authorization: %w", err)
	}
	if z.Status == acme.StatusValid {
		return nil
	}
	kind := "tls-alpn-01"
	if m.HTTP && s.Failures%2 == 1 {
		kind = "http-01"
	}
	i := slices.IndexFunc(z.Challenges, func(c *acme.Challenge) bool { return c.Type == kind })
	if i < 0 {
		return fmt.Errorf("the authority offers no challenge of type %s", kind)
	}
	challenge := z.Challenges[i]
	err = m.Store.SetChallenge(ctx, s, certificate.Challenge{Authority: m.Authority, Token: challenge.Token})
	if err != nil {
		return err
	}
	if _, err := client.Accept(ctx, challenge); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	if _, err := client.WaitAuthorization(ctx, z.URI); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}

// registered returns a client with an account. It registers the account, or finds the existing one,
// once per process.
func (m *Manager) registered(ctx context.Context) (*acme.Client, error) {
	m.registering.Lock()
	defer m.registering.Unlock()
	if m.client != nil {
		return m.client, nil
	}
	key, err := m.accountKey(ctx, m.Authority)
	if fault.Is(err, fault.NotFound) {
		key, err = m.newAccountKey(ctx)
	}
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: m.Roots, MinVersion: tls.VersionTLS12}
	client := &acme.Client{
		Key: key, DirectoryURL: m.Authority, UserAgent: "dialtone",
		HTTPClient:   &http.Client{Transport: transport, Timeout: 30 * time.Second},
		RetryBackoff: retry,
	}
	account := &acme.Account{}
	if m.Email != "" {
		account.Contact = []string{"mailto:" + m.Email}
	}
	_, err = client.Register(ctx, account, acme.AcceptTOS)
	if err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return nil, fmt.Errorf("account with the authority: %w", err)
	}
	m.client = client
	return client, nil
}

// noAccount is the error type of an authority that does not know an account, or no longer does (RFC
// 8555 section 6.7).
const noAccount = "urn:ietf:params:acme:error:accountDoesNotExist"

// forgetAccount makes the next order register the account again.
func (m *Manager) forgetAccount() {
	m.registering.Lock()
	defer m.registering.Unlock()
	m.client = nil
}

// retry returns how long the client waits before it repeats a request that the authority could not
// answer. It allows two repetitions; after that, the back-off of the order applies.
func retry(n int, _ *http.Request, r *http.Response) time.Duration {
	if n > 2 || r != nil && r.StatusCode == http.StatusTooManyRequests {
		return -1
	}
	return time.Duration(n) * time.Second
}

// accountKey returns the key of the account with an authority.
func (m *Manager) accountKey(ctx context.Context, authority string) (crypto.Signer, error) {
	sealed, err := m.Store.AuthorityKey(ctx, authority)
	if err != nil {
		return nil, err
	}
	return m.openAccountKey(authority, sealed)
}

func (m *Manager) openAccountKey(authority string, sealed []byte) (crypto.Signer, error) {
	der, err := m.keys.OpenAuthority(authority, sealed)
	if err != nil {
		return nil, fmt.Errorf("key of the account with the authority: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("the key of the account with the authority cannot be read")
	}
	return signer, nil
}

// newAccountKey creates the account's key, unless another server has created it.
func (m *Manager) newAccountKey(ctx context.Context) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	stored, err := m.Store.AddAuthorityKey(ctx, m.Authority, m.keys.SealAuthority(m.Authority, der), m.Now())
	if err != nil {
		return nil, err
	}
	return m.openAccountKey(m.Authority, stored)
}

// answered reports whether an error is the authority's response, and not a failure to reach it.
func answered(err error) bool {
	_, ok1 := errors.AsType[*acme.Error](err)
	_, ok2 := errors.AsType[*acme.AuthorizationError](err)
	_, ok3 := errors.AsType[*acme.OrderError](err)
	return ok1 || ok2 || ok3
}

// rateLimit returns how long the authority refuses further orders, if err says so.
func rateLimit(err error) (time.Duration, bool) {
	refusal, ok := errors.AsType[*acme.Error](err)
	if !ok {
		return 0, false
	}
	wait, ok := acme.RateLimit(refusal)
	return min(max(wait, 10*time.Minute), 24*time.Hour), ok
}

// maxSentence limits the length of an error in the store and the log, since its text comes from
// outside.
const maxSentence = 300

// sentence returns an error as one line of bounded length.
func sentence(err error) string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(err.Error(), "?")), " ")
	if len(text) > maxSentence {
		text = strings.ToValidUTF8(text[:maxSentence], "") + "…"
	}
	return text
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

func (m *Manager) challengeCertificate(ctx context.Context, t *tenant.Tenant) (*tls.Certificate, error) {
	challenge, key, err := m.challenge(ctx, t)
	if err != nil {
		return nil, err
	}
	c, err := (&acme.Client{Key: key}).TLSALPN01ChallengeCert(challenge.Token, t.Host)
	return &c, err
}

// challenge returns the challenge of a tenant and the key that answers it.
func (m *Manager) challenge(ctx context.Context, t *tenant.Tenant) (certificate.Challenge, crypto.Signer, error) {
	challenge, err := m.Store.ChallengeOf(ctx, t.ID)
	if err != nil {
		return challenge, nil, err
	}
	key, err := m.accountKey(ctx, challenge.Authority)
	return challenge, key, err
}

// root is the prefix of the paths of http-01.
const root = "/.well-known/acme-challenge/"

// Answer responds to a request for an http-01 challenge and reports true. For other requests it
// reports false and does nothing.
func (m *Manager) Answer(w http.ResponseWriter, r *http.Request) bool {
	token, ok := strings.CutPrefix(r.URL.Path, root)
	if !ok {
		return false
	}
	t, ok := m.Tenants.Lookup(r.Host)
	if !ok {
		http.NotFound(w, r)
		return true
	}
	challenge, key, err := m.challenge(r.Context(), t)
	if err != nil || challenge.Token != token {
		http.NotFound(w, r)
		return true
	}
	text, err := (&acme.Client{Key: key}).HTTP01ChallengeResponse(token)
	if err != nil {
		http.NotFound(w, r)
		return true
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write([]byte(text))
	return true
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
