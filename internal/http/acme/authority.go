package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"

	"dialtone/internal/fault"
)

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
