package account

import (
	"crypto/rand"

	"dialtone/internal/digest"
	"dialtone/internal/secret"
)

// vaultCredential is the purpose that credentials are sealed for. It is part of the keys and never
// changes.
const vaultCredential = "credential"

// Credential opens the sealed credential of an account.
func (s *Service) Credential(a Account) (digest.Credential, error) { return a.open(s.credentials) }

// Decoy returns an account that does not exist, with a sealed credential that no password proves.
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
	a.Sealed = s.credentials.Seal(tenant, a.UID[:], c.Marshal())
	s.decoys.Store(tenant, a)
	return a
}

func (a Account) open(v *secret.Vault) (digest.Credential, error) {
	b, err := v.Open(a.Tenant, a.UID[:], a.Sealed)
	if err != nil {
		return digest.Credential{}, err
	}
	return digest.UnmarshalCredential(b)
}

// Opener returns a function that opens the sealed credentials of accounts, for a store that exports
// them to SIP servers.
func Opener(ring *secret.Ring) func(Account) (digest.Credential, error) {
	v := secret.NewVault(ring, vaultCredential)
	return func(a Account) (digest.Credential, error) { return a.open(v) }
}
