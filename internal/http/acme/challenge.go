package acme

import (
	"context"
	"crypto"
	"crypto/tls"
	"net/http"
	"strings"

	"golang.org/x/crypto/acme"

	"dialtone/internal/certificate"
	"dialtone/internal/tenant"
)

// ALPN is the protocol name with which an authority validates tls-alpn-01.
const ALPN = acme.ALPNProto

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
