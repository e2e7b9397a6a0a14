package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"dialtone/internal/certificate"
	"dialtone/internal/tenant"
)

const (
	// An order usually takes a few seconds, but the authority's own checks may delay it.
	orderTime = 2 * time.Minute
	// leaseTime is longer than orderTime, so that a slow server does not lose its claim.
	leaseTime = 5 * time.Minute
	maxOrders = 4
)

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
