package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"sync"
)

// ErrSeal is returned by Open for a value that was sealed with another key or for another
// place, or that was modified.
var ErrSeal = errors.New(
	"sealed value does not open: wrong key file, moved from another row, its row renamed, or damaged")

// Vault seals values for the store with AES-256-GCM. Each tenant has its own keys, derived from
// the ring, and each value is bound to a place: a sealed value that is copied to another row,
// column or tenant does not open. A Vault is safe for concurrent use.
//
// A sealed value is
//
//	key ID (4 bytes) ‖ nonce (12, random) ‖ ciphertext ‖ tag (16)
type Vault struct {
	ring    *Ring
	purpose string
	tenants sync.Map // int64 -> []sealer, newest first
}

type sealer struct {
	id     ID
	aead   cipher.AEAD
	strict bool
}

// NewVault returns the vault for a purpose, which names what it seals, such as "credential".
func NewVault(r *Ring, purpose string) *Vault { return &Vault{ring: r, purpose: purpose} }

func (v *Vault) sealers(tenant int64) []sealer {
	if s, ok := v.tenants.Load(tenant); ok {
		return s.([]sealer)
	}
	ids := v.ring.IDs()
	var list []sealer
	for i, k := range v.ring.Derive(fmt.Sprintf("seal %s tenant %d", v.purpose, tenant)) {
		block, err := aes.NewCipher(k[:])
		if err != nil {
			panic("secret: AES takes 32 bytes: " + err.Error())
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			panic("secret: GCM of AES: " + err.Error())
		}
		list = append(list, sealer{ids[i], aead, v.ring.keys[i].strict})
	}
	v.tenants.Store(tenant, list)
	return list
}

// Seal encrypts a value for one place of a tenant, for instance the UID of an account.
func (v *Vault) Seal(tenant int64, place, value []byte) []byte {
	s := v.sealers(tenant)[0]
	out := make([]byte, len(s.id), len(s.id)+s.aead.Overhead()+len(value))
	copy(out, s.id[:])
	return s.aead.Seal(out, nil, value, place)
}

// Open decrypts a result of Seal for the same tenant and place. It fails with ErrSeal.
func (v *Vault) Open(tenant int64, place, sealed []byte) ([]byte, error) {
	return v.open(tenant, place, sealed, false)
}

// OpenOld is Open for a place in the form of an older version of the program, which identified
// the row less precisely. It fails with ErrSeal for a strict key.
func (v *Vault) OpenOld(tenant int64, place, sealed []byte) ([]byte, error) {
	return v.open(tenant, place, sealed, true)
}

func (v *Vault) open(tenant int64, place, sealed []byte, old bool) ([]byte, error) {
	if len(sealed) < len(ID{}) {
		return nil, ErrSeal
	}
	id, box := ID(sealed[:4]), sealed[4:]
	for _, s := range v.sealers(tenant) {
		if s.id != id {
			continue
		}
		if old && s.strict {
			return nil, ErrSeal
		}
		value, err := s.aead.Open(nil, nil, box, place)
		if err != nil {
			return nil, ErrSeal
		}
		return value, nil
	}
	return nil, fmt.Errorf("key %s is not in the key file: %w", id, ErrSeal)
}
