package account

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/throttle"
)

// Service implements signup, activation and account administration on a Store and an Outbox. It is
// safe for concurrent use.
type Service struct {
	deps        Deps
	buckets     throttle.Buckets
	credentials *secret.Vault
	failures    *throttle.Failures
	reserved    sync.Map // string (the tenant's words) -> Reserved
	decoys      sync.Map // int64 (the tenant) -> Account
	started     time.Time
}

// Deps are the dependencies of a Service. A Service for the administration of accounts needs
// neither Outbox nor Captcha.
type Deps struct {
	Store  Store
	Outbox *outbox.Outbox
	// Captcha returns the issuer for the present signing keys.
	Captcha func() *captcha.Issuer
	// SealRing is the ring of seal.key.
	SealRing *secret.Ring
	// Passwords limits wrong passwords, together with package session. Only Signup needs it.
	Passwords *throttle.Passwords
	Audit     audit.Log
	Log       *slog.Logger
	Now       func() time.Time
	// AddressCeiling is how many signups an hour one address gets at all tenants together, or zero
	// for no such limit.
	AddressCeiling int
	// OneTenant reports whether there is only one tenant. Then the limit on messages to one person
	// from all tenants together, which the tenant's own limit is below, is not counted. Nil means
	// that it is counted.
	OneTenant func() bool
	// Dev lifts the limits on signups from one address for this machine, so that a developer can
	// sign up as often as needed.
	Dev bool
}

// vaultCredential is the purpose that credentials are sealed for. It is part of the keys and never
// changes.
const vaultCredential = "credential"

// NewService returns a Service.
func NewService(d Deps) *Service {
	return &Service{
		deps:        d,
		buckets:     throttle.NewBuckets(d.SealRing),
		credentials: secret.NewVault(d.SealRing, vaultCredential),
		started:     d.Now(),
		failures: throttle.NewFailures(
			throttle.FailedSignups, throttle.FailedSignupBuckets, d.Now),
	}
}

// Origin is where a request comes from.
type Origin struct {
	Addr    netip.Addr
	Request string // the request's ID, for the log
}

// Find returns the account of a user. It fails with fault.NotFound.
func (s *Service) Find(ctx context.Context, tenant int64, user string) (Account, error) {
	return s.deps.Store.Find(ctx, tenant, user, s.deps.Now())
}

// FindUID returns the account with the UID. It fails with fault.NotFound.
func (s *Service) FindUID(ctx context.Context, tenant int64, uid UID) (Account, error) {
	return s.deps.Store.FindUID(ctx, tenant, uid, s.deps.Now())
}

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
