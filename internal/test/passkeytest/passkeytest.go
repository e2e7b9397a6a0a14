// Package passkeytest is an authenticator in software, with a browser around it that checks
// nothing. Tests use it to create responses that are valid, or invalid in one respect.
package passkeytest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"testing"

	"crypto"

	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
)

// The flags of authenticator data.
const (
	Present        = 1 << 0
	Verified       = 1 << 2
	BackupEligible = 1 << 3
	BackedUp       = 1 << 4
	attested       = 1 << 6
)

// Key is a passkey with its private key.
type Key struct {
	ID, Handle []byte
	// Counter is sent with the next response. With Counts, it increases after each.
	Counter uint32
	Counts  bool
	Flags   byte
	signer  crypto.Signer
	cose    map[int]any
}

// Page is the page that a response is made for.
type Page struct {
	Origin string
	// The other fields, if set, replace the values of the options and the ceremony.
	RP, Challenge, Type string
	CrossOrigin         bool
}

// New returns a key for ES256, which verifies the user and has no counter.
func New(t testing.TB) *Key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	point, err := k.PublicKey.Bytes()
	must(t, err)
	return newKey(k, map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
}

// NewEd25519 returns a key for EdDSA.
func NewEd25519(t testing.TB) *Key {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	return newKey(private, map[int]any{1: 1, 3: -8, -1: 6, -2: []byte(public)})
}

// NewRSA returns a key for RS256 with a modulus of the given number of bits.
func NewRSA(t testing.TB, bits int) *Key {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	must(t, err)
	return newKey(k, map[int]any{1: 3, 3: -257, -1: k.N.Bytes(), -2: []byte{1, 0, 1}})
}

func newKey(signer crypto.Signer, cose map[int]any) *Key {
	k := &Key{ID: make([]byte, 16), Flags: Present | Verified, signer: signer, cose: cose}
	rand.Read(k.ID)
	return k
}

// SetCOSE replaces a member of the public key.
func (k *Key) SetCOSE(label int, value any) { k.cose[label] = value }

// options are the members of options that an authenticator needs.
type options struct {
	PublicKey struct {
		Challenge string
		RPID      string `json:"rpId"`
		RP        struct{ ID string }
		User      struct{ ID string }
	}
}

func read(t testing.TB, text string) (o options) {
	t.Helper()
	must(t, json.Unmarshal([]byte(text), &o))
	if o.PublicKey.Challenge == "" {
		t.Fatalf("no options: %s", text)
	}
	return o
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func text(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (p Page) clientData(t testing.TB, ceremony, challenge string) []byte {
	t.Helper()
	if p.Type != "" {
		ceremony = p.Type
	}
	if p.Challenge != "" {
		challenge = p.Challenge
	}
	b, err := json.Marshal(map[string]any{
		"type": ceremony, "challenge": challenge, "origin": p.Origin, "crossOrigin": p.CrossOrigin,
	})
	must(t, err)
	return b
}

func (k *Key) data(p Page, rp string, flags byte) []byte {
	if p.RP != "" {
		rp = p.RP
	}
	sum := sha256.Sum256([]byte(rp))
	b := binary.BigEndian.AppendUint32(append(sum[:], k.Flags|flags), k.Counter)
	if k.Counts {
		k.Counter++
	}
	return b
}

// Create returns the response to the options for a new passkey. answer is the answer of the
// endpoint with the options.
func (k *Key) Create(t testing.TB, answer string, p Page) string {
	t.Helper()
	o := read(t, answer).PublicKey
	var err error
	k.Handle, err = base64.RawURLEncoding.DecodeString(o.User.ID)
	must(t, err)
	public, err := webauthncbor.Marshal(k.cose)
	must(t, err)
	data := append(k.data(p, o.RP.ID, attested), make([]byte, 16)...)
	data = append(binary.BigEndian.AppendUint16(data, uint16(len(k.ID))), k.ID...)
	object, err := webauthncbor.Marshal(map[string]any{
		"fmt": "none", "attStmt": map[string]any{}, "authData": append(data, public...),
	})
	must(t, err)
	return k.response(t, map[string]any{
		"clientDataJSON":    text(p.clientData(t, "webauthn.create", o.Challenge)),
		"attestationObject": text(object),
		"transports":        []string{"internal", "hybrid"},
	})
}

// Get returns the response to the options for using a passkey.
func (k *Key) Get(t testing.TB, answer string, p Page) string {
	t.Helper()
	o := read(t, answer).PublicKey
	client, data := p.clientData(t, "webauthn.get", o.Challenge), k.data(p, o.RPID, 0)
	sum := sha256.Sum256(client)
	signed := append(data[:len(data):len(data)], sum[:]...)
	var hash crypto.Hash
	if _, ok := k.signer.(ed25519.PrivateKey); !ok {
		digest := sha256.Sum256(signed)
		signed, hash = digest[:], crypto.SHA256
	}
	signature, err := k.signer.Sign(rand.Reader, signed, hash)
	must(t, err)
	return k.response(t, map[string]any{
		"clientDataJSON": text(client), "authenticatorData": text(data),
		"signature": text(signature), "userHandle": text(k.Handle),
	})
}

func (k *Key) response(t testing.TB, parts map[string]any) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{
		"id": text(k.ID), "rawId": text(k.ID), "type": "public-key", "response": parts,
	})
	must(t, err)
	return string(b)
}

// Text returns the ID as the API writes it.
func (k *Key) Text() string { return text(k.ID) }

// String identifies the key in messages of tests.
func (k *Key) String() string { return fmt.Sprintf("key %x", k.ID) }
