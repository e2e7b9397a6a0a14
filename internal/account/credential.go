package account

import (
	"crypto/rand"
	"slices"

	"dialtone/internal/digest"
	"dialtone/internal/secret"
)

// vaultCredential is the purpose for which credentials are sealed. It is an input of the key
// derivation and never changes.
const vaultCredential = "credential"

// Sealer seals and opens credentials. It is safe for concurrent use.
//
// A credential is bound to tenant, UID and user name: if one of them differs in its row, it does
// not open. Otherwise somebody who can write to the store could exchange the names of two
// accounts, and sign in under the name of another with a password of their own. Earlier versions
// of the program bound it to tenant and UID only; a Sealer opens that older form unless the key
// is strict.
type Sealer struct{ vault *secret.Vault }

// NewSealer returns the Sealer of a seal ring.
func NewSealer(ring *secret.Ring) Sealer { return Sealer{secret.NewVault(ring, vaultCredential)} }

// place returns what the credential of an account is bound to. It is longer than oldPlace, even
// for an empty user name.
func place(a Account) []byte {
	return slices.Concat(a.UID[:], []byte{0}, []byte(a.User))
}

func oldPlace(a Account) []byte { return a.UID[:] }

// Seal sets a.Sealed to the sealed credential.
func (s Sealer) Seal(a *Account, c digest.Credential) {
	a.Sealed = s.vault.Seal(a.Tenant, place(*a), c.Marshal())
}

// SealOld is Seal in the older form, for a store that earlier versions of the program read too.
func (s Sealer) SealOld(a *Account, c digest.Credential) {
	a.Sealed = s.vault.Seal(a.Tenant, oldPlace(*a), c.Marshal())
}

// Open returns the credential of an account. It fails with secret.ErrSeal.
func (s Sealer) Open(a Account) (digest.Credential, error) {
	c, _, err := s.open(a)
	return c, err
}

// open also reports whether the credential has the older form.
func (s Sealer) open(a Account) (c digest.Credential, old bool, err error) {
	b, err := s.vault.Open(a.Tenant, place(a), a.Sealed)
	if err != nil {
		value, oldErr := s.vault.OpenOld(a.Tenant, oldPlace(a), a.Sealed)
		if oldErr != nil {
			return c, false, err
		}
		b, old = value, true
	}
	c, err = digest.UnmarshalCredential(b)
	return c, old, err
}

// Credential opens the sealed credential of an account.
func (s *Service) Credential(a Account) (digest.Credential, error) { return s.credentials.Open(a) }

// Decoy returns an account that does not exist, with a sealed credential that no password matches.
// Opening it costs as much as for a real account of the tenant.
func (s *Service) Decoy(tenant int64) Account {
	if a, ok := s.decoys.Load(tenant); ok {
		return a.(Account)
	}
	c := digest.Credential{HA1B: new(digest.HA1), SHA256: new(digest.HA1SHA256)}
	rand.Read(c.HA1[:])
	rand.Read(c.HA1B[:])
	rand.Read(c.SHA256[:])
	a := Account{Tenant: tenant, UID: NewUID(s.deps.Now()), HasSHA256: true}
	s.credentials.Seal(&a, c)
	s.decoys.Store(tenant, a)
	return a
}

// Opener returns a function that opens the sealed credentials of accounts, for a store that exports
// them to SIP servers.
func Opener(ring *secret.Ring) func(Account) (digest.Credential, error) { return NewSealer(ring).Open }
