package account

import (
	"context"
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
	Audit    audit.Log
	Log      *slog.Logger
	Now      func() time.Time
	// AddressCeiling is how many signups an hour one address gets at all tenants together, or zero
	// for no such limit.
	AddressCeiling int
}

// failureBuckets bounds the memory for counting failed signups. A bucket takes about 100 bytes, and
// more for an address that fails often.
const failureBuckets = 1 << 16

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
		failures:    throttle.NewFailures(throttle.FailedSignups, failureBuckets, d.Now),
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
