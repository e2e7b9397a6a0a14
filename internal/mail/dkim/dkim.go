// Package dkim signs messages (RFC 6376, RFC 8463), so that whoever gets one can tell that it comes from the domain of its sender.
//
// A message is signed when it leaves by the relay, and not in the file: a mail agent that drains the pickup directory signs by itself,
// the file stays the same bytes however often it is written, and a message that waited is signed by the keys of today. Every key of the
// tenant signs, so that one of RSA, which everybody can check, and one of Ed25519, which is shorter, go together, and a new key can
// take over from an old one.
//
// Private keys lie in the store, where all servers find them, sealed for tenant and selector. What the signature says is the domain of
// the message's From.
package dkim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/mail"
	"sync"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"dialtone/internal/delivery"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
)

// Algorithm is of RSA or Ed25519.
type Algorithm string

// The algorithms.
const (
	RSA     Algorithm = "rsa"
	Ed25519 Algorithm = "ed25519"
)

// rsaBits is what a TXT record of DNS over UDP holds, and every checker takes (RFC 8301 §3.2).
const rsaBits = 2048

// Keys are the tenants' keys in the store.
type Keys struct {
	store delivery.KeyStore
	vault *secret.Vault
}

// NewKeys opens keys that were sealed with the ring.
func NewKeys(store delivery.KeyStore, ring *secret.Ring) *Keys {
	return &Keys{store, secret.NewVault(ring, "dkim key")}
}

// Public is what may be known of a key.
type Public struct {
	Selector  string
	Algorithm Algorithm
	Created   time.Time
	// Record is the text for SELECTOR._domainkey.DOMAIN (RFC 6376 §3.6.1).
	Record string
}

// key is one that can sign.
type key struct {
	Public
	crypto.Signer
}

// Add makes a key.
func (k *Keys) Add(ctx context.Context, tenant int64, selector string, a Algorithm, now time.Time) (Public, error) {
	if err := delivery.CheckSelector(selector); err != nil {
		return Public{}, err
	}
	var private crypto.Signer
	var err error
	if a == Ed25519 {
		_, private, err = ed25519.GenerateKey(rand.Reader)
	} else {
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	}
	if err != nil {
		return Public{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Public{}, err
	}
	now = now.UTC().Truncate(time.Microsecond)
	err = k.store.AddSigningKey(ctx, delivery.SigningKey{
		Tenant: tenant, Selector: selector, Created: now, Sealed: k.vault.Seal(tenant, []byte(selector), der),
	})
	if err != nil {
		return Public{}, err
	}
	return public(selector, now, private)
}

func public(selector string, created time.Time, private crypto.Signer) (Public, error) {
	p := Public{Selector: selector, Created: created, Algorithm: RSA}
	b, err := x509.MarshalPKIXPublicKey(private.Public())
	if pub, ok := private.Public().(ed25519.PublicKey); ok {
		p.Algorithm, b = Ed25519, pub // RFC 8463 §4: the bare key
	}
	p.Record = fmt.Sprintf("v=DKIM1; k=%s; p=%s", p.Algorithm, base64.StdEncoding.EncodeToString(b))
	return p, err
}

// List are a tenant's keys.
func (k *Keys) List(ctx context.Context, tenant int64) (list []Public, err error) {
	keys, err := k.open(ctx, tenant)
	for _, key := range keys {
		list = append(list, key.Public)
	}
	return list, err
}

func (k *Keys) open(ctx context.Context, tenant int64) (keys []key, err error) {
	list, err := k.store.SigningKeys(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		der, err := k.vault.Open(tenant, []byte(s.Selector), s.Sealed)
		if err != nil {
			return nil, fmt.Errorf("the DKIM key %s: %w", s.Selector, err)
		}
		parsed, err := x509.ParsePKCS8PrivateKey(der)
		private, ok := parsed.(crypto.Signer)
		if err != nil || !ok {
			return nil, fmt.Errorf("the DKIM key %s is damaged", s.Selector)
		}
		p, err := public(s.Selector, s.Created, private)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key{p, private})
	}
	return keys, nil
}

// fresh is for how long keys are used that were read: so long may it take until a change of them is seen.
const fresh = 5 * time.Second

// Signer signs messages. It is safe for concurrent use.
type Signer struct {
	keys *Keys
	now  func() time.Time

	mu    sync.Mutex
	known map[int64]reading
}

type reading struct {
	at   time.Time
	keys []key
}

var _ delivery.Signer = (*Signer)(nil)

// NewSigner makes a Signer.
func NewSigner(keys *Keys, now func() time.Time) *Signer {
	return &Signer{keys: keys, now: now, known: make(map[int64]reading)}
}

func (s *Signer) keysOf(ctx context.Context, tenant int64) ([]key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.known[tenant]; ok && s.now().Sub(r.at) < fresh {
		return r.keys, nil
	}
	keys, err := s.keys.open(ctx, tenant)
	if err == nil {
		s.known[tenant] = reading{s.now(), keys}
	}
	return keys, err
}

// signed are the header fields that a signature covers. Those that a reader sees are there twice, so that nobody can add another.
var signed = []string{
	"From", "From", "To", "To", "Subject", "Subject", "Date", "Message-ID", "Reply-To", "MIME-Version", "Content-Type",
	"Content-Transfer-Encoding", "Content-Language", "Auto-Submitted",
}

// Sign implements delivery.Signer. A message of a tenant without keys stays as it is.
func (s *Signer) Sign(ctx context.Context, tenant int64, message []byte) ([]byte, error) {
	keys, err := s.keysOf(ctx, tenant)
	if err != nil || len(keys) == 0 {
		return message, err
	}
	domain, err := senderDomain(message)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, k := range keys {
		signer, err := dkim.NewSigner(&dkim.SignOptions{
			Domain: domain, Selector: k.Selector, Signer: k.Signer, Hash: crypto.SHA256, HeaderKeys: signed,
			HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
		})
		if err != nil {
			return nil, err
		}
		if _, err := signer.Write(message); err != nil {
			return nil, err
		}
		if err := signer.Close(); err != nil {
			return nil, err
		}
		out.WriteString(signer.Signature())
	}
	out.Write(message)
	return out.Bytes(), nil
}

func senderDomain(message []byte) (string, error) {
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		return "", err
	}
	from, err := m.Header.AddressList("From")
	if err != nil || len(from) != 1 {
		return "", errors.New("the message has no sender")
	}
	return mailmsg.Domain(from[0].Address), nil
}
