// Package dkim signs messages (RFC 6376, RFC 8463), so that a receiver can check that they come
// from the domain of their sender.
//
// # Guarantees
//
// A message is signed with every key of its tenant, for the domain of its From field. The signature
// covers the header fields that a reader sees, and prevents further ones from being added. A
// message of a tenant without keys is not changed. If a key cannot be read, signing fails; a
// message is never sent with some of its signatures missing.
//
// Private keys are stored in the database, sealed for their tenant and selector. Every server can
// sign with them.
//
// # When messages are signed
//
// A message is signed when it is sent through the relay. Its file in the pickup directory is not
// signed: a mail server that empties the directory signs by itself, the file has the same bytes
// no matter how often it is written, and a delayed message is signed with the current keys.
//
// # Algorithms
//
// An RSA key, which every receiver supports, can be combined with an Ed25519 key, which is
// shorter. While a new key replaces an old one, messages are signed with both.
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

// Algorithm is a signature algorithm.
type Algorithm string

// The algorithms.
const (
	RSA     Algorithm = "rsa"
	Ed25519 Algorithm = "ed25519"
)

// rsaBits is the size of RSA keys: every receiver supports it (RFC 8301 section 3.2), and its
// record fits into a DNS answer over UDP.
const rsaBits = 2048

// Keys manages the tenants' keys in the store.
type Keys struct {
	store delivery.KeyStore
	vault *secret.Vault
}

// NewKeys returns Keys that are sealed with a ring.
func NewKeys(store delivery.KeyStore, ring *secret.Ring) *Keys {
	return &Keys{store, secret.NewVault(ring, "dkim key")}
}

// PublicKey is the public part of a key.
type PublicKey struct {
	Selector  string
	Algorithm Algorithm
	Created   time.Time
	// Record is the TXT record for SELECTOR._domainkey.DOMAIN (RFC 6376 section 3.6.1).
	Record string
}

// key is a key that can sign.
type key struct {
	PublicKey
	crypto.Signer
}

// Add generates a key and stores it. It fails with fault.Invalid if the selector is not a DNS name,
// and with fault.Conflict if the tenant already has a key with the selector.
func (k *Keys) Add(ctx context.Context, tenant int64, selector string, a Algorithm, now time.Time) (
	PublicKey, error) {
	if err := delivery.CheckSelector(selector); err != nil {
		return PublicKey{}, err
	}
	var private crypto.Signer
	var err error
	if a == Ed25519 {
		_, private, err = ed25519.GenerateKey(rand.Reader)
	} else {
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	}
	if err != nil {
		return PublicKey{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return PublicKey{}, err
	}
	now = now.UTC().Truncate(time.Microsecond)
	err = k.store.AddSigningKey(ctx, delivery.SigningKey{
		Tenant:   tenant,
		Selector: selector,
		Created:  now,
		Sealed:   k.vault.Seal(tenant, []byte(selector), der),
	})
	if err != nil {
		return PublicKey{}, err
	}
	return publicKey(selector, now, private)
}

func publicKey(selector string, created time.Time, private crypto.Signer) (PublicKey, error) {
	p := PublicKey{Selector: selector, Created: created, Algorithm: RSA}
	b, err := x509.MarshalPKIXPublicKey(private.Public())
	if pub, ok := private.Public().(ed25519.PublicKey); ok {
		p.Algorithm, b = Ed25519, pub // RFC 8463 section 4: the key without ASN.1
	}
	p.Record = fmt.Sprintf("v=DKIM1; k=%s; p=%s", p.Algorithm, base64.StdEncoding.EncodeToString(b))
	return p, err
}

// List returns a tenant's keys.
func (k *Keys) List(ctx context.Context, tenant int64) (list []PublicKey, err error) {
	keys, err := k.open(ctx, tenant)
	for _, key := range keys {
		list = append(list, key.PublicKey)
	}
	return list, err
}

// open reads and unseals a tenant's keys.
func (k *Keys) open(ctx context.Context, tenant int64) (keys []key, err error) {
	list, err := k.store.SigningKeys(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		opened, err := k.openOne(s)
		if err != nil {
			return nil, err
		}
		keys = append(keys, opened)
	}
	return keys, nil
}

// openOne unseals a key.
func (k *Keys) openOne(s delivery.SigningKey) (key, error) {
	der, err := k.vault.Open(s.Tenant, []byte(s.Selector), s.Sealed)
	if err != nil {
		return key{}, fmt.Errorf("DKIM key %s: %w", s.Selector, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	private, ok := parsed.(crypto.Signer)
	if err != nil || !ok {
		return key{}, fmt.Errorf("DKIM key %s is damaged", s.Selector)
	}
	p, err := publicKey(s.Selector, s.Created, private)
	return key{p, private}, err
}

// Verify calls report for each of a tenant's keys that does not open. It changes nothing.
func (k *Keys) Verify(ctx context.Context, tenant int64, report func(string)) error {
	list, err := k.store.SigningKeys(ctx, tenant)
	for _, s := range list {
		if _, err := k.openOne(s); err != nil {
			report(err.Error())
		}
	}
	return err
}

// cacheTime is how long a Signer uses the keys that it read. A change takes effect within this
// time.
const cacheTime = 5 * time.Second

// Signer signs messages. It is safe for concurrent use.
type Signer struct {
	keys *Keys
	now  func() time.Time

	mu    sync.Mutex
	cache map[int64]cachedKeys // by tenant
}

type cachedKeys struct {
	read time.Time
	keys []key
}

var _ delivery.Signer = (*Signer)(nil)

// NewSigner returns a Signer.
func NewSigner(keys *Keys, now func() time.Time) *Signer {
	return &Signer{keys: keys, now: now, cache: make(map[int64]cachedKeys)}
}

// keysOf returns a tenant's keys, at most cacheTime old.
func (s *Signer) keysOf(ctx context.Context, tenant int64) ([]key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.cache[tenant]; ok && s.now().Sub(c.read) < cacheTime {
		return c.keys, nil
	}
	keys, err := s.keys.open(ctx, tenant)
	if err == nil {
		s.cache[tenant] = cachedKeys{s.now(), keys}
	}
	return keys, err
}

// signedFields are the header fields that a signature covers. A field that is listed once more than
// it occurs cannot be added later without breaking the signature (RFC 6376 section 5.4.2).
var signedFields = []string{
	"From", "From", "To", "To", "Subject", "Subject", "Date", "Message-ID", "Reply-To",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Language",
	"Auto-Submitted",
}

// Sign implements delivery.Signer.
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
			Domain:                 domain,
			Selector:               k.Selector,
			Signer:                 k.Signer,
			Hash:                   crypto.SHA256,
			HeaderKeys:             signedFields,
			HeaderCanonicalization: dkim.CanonicalizationRelaxed,
			BodyCanonicalization:   dkim.CanonicalizationRelaxed,
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

// senderDomain returns the domain of a message's From field.
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
